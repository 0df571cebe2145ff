import { GradshapeError } from '../../engine/index.js';
import { checkClipNorm, clipFactors } from '../clip.js';
import { addCountNoise } from '../noise.js';
import type { Shaper } from '../shaper.js';
import { checkShaper } from './weights.js';

export interface AdaptiveClippingOptions {
  /** C at the first step. @default 0.1 */
  readonly initialClipNorm?: number;
  /** γ: the share of gradients that should be below C. @default 0.5 */
  readonly quantile?: number;
  /** η: how fast C follows. @default 0.2 */
  readonly learningRate?: number;
  /** σ_b: the standard deviation of the noise on the count of gradients below C. @default expected batch size / 20 */
  readonly countNoise?: number;
}

/** With noise of less, a count of halves is on the grid that it is rounded to. */
const mostCountNoise = 524_288;

/** A rule whose clip norm moves. */
export interface AdaptiveShaper extends Shaper {
  /** C, as the next step will use it. */
  readonly clipNorm: number;
}

/**
 * Adaptive quantile clipping (Andrew, Thakkar, McMahan and Ramaswamy 2021): flat clipping to a norm C that follows the γ-quantile
 * of the gradients' norms, C ← C·exp(−η(b̃ − γ)) with a noisy share b̃ of gradients below C. Bound: C.
 *
 * The count is paid for: each example adds ±½ to it, and gradient and count together are one Gaussian mechanism of
 * the step's σ when the gradient's noise multiplier is (σ⁻² − (2σ_b)⁻²)^(−½) (their theorem 1), which is what
 * `privateStep` then uses. So the accountant's σ covers both. One rule belongs to one training.
 * @throws CLIP_NORM_INVALID, SHAPER_INVALID, NOISE_INVALID
 * @example adaptiveClipping({ initialClipNorm: 1, quantile: 0.5 })
 */
export function adaptiveClipping(options: AdaptiveClippingOptions = {}): AdaptiveShaper {
  const { initialClipNorm = 0.1, quantile = 0.5, learningRate = 0.2, countNoise } = options;
  const what = 'adaptiveClipping';
  checkClipNorm(what, initialClipNorm);
  checkShaper(`${what}: initialClipNorm`, initialClipNorm, initialClipNorm < Infinity, 'a finite number');
  checkShaper(`${what}: quantile`, quantile, quantile >= 0 && quantile <= 1, 'a number from 0 to 1');
  checkShaper(
    `${what}: learningRate`,
    learningRate,
    learningRate >= 0 && learningRate < Infinity,
    'a finite number of at least 0',
  );
  if (countNoise !== undefined) {
    checkShaper(
      `${what}: countNoise`,
      countNoise,
      countNoise > 0 && countNoise < Infinity,
      'a finite number above 0',
    );
  }
  const countStd = (expectedBatchSize: number): number => {
    const std = countNoise ?? expectedBatchSize / 20;
    if (std <= mostCountNoise) return std;
    throw new GradshapeError(
      'NOISE_INVALID',
      `adaptiveClipping: the count's noise is ${std}; expected at most ${mostCountNoise}, where halves lie on the noise's grid. Give countNoise.`,
    );
  };
  let clipNorm = initialClipNorm;
  let count = 0;
  return {
    name: what,
    wholeBatch: false,
    get clipNorm() {
      return clipNorm;
    },
    bound: () => clipNorm,
    accumulate(g, sum, { tightening, bound }) {
      const fixed = bound ?? clipNorm;
      const squared = g.norms().squared.view();
      for (let i = 0; i < squared.length; i++) count += Math.sqrt(squared[i]!) <= fixed ? 0.5 : -0.5;
      const factors = clipFactors(g.norms(), { clipNorm: fixed * tightening });
      g.weightedSums([factors], [sum]);
      return factors;
    },
    gradientNoise(noiseMultiplier, expectedBatchSize) {
      if (noiseMultiplier === 0) return 0;
      const spread = 2 * countStd(expectedBatchSize);
      if (spread > noiseMultiplier) {
        return 1 / Math.sqrt(1 / (noiseMultiplier * noiseMultiplier) - 1 / (spread * spread));
      }
      throw new GradshapeError(
        'NOISE_INVALID',
        `adaptiveClipping: the count's noise is ${spread / 2}, which alone costs more than noiseMultiplier ${noiseMultiplier} allows; ` +
          `expected countNoise above ${noiseMultiplier / 2}.`,
      );
    },
    finish({ engine, step, noise, noiseMultiplier, expectedBatchSize }) {
      engine.scope(() => {
        const released = engine.tensor([count]);
        if (noiseMultiplier > 0) {
          addCountNoise(released, { std: countStd(expectedBatchSize), noise, step });
        }
        const share = released.item() / expectedBatchSize + 0.5;
        const exponent = engine.tensor([-learningRate * (share - quantile)]);
        engine.kernels.exp(exponent.address, exponent.address, 1);
        const next = clipNorm * exponent.item();
        if (next > 0 && next < Infinity) clipNorm = next;
      });
      count = 0;
    },
    discard() {
      count = 0;
    },
    state: () => ({ clipNorm }),
    loadState(state) {
      checkClipNorm(`${what}: the state's clipNorm`, state.clipNorm!);
      clipNorm = state.clipNorm!;
      count = 0;
    },
    toString: () =>
      `adaptiveClipping(from ${initialClipNorm}, quantile ${quantile}, rate ${learningRate}, count noise ${countNoise ?? 'L/20'})`,
  };
}
