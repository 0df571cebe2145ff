import {
  type Batch,
  type BatchLoss,
  type Dataset,
  GradshapeError,
  type Parameters,
  type Strategy,
} from '../engine/index.js';
import { batchLoss, type LogitsLoss, type Model, type Optimizer, type Schedule } from '../nn/index.js';
import {
  type Accountant,
  type AccountantName,
  accountantFromJSON,
  calibrateNoiseMultiplier,
  type PrivacyGuarantee,
  type PrivacyPhase,
  type PrivacyStatement,
} from './accounting/index.js';
import { type PrivacyPlan, type PrivacyPlanOptions, planStatement, privacyPlan } from './plan.js';
import { readPrivateCheckpoint, writePrivateCheckpoint } from './private-checkpoint.js';
import { type PrivateStep, privateStep } from './private-step.js';
import type { Sampler } from './sampling.js';
import { type ModelIssue, validateModel } from './validate-model.js';

/** What a private training needs beside its plan. */
export interface PrivateTrainingOptions extends Omit<PrivacyPlanOptions, 'datasetSize'> {
  readonly model: Model;
  readonly params: Parameters;
  /** SGD gives DP-SGD, Adam gives DP-Adam. */
  readonly optimizer: Optimizer;
  readonly data: Dataset;
  /** @default crossEntropy */
  readonly loss?: LogitsLoss;
  /** Learning rate by step. @default the optimizer's learning rate, always */
  readonly schedule?: Schedule;
  /** The most examples in memory at once: larger batches are taken in pieces, with the same bits. @default no limit */
  readonly maxPhysicalBatch?: number;
  /** How per-example gradients are made. @default 'ghost' */
  readonly strategy?: Strategy;
  /** Also report each batch's size and mean loss. These are *not* private. @default false */
  readonly diagnostics?: boolean;
}

/** What may be known of a step without costing privacy, and, with `diagnostics`, what may not. */
export interface PrivateStepReport {
  /** Counts from 0. */
  readonly step: number;
  readonly epoch: number;
  readonly noiseStd: number;
  /** Not private, and null unless asked for: examples drawn, and the mean of their losses (null for an empty batch). */
  readonly batchSize: number | null;
  readonly loss: number | null;
}

/**
 * A training whose every step is counted. It draws its own batches: there is no way to give it one that its accountant doesn't
 * know of.
 */
export interface PrivateTraining {
  readonly plan: PrivacyPlan;
  readonly params: Parameters;
  /** What the model made slow: see `validateModel`. */
  readonly warnings: readonly ModelIssue[];
  /** Steps done. */
  readonly step: number;
  /** All that was released so far; for a later training on the same data, its `previous`. */
  readonly released: readonly PrivacyPhase[];
  /** One step: draws a batch, shapes and sums its gradients, adds noise, updates. @throws PLAN_EXHAUSTED, TRAINING_FAILED */
  next(): PrivateStepReport;
  /** The steps that are left, or those up to the end of an epoch (counted from 0). */
  run(options?: { readonly untilEpoch?: number }): Generator<PrivateStepReport, void, void>;
  /** What has been spent so far, by the plan's accountant or another. @throws DELTA_OUT_OF_RANGE, ACCOUNTANT_UNKNOWN */
  getEpsilon(delta: number, accountant?: AccountantName): PrivacyGuarantee;
  /** What has been promised so far, in words and numbers. */
  statement(delta: number): PrivacyStatement;
  /**
   * Weights, optimizer, accountant and position as one safetensors file. No noise or sampling key is in it; a seed is, if there is one.
   * Written between steps, it neither loses nor double-counts one: a step that was made after it is made, and counted, again.
   */
  save(): Uint8Array<ArrayBuffer>;
  /**
   * Takes up a checkpoint. The plan's past must be the checkpoint's; its future may differ: for more epochs, load it into a training
   * with a longer plan.
   * @throws CHECKPOINT_INVALID, CHECKPOINT_MISMATCH, PLAN_MISMATCH, TRAINING_STARTED
   */
  load(bytes: Uint8Array): void;
  free(): void;
  [Symbol.dispose](): void;
}

