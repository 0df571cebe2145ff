import { checkSeed, type Engine, GradshapeError } from '../engine/index.js';
import { relationOf } from './accounting/events.js';
import {
  type Accountant,
  type AccountantName,
  createAccountant,
  type NeighbouringRelation,
  type PrivacyEvent,
  type PrivacyGuarantee,
  type PrivacyPhase,
  type PrivacyStatement,
  privacyStatement,
} from './accounting/index.js';
import { withdrawn } from './accounting/statement.js';
import { shown } from './accounting/validate.js';
import { noiseIn, noiseRuns } from './counted-noise.js';
import { type NoiseSource, secureNoise, seededNoise } from './noise.js';
import { shaperOf } from './private-step.js';
import { fixedSizeSampler, poissonSampler, type Sampler, shuffledSampler } from './sampling.js';
import type { Scheduled } from './schedules.js';
import { isSeeded } from './seeded-phases.js';
import type { Shaper } from './shaper.js';

/**
 * How batches are drawn, and so how they are accounted:
 * - `poisson`: each example with probability batchSize / datasetSize. Amplified; add-or-remove-one.
 * - `fixed-size`: batchSize examples without replacement. Amplified, by its own accountant; replace-one, twice the sensitivity.
 * - `shuffled`: epochs in a public order. No amplification: each epoch counts as one step on all data; zero-out-one.
 * - `nominal-poisson`: epochs in a public order, accounted as if Poisson-sampled, as papers do. No guarantee, and marked so.
 */
export type Sampling = 'poisson' | 'fixed-size' | 'shuffled' | 'nominal-poisson';

export interface PrivacyPlanOptions {
  /** n: examples in the training set, taken to be public. */
  readonly datasetSize: number;
  /** L: the expected batch size (with Poisson sampling), or the batch size. Public: the noisy sum is divided by it. */
  readonly batchSize: number;
  /** Passes over the data. Give this or `steps`. */
  readonly epochs?: number;
  readonly steps?: number;
  /** σ, or a schedule of it; 0 is shaping without noise, and ε = ∞. */
  readonly noiseMultiplier: Scheduled;
  /** C, for flat clipping, or a schedule of it. Give this or `shaper`. */
  readonly clipNorm?: Scheduled;
  readonly shaper?: Shaper;
  /** @default 'poisson' */
  readonly sampling?: Sampling;
  /** @default 'pld' */
  readonly accountant?: AccountantName;
  /** Makes sampling and noise repeatable, for experiments: the run is then never called private. Default: both are secure. */
  readonly seed?: number;
  /**
   * What was released before from the same data, to be counted as well: another training's `released`. Give that very list (or what
   * is in it), not a copy of its numbers: then nothing is counted twice where both trainings are made in one process, and it is known
   * whether its noise was seeded, with which nothing is private. A copy, such as one read from JSON, says neither: give that of a seeded
   * training to nothing that is to be private.
   */
  readonly previous?: readonly PrivacyPhase[];
}

/**
 * All that privacy depends on, in one place, so that sampler, clip norm, noise, accountant, number of steps and neighbouring
 * relation can't disagree.
 */
