import {
  type Batch,
  type BatchLoss,
  checkSeed,
  crossEntropy,
  type Dataset,
  GradshapeError,
  type Parameters,
  type Tensor,
} from '../engine/index.js';
import { shuffledBatches } from './batches.js';
import { checkRange, checkWhole } from './checks.js';
import { type Evaluation, evaluate } from './evaluate.js';
import type { Optimizer } from './optimizer.js';
import type { Schedule } from './schedules.js';
import type { Model } from './sequential.js';
import { type TrainingStep, vanillaStep } from './train-step.js';
import { turn } from './turn.js';

/** One number an example from logits f32 [batch, classes] and labels i32 [batch]. */
export type LogitsLoss = (logits: Tensor, labels: Tensor) => Tensor;

/** The part of a training run that an epoch needs. */
export interface EpochOptions {
  readonly model: Model;
  readonly params: Parameters;
  readonly data: Dataset;
  /** How a batch becomes an update: `vanillaStep`, `privateStep`, … */
  readonly step: TrainingStep;
  /** Orders the examples, and keys dropout. */
  readonly seed: number;
  /** Needed unless `batches` is given. */
  readonly batchSize?: number;
  /** What becomes of a last batch that is smaller than the others. @default 'keep' */
  readonly lastBatch?: 'keep' | 'drop';
  /** The indices of an epoch's batches, instead of a shuffled pass over the data. */
  readonly batches?: (epoch: number) => Iterable<ArrayLike<number>>;
  /** @default crossEntropy */
  readonly loss?: LogitsLoss;
  /** @default the optimizer's learning rate, always */
  readonly schedule?: Schedule;
}

/**
 * When to stop: a choice made on the validation set. With a private step, no ε covers what that choice tells of those examples, nor the
 * losses and accuracies that are reported.
 */
export interface EarlyStop {
  /** Epochs without improvement after which training ends. */
  readonly patience: number;
  /** What must improve on the validation set. @default 'loss' */
  readonly metric?: 'loss' | 'accuracy';
  /** What counts as improvement. @default 0 */
  readonly minDelta?: number;
}

export interface TrainOptions extends Omit<EpochOptions, 'step'> {
  /** For the ordinary step. Give this or `step`. */
  readonly optimizer?: Optimizer;
  /** Another step, such as a private one; the caller frees it. */
  readonly step?: TrainingStep;
  readonly epochs: number;
  /** Evaluated after each epoch. */
  readonly validation?: Dataset;
  /** Called, and awaited, after each epoch. */
  readonly onEpoch?: (report: EpochReport) => void | Promise<void>;
  readonly earlyStop?: EarlyStop;
  /** Ends training between two steps, without an error. */
  readonly signal?: AbortSignal;
  /** Where a checkpoint left off. */
  readonly start?: TrainingPosition;
}

/** A place in a training run: what comes next. Plain values, for checkpoints. */
export interface TrainingPosition {
  readonly step: number;
  readonly epoch: number;
  /** Batches of the epoch that are done. */
  readonly batch: number;
  /** The epoch's losses and examples so far. */
  readonly lossSum: number;
  readonly examples: number;
  /** Early stopping's best value (null: none yet), and epochs since. */
  readonly best: number | null;
  readonly waited: number;
}

/** What a step did. Steps, epochs and batches count from 0. */
export interface StepReport {
  readonly step: number;
  readonly epoch: number;
  readonly batch: number;
  /** Mean over the batch, before the update; NaN where the step keeps it to itself. */
  readonly loss: number;
  /** Examples in the batch. */
  readonly batchSize: number;
  /** Examples a second since the start; 0 where the clock stands still. */
  readonly examplesPerSecond: number;
  /** What to save in a checkpoint made now. */
  readonly position: TrainingPosition;
}

export interface EpochReport {
  readonly epoch: number;
  /** Steps done since the beginning. */
  readonly steps: number;
  /** Mean over the epoch's examples, each before its update; NaN where the step keeps it to itself. */
  readonly loss: number;
  readonly validation: Evaluation | null;
  /** Early stopping ends the run here. */
  readonly stopped: boolean;
}

