/** What a training step released, as data: the accountants' common language (after dp_accounting's events). */
import { GradshapeError } from '../../engine/errors.js';
import { checkCount, checkNoiseMultiplier, checkOneOf, checkSamplingRate, checkSteps } from './validate.js';

/**
 * What two neighbouring data sets differ by: one example more or less, one example's contribution set to zero (the size
 * being public), or one example exchanged for another.
 */
export type NeighbouringRelation = 'add-or-remove-one' | 'zero-out-one' | 'replace-one';

/**
 * One release. `noiseMultiplier` σ is always the noise's standard deviation over the *clip norm*; sensitivities (the clip
 * norm, or twice that under replace-one) are the accountants' business.
 *
 * - `gaussian`: every example takes part in the step.
 * - `poissonSampledGaussian`: each example takes part with probability `samplingRate`, independently. Add-or-remove-one.
 * - `fixedSizeSampledGaussian`: `batchSize` of `datasetSize` examples, drawn without replacement. Replace-one.
 * - `shuffledEpochGaussian`: one *epoch* of disjoint batches. Each example is in one batch of it, so the epoch composes as
 *   one Gaussian step; no amplification is claimed. Zero-out-one.
 * - `nominalPoissonGaussian`: batches were shuffled but are accounted as if Poisson-sampled, as papers do. Not a bound.
 */
export type PrivacyEvent =
  | { mechanism: 'gaussian'; noiseMultiplier: number }
  | { mechanism: 'poissonSampledGaussian'; samplingRate: number; noiseMultiplier: number }
  | { mechanism: 'nominalPoissonGaussian'; samplingRate: number; noiseMultiplier: number }
  | { mechanism: 'fixedSizeSampledGaussian'; datasetSize: number; batchSize: number; noiseMultiplier: number }
  | { mechanism: 'shuffledEpochGaussian'; noiseMultiplier: number };

/** An event and how often it happened in a row (for shuffled epochs: how many epochs). */
export type PrivacyPhase = PrivacyEvent & { steps: number };

const MECHANISMS = [
  'gaussian',
  'poissonSampledGaussian',
  'nominalPoissonGaussian',
  'fixedSizeSampledGaussian',
  'shuffledEpochGaussian',
] as const;

/**
 * @throws GradshapeError MECHANISM_UNKNOWN, NOISE_MULTIPLIER_OUT_OF_RANGE, SAMPLING_RATE_OUT_OF_RANGE,
 *   DATASET_SIZE_OUT_OF_RANGE, BATCH_SIZE_OUT_OF_RANGE
 */
export function checkEvent(event: PrivacyEvent): void {
  checkOneOf(event?.mechanism, MECHANISMS, 'mechanism', 'MECHANISM_UNKNOWN');
  checkNoiseMultiplier(event.noiseMultiplier);
  if (event.mechanism === 'poissonSampledGaussian' || event.mechanism === 'nominalPoissonGaussian') {
    checkSamplingRate(event.samplingRate);
  }
  if (event.mechanism === 'fixedSizeSampledGaussian') {
    checkCount(event.datasetSize, 'datasetSize', 'DATASET_SIZE_OUT_OF_RANGE');
    checkCount(event.batchSize, 'batchSize', 'BATCH_SIZE_OUT_OF_RANGE');
    if (event.batchSize > event.datasetSize) {
      throw new GradshapeError(
        'BATCH_SIZE_OUT_OF_RANGE',
        `batchSize must be at most datasetSize (${event.datasetSize}); given: ${event.batchSize}.`,
      );
    }
  }
}

/** The event alone, without a count or anything else that came with it; checked. @throws GradshapeError as `checkEvent` */
export function eventOf(event: PrivacyEvent): PrivacyEvent {
  checkEvent(event);
  const { mechanism, noiseMultiplier } = event;
  switch (mechanism) {
    case 'poissonSampledGaussian':
    case 'nominalPoissonGaussian':
      return { mechanism, samplingRate: event.samplingRate, noiseMultiplier };
    case 'fixedSizeSampledGaussian':
      return { mechanism, datasetSize: event.datasetSize, batchSize: event.batchSize, noiseMultiplier };
    default:
      return { mechanism, noiseMultiplier };
  }
}