export interface PrivacyPlan {
  readonly sampling: Sampling;
  readonly relation: NeighbouringRelation;
  readonly datasetSize: number;
  readonly batchSize: number;
  /** batchSize / datasetSize */
  readonly samplingRate: number;
  readonly steps: number;
  /** Passes over the data that the steps make, the last perhaps in part. */
  readonly epochs: number;
  /** ⌈datasetSize / batchSize⌉: the steps of a shuffled epoch, and the most that one of sampled batches has (see `stepsAfter`). */
  readonly stepsPerEpoch: number;
  readonly noiseMultiplier: Scheduled;
  readonly shaper: Shaper;
  readonly accountant: AccountantName;
  /** Where noise and private sampling come from. */
  readonly origin: 'secure' | 'seeded';
  readonly previous: readonly PrivacyPhase[];
  /**
   * Steps done when so many epochs are, at most all of them. Shuffled epochs have `stepsPerEpoch` each; sampled ones are epochs in
   * expectation: after e of them, ⌈e · datasetSize / batchSize⌉ steps are done.
   * @throws STEPS_OUT_OF_RANGE
   */
  stepsAfter(epochs: number): number;
  /** The epoch, from 0, that a step, from 0, is in. @throws STEPS_OUT_OF_RANGE */
  epochOf(step: number): number;
  /** The σ that a step is counted with: its own; in shuffled epochs, the least of its epoch. @throws STEPS_OUT_OF_RANGE */
  countedNoise(step: number): number;
  /**
   * What a step adds to the account; null where it adds nothing: a shuffled epoch counts whole, from its first step on.
   * @throws STEPS_OUT_OF_RANGE
   */
  releasedBy(step: number): PrivacyEvent | null;
  /** What the first steps release (default: all): what the accountants count, without `previous`. @throws STEPS_OUT_OF_RANGE */
  phases(steps?: number): PrivacyPhase[];
  /** An accountant that has seen `previous` and the first steps (default: all). @throws STEPS_OUT_OF_RANGE */
  accountantAfter(steps?: number, name?: AccountantName): Accountant;
  /** ε after all steps, or the first ones. @throws DELTA_OUT_OF_RANGE, STEPS_OUT_OF_RANGE */
  epsilon(delta: number, steps?: number): PrivacyGuarantee;
  /** What is promised, in words and numbers. @throws DELTA_OUT_OF_RANGE, STEPS_OUT_OF_RANGE */
  statement(delta: number, steps?: number): PrivacyStatement;
  /** The sampler; `publicSeed` orders shuffled epochs, and is null where there are none. */
  sampler(engine: Engine, publicSeed: number | null): Sampler;
  noise(): NoiseSource;
  /**
   * What must agree between a checkpoint made after some steps (default: all) and the plan it is resumed under: the steps done, and
   * how they were made. Those to come may differ: a longer plan goes on with the same account.
   */
  fingerprint(steps?: number): string;
}

/**
 * Puts together what a private training does and what is counted of it. Schedules are asked for every step's value here, once: one
 * that takes noise or bound away at some step is refused, and what is counted is what they said.
 * @throws DATASET_SIZE_OUT_OF_RANGE, BATCH_SIZE_OUT_OF_RANGE, STEPS_OUT_OF_RANGE, NOISE_INVALID, SHAPER_INVALID, CLIP_NORM_INVALID,
 * SCHEDULE_INVALID, SAMPLING_UNKNOWN, ACCOUNTANT_UNKNOWN, RELATION_MISMATCH, PHASES_INVALID, SEED_INVALID
 * @example
 * const plan = privacyPlan({ datasetSize: 60_000, batchSize: 600, epochs: 15, clipNorm: 1, noiseMultiplier: 1.1 });
 * plan.steps; // 1500
 * plan.epsilon(1e-5).epsilon < 2 // true
 */
