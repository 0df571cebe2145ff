import { setImmediate as turn } from 'node:timers/promises';
import {
  type Dataset,
  type Engine,
  formatLowerBound,
  formatUpperBound,
  GradshapeError,
  makePrivate,
  makePrivateWithEpsilon,
  namedModel,
  type PrivateTraining,
  type PrivateTrainingOptions,
  privacyPlan,
  readSafetensors,
  writeSafetensors,
} from 'gradshape';
import { epsilonText } from '../report/index.js';
import type { RunSettings } from './options.js';
import { optimizerOf, scheduleOf, type Trainer, type TrainingPrivacy } from './trainer.js';

/** What a checkpoint holds beside the training's own: the epoch at hand, and its losses so far, where they are known. */
interface Position {
  readonly epoch: number;
  readonly lossSum: number;
  readonly examples: number;
}

/** The metadata's entry for the position. */
const positionKey = 'epoch';

/**
 * DP-SGD under a privacy plan, whose business steps, epochs and batches are. Training losses are seen in seeded runs alone: they are
 * not private.
 */
export function privateTrainer(
  engine: Engine,
  asked: RunSettings,
  data: Dataset,
  classes: number,
  checkpoint?: Uint8Array,
): Trainer {
  const { batchSize, epochs, delta } = asked;
  const model = namedModel(asked.model, data.shape, classes);
  const params = model.init(engine, { seed: asked.seed });
  const optimizer = optimizerOf(asked);
  const training = makeTraining(
    { ...trainingOptions(asked, data), model, params, optimizer, data },
    asked,
    checkpoint,
  );
  const { plan } = training;
  const settings = { ...asked, noise: plan.noiseMultiplier as number };
  let position: Position | undefined;
  if (checkpoint !== undefined) {
    training.load(checkpoint);
    position = positionIn(checkpoint, training);
  }
  const privacy = privacyOf(training, settings);
  return {
    ...{ settings, model, params, steps: plan.steps, privacy },
    notes: notesOf(training, settings, privacy),
    get epoch() {
      return position?.epoch;
    },
    async *run(signal, onEpoch) {
      const started = performance.now();
      let made = 0;
      let { epoch, lossSum, examples } = position ?? { epoch: 0, lossSum: 0, examples: 0 };
      for (; epoch < epochs; epoch++, lossSum = 0, examples = 0) {
        while (training.step < plan.stepsAfter(epoch + 1)) {
          await turn();
          if (signal.aborted) return;
          const { step, loss, batchSize: drawn } = training.next();
          lossSum += (loss ?? 0) * (drawn ?? 0);
          examples += drawn ?? 0;
          position = { epoch, lossSum, examples };
          // By the expected size: that of the batch drawn is not for everyone.
          const examplesPerSecond = (++made * batchSize * 1000) / (performance.now() - started);
          yield { step, epoch, loss, examplesPerSecond };
        }
        const { epsilon } = training.getEpsilon(delta);
        onEpoch({ epoch, loss: examples > 0 ? lossSum / examples : null, epsilon });
      }
    },
    save() {
      const { metadata, tensors } = readSafetensors(training.save());
      return writeSafetensors({
        metadata: { ...metadata, ...(position && { [positionKey]: JSON.stringify(position) }) },
        tensors,
      });
    },
    free() {
      training.free();
      params.free();
      optimizer.free();
    },
  };
}

/** Of a run that was stopped before its first step there is none. Error: CHECKPOINT_INVALID. */
function positionIn(checkpoint: Uint8Array, { plan, step }: PrivateTraining): Position | undefined {
  const text = readSafetensors(checkpoint).metadata[positionKey];
  if (text === undefined && step === 0) return undefined;
  try {
    const { epoch, lossSum, examples } = JSON.parse(text!) as Position;
    const sound = Number.isFinite(lossSum) && Number.isSafeInteger(examples) && examples >= 0;
    if (sound && epoch === plan.epochOf(step - 1)) return { epoch, lossSum, examples };
  } catch {
    // Said below.
  }
  throw new GradshapeError(
    'CHECKPOINT_INVALID',
    `the checkpoint's '${positionKey}' is ${text?.slice(0, 100)}; expected what train.js wrote. Start the run again without --resume.`,
  );
}

function trainingOptions(settings: RunSettings, data: Dataset) {
  const { batchSize, epochs, clip, sampling, accountant, physicalBatch, secure, strategy, seed, audit } =
    settings;
  const drawn = { batchSize, epochs, clipNorm: clip!, sampling };
  // How many steps there are is the plan's to say, whatever its noise will be.
  const { steps } = privacyPlan({ ...drawn, datasetSize: data.count, noiseMultiplier: 0 });
  return {
    ...{ ...drawn, accountant, strategy, audit },
    schedule: scheduleOf(settings, steps),
    ...(physicalBatch !== undefined && { maxPhysicalBatch: physicalBatch }),
    ...(!secure && { seed, diagnostics: true }),
  };
}

