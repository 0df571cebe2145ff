import {
  GradshapeError,
  GroupedSum,
  groupSize,
  type Parameters,
  type PerExampleGradients,
  perExample,
  type Range,
  type Strategy,
  Tensor,
  type Weights,
} from '../engine/index.js';
import type { Optimizer, StepObserver, TrainingStep } from '../nn/index.js';
import { Lot } from './lot.js';
import { addNoiseToSum, checkNoise, type NoiseSource, secureNoise } from './noise.js';
import { type Release, Releases } from './release.js';
import type { Scheduled } from './schedules.js';
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
  /**
   * Sees the gradients as they are, before noise: whatever it says of them leaks the examples, and no ε covers it. Rules that weight
   * whole gradients can be observed.
   */
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
  /**
   * What the step being made uses: each schedule is asked once a step, and what it said holds to its end.
   * @throws NOISE_INVALID, CLIP_NORM_INVALID, SCHEDULE_INVALID where a schedule would switch protection off
   */
  release(): Release;
  /** Forgets what was accumulated, and what went wrong: the same step can then be made again, from the first piece. */
  discard(): void;
}

/**
 * DP-SGD (Abadi et al. 2016, Algorithm 1), or DP-Adam with that optimizer: every example's gradient is clipped to norm
 * C, the clipped gradients are summed, N(0, σ²C²) is added to each coordinate, and the optimizer steps along the sum
 * divided by the expected batch size. An example whose gradient is not finite contributes 0. A `shaper` puts another rule in
 * clipping's place. The step keeps no account of privacy: see `makePrivate`.
 *
 * One example more or less moves the sum before noise by at most C, in the arithmetic that runs and for any data
 * (docs/arithmetic.md): where there is noise, gradients are clipped 1 % below C, and the sum's rounding has the rest. Neighbours
 * keep the other examples' indices (makePrivate's lots need not); in a batch that comes from no data set, their positions.
 *
 * After an error in `accumulate` the step refuses to go on until `discard()`. `finish` noises once: if the update then throws, a
 * second `finish` goes on from the same noisy sum.
 * @throws CLIP_NORM_INVALID, NOISE_INVALID, BATCH_SIZE_INVALID, SHAPER_INVALID, SHAPER_NEEDS_WHOLE_BATCH, SHAPER_UNOBSERVABLE,
 * SCHEDULE_INVALID; EXAMPLE_REPEATED for an example that is given twice; STEP_FAILED after an error, until `discard()`
 * @example
 * const step = privateStep({ params, optimizer: sgd({ learningRate: 0.1 }), clipNorm: 1, noiseMultiplier: 1.1, expectedBatchSize: 3 });
 * engine.scope(() => {
 *   step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch([0, 1, 2]));
 * });
 * step.finish();
 */
export function privateStep(options: PrivateStepOptions): PrivateStep {
  const { params, optimizer, expectedBatchSize, strategy = 'ghost', observer } = options;
  const { noise = secureNoise() } = options;
  const shaper = shaperOf(options);
  checkOptions(options, shaper);
  const { engine } = params;
  const releases = new Releases(options, shaper, noise.kind);
  const sum = new GroupedSum(params);
  const lot = new Lot();
  let pieces = 0;
  /** 'settled': finish has begun, and nothing can be added; 'noised': the noise is on the sum. */
  let state: 'summing' | 'settled' | 'failed' | 'noised' = 'summing';
  /** The parameters that this step trains. */
  let trained: readonly Range[] | null = null;

  const startOver = (): void => {
    sum.clear();
    lot.clear();
    releases.forget();
    pieces = 0;
    trained = null;
    state = 'summing';
  };
  const checkTrained = (): void => {
    trained ??= params.trainable;
    if (trained !== params.trainable) throw frozenMeanwhile();
  };
  /** The shaped gradients of a piece, run by run; returns the examples' weights. */
  const addShaped = (g: PerExampleGradients, step: number): Weights | undefined => {
    const { examples } = g.losses;
    const { bound } = releases.of(step, true);
    const context = { step, bound, tightening: releases.tightening(step, examples?.groups != null) };
    const shape = (part: PerExampleGradients): Weights | undefined => {
      const weights = shaper.accumulate(part, sum.part, context);
      if (bound !== null && weights !== undefined) checkBounded(shaper, part, weights, bound);
      return weights;
    };
    if (shaper.wholeBatch) {
      if (context.tightening < 1 && g.batch > groupSize) throw tooLargeForRule(shaper, g.batch);
      return shape(g);
    }
    const runs = sum.runs(examples, g.batch);
    if (runs.length === 1 && !runs[0]!.closes) return shape(g);
    const weights = runs.map(({ from, to, closes }) => {
      if (closes) sum.close();
      return shape(g.slice(from, to));
    });
    return observer && joined(weights, g.batch);
  };

  return {
    step: 0,
    get noiseStd() {
      return this.release().noiseStd;
    },
    get noiseMultiplier() {
      return this.release().noiseMultiplier;
    },
    release() {
      return releases.of(this.step, pieces > 0);
    },
    accumulate(loss, batch) {
      refuseUnless(state === 'summing', state, 'accumulate');
      state = 'failed';
      this.release();
      checkTrained();
      if (pieces++ > 0 && shaper.wholeBatch) throw needsWholeBatch(shaper);
      const g = perExample(loss, params, batch, { strategy });
      lot.add(g.losses.examples);
      g.discardNonFinite();
      const weights = addShaped(g, this.step);
      if (observer !== undefined) {
        if (weights === undefined && g.batch > 0) throw unobservable(shaper);
        observer.piece(g, weights ?? []);
      }
      state = 'summing';
      return g.losses;
    },
    finish(updateOptions) {
      refuseUnless(state !== 'failed', state, 'finish');
      const { step, noiseStd: std, sigma, bound } = this.release();
      checkTrained();
      optimizer.check?.(params, sum.part, expectedBatchSize, updateOptions);
      if (state !== 'noised') {
        state = 'settled';
        sum.settle();
        if (bound === null) checkFinite(sum);
        observer?.summed(sum.rounded(), sum.overGroups ?? sum.part);
        state = 'failed';
        addNoiseToSum(sum, { std, noise, step, ranges: params.trainable });
        shaper.finish?.({ engine, step, noise, noiseMultiplier: sigma, expectedBatchSize });
        state = 'noised';
        observer?.noised(sum.part, std);
      }
      optimizer.update(params, sum.part, expectedBatchSize, updateOptions);
      startOver();
      this.step++;
    },
    discard() {
      refuseUnless(state !== 'noised', state, 'discard');
      startOver();
      shaper.discard?.();
    },
    free: () => sum.free(),
  };
}

