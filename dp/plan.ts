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
import { type NoiseSource, secureNoise, seededNoise } from './noise.js';
import { shaperOf } from './private-step.js';
import { fixedSizeSampler, poissonSampler, type Sampler, shuffledSampler } from './sampling.js';
import { type Scheduled, valueAt } from './schedules.js';
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
  /** What was released before from the same data, to be counted as well: another training's `accountant.phases`. */
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
  readonly stepsPerEpoch: number;
  readonly noiseMultiplier: Scheduled;
  readonly shaper: Shaper;
  readonly accountant: AccountantName;
  /** Where noise and private sampling come from. */
  readonly origin: 'secure' | 'seeded';
  readonly previous: readonly PrivacyPhase[];
  /** What a step adds to the account; null where it adds nothing: a shuffled epoch counts whole, from its first step on. */
  releasedBy(step: number): PrivacyEvent | null;
  /** What the first steps release (default: all): what the accountants count, without `previous`. */
  phases(steps?: number): PrivacyPhase[];
  /** An accountant that has seen `previous` and the first steps (default: all). */
  accountantAfter(steps?: number, name?: AccountantName): Accountant;
  /** ε after all steps, or the first ones. */
  epsilon(delta: number, steps?: number): PrivacyGuarantee;
  /** What is promised, in words and numbers. */
  statement(delta: number, steps?: number): PrivacyStatement;
  /** The sampler; `publicSeed` orders shuffled epochs. */
  sampler(engine: Engine, publicSeed: number): Sampler;
  noise(): NoiseSource;
  /**
   * What must agree between a checkpoint made after some steps (default: all) and the plan it is resumed under: the steps done, and
   * how they were made. Those to come may differ: a longer plan goes on with the same account.
   */
  fingerprint(steps?: number): string;
}

/**
 * Puts together what a private training does and what is counted of it.
 * @throws DATASET_SIZE_OUT_OF_RANGE, BATCH_SIZE_OUT_OF_RANGE, STEPS_OUT_OF_RANGE, NOISE_INVALID, SHAPER_INVALID, CLIP_NORM_INVALID,
 * SAMPLING_UNKNOWN, ACCOUNTANT_UNKNOWN, RELATION_MISMATCH, SEED_INVALID
 * @example
 * const plan = privacyPlan({ datasetSize: 60_000, batchSize: 600, epochs: 15, clipNorm: 1, noiseMultiplier: 1.1 });
 * plan.steps; // 1500
 * plan.epsilon(1e-5).epsilon < 2 // true
 */
export function privacyPlan(options: PrivacyPlanOptions): PrivacyPlan {
  const { datasetSize, batchSize, noiseMultiplier, seed, previous = [] } = options;
  const { sampling = 'poisson', accountant = 'pld' } = options;
  checkSizes(options);
  if (seed !== undefined) checkSeed('privacyPlan', seed);
  const shaper = shaperOf(options);
  const stepsPerEpoch = Math.ceil(datasetSize / batchSize);
  const steps = stepsOf(options, sampling, stepsPerEpoch);
  const sigmaAt = noiseByStep(noiseMultiplier, shaper);
  const samplingRate = batchSize / datasetSize;
  const eventOf = (sigma: number): PrivacyEvent => {
    // Without a bound no noise protects, whatever its size.
    const noise = { noiseMultiplier: shaper.bound(0) === null ? 0 : sigma };
    if (sampling === 'poisson') return { mechanism: 'poissonSampledGaussian', samplingRate, ...noise };
    if (sampling === 'nominal-poisson')
      return { mechanism: 'nominalPoissonGaussian', samplingRate, ...noise };
    if (sampling === 'shuffled') return { mechanism: 'shuffledEpochGaussian', ...noise };
    return { mechanism: 'fixedSizeSampledGaussian', datasetSize, batchSize, ...noise };
  };
  const releasedBy = (step: number): PrivacyEvent | null => {
    if (sampling !== 'shuffled') return eventOf(sigmaAt(step));
    if (step % stepsPerEpoch > 0) return null;
    // An example is in one batch of the epoch, and nobody knows which: the least noise counts.
    let least = sigmaAt(step);
    if (typeof noiseMultiplier !== 'number') {
      for (let i = 1; i < stepsPerEpoch; i++) least = Math.min(least, sigmaAt(step + i));
    }
    return eventOf(least);
  };
  const phases = (done = steps): PrivacyPhase[] => {
    const found: PrivacyPhase[] = [];
    for (let step = 0; step < done; step++) {
      const event = releasedBy(step);
      const last = found.at(-1);
      if (event === null) continue;
      if (last?.noiseMultiplier !== event.noiseMultiplier) found.push({ ...event, steps: 1 });
      else found[found.length - 1] = { ...last, steps: last.steps + 1 };
    }
    return found;
  };
  const accountantAfter = (done = steps, name = accountant): Accountant =>
    createAccountant(name, [...previous, ...phases(done)]);
  const origin = seed === undefined ? 'secure' : 'seeded';
  const relation = relationOf([...previous, ...phases()]);
  return {
    sampling,
    relation,
    datasetSize,
    batchSize,
    samplingRate,
    steps,
    stepsPerEpoch,
    noiseMultiplier,
    shaper,
    accountant,
    origin,
    previous,
    releasedBy,
    phases,
    accountantAfter,
    epsilon: (delta, done) => accountantAfter(done).epsilon(delta),
    statement: (delta, done) =>
      planStatement(accountantAfter(done), { delta, origin, datasetSize, batchSize, shaper }),
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
        phases: phases(done),
        previous,
      }),
  };
}

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
  const statement = privacyStatement(accountant, { delta, noiseOrigin: origin });
  return {
    ...statement,
    says: [
      ...statement.says,
      `Gradients are shaped by ${shaper.toString()}; the noisy sums are divided by ${batchSize}, whatever was drawn.`,
      `The number of training examples, ${datasetSize.toLocaleString('en')}, and the batch size were used to set the sampling, and are taken to be public.`,
    ],
  };
}