/** A model's loss as a function of parameters and batch, as gradients are taken of it. */
export function batchLoss(model: Model, loss: LogitsLoss = crossEntropy): BatchLoss<Batch> {
  return (params, { x, y }) => loss(model.apply(params, x), y);
}

/** One step; returns the sum of the batch's losses. */
function takeStep(options: EpochOptions, loss: BatchLoss<Batch>, indices: ArrayLike<number>): number {
  const { params, data, step, seed, schedule } = options;
  const { engine } = params;
  return engine.scope(() => {
    const batch = data.batch(indices, { seed, step: step.step });
    const losses = step.accumulate(loss, batch);
    step.finish(schedule === undefined ? {} : { learningRate: schedule(step.step) });
    return losses === undefined ? Number.NaN : engine.kernels.sum(losses.address, losses.size);
  });
}

function batchesOf(options: Omit<EpochOptions, 'step'>, epoch: number): Iterable<ArrayLike<number>> {
  const { data, seed, batchSize, lastBatch = 'keep', batches } = options;
  checkSeed('train', seed);
  if (batches !== undefined) return batches(epoch);
  if (batchSize === undefined) {
    throw new GradshapeError('BATCH_SIZE_INVALID', 'train: neither batchSize nor batches was given.');
  }
  return shuffledBatches({ count: data.count, batchSize, lastBatch, seed, epoch });
}

/**
 * One epoch in one go, without a pause: for workers and benchmarks. The same bits as `train`.
 * @returns the mean loss, each example's before its update, and how much was done
 * @throws as `train`
 * @example
 * const step = vanillaStep({ params, optimizer: adam({ learningRate: 0.01 }) });
 * for (let epoch = 0; epoch < 3; epoch++) trainEpoch({ model, params, data, step, batchSize: 2, seed: 1 }, epoch);
 */
export function trainEpoch(
  options: EpochOptions,
  epoch: number,
): { loss: number; steps: number; examples: number } {
  const loss = batchLoss(options.model, options.loss);
  let steps = 0;
  let examples = 0;
  let lossSum = 0;
  for (const indices of batchesOf(options, epoch)) {
    lossSum += takeStep(options, loss, indices);
    examples += indices.length;
    steps++;
  }
  return { loss: lossSum / examples, steps, examples };
}

const beginning: TrainingPosition = {
  step: 0,
  epoch: 0,
  batch: 0,
  lossSum: 0,
  examples: 0,
  best: null,
  waited: 0,
};

/** Milliseconds of work between turns of the event loop, and steps where the clock stands still while code runs. */
const turnEvery = 10;
const turnEverySteps = 256;

/**
 * Trains step by step; the event loop gets its turn between steps. Same options, same bits.
 * @throws DATA_EMPTY, BATCH_SIZE_INVALID, SEED_INVALID, EPOCH_INVALID, TRAIN_OPTIONS_INVALID, NON_FINITE_GRADIENT
 * @example
 * const optimizer = adam({ learningRate: 0.01 });
 * for await (const { step, loss } of train({ model, params, data, optimizer, batchSize: 2, epochs: 3, seed: 1 })) {
 *   console.log(step, loss);
 * }
 */
export async function* train(options: TrainOptions): AsyncGenerator<StepReport, void, void> {
  const { params, optimizer, epochs, start = beginning } = options;
  checkTrainOptions(options);
  const step = options.step ?? vanillaStep({ params, optimizer: optimizer! });
  step.step = start.step;
  try {
    let position = start;
    const clock = new Clock();
    while (position.epoch < epochs) {
      const { epoch } = position;
      position = yield* runEpoch({ ...options, step }, position, clock);
      // Still the same epoch: it was aborted.
      if (position.epoch === epoch) return;
    }
  } finally {
    if (options.step === undefined) step.free();
  }
}

/** Counts examples a second, and knows when a turn is due. */
class Clock {
  private readonly started = performance.now();
  private lastTurn = this.started;
  private stepsSinceTurn = 0;
  private examples = 0;

