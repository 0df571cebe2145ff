import { GradshapeError, type Parameters, perExample, type Strategy } from '../engine/index.js';
import type { Optimizer, TrainingStep } from '../nn/index.js';
import { checkClipNorm, clipFactors } from './clip.js';
import { addNoise, checkNoise, type NoiseSource, secureNoise } from './noise.js';

export interface PrivateStepOptions {
  readonly params: Parameters;
  /** SGD gives DP-SGD, Adam gives DP-Adam. */
  readonly optimizer: Optimizer;
  /** C: the L2 norm that no example's gradient may exceed; Infinity clips nothing (then give noiseStd). */
  readonly clipNorm: number;
  /** σ: the noise's standard deviation is C × σ on the sum. 0 is clipping alone. */
  readonly noiseMultiplier?: number;
  /** The noise's standard deviation itself, instead of σ: what the paper prints as its noise. */
  readonly noiseStd?: number;
  /** L: what the noisy sum is divided by. A public number, never the size of the batch that was drawn. */
  readonly expectedBatchSize: number;
  /** @default secureNoise() */
  readonly noise?: NoiseSource;
  /** How per-example gradients are made. @default 'ghost' */
  readonly strategy?: Strategy;
}

/**
 * One step of DP-SGD, in pieces: any number of `accumulate`, then `finish`. Works with an empty batch: the noise is added all
 * the same. Set `step` when resuming: seeded noise is numbered by it.
 */
export interface PrivateStep extends TrainingStep {
  /** σ = noise std / C; 0 when the clip norm is Infinity. */
  readonly noiseMultiplier: number;
  readonly noiseStd: number;
}

/**
 * DP-SGD (Abadi et al. 2016, Algorithm 1), or DP-Adam with that optimizer: every example's gradient is clipped to norm
 * C, the clipped gradients are summed, N(0, σ²C²) is added to each coordinate, and the optimizer steps along the sum
 * divided by the expected batch size. An example whose gradient is not finite contributes 0.
 * @throws CLIP_NORM_INVALID, NOISE_INVALID, BATCH_SIZE_INVALID
 * @example
 * const step = privateStep({ params, optimizer: sgd({ learningRate: 0.1 }), clipNorm: 1, noiseMultiplier: 1.1, expectedBatchSize: 3 });
 * engine.scope(() => {
 *   step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch([0, 1, 2]));
 * });
 * step.finish();
 */
export function privateStep(options: PrivateStepOptions): PrivateStep {
  const {
    params,
    optimizer,
    clipNorm,
    expectedBatchSize,
    noise = secureNoise(),
    strategy = 'ghost',
  } = options;
  checkClipNorm('privateStep', clipNorm);
  const noiseStd = noiseStdOf(options);
  if (!(Number.isFinite(expectedBatchSize) && expectedBatchSize > 0)) {
    throw new GradshapeError(
      'BATCH_SIZE_INVALID',
      `privateStep: expectedBatchSize is ${expectedBatchSize}; expected a finite number above 0.`,
    );
  }
  const sum = params.engine.allocateBlock([params.size], 'f32', 'the sum of clipped gradients');
  return {
    noiseStd,
    noiseMultiplier: clipNorm === Infinity ? 0 : noiseStd / clipNorm,
    step: 0,
    accumulate(loss, batch) {
      const g = perExample(loss, params, batch, { strategy });
      const factors = clipFactors(g.norms(), { clipNorm });
      g.discardNonFinite();
      g.weightedSums([factors], [sum]);
      return g.losses;
    },
    finish(updateOptions) {
      addNoise(sum, { std: noiseStd, noise, step: this.step, ranges: params.trainable });
      optimizer.update(params, sum, expectedBatchSize, updateOptions);
      params.engine.kernels.fill(sum.address, 0, sum.size);
      this.step++;
    },
    free: () => sum.free(),
  };
}

function noiseStdOf({ clipNorm, noiseMultiplier, noiseStd }: PrivateStepOptions): number {
  if ((noiseMultiplier === undefined) === (noiseStd === undefined)) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: noiseMultiplier is ${noiseMultiplier} and noiseStd is ${noiseStd}; expected one of them. Use noiseMultiplier 0 for clipping alone.`,
    );
  }
  if (noiseStd !== undefined) {
    checkNoise('privateStep: noiseStd', noiseStd);
    return noiseStd;
  }
  const multiplier = noiseMultiplier as number;
  checkNoise('privateStep: noiseMultiplier', multiplier);
  if (clipNorm === Infinity && multiplier > 0) {
    throw new GradshapeError(
      'NOISE_INVALID',
      'privateStep: noise of clipNorm × noiseMultiplier has no size when clipNorm is Infinity. Give noiseStd instead: that is noise without clipping.',
    );
  }
  return multiplier === 0 ? 0 : clipNorm * multiplier;
}