/** A run that begins finds its noise, where there is a target; one that goes on keeps what was found then. */
function makeTraining(
  options: Omit<PrivateTrainingOptions, 'noiseMultiplier'>,
  settings: RunSettings,
  checkpoint: Uint8Array | undefined,
): PrivateTraining {
  const { targetEpsilon, delta, noise } = settings;
  if (targetEpsilon !== undefined && checkpoint === undefined)
    return makePrivateWithEpsilon({ ...options, targetEpsilon, targetDelta: delta });
  const training = makePrivate({ ...options, noiseMultiplier: noise });
  checkTarget(training, settings);
  return training;
}

/** More epochs than the noise was found for spend more than the target: only who asked for it can allow that. */
function checkTarget({ plan }: PrivateTraining, { targetEpsilon, delta, epochs, noise }: RunSettings): void {
  if (targetEpsilon === undefined) return;
  const { epsilon } = plan.epsilon(delta);
  if (epsilon <= targetEpsilon) return;
  const enough = formatUpperBound(epsilon);
  throw new GradshapeError(
    'TARGET_EXCEEDED',
    `the run's noise multiplier is ${noise}, with which ${epochs} epochs spend ε = ${epsilonText(epsilon)} at δ = ${formatUpperBound(delta)}, and the target is ${targetEpsilon}. ` +
      `Allow it with --resume --epochs ${epochs} --target-epsilon ${enough} (the noise stays as it is), or start a new run with --epochs ${epochs}, which finds its own.`,
  );
}

function privacyOf(
  training: PrivateTraining,
  { clip, noise, delta, sampling }: RunSettings,
): TrainingPrivacy {
  const { origin, accountant } = training.plan;
  const but = [
    ...(origin === 'seeded' ? ['seeded: not private'] : []),
    ...(sampling === 'nominal-poisson' ? ['nominal'] : []),
    ...(accountant === 'gdp' ? ['approximate'] : []),
    ...(training.audit?.verdict === 'violated' ? ['refuted by an audit'] : []),
  ];
  return {
    label: but.length === 0 || noise === 0 ? 'ε' : `ε (${but.join('; ')})`,
    noiseMultiplier: noise,
    noiseStd: clip! * noise,
    epsilonAfter: (epochs) => training.plan.epsilon(delta, training.plan.stepsAfter(epochs)).epsilon,
    statement: () => training.statement(delta),
  };
}

const draws: Record<RunSettings['sampling'], string> = {
  poisson: 'Poisson-sampled batches',
  'fixed-size': 'batches of one size, drawn afresh each step',
  shuffled: 'shuffled batches',
  'nominal-poisson': 'shuffled batches, accounted as if Poisson-sampled: ε is nominal, no guarantee',
};

/** What clipping and noise make of this run. */
function notesOf(
  { plan, warnings, audit }: PrivateTraining,
  { clip, noise, delta, secure, epochs, sampling }: RunSettings,
  { noiseStd, label }: TrainingPrivacy,
): string[] {
  const slow = warnings.map(({ message, hint }) => `${message} ${hint}`);
  if (noise === 0) return [...slow, `Clipped to norm ${clip}, no noise: ε = ∞ (${draws[sampling]}).`];
  return [
    ...slow,
    `Clipped to norm ${clip}, noise multiplier ${noise} (standard deviation ${formatLowerBound(noiseStd, 5)} on the sum of gradients), ${draws[sampling]}.`,
    `After ${epochs} epoch${epochs === 1 ? '' : 's'}: ${label} = ${epsilonText(plan.epsilon(delta).epsilon)} at δ = ${formatUpperBound(delta)}, by ${plan.accountant.toUpperCase()}.`,
    'ε covers the weights alone: losses on training examples, and accuracies on examples that must stay private, leak; so do an early stop, the best ' +
      'epoch or the best of several runs, chosen by them.',
    ...(audit === null ? [] : [audit.at(delta).says]),
    ...(secure
      ? []
      : [
          'Seeded noise and sampling, which whoever knows the seed can undo: an experiment, not a private model; --secure makes one.',
        ]),
    ...(delta * plan.datasetSize < 1
      ? []
      : [
          `δ = ${formatUpperBound(delta)} is no less than one in ${plan.datasetSize} examples, and so promises nothing of use: choose it well below.`,
        ]),
  ];
}
