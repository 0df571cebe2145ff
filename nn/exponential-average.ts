import { Parameters } from '../engine/index.js';
import { checkRange } from './checks.js';

export interface ExponentialAverageOptions {
  /** How much of the average each step keeps, once warm. @default 0.99 */
  readonly decay?: number;
}

/** An average of the weights that a training passes through. Set `step` when resuming, and load its `params`. */
export interface ExponentialAverage {
  /** The average, laid out like the parameters: give it to `evaluate`, `predictions` or `saveModel`. */
  readonly params: Parameters;
  /** Updates done. */
  step: number;
  /** Takes in the parameters as they are: once after each step. */
  update(): void;
  free(): void;
  [Symbol.dispose](): void;
}

/**
 * The exponential moving average of a training's weights: a ← d·a + (1 − d)·p, with d = min(decay, (1 + t)/(10 + t)) at step t
 * from 0, so that the first, far-off weights are soon forgotten. It evens out the noise of the last steps (Polyak & Juditsky
 * 1992), and costs no privacy: it is computed from weights that are released anyway (De et al. 2022, "Unlocking High-Accuracy
 * Differentially Private Image Classification through Scale").
 * @throws RANGE_INVALID
 * @example
 * const average = exponentialAverage(params, { decay: 0.98 });
 * const training = makePrivate({ model, params, optimizer, data, batchSize: 4, epochs: 2, clipNorm: 1, noiseMultiplier: 1.1 });
 * for (const _ of training.run()) average.update();
 * console.log(evaluate(model, params, data).accuracy, evaluate(model, average.params, data).accuracy);
 */
export function exponentialAverage(
  params: Parameters,
  { decay = 0.99 }: ExponentialAverageOptions = {},
): ExponentialAverage {
  checkRange('RANGE_INVALID', 'exponentialAverage: decay', decay, 0, 1);
  const { engine, size } = params;
  const average = new Parameters(engine, params.entries);
  average.load(params.flat.view() as Float32Array);
  return {
    params: average,
    step: 0,
    update() {
      const kept = Math.min(decay, (1 + this.step) / (10 + this.step));
      const { address } = average.flat;
      engine.kernels.scaleBy(address, address, kept, size);
      engine.kernels.addScaled(address, params.flat.address, 1 - kept, size);
      this.step++;
    },
    free: () => average.free(),
    [Symbol.dispose]: () => average.free(),
  };
}