/** Whether two events are the same release; what else the objects hold does not matter. */
export function sameEvent(a: PrivacyEvent, b: PrivacyEvent): boolean {
  if (a.mechanism !== b.mechanism || a.noiseMultiplier !== b.noiseMultiplier) return false;
  if ('samplingRate' in a) return a.samplingRate === (b as typeof a).samplingRate;
  if (!('datasetSize' in a)) return true;
  return a.datasetSize === (b as typeof a).datasetSize && a.batchSize === (b as typeof a).batchSize;
}

/** @throws GradshapeError PHASES_INVALID */
export function checkPhases(phases: readonly PrivacyPhase[]): void {
  if (Array.isArray(phases)) return;
  throw new GradshapeError(
    'PHASES_INVALID',
    `phases must be a list of events with their steps, such as plan.phases(); given: ${String(phases)}.`,
  );
}

/**
 * The relation that all phases can be stated under. Fixed-size batches need replace-one, where Poisson sampling has no
 * accountant here; shuffled epochs need a public data set size.
 * @throws GradshapeError RELATION_MISMATCH
 */
export function relationOf(phases: readonly PrivacyPhase[]): NeighbouringRelation {
  const has = (mechanism: PrivacyEvent['mechanism']): boolean =>
    phases.some((p) => p.mechanism === mechanism);
  if (has('fixedSizeSampledGaussian')) {
    if (has('poissonSampledGaussian') || has('nominalPoissonGaussian')) {
      throw new GradshapeError(
        'RELATION_MISMATCH',
        'fixed-size batches are accounted under replace-one and Poisson-sampled ones under add-or-remove-one: they do not ' +
          'compose. Use one kind of sampling in all phases.',
      );
    }
    return 'replace-one';
  }
  return has('shuffledEpochGaussian') ? 'zero-out-one' : 'add-or-remove-one';
}

/**
 * The same phases in the form the mathematics works on: sampling rate q, noise over *sensitivity*, number of steps; equal
 * mechanisms merged, all unsampled Gaussians merged into one (their precisions add).
 */
export interface Component {
  sampling: 'none' | 'poisson' | 'fixed-size';
  q: number;
  /** Noise standard deviation over the relation's sensitivity. */
  sigma: number;
  count: number;
}

/** Components of the phases under their relation; see `Component`. A phase without noise gives sigma = 0. */
export function componentsOf(phases: readonly PrivacyPhase[]): Component[] {
  checkPhases(phases);
  for (const phase of phases) {
    checkEvent(phase);
    checkSteps(phase.steps);
  }
  const sensitivity = relationOf(phases) === 'replace-one' ? 2 : 1;
  const merged = new Map<string, Component>();
  let precision = 0; // Σ steps/σ² of unsampled Gaussians
  for (const phase of phases) {
    const sigma = phase.noiseMultiplier / sensitivity;
    let sampling: Component['sampling'] = 'none';
    let q = 1;
    if (phase.mechanism === 'poissonSampledGaussian' || phase.mechanism === 'nominalPoissonGaussian') {
      sampling = 'poisson';
      q = phase.samplingRate;
    } else if (phase.mechanism === 'fixedSizeSampledGaussian') {
      sampling = 'fixed-size';
      q = phase.batchSize / phase.datasetSize;
    }
    if (q === 1) {
      precision += phase.steps / sigma / sigma;
      continue;
    }
    const key = `${sampling} ${q} ${sigma}`;
    const same = merged.get(key);
    if (same) same.count += phase.steps;
    else merged.set(key, { sampling, q, sigma, count: phase.steps });
  }
  const components = [...merged.values()];
  if (precision > 0) components.push({ sampling: 'none', q: 1, sigma: 1 / Math.sqrt(precision), count: 1 });
  return components;
}

/** Whether some phase is accounted only nominally, so that ε is no bound. */
export function isNominal(phases: readonly PrivacyPhase[]): boolean {
  return phases.some((phase) => phase.mechanism === 'nominalPoissonGaussian');
}
