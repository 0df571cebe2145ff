import {
  type BatchLoss,
  type BatchTensors,
  GradshapeError,
  type Parameters,
  type PerExampleGradients,
  perExample,
  sumGradient,
  type Tensor,
  type Weights,
} from '../engine/index.js';
import type { Optimizer, UpdateOptions } from './optimizer.js';

/**
 * How a batch becomes an update: any number of `accumulate`, one a piece of the batch, then `finish`. What makes
 * training private, or shaped in another way, is another one of these.
 */
export interface TrainingStep {
  /** Steps finished; set it when resuming. */
  step: number;
  /**
   * Adds a piece of the batch. Call it in a scope.
   * @returns the losses, f32 [batch], where they may be known
   */
  accumulate<B extends BatchTensors>(loss: BatchLoss<B>, batch: B): Tensor | undefined;
  /** Updates the parameters with what was accumulated, and starts over. */
  finish(options?: UpdateOptions): void;
  free(): void;
}

/** Sees a step's gradients on their way to the update: `gradientAnatomy` is one. It must not change them. */
export interface StepObserver {
  /** A piece of the batch, with the weights of its examples in the step's sum; null where all are 1. */
  piece(gradients: PerExampleGradients, weights: Weights | null): void;
  /** The batch is complete: Σ wᵢ·gᵢ, before noise, in float32; `exact` is what a private step noises, float64 where it took groups. */
  summed(sum: Tensor, exact?: Tensor): void;
  /** The same sum, of which the update is made, and the standard deviation of the noise on it; 0 is none. */
  noised(sum: Tensor, noiseStd: number): void;
}

export interface VanillaStepOptions {
  readonly params: Parameters;
  readonly optimizer: Optimizer;
  /** Makes the step go by per-example gradients: the same numbers to rounding, at a little more cost. */
  readonly observer?: StepObserver;
}

/**
 * The ordinary step: the mean gradient over the examples that were drawn.
 * `accumulate` throws LOSS_SHAPE. `finish` throws BATCH_EMPTY when nothing was accumulated, and NON_FINITE_GRADIENT, and leaves the parameters as they were, when the gradient is not finite.
 * @example
 * const step = vanillaStep({ params, optimizer: adam({ learningRate: 0.01 }) });
 * engine.scope(() => {
 *   step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch([0, 1, 2]));
 * });
 * step.finish();
 */
export function vanillaStep({ params, optimizer, observer }: VanillaStepOptions): TrainingStep {
  const { engine } = params;
  const sum = engine.allocateBlock([params.size], 'f32', 'the gradient');
  let drawn = 0;
  return {
    step: 0,
    accumulate(loss, batch) {
      const losses =
        observer === undefined
          ? sumGradient(loss, params, batch, sum, drawn > 0).losses
          : observed(loss, params, batch, sum, drawn > 0, observer);
      if (losses.rank !== 1) {
        throw new GradshapeError(
          'LOSS_SHAPE',
          `vanillaStep: the loss returned ${losses.toString()}; expected one number per example, [batch]. Do not average: the step does.`,
        );
      }
      drawn += losses.size;
      return losses;
    },
    finish(options) {
      if (drawn === 0) {
        throw new GradshapeError(
          'BATCH_EMPTY',
          `step ${this.step}: nothing was accumulated; expected at least one example before finish().`,
        );
      }
      const examples = drawn;
      drawn = 0;
      const bad = engine.kernels.firstNonFinite(sum.address, params.size);
      if (bad >= 0) throw nonFinite(this.step, params, bad, sum.view()[bad]!);
      observer?.summed(sum);
      observer?.noised(sum, 0);
      optimizer.update(params, sum, examples, options);
      this.step++;
    },
    free: () => sum.free(),
  };
}

/** Writes or adds a piece's gradients to the sum, in sight of the observer. */
function observed<B extends BatchTensors>(
  loss: BatchLoss<B>,
  params: Parameters,
  batch: B,
  sum: Tensor,
  accumulate: boolean,
  observer: StepObserver,
): Tensor {
  if (!accumulate) params.engine.kernels.fill(sum.address, 0, sum.size);
  const gradients = perExample(loss, params, batch);
  gradients.weightedSums([null], [sum]);
  observer.piece(gradients, null);
  return gradients.losses;
}

function nonFinite(step: number, params: Parameters, at: number, value: number): GradshapeError {
  const { name } = params.entries.find(({ offset, size }) => at < offset + size)!;
  return new GradshapeError(
    'NON_FINITE_GRADIENT',
    `step ${step}: the gradient of '${name}' holds ${value}; the parameters are as before the step. ` +
      'Try a smaller learning rate, a warm-up, or smaller initial weights, and look at the scale of the data.',
  );
}