  count(examples: number): number {
    this.examples += examples;
    this.stepsSinceTurn++;
    const seconds = (performance.now() - this.started) / 1000;
    return seconds > 0 ? this.examples / seconds : 0;
  }

  async turnIfDue(): Promise<void> {
    if (performance.now() - this.lastTurn < turnEvery && this.stepsSinceTurn < turnEverySteps) return;
    await turn();
    this.lastTurn = performance.now();
    this.stepsSinceTurn = 0;
  }
}

/** From a position to the end of its epoch; the new position is past `epochs` when early stopping ends the run. */
async function* runEpoch(
  options: TrainOptions & EpochOptions,
  start: TrainingPosition,
  clock: Clock,
): AsyncGenerator<StepReport, TrainingPosition, void> {
  const { step, signal } = options;
  const loss = batchLoss(options.model, options.loss);
  let position = start;
  let batch = 0;
  for (const indices of batchesOf(options, start.epoch)) {
    if (batch++ < start.batch) continue;
    await clock.turnIfDue();
    if (signal?.aborted) return position;
    const sum = takeStep(options, loss, indices);
    const batchSize = indices.length;
    position = {
      ...position,
      step: step.step,
      batch,
      lossSum: position.lossSum + sum,
      examples: position.examples + batchSize,
    };
    yield {
      step: step.step - 1,
      epoch: position.epoch,
      batch: batch - 1,
      loss: sum / batchSize,
      batchSize,
      examplesPerSecond: clock.count(batchSize),
      position,
    };
  }
  return endEpoch(options, position);
}

async function endEpoch(options: TrainOptions, position: TrainingPosition): Promise<TrainingPosition> {
  const { model, params, validation, onEpoch, earlyStop, epochs } = options;
  const { epoch, step, lossSum, examples } = position;
  const evaluation = validation === undefined ? null : evaluate(model, params, validation);
  let { best, waited } = position;
  let stopped = false;
  if (earlyStop !== undefined) {
    const { patience, metric = 'loss', minDelta = 0 } = earlyStop;
    const value = metric === 'accuracy' ? -evaluation!.accuracy : evaluation!.loss;
    const improved = value < (best ?? Infinity) - minDelta; // a loss that is NaN is no mark to beat
    best = improved ? value : best;
    waited = improved ? 0 : waited + 1;
    stopped = waited >= patience;
  }
  await onEpoch?.({ epoch, steps: step, loss: lossSum / examples, validation: evaluation, stopped });
  return { step, epoch: stopped ? epochs : epoch + 1, batch: 0, lossSum: 0, examples: 0, best, waited };
}

function checkTrainOptions({ optimizer, step, epochs, earlyStop, validation, start }: TrainOptions): void {
  checkWhole('EPOCH_INVALID', 'train: epochs', epochs, 1);
  if ((optimizer === undefined) === (step === undefined)) {
    throw new GradshapeError(
      'TRAIN_OPTIONS_INVALID',
      'train: expected either an optimizer, for the ordinary step, or a step of your own, which has its optimizer.',
    );
  }
  if (earlyStop !== undefined) {
    checkWhole('TRAIN_OPTIONS_INVALID', 'train: earlyStop.patience', earlyStop.patience, 1);
    checkRange('TRAIN_OPTIONS_INVALID', 'train: earlyStop.minDelta', earlyStop.minDelta ?? 0, 0);
    if (validation === undefined) {
      throw new GradshapeError(
        'TRAIN_OPTIONS_INVALID',
        'train: earlyStop watches the validation set, and there is none; give validation.',
      );
    }
  }
  if (start !== undefined) {
    checkWhole('TRAIN_OPTIONS_INVALID', 'train: start.epoch', start.epoch, 0);
    checkWhole('TRAIN_OPTIONS_INVALID', 'train: start.batch', start.batch, 0);
    checkWhole('TRAIN_OPTIONS_INVALID', 'train: start.step', start.step, 0);
  }
}
