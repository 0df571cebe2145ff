import { GradshapeError, type Parameters, perExample, type Strategy } from '../engine/index.js';
import type { Optimizer, StepObserver, TrainingStep } from '../nn/index.js';
import { addNoise, checkNoise, type NoiseSource, noiseGrid, secureNoise } from './noise.js';
import { type Scheduled, valueAt } from './schedules.js';
import type { Shaper } from './shaper.js';
import { flatClipping } from './shapers/flat-clipping.js';

export interface PrivateStepOptions {
  readonly params: Parameters;
  /** SGD gives DP-SGD, Adam gives DP-Adam. */
  readonly optimizer: Optimizer;
  /**
   * C, for flat clipping: the L2 norm that no example's gradient may exceed, or a schedule of it; Infinity clips nothing (then
   * give noiseStd). Give this or `shaper`.
   */
  readonly clipNorm?: Scheduled;
  /** Another rule for what of each gradient goes into the sum. */
  readonly shaper?: Shaper;
  /** σ, or a schedule of it: the noise's standard deviation on the sum is the rule's bound (C) × σ. 0 is shaping alone. */
  readonly noiseMultiplier?: Scheduled;
  /** The noise's standard deviation itself, instead of σ: what the paper prints as its noise. */
  readonly noiseStd?: number;
  /** L: what the noisy sum is divided by. A public number, never the size of the batch that was drawn. */
  readonly expectedBatchSize: number;
  /** @default secureNoise() */
  readonly noise?: NoiseSource;
  /** How per-example gradients are made. @default 'ghost' */
  readonly strategy?: Strategy;
  /** Sees the gradients: what it says of them is not private. Rules that weight whole gradients can be observed. */
  readonly observer?: StepObserver;
}

/**
 * One step of DP-SGD, in pieces: any number of `accumulate`, then `finish`. Works with an empty batch: the noise is added all
 * the same. Set `step` when resuming: seeded noise is numbered by it.
 */
export interface PrivateStep extends TrainingStep {
  /** σ = noise std / the rule's bound, as the step being made has it; 0 where the rule has no bound. */
  readonly noiseMultiplier: number;
  readonly noiseStd: number;
}

/**
 * DP-SGD (Abadi et al. 2016, Algorithm 1), or DP-Adam with that optimizer: every example's gradient is clipped to norm
 * C, the clipped gradients are summed, N(0, σ²C²) is added to each coordinate, and the optimizer steps along the sum
 * divided by the expected batch size. An example whose gradient is not finite contributes 0. A `shaper` puts another rule in
 * clipping's place. The step keeps no account of privacy: see `makePrivate`.
 * @throws CLIP_NORM_INVALID, NOISE_INVALID, BATCH_SIZE_INVALID, SHAPER_INVALID, SHAPER_NEEDS_WHOLE_BATCH, SHAPER_UNOBSERVABLE,
 * SCHEDULE_INVALID
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
    expectedBatchSize,
    noise = secureNoise(),
    strategy = 'ghost',
    observer,
  } = options;
  const shaper = shaperOf(options);
  if (!(Number.isFinite(expectedBatchSize) && expectedBatchSize > 0)) {
    throw new GradshapeError(
      'BATCH_SIZE_INVALID',
      `privateStep: expectedBatchSize is ${expectedBatchSize}; expected a finite number above 0.`,
    );
  }
  checkNoiseOptions(options, shaper);
  const { engine } = params;
  const sum = engine.allocateBlock([params.size], 'f32', 'the sum of shaped gradients');
  let pieces = 0;
  return {
    step: 0,
    get noiseStd() {
      return noiseStdAt(options, shaper, this.step);
    },
    get noiseMultiplier() {
      const bound = shaper.bound(this.step);
      return bound === null ? 0 : this.noiseStd / bound;
    },
    accumulate(loss, batch) {
      if (pieces++ > 0 && shaper.wholeBatch) {
        throw new GradshapeError(
          'SHAPER_NEEDS_WHOLE_BATCH',
          `privateStep: ${shaper.toString()} was given a second piece of a batch, and must see it whole. ` +
            'Accumulate once a step (no maxPhysicalBatch), or use a rule that treats examples one by one, such as flatClipping.',
        );
      }
      const g = perExample(loss, params, batch, { strategy });
      const tightening = tighteningOf(shaper, this.step, noise, this.noiseStd, params);
      const weights = shaper.accumulate(g, sum, { step: this.step, tightening });
      if (observer !== undefined) {
        if (weights === undefined) throw unobservable(shaper);
        observer.piece(g, weights);
      }
      return g.losses;
    },
    finish(updateOptions) {
      const { step, noiseStd: std } = this;
      observer?.summed(sum);
      addNoise(sum, { std, noise, step, ranges: params.trainable });
      observer?.noised(sum, std);
      const noiseMultiplier = valueAt('noiseMultiplier', options.noiseMultiplier ?? 0, step);
      shaper.finish?.({ engine, step, noise, noiseMultiplier, expectedBatchSize });
      optimizer.update(params, sum, expectedBatchSize, updateOptions);
      engine.kernels.fill(sum.address, 0, sum.size);
      pieces = 0;
      this.step++;
    },
    free: () => sum.free(),
  };
}

function unobservable(shaper: Shaper): GradshapeError {
  return new GradshapeError(
    'SHAPER_UNOBSERVABLE',
    `privateStep: ${shaper.toString()} gives the examples no weights of their own, so an observer can't tell their parts of the sum; ` +
      'expected a rule that weights whole gradients, such as flatClipping, or no observer.',
  );
}

/** The rule of the options: their shaper, or flat clipping to their clip norm. @throws SHAPER_INVALID, CLIP_NORM_INVALID */
export function shaperOf({ shaper, clipNorm }: Pick<PrivateStepOptions, 'shaper' | 'clipNorm'>): Shaper {
  if ((shaper === undefined) === (clipNorm === undefined)) {
    throw new GradshapeError(
      'SHAPER_INVALID',
      `privateStep: clipNorm is ${String(clipNorm)} and shaper is ${String(shaper)}; expected one of them.`,
    );
  }
  return shaper ?? flatClipping({ clipNorm: clipNorm! });
}

