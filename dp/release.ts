import { GradshapeError, type Parameters } from '../engine/index.js';
import { type NoiseSource, noiseGrid } from './noise.js';
import { type Scheduled, valueAt } from './schedules.js';
import type { Shaper } from './shaper.js';

/** What one step releases: fixed when the step begins. */
export interface Release {
  readonly step: number;
  /** C, or the rule's bound: the most that one example's part of the sum can measure; null where there is none. */
  readonly bound: number | null;
  /** The noise's standard deviation on the gradient's sum. */
  readonly noiseStd: number;
  /** noiseStd / bound; 0 where there is no bound. */
  readonly noiseMultiplier: number;
  /** σ as it was given, for gradient and all else that the rule releases together; 0 where none was given. */
  readonly sigma: number;
}

interface ReleaseOptions {
  readonly params: Parameters;
  readonly noiseMultiplier?: Scheduled;
  readonly noiseStd?: number;
  readonly expectedBatchSize: number;
}

/**
 * The share of C by which rounding can move the sum when one example comes or goes (docs/arithmetic.md, theorem): each group of
 * 320 that changes has 0.31 %, one of 256 0.2 %. Where a lot's drawing chose the groups, one changes, and is two sums: one with
 * the example and one without; where they are ranges of indices, the first and one other do.
 */
const roundingShare = { ofLots: 0.0063, ofIndices: 0.0103 };

/** Bounds within which neither float32 nor the smallest noise grid is near its ends; plans are held to them, too. */
export const [smallestBound, largestBound] = [1e-30, 1e30];

/** What each step of a training releases: the rule's bound and the noise on it, asked once a step, and checked. */
export class Releases {
  private fixed: Release | null = null;
  /** Whether the training began with noise on a bound: then it stays so. */
  private readonly protects: boolean;
  /** What secure noise's grid costs: √n of it. */
  private readonly rounded: boolean;

  constructor(
    private readonly options: ReleaseOptions,
    private readonly shaper: Shaper,
    noise: NoiseSource['kind'],
  ) {
    this.rounded = noise === 'secure';
    const { noiseStd = 0, noiseMultiplier = 0 } = options;
    const noisy = noiseStd > 0 || valueAt('noiseMultiplier', noiseMultiplier, 0) > 0;
    this.protects = noisy && shaper.bound(0) !== null;
    this.compute(0);
  }

  /** The step's release. @param begun whether a part of the step's lot is summed already */
  of(step: number, begun: boolean): Release {
    if (this.fixed?.step === step) return this.fixed;
    if (!(Number.isSafeInteger(step) && step >= 0)) {
      throw new GradshapeError(
        'STEP_INVALID',
        `privateStep: step is ${typeof step === 'string' ? `'${step}'` : String(step)}; expected a whole number from 0.`,
      );
    }
    if (begun) {
      throw new GradshapeError(
        'STEP_INVALID',
        `privateStep: step was set from ${this.fixed?.step} to ${step} with part of a lot summed; expected it to be set between steps, or after discard().`,
      );
    }
    this.fixed = this.compute(step);
    return this.fixed;
  }

  /** The step is over. */
  forget(): void {
    this.fixed = null;
  }

  private compute(step: number): Release {
    const { options, shaper } = this;
    const bound = shaper.bound(step);
    const sigma = valueAt('noiseMultiplier', options.noiseMultiplier ?? 0, step);
    if (this.protects || (bound !== null && sigma > 0)) checkBound(shaper, bound, step);
    if (options.noiseStd !== undefined) {
      if (options.noiseStd > 0) checkStd(options.noiseStd, `noiseStd is ${options.noiseStd}`);
      const noiseMultiplier = bound === null ? 0 : options.noiseStd / bound;
      return { step, bound, noiseStd: options.noiseStd, noiseMultiplier, sigma };
    }
    if (!(sigma >= 0 && sigma < Infinity) || (this.protects && sigma === 0)) {
      throw new GradshapeError(
        'NOISE_INVALID',
        `privateStep: noiseMultiplier is ${sigma} at step ${step}; expected a finite number of at least 0${this.protects ? ', and above 0 in every step of a training that began with noise. For shaping without noise give noiseMultiplier: 0 from the start' : ''}.`,
      );
    }
    if (sigma === 0) return { step, bound, noiseStd: 0, noiseMultiplier: 0, sigma };
    if (bound === null) {
      throw new GradshapeError(
        'NOISE_INVALID',
        `privateStep: noise of bound × noiseMultiplier has no size, since ${shaper.toString()} bounds no example's part (clipNorm Infinity, or a rule without guarantee). ` +
          'Give noiseStd instead: that is noise without a guarantee.',
      );
    }
    const gradient = shaper.gradientNoise?.(sigma, options.expectedBatchSize) ?? sigma;
    const noiseStd = bound * gradient;
    checkStd(
      noiseStd,
      `noise of ${gradient} × ${bound} at step ${step} has a standard deviation of ${noiseStd}`,
    );
    return { step, bound, noiseStd, noiseMultiplier: noiseStd / bound, sigma };
  }

  /**
   * What the rule's bound is multiplied by, so that bound and rounding together are no larger than it: the rounding of the sum,
   * and that to the noise's grid, which moves a sum of n numbers by at most grid · √n.
   * @param lot whether the lot's drawing chose the groups
   */
  tightening(step: number, lot: boolean): number {
    const { bound, noiseStd } = this.of(step, true);
    if (bound === null || noiseStd === 0) return 1;
    const { params } = this.options;
    const count = params.trainable.reduce((total, { from, to }) => total + to - from, 0);
    const onGrid = this.rounded ? (noiseGrid(noiseStd) * Math.sqrt(count)) / bound : 0;
    const tightening = 1 - onGrid - (lot ? roundingShare.ofLots : roundingShare.ofIndices);
    if (tightening > 0.5) return tightening;
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: noise of ${noiseStd} on ${count} parameters is so large against the bound of ${bound} that rounding alone would exceed half of it. Use a smaller noise multiplier.`,
    );
  }
}

function checkStd(std: number, what: string): void {
  if (std >= smallestBound && std <= largestBound) return;
  throw new GradshapeError(
    'NOISE_INVALID',
    `privateStep: ${what}; expected from ${smallestBound} to ${largestBound}, which float32 can carry.`,
  );
}

function checkBound(shaper: Shaper, bound: number | null, step: number): void {
  if (bound !== null && bound >= smallestBound && bound <= largestBound) return;
  throw new GradshapeError(
    'CLIP_NORM_INVALID',
    `privateStep: at step ${step} ${shaper.toString()} bounds an example's part by ${bound ?? 'nothing'}, and noise is in proportion to it; ` +
      `expected a bound from ${smallestBound} to ${largestBound} in every step. A clip norm must not become Infinity: for noise without clipping give noiseStd, with clipNorm: Infinity from the start.`,
  );
}