interface SamplerFacts {
  readonly sampling: Sampling;
  readonly datasetSize: number;
  readonly batchSize: number;
  readonly seed: number | undefined;
  readonly publicSeed: number;
}

function samplerOf(engine: Engine, facts: SamplerFacts): Sampler {
  const { sampling, datasetSize: count, batchSize, seed, publicSeed } = facts;
  const secret = { engine, count, ...(seed === undefined ? {} : { seed }) };
  if (sampling === 'poisson') return poissonSampler({ ...secret, samplingRate: batchSize / count });
  if (sampling === 'fixed-size') return fixedSizeSampler({ ...secret, batchSize });
  return shuffledSampler({ count, batchSize, seed: seed ?? publicSeed });
}

/** σ of a step, checked. */
function noiseByStep(noiseMultiplier: Scheduled, shaper: Shaper): (step: number) => number {
  const at = (step: number): number => {
    const sigma = valueAt('noiseMultiplier', noiseMultiplier, step);
    if (sigma >= 0 && sigma < Infinity) return sigma;
    throw new GradshapeError(
      'NOISE_INVALID',
      `privacyPlan: noiseMultiplier is ${sigma}; expected a finite number of at least 0.`,
    );
  };
  if (at(0) > 0 && shaper.bound(0) === null) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privacyPlan: ${shaper.toString()} bounds no example's part, so no noise gives a guarantee; expected noiseMultiplier 0 (ε = ∞), or a rule with a ` +
        'bound, such as clipNorm: 1. For noise without a guarantee use privateStep with noiseStd.',
    );
  }
  return at;
}

function stepsOf(
  { epochs, steps, datasetSize, batchSize }: PrivacyPlanOptions,
  sampling: Sampling,
  perEpoch: number,
) {
  const value = steps ?? epochs;
  const name = steps === undefined ? 'epochs' : 'steps';
  if ((epochs === undefined) === (steps === undefined) || !(Number.isSafeInteger(value) && value! >= 1)) {
    throw new GradshapeError(
      'STEPS_OUT_OF_RANGE',
      `privacyPlan: ${name} is ${value}; expected either epochs or steps, a whole number from 1.`,
    );
  }
  if (steps !== undefined) return steps;
  // A shuffled epoch has whole batches; sampled ones are epochs in expectation.
  const shuffled = sampling === 'shuffled' || sampling === 'nominal-poisson';
  return shuffled ? epochs! * perEpoch : Math.ceil((epochs! * datasetSize) / batchSize);
}

function checkSizes({ datasetSize, batchSize, sampling = 'poisson' }: PrivacyPlanOptions): void {
  if (!['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'].includes(sampling)) {
    throw new GradshapeError(
      'SAMPLING_UNKNOWN',
      `privacyPlan: sampling is '${String(sampling)}'; expected 'poisson', 'fixed-size', 'shuffled' or 'nominal-poisson'.`,
    );
  }
  if (!(Number.isSafeInteger(datasetSize) && datasetSize >= 1)) {
    throw new GradshapeError(
      'DATASET_SIZE_OUT_OF_RANGE',
      `privacyPlan: datasetSize is ${datasetSize}; expected a whole number from 1.`,
    );
  }
  // An expectation need not be whole; a size must.
  const whole = sampling === 'poisson' || Number.isSafeInteger(batchSize);
  if (batchSize > 0 && batchSize <= datasetSize && whole) return;
  throw new GradshapeError(
    'BATCH_SIZE_OUT_OF_RANGE',
    `privacyPlan: batchSize is ${batchSize}; expected a ${sampling === 'poisson' ? '' : 'whole '}number above 0 and at most datasetSize, ${datasetSize}.`,
  );
}