export function privacyPlan(options: PrivacyPlanOptions): PrivacyPlan {
  const { datasetSize, batchSize, noiseMultiplier, seed } = options;
  const { sampling = 'poisson', accountant = 'pld' } = options;
  checkSizes(options);
  if (seed !== undefined) checkSeed('privacyPlan', seed);
  const shaper = shaperOf(options);
  const stepsPerEpoch = Math.ceil(datasetSize / batchSize);
  const samplingRate = batchSize / datasetSize;
  // A shuffled epoch has whole batches; sampled ones are epochs in expectation.
  const shuffled = sampling === 'shuffled' || sampling === 'nominal-poisson';
  const stepsIn = (epochs: number): number =>
    shuffled ? epochs * stepsPerEpoch : Math.ceil((epochs * datasetSize) / batchSize);
  const steps = stepsOf(options, stepsIn);
  // In a shuffled epoch each example is in one batch, and nobody knows in which: the epoch is counted as one release.
  const stepsPerRelease = sampling === 'shuffled' ? stepsPerEpoch : 1;
  const runs = noiseRuns(options, shaper, steps, stepsPerRelease);
  const eventOf = (sigma: number): PrivacyEvent => {
    const noise = { noiseMultiplier: sigma };
    if (sampling === 'poisson') return { mechanism: 'poissonSampledGaussian', samplingRate, ...noise };
    if (sampling === 'nominal-poisson')
      return { mechanism: 'nominalPoissonGaussian', samplingRate, ...noise };
    if (sampling === 'shuffled') return { mechanism: 'shuffledEpochGaussian', ...noise };
    return { mechanism: 'fixedSizeSampledGaussian', datasetSize, batchSize, ...noise };
  };
  const previous = createAccountant(accountant, options.previous).phases;
  const relation = relationOf([...previous, { ...eventOf(1), steps: 1 }]);
  const origin = seed === undefined ? 'secure' : 'seeded';
  const seededPast = isSeeded(options.previous ?? []);
  const sigmaOf = (call: string, step: number): number => {
    checkStep(call, step, steps - 1);
    return noiseIn(runs, Math.floor(step / stepsPerRelease));
  };
  const phasesAfter = (call: string, done = steps): PrivacyPhase[] => {
    checkStep(call, done, steps);
    const releases = Math.ceil(done / stepsPerRelease);
    const made = runs.filter(({ from }) => from < releases);
    return made.map(({ sigma, from, to }) => ({ ...eventOf(sigma), steps: Math.min(to, releases) - from }));
  };
  const accountantOf = (call: string, done?: number, name = accountant): Accountant =>
    createAccountant(name, [...previous, ...phasesAfter(call, done)]);
  const stepsAfter = (epochs: number): number => {
    checkStep('stepsAfter', epochs, Number.MAX_SAFE_INTEGER);
    return Math.min(stepsIn(epochs), steps);
  };
  const epochOf = (step: number): number => {
    checkStep('epochOf', step, steps - 1);
    if (shuffled) return Math.floor(step / stepsPerEpoch);
    // Rounding may make the quotient one too large or too small.
    let epoch = Math.max(0, Math.floor(step * samplingRate) - 1);
    while (stepsIn(epoch + 1) <= step) epoch++;
    return epoch;
  };
  return Object.freeze<PrivacyPlan>({
    sampling,
    relation,
    datasetSize,
    batchSize,
    samplingRate,
    steps,
    epochs: epochOf(steps - 1) + 1,
    stepsPerEpoch,
    noiseMultiplier,
    shaper,
    accountant,
    origin,
    previous,
    stepsAfter,
    epochOf,
    countedNoise: (step) => sigmaOf('countedNoise', step),
    releasedBy: (step) => {
      const sigma = sigmaOf('releasedBy', step);
      return step % stepsPerRelease === 0 ? eventOf(sigma) : null;
    },
    phases: (done) => phasesAfter('phases', done),
    accountantAfter: (done, name) => accountantOf('accountantAfter', done, name),
    epsilon: (delta, done) => accountantOf('epsilon', done).epsilon(delta),
    statement: (delta, done) => {
      const facts = { delta, origin, datasetSize, batchSize, shaper } as const;
      const found = planStatement(accountantOf('statement', done), facts);
      const statement = withdrawn(found, seededPast ? [bySeededPast] : []);
      const [first, ...rest] = statement.says;
      return { ...statement, says: [first!, byThePlan, ...rest] };
    },
    sampler: (engine, publicSeed) =>
      samplerOf(engine, { sampling, datasetSize, batchSize, seed, publicSeed }),
    noise: () => (seed === undefined ? secureNoise() : seededNoise(seed)),
    fingerprint: (done = steps) =>
      JSON.stringify({
        sampling,
        datasetSize,
        batchSize,
        steps: done,
        origin,
        shaper: shaper.toString(),
        phases: phasesAfter('fingerprint', done),
        previous,
      }),
  });
}

/** @throws STEPS_OUT_OF_RANGE */
function checkStep(call: string, value: number, most: number): void {
  if (Number.isSafeInteger(value) && value >= 0 && value <= most) return;
  throw new GradshapeError(
    'STEPS_OUT_OF_RANGE',
    `plan.${call}: ${shown(value)} is no whole number from 0 to ${most}; expected one.`,
  );
}

export const bySeededPast =
  'what is counted as `previous` was released with seeded noise, which is no secret: its part of ε holds for nobody who knows the seed.';

const byThePlan =
  'This is what the plan promises: it holds for a training that takes noise and batches from it, as makePrivate does.';