/** What a rule says that it bounds, it must bound: no example's weight times its norm is above. */
function checkBounded(shaper: Shaper, g: PerExampleGradients, weights: Weights, bound: number): void {
  const { squared } = g.norms();
  const { engine } = squared;
  const given = weights instanceof Tensor ? weights : engine.tensor(weights);
  // A millionth of a millionth is rounding in float64.
  const limit = bound * bound * (1 + 1e-12);
  const at = engine.kernels.firstAbove(given.address, squared.address, limit, g.batch);
  if (at < 0) return;
  throw new GradshapeError(
    'SHAPER_INVALID',
    `privateStep: ${shaper.toString()} gave an example with norm ${g.norms().values()[at]} the weight ${given.values()[at]}, and says that it bounds ` +
      `their product by ${bound}; expected weights of at most bound · tightening / norm.`,
  );
}

/** The weights of a piece from those of its runs. */
function joined(runs: readonly (Weights | undefined)[], count: number): Weights | undefined {
  const all = new Float32Array(count);
  let at = 0;
  for (const weights of runs) {
    if (weights === undefined) return undefined;
    const values = weights instanceof Tensor ? weights.values() : weights;
    all.set(values, at);
    at += values.length;
  }
  return all;
}

function refuseUnless(fine: boolean, state: string, call: string): void {
  if (fine) return;
  throw new GradshapeError(
    'STEP_FAILED',
    state === 'noised'
      ? `privateStep: ${call}() after a finish() whose update failed: its noise is on the sum. Expected finish() once more.`
      : state === 'settled'
        ? `privateStep: ${call}() after a finish() that failed before its noise: the lot is complete. Expected finish() once more, or discard().`
        : `privateStep: ${call}() after an error in this step, with part of the lot perhaps summed: what was given again would count twice. ` +
          'Expected step.discard(), and then the whole lot again.',
  );
}

function frozenMeanwhile(): GradshapeError {
  return new GradshapeError(
    'STEP_FAILED',
    'privateStep: parameters were frozen or unfrozen in the middle of a step, whose sum and noise are of those that it began with; expected that between ' +
      'steps. Freeze them as they were and go on, or discard().',
  );
}

function tooLargeForRule(shaper: Shaper, batch: number): GradshapeError {
  return new GradshapeError(
    'SHAPER_INVALID',
    `privateStep: ${shaper.toString()} must see the batch whole, and has a bound; one float32 sum of ${batch} examples would not keep it. Expected at most ` +
      `${groupSize} examples, or a rule that treats examples one by one (wholeBatch: false).`,
  );
}

/** What is not clipped can be larger than float32 goes. */
function checkFinite(sum: GroupedSum): void {
  const { part } = sum;
  const bad = part.engine.kernels.firstNonFinite(sum.rounded().address, part.size);
  if (bad < 0) return;
  throw new GradshapeError(
    'NON_FINITE_GRADIENT',
    `privateStep: the sum of gradients that nothing bounds holds ${part.values()[bad]} at ${bad}; the parameters are as before the step. ` +
      'Expected smaller data, or a rule that clips, such as clipNorm: 1; and discard() before the next lot.',
  );
}

function needsWholeBatch(shaper: Shaper): GradshapeError {
  return new GradshapeError(
    'SHAPER_NEEDS_WHOLE_BATCH',
    `privateStep: ${shaper.toString()} was given a second piece of a batch, and must see it whole. ` +
      'Accumulate once a step (no maxPhysicalBatch), or use a rule that treats examples one by one, such as flatClipping.',
  );
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

function checkOptions(options: PrivateStepOptions, shaper: Shaper): void {
  const { noiseMultiplier, noiseStd, expectedBatchSize } = options;
  if (!(Number.isFinite(expectedBatchSize) && expectedBatchSize > 0)) {
    throw new GradshapeError(
      'BATCH_SIZE_INVALID',
      `privateStep: expectedBatchSize is ${expectedBatchSize}; expected a finite number above 0.`,
    );
  }
  if ((noiseMultiplier === undefined) === (noiseStd === undefined)) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privateStep: noiseMultiplier is ${String(noiseMultiplier)} and noiseStd is ${noiseStd}; expected one of them. Use noiseMultiplier 0 for clipping alone.`,
    );
  }
  if (noiseStd === undefined) return;
  checkNoise('privateStep: noiseStd', noiseStd);
  if (noiseStd === 0 || shaper.gradientNoise === undefined) return;
  throw new GradshapeError(
    'NOISE_INVALID',
    `privateStep: ${shaper.toString()} divides σ between gradient and count, and noiseStd gives none; expected noiseMultiplier.`,
  );
}
