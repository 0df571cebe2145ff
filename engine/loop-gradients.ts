import { batchOf, sliceBatch } from './batch.js';
import { type BatchLoss, type BatchTensors, trace, writeGradient } from './batch-gradient.js';
import { checkFlat, checkSums, type Weights, weightsTensor } from './checks.js';
import type { Parameters } from './parameters.js';
import { Norms, type PerExampleGradients } from './per-example.js';
import type { Tensor } from './tensor.js';

/**
 * Per-example gradients one example at a time, recomputed for each question: slow, obviously right, and needing the
 * memory of one gradient. The oracle of the other strategies, and their fallback.
 */
export class LoopGradients<B extends BatchTensors> implements PerExampleGradients {
  readonly strategy = 'loop';
  readonly batch: number;
  readonly losses: Tensor;
  private readonly squared: Tensor;
  private readonly squaredByParameter: Tensor;

  constructor(
    private readonly loss: BatchLoss<B>,
    private readonly params: Parameters,
    private readonly examples: B,
    readonly fallback: string | null,
  ) {
    const { engine } = params;
    const batch = batchOf(examples);
    this.batch = batch.count;
    this.losses = engine.allocate([this.batch], 'f32', 'losses');
    this.losses.examples = batch.examples;
    this.squared = engine.allocate([this.batch], 'f64', 'norms');
    this.squared.examples = this.losses.examples;
    this.squaredByParameter = engine.allocate([params.entries.length, this.batch], 'f64', 'norms');
    this.forEach((i, gradient, loss) => {
      this.losses.view()[i] = loss;
      const byParameter = params.entries.map(({ offset, size }) =>
        engine.kernels.squaredNorm(gradient.address + offset * 4, size),
      );
      this.squared.view()[i] = byParameter.reduce((sum, squared) => sum + squared, 0);
      byParameter.forEach((squared, row) => {
        this.squaredByParameter.view()[row * this.batch + i] = squared;
      });
    });
  }

  /** Visits every example's gradient, one at a time in a scope of its own. */
  private forEach(visit: (i: number, gradient: Tensor, loss: number) => void): void {
    const { engine } = this.params;
    for (let i = 0; i < this.batch; i++) {
      engine.scope(() => {
        const one = sliceBatch(this.examples, i, i + 1);
        const { losses, gradient } = this.gradientOf(one);
        visit(i, gradient, losses.item());
      });
    }
  }

  private gradientOf(one: B): { losses: Tensor; gradient: Tensor } {
    const { params } = this;
    const traced = trace(this.loss, params, one, { examplesApart: true, ruledOnly: false });
    const gradient = params.engine.allocate([params.size], 'f32', 'the gradient');
    writeGradient(traced, params, gradient, false);
    return { losses: traced.losses, gradient };
  }

  norms(parameter?: string): Norms {
    if (parameter === undefined) return new Norms(this.squared);
    this.params.get(parameter);
    const row = this.params.entries.findIndex(({ name }) => name === parameter);
    const norms = this.params.engine.allocate([this.batch], 'f64', 'norms');
    norms.view().set(this.squaredByParameter.view().subarray(row * this.batch, (row + 1) * this.batch));
    norms.examples = this.losses.examples;
    return new Norms(norms);
  }

  dots(direction: Tensor): Tensor {
    const { engine, size } = this.params;
    checkFlat('dots', direction, this.params);
    const dots = engine.allocate([this.batch], 'f64', 'dots');
    dots.examples = this.losses.examples;
    this.forEach((i, gradient) => {
      dots.view()[i] = engine.kernels.dot(gradient.address, direction.address, size);
    });
    return dots;
  }

  weightedSums(weights: readonly (Weights | null)[], into?: readonly Tensor[]): Tensor[] {
    const { engine, size } = this.params;
    checkSums(weights, into, this.params);
    const rows = weights.map((row) => row && weightsTensor(engine, row, this.batch));
    const sums = into ?? rows.map(() => engine.full([size], 0));
    this.forEach((i, gradient) => {
      rows.forEach((row, g) => {
        // Weight 0 leaves the example out, even where its gradient is not finite.
        const weight = row === null ? 1 : row.view()[i]!;
        if (weight !== 0) engine.kernels.addScaled(sums[g]!.address, gradient.address, weight, size);
      });
    });
    return [...sums];
  }

  array(): Tensor {
    const { engine, size } = this.params;
    const whole = engine.allocate([this.batch, size], 'f32', 'per-example gradients');
    whole.examples = this.losses.examples;
    this.forEach((i, gradient) => {
      whole.view().set(gradient.view(), i * size);
    });
    return whole;
  }

  /** Nothing to do: sums leave out what has weight 0. */
  discardNonFinite(): void {}
}