const byApproximation =
  'The accountant chosen is GDP: its own ε, and any target that was kept by it, is an approximation that the true ε may exceed.';

interface StatementFacts {
  readonly delta: number;
  readonly origin: 'secure' | 'seeded';
  readonly datasetSize: number;
  readonly batchSize: number;
  readonly shaper: Shaper;
}

/** The accountant's statement, with what the plan adds: the rule, and the sizes that are public. */
export function planStatement(accountant: Accountant, facts: StatementFacts): PrivacyStatement {
  const { delta, origin, datasetSize, batchSize, shaper } = facts;
  const statement = privacyStatement(accountant, { delta, noiseOrigin: origin, datasetSize });
  return {
    ...statement,
    says: [
      ...statement.says,
      ...(accountant.name === 'gdp' ? [byApproximation] : []),
      `Gradients are shaped by ${shaper.toString()}; the noisy sums are divided by ${batchSize}, whatever was drawn.`,
      `The number of training examples, ${datasetSize.toLocaleString('en')}, and the batch size were used to set the sampling, and are taken to be public.`,
    ],
    notCovered: [
      ...statement.notCovered,
      'Trainings on the same data that this process does not know of: in other processes, or on copies of the data. Count them by `previous`.',
    ],
  };
}

interface SamplerFacts {
  readonly sampling: Sampling;
  readonly datasetSize: number;
  readonly batchSize: number;
  readonly seed: number | undefined;
  readonly publicSeed: number | null;
}

function samplerOf(engine: Engine, facts: SamplerFacts): Sampler {
  const { sampling, datasetSize: count, batchSize, seed, publicSeed } = facts;
  const secret = { engine, count, ...(seed === undefined ? {} : { seed }) };
  if (sampling === 'poisson') return poissonSampler({ ...secret, samplingRate: batchSize / count });
  if (sampling === 'fixed-size') return fixedSizeSampler({ ...secret, batchSize });
  return shuffledSampler({ count, batchSize, seed: seed ?? publicSeed! });
}

function stepsOf({ epochs, steps }: PrivacyPlanOptions, stepsIn: (epochs: number) => number): number {
  const value = steps ?? epochs;
  const name = steps === undefined ? 'epochs' : 'steps';
  if ((epochs === undefined) === (steps === undefined) || !(Number.isSafeInteger(value) && value! >= 1)) {
    throw new GradshapeError(
      'STEPS_OUT_OF_RANGE',
      `privacyPlan: ${name} is ${shown(value)}; expected either epochs or steps, a whole number from 1.`,
    );
  }
  const found = steps ?? stepsIn(epochs!);
  if (Number.isSafeInteger(found)) return found;
  throw new GradshapeError(
    'STEPS_OUT_OF_RANGE',
    `privacyPlan: ${epochs} epochs are ${found} steps, more than can be counted; expected fewer, or a larger batchSize.`,
  );
}

function checkSizes({ datasetSize, batchSize, sampling = 'poisson' }: PrivacyPlanOptions): void {
  if (!['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'].includes(sampling)) {
    throw new GradshapeError(
      'SAMPLING_UNKNOWN',
      `privacyPlan: sampling is ${shown(sampling)}; expected 'poisson', 'fixed-size', 'shuffled' or 'nominal-poisson'.`,
    );
  }
  if (!(Number.isSafeInteger(datasetSize) && datasetSize >= 1)) {
    throw new GradshapeError(
      'DATASET_SIZE_OUT_OF_RANGE',
      `privacyPlan: datasetSize is ${shown(datasetSize)}; expected a whole number from 1.`,
    );
  }
  // An expectation need not be whole; a size must.
  const whole = sampling === 'poisson' || Number.isSafeInteger(batchSize);
  if (typeof batchSize === 'number' && batchSize > 0 && batchSize <= datasetSize && whole) return;
  throw new GradshapeError(
    'BATCH_SIZE_OUT_OF_RANGE',
    `privacyPlan: batchSize is ${shown(batchSize)}; expected a ${sampling === 'poisson' ? '' : 'whole '}number above 0 and at most datasetSize, ${datasetSize}.`,
  );
}
