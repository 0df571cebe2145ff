import { rowCutter, sliceRows } from './batch.js';
import { type Weights, weightsTensor } from './checks.js';
import { GradshapeError } from './errors.js';
import { groupSize, sumByGroups } from './grouping.js';
import { Norms, type PerExampleGradients } from './per-example.js';
import type { Tensor } from './tensor.js';

/** What per-example gradients can do for a stretch of their examples. */
export interface SliceableGradients extends PerExampleGradients {
  /** Adds Σ wᵢ·gᵢ over the examples from…to−1, at most a group, to `into`. `weights`: f32, of those examples; null: all ones. */
  addRange(weights: Tensor | null, from: number, to: number, into: Tensor): void;
  /** Numbers in a gradient. */
  readonly size: number;
}

/** Σᵢ wᵢ·gᵢ for each row of weights, over all examples, in groups where they are many. */
export function weightedSumsOf(
  g: SliceableGradients,
  weights: readonly (Weights | null)[],
  into: readonly Tensor[] | undefined,
): Tensor[] {
  const { batch, losses } = g;
  const { engine, examples } = losses;
  return weights.map((row, i) => {
    const all = row === null ? null : weightsTensor(engine, row, batch);
    const out = into?.[i] ?? engine.full([g.size], 0);
    out.changed();
    if (batch <= groupSize) g.addRange(all, 0, batch, out);
    else {
      sumByGroups(engine, examples, batch, out, (from, to, part) => {
        g.addRange(all && sliceRows(all, from, to), from, to, part);
      });
    }
    return out;
  });
}

/**
 * The weights of the examples from `first` on, 0 for those that were discarded.
 * @throws WEIGHTS_NOT_FINITE
 */
export function usedWeights(weights: Tensor, discarded: readonly number[], first: number): Tensor {
  const { engine, size } = weights;
  let used = weights;
  if (discarded.length > 0) {
    const values = weights.values();
    for (const i of discarded) if (i >= first && i < first + size) values[i - first] = 0;
    used = engine.tensor(values);
  }
  const bad = engine.kernels.firstNonFinite(used.address, size);
  if (bad < 0) return used;
  throw new GradshapeError(
    'WEIGHTS_NOT_FINITE',
    `weightedSums: the weight of example ${first + bad} is ${used.values()[bad]}; expected finite numbers. What is not finite in the ` +
      'gradients themselves has weight 0 in clipFactors, and adds nothing after discardNonFinite().',
  );
}

/** The gradients of the examples from…to−1 of a batch: views of what the whole batch's gradients know. */
export class GradientsSlice implements PerExampleGradients {
  readonly batch: number;
  private own: Tensor | null = null;

  constructor(
    private readonly whole: SliceableGradients,
    private readonly from: number,
    private readonly to: number,
  ) {
    this.batch = to - from;
  }

  get losses(): Tensor {
    const { losses } = this.whole;
    this.own ??= rowCutter(this.from, this.to)(losses, losses.examples!);
    return this.own;
  }

  get strategy() {
    return this.whole.strategy;
  }

  get fallback() {
    return this.whole.fallback;
  }

  norms(parameter?: string): Norms {
    return new Norms(sliceRows(this.whole.norms(parameter).squared, this.from, this.to));
  }

  dots(direction: Tensor): Tensor {
    return sliceRows(this.whole.dots(direction), this.from, this.to);
  }

  weightedSums(weights: readonly (Weights | null)[], into?: readonly Tensor[]): Tensor[] {
    const { engine } = this.whole.losses;
    const { size } = this.whole;
    return weights.map((row, i) => {
      const out = into?.[i] ?? engine.full([size], 0);
      const own = row === null ? null : weightsTensor(engine, row, this.batch);
      this.whole.addRange(own, this.from, this.to, out);
      return out;
    });
  }

  get size(): number {
    return this.whole.size;
  }

  array(): Tensor {
    return sliceRows(this.whole.array(), this.from, this.to);
  }

  slice(from: number, to: number): PerExampleGradients {
    return new GradientsSlice(this.whole, this.from + from, this.from + to);
  }

  discardNonFinite(): void {
    this.whole.discardNonFinite();
  }
}
