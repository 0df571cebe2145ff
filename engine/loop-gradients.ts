import { batchOf, sliceBatch } from './batch.js';
import { type BatchLoss, type BatchTensors, trace, writeGradient } from './batch-gradient.js';
import { checkFlat, checkSums, type Weights } from './checks.js';
import { GradshapeError } from './errors.js';
import { GradientsSlice, type SliceableGradients, usedWeights, weightedSumsOf } from './gradients-slice.js';
import type { Parameters } from './parameters.js';
import { Norms, type PerExampleGradients } from './per-example.js';
import type { Tensor } from './tensor.js';

/**
 * Per-example gradients one example at a time, recomputed for each question: slow, obviously right, and needing the
 * memory of one gradient. The oracle of the other strategies, and their fallback.
 */
export class LoopGradients<B extends BatchTensors> implements SliceableGradients {
  readonly strategy = 'loop';
  readonly batch: number;
  readonly losses: Tensor;
  private readonly squared: Tensor;
  private readonly squaredByParameter: Tensor;
  /** Examples whose gradients were not finite. */
  private readonly discarded: number[] = [];

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
      const byParameter = this.squaredNorms(gradient);
      this.squared.view()[i] = total(byParameter);
      byParameter.forEach((squared, row) => {
        this.squaredByParameter.view()[row * this.batch + i] = squared;
      });
    });
  }

  private squaredNorms(gradient: Tensor): number[] {
    const { engine, entries } = this.params;
    return entries.map(({ offset, size }) => engine.kernels.squaredNorm(gradient.address + offset * 4, size));
  }

  /** Visits the examples' gradients, one at a time in a scope of its own. */
  private forEach(
    visit: (i: number, gradient: Tensor, loss: number) => void,
    from = 0,
    to = this.batch,
  ): void {
    const { engine } = this.params;
    for (let i = from; i < to; i++) {
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
    checkSums(weights, into, this.params);
    return weightedSumsOf(this, weights, into);
  }

  addRange(weights: Tensor | null, from: number, to: number, into: Tensor): void {
    const { engine, size } = this.params;
    const used = weights && usedWeights(weights, this.discarded, from);
    this.forEach(
      (i, gradient) => {
        this.checkMeasured(i, gradient);
        // Weight 0 leaves the example out, even where its gradient is not finite.
        const weight = used === null ? Number(!this.discarded.includes(i)) : used.view()[i - from]!;
        if (weight !== 0) engine.kernels.addScaled(into.address, gradient.address, weight, size);
      },
      from,
      to,
    );
  }

  /** The gradient that is added must be the one that was measured. @throws LOSS_NOT_REPEATABLE */
  private checkMeasured(i: number, gradient: Tensor): void {
    const [measured, now] = [this.squared.view()[i]!, total(this.squaredNorms(gradient))];
    if (Object.is(measured, now)) return;
    throw new GradshapeError(
      'LOSS_NOT_REPEATABLE',
      `perExample: the gradient of example ${i} had norm ${Math.sqrt(measured)} when it was measured, and ${Math.sqrt(now)} when it was added; ` +
        "expected a loss that gives the same for the same example. Draw what is random before the loss, or from the batch's own randomness (dropout).",
    );
  }

  slice(from: number, to: number): PerExampleGradients {
    return new GradientsSlice(this, from, to);
  }

  get size(): number {
    return this.params.size;
  }

  array(): Tensor {
    const { engine, size } = this.params;
    const whole = engine.allocate([this.batch, size], 'f32', 'per-example gradients');
    whole.examples = this.losses.examples;
    this.forEach((i, gradient) => {
      if (this.discarded.includes(i)) engine.kernels.fill(whole.address + i * size * 4, 0, size);
      else whole.view().set(gradient.view(), i * size);
    });
    return whole;
  }

  discardNonFinite(): void {
    if (this.discarded.length > 0) return;
    const squared = this.squared.view();
    for (let i = 0; i < squared.length; i++) if (!Number.isFinite(squared[i])) this.discarded.push(i);
  }
}

const total = (terms: readonly number[]): number => terms.reduce((sum, term) => sum + term, 0);