function noiseStdAt(
  { noiseMultiplier, noiseStd, expectedBatchSize }: PrivateStepOptions,
  shaper: Shaper,
  step: number,
) {
  if (noiseStd !== undefined) return noiseStd;
  const sigma = valueAt('noiseMultiplier', noiseMultiplier!, step);
  if (sigma === 0) return 0;
  const gradient = shaper.gradientNoise?.(sigma, expectedBatchSize) ?? sigma;
  return shaper.bound(step)! * gradient;
}

/**
 * What the rule's bound is multiplied by so that bound and rounding together are no larger than it: rounding to the noise's
 * grid moves a sum of n numbers by at most grid · √n more.
 */
function tighteningOf(
  shaper: Shaper,
  step: number,
  noise: NoiseSource,
  std: number,
  params: Parameters,
): number {
  const bound = shaper.bound(step);
  if (bound === null || std === 0 || noise.kind !== 'secure') return 1;
  const count = params.trainable.reduce((total, { from, to }) => total + to - from, 0);
  const tightening = 1 - (noiseGrid(std) * Math.sqrt(count)) / bound;
  if (tightening > 0.5) return tightening;
  throw new GradshapeError(
    'NOISE_INVALID',
    `privateStep: noise of ${std} on ${count} parameters is so large against the bound of ${bound} that rounding alone would exceed half of it. Use a smaller noise multiplier.`,
  );
}

function checkNoiseOptions(options: PrivateStepOptions, shaper: Shaper): void {
  const { noiseMultiplier, noiseStd } = options;
  if ((noiseMultiplier === undefined) === (noiseStd === undefined)) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: noiseMultiplier is ${String(noiseMultiplier)} and noiseStd is ${noiseStd}; expected one of them. Use noiseMultiplier 0 for clipping alone.`,
    );
  }
  if (noiseStd !== undefined) {
    checkNoise('privateStep: noiseStd', noiseStd);
    if (noiseStd === 0 || shaper.gradientNoise === undefined) return;
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: ${shaper.toString()} divides σ between gradient and count, and noiseStd gives none; expected noiseMultiplier.`,
    );
  }
  const first = valueAt('noiseMultiplier', noiseMultiplier!, 0);
  checkNoise('privateStep: noiseMultiplier', first);
  if (first > 0 && shaper.bound(0) === null) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: noise of bound × noiseMultiplier has no size, since ${shaper.toString()} bounds no example's part (clipNorm Infinity, or a rule without guarantee). ` +
        'Give noiseStd instead: that is noise without a guarantee.',
    );
  }
  noiseStdAt(options, shaper, 0);
}