/**
 * A private training in the shape of Opacus' `make_private`: model, optimizer and data in, DP-SGD (Abadi et al. 2016,
 * Algorithm 1) out, with sampler, clipping, noise and accountant from one plan.
 * @throws as `privacyPlan` and `privateStep`; MODEL_NOT_PRIVATE, with a hint, where a model can't be trained privately
 * @example
 * const training = makePrivate({ model, params, optimizer, data, batchSize: 4, epochs: 2, clipNorm: 1, noiseMultiplier: 1.1 });
 * for (const { step, epoch } of training.run()) console.log(step, epoch);
 * console.log(training.getEpsilon(1e-5).epsilon, formatStatement(training.statement(1e-5)));
 */
export function makePrivate(options: PrivateTrainingOptions): PrivateTraining {
  return new Training(options, privacyPlan({ ...options, datasetSize: options.data.count }));
}

export interface PrivateTargetOptions extends Omit<PrivateTrainingOptions, 'noiseMultiplier'> {
  /** ε to keep within when all steps are done, together with `previous`. */
  readonly targetEpsilon: number;
  readonly targetDelta: number;
}

/**
 * The same with the least noise that keeps within a target (Opacus' `make_private_with_epsilon`): σ is rounded up, and the target
 * never exceeded.
 * @throws as `makePrivate`; EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, TARGET_UNREACHABLE
 * @example
 * const training = makePrivateWithEpsilon({
 *   ...{ model, params, optimizer, data, clipNorm: 1, batchSize: 4, epochs: 2 },
 *   targetEpsilon: 3,
 *   targetDelta: 1e-5,
 * });
 * training.plan.epsilon(1e-5).epsilon <= 3 // true
 */
export function makePrivateWithEpsilon(options: PrivateTargetOptions): PrivateTraining {
  const { targetEpsilon, targetDelta, accountant = 'pld', data } = options;
  const planWith = (noiseMultiplier: number): PrivacyPlan =>
    privacyPlan({ ...options, noiseMultiplier, datasetSize: data.count });
  const { value } = calibrateNoiseMultiplier({ targetEpsilon, targetDelta, accountant }, (sigma) => {
    const plan = planWith(sigma);
    return [...plan.previous, ...plan.phases()];
  });
  return new Training({ ...options, noiseMultiplier: value }, planWith(value));
}

class Training implements PrivateTraining {
  readonly params: Parameters;
  readonly warnings: readonly ModelIssue[];
  readonly #options: PrivateTrainingOptions;
  readonly #loss: BatchLoss<Batch>;
  readonly #update: PrivateStep;
  #sampler: Sampler;
  #accountant: Accountant;
  /** Orders shuffled epochs, and keys dropout; public, and kept in checkpoints. */
  #publicSeed: number;
  #failed = false;

  constructor(
    options: PrivateTrainingOptions,
    readonly plan: PrivacyPlan,
  ) {
    const { model, params, optimizer, data, maxPhysicalBatch, strategy = 'ghost' } = options;
    checkPhysical(maxPhysicalBatch);
    this.#options = options;
    this.params = params;
    this.#loss = batchLoss(model, options.loss);
    const issues = validateModel(this.#loss, params, { shape: data.shape });
    const [refused] = issues.filter(({ severity }) => severity === 'error');
    if (refused !== undefined) {
      throw new GradshapeError(
        'MODEL_NOT_PRIVATE',
        `makePrivate: ${refused.message} (${refused.code}) ${refused.hint}`,
      );
    }
    this.warnings = issues;
    this.#accountant = plan.accountantAfter(0);
    this.#publicSeed = options.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!;
    this.#sampler = plan.sampler(params.engine, this.#publicSeed);
    this.#update = privateStep({
      params,
      optimizer,
      shaper: plan.shaper,
      noiseMultiplier: plan.noiseMultiplier,
      expectedBatchSize: plan.batchSize,
      noise: plan.noise(),
      strategy,
    });
  }

  get step(): number {
    return this.#update.step;
  }

  get released(): readonly PrivacyPhase[] {
    return this.#accountant.phases;
  }

  next(): PrivateStepReport {
    const { plan, step } = this;
    if (step >= plan.steps) {
      throw new GradshapeError(
        'PLAN_EXHAUSTED',
        `all ${plan.steps} steps of the plan are done; one more would spend more than it says. For more, load training.save() into a ` +
          'training with a longer plan, or make another with previous: training.released, so that both are counted.',
      );
    }
    if (this.#failed) {
      throw new GradshapeError(
        'TRAINING_FAILED',
        'an earlier step ended in an error, perhaps with part of its batch summed; expected a new training, into which the last checkpoint is loaded.',
      );
    }
    this.#failed = true;
    // Counted before it is made: whatever goes wrong in between, nothing is released that was not counted.
    const event = plan.releasedBy(step);
    if (event !== null) this.#accountant.step(event);
    const indices = this.#sampler.draw(step);
    const { noiseStd } = this.#update;
    const lossSum = this.#accumulate(indices, step);
    const { schedule, diagnostics = false } = this.#options;
    this.#update.finish(schedule === undefined ? {} : { learningRate: schedule(step) });
    this.#failed = false;
    return {
      step,
      epoch: Math.floor(step / plan.stepsPerEpoch),
      noiseStd,
      batchSize: diagnostics ? indices.length : null,
      loss: diagnostics && indices.length > 0 ? lossSum / indices.length : null,
    };
  }

  /** Shapes and sums the batch's gradients, piece by piece; returns the sum of the losses. */
  #accumulate(indices: Int32Array, step: number): number {
    const { data, maxPhysicalBatch = Infinity } = this.#options;
    const { engine } = this.params;
    let lossSum = 0;
    for (let from = 0; from < indices.length; from += maxPhysicalBatch) {
      engine.scope(() => {
        const piece = indices.subarray(from, from + Math.min(maxPhysicalBatch, indices.length));
        const batch = data.batch(piece, { seed: this.#publicSeed, step });
        const losses = this.#update.accumulate(this.#loss, batch)!;
        lossSum += engine.kernels.sum(losses.address, losses.size);
      });
    }
    return lossSum;
  }

  *run({ untilEpoch }: { readonly untilEpoch?: number } = {}): Generator<PrivateStepReport, void, void> {
    const { steps, stepsPerEpoch } = this.plan;
    const last = untilEpoch === undefined ? steps : Math.min((untilEpoch + 1) * stepsPerEpoch, steps);
    while (this.step < last) yield this.next();
  }

  getEpsilon(delta: number, accountant: AccountantName = this.plan.accountant): PrivacyGuarantee {
    const state = { ...this.#accountant.toJSON(), accountant };
    return accountantFromJSON(state).epsilon(delta);
  }

  statement(delta: number): PrivacyStatement {
    return planStatement(this.#accountant, { ...this.plan, delta });
  }

  save(): Uint8Array<ArrayBuffer> {
    const { params, step, plan } = this;
    return writePrivateCheckpoint(params, this.#options.optimizer, {
      version: 1,
      plan: plan.fingerprint(step),
      step,
      publicSeed: this.#publicSeed,
      accountant: this.#accountant.toJSON(),
      shaper: plan.shaper.state?.() ?? {},
    });
  }

  load(bytes: Uint8Array): void {
    const { params, plan } = this;
    if (this.step > 0) {
      throw new GradshapeError(
        'TRAINING_STARTED',
        `load: ${this.step} steps were made already, and loading would forget them; expected a new training.`,
      );
    }
    const state = readPrivateCheckpoint(bytes, params, this.#options.optimizer, plan);
    this.#accountant = accountantFromJSON(state.accountant);
    this.#publicSeed = state.publicSeed;
    this.#sampler = plan.sampler(params.engine, state.publicSeed);
    plan.shaper.loadState?.(state.shaper);
    this.#update.step = state.step;
  }

  free(): void {
    this.#update.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

function checkPhysical(maxPhysicalBatch: number | undefined): void {
  if (maxPhysicalBatch === undefined) return;
  if (Number.isSafeInteger(maxPhysicalBatch) && maxPhysicalBatch >= 1) return;
  throw new GradshapeError(
    'BATCH_SIZE_INVALID',
    `makePrivate: maxPhysicalBatch is ${maxPhysicalBatch}; expected a whole number from 1.`,
  );
}
