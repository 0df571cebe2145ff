import type { BlockTensor, Parameters, Tensor } from '../engine/index.js';
import { bothGroups, cosineOf, type Groups, groupNames, ratioOf } from './gradient-signature.js';

/** An epoch by the definition of Hong et al. (2020): the output kernel alone, shaped and noised as the step is. */
export interface PaperAnatomy {
  /**
   * Norm of the unweighted mean, over the batches that have any, of the group's mean gradient in the batch. An epoch
   * without a poison keeps the value of the one before.
   */
  readonly norms: Groups<number | null>;
  /** ‖g_poison‖ / ‖g_clean‖ */
  readonly ratio: number | null;
  readonly cosine: number | null;
  /** Sums over the batches instead of means, as for the paper's Figure 7; the cosine is the same. */
  readonly sums: { readonly norms: Groups<number | null>; readonly ratio: number | null };
  /** Batches with any example of the group. */
  readonly batches: Groups<number>;
}

/** The paper's means over batches, of one parameter alone; in f64. */
export class PaperMeans {
  private readonly sums: Groups<BlockTensor>;
  private batches = { clean: 0, poison: 0 };
  /** The last mean that there was; kept over epochs without. */
  private readonly means: { clean: Float64Array | null; poison: Float64Array | null } = {
    clean: null,
    poison: null,
  };
  /** The step's sum over all examples, before noise. */
  private readonly whole: BlockTensor;
  private readonly offset: number;
  private readonly size: number;

  /** @throws PARAMETER_UNKNOWN */
  constructor(
    private readonly params: Parameters,
    parameter: string,
  ) {
    params.get(parameter);
    const { offset, size } = params.entries.find(({ name }) => name === parameter)!;
    this.offset = offset;
    this.size = size;
    const newBlock = (dtype: 'f32' | 'f64') =>
      params.engine.allocateBlock([size], dtype, 'the gradient anatomy');
    this.sums = bothGroups(() => newBlock('f64'));
    this.whole = newBlock('f32');
  }

  /** The address of the parameter's part of a vector. */
  private partOf(vector: Tensor): number {
    return vector.address + this.offset * 4;
  }

  summed(whole: Tensor): void {
    this.params.engine.kernels.scaleBy(this.whole.address, this.partOf(whole), 1, this.size);
  }

  /** Adds the batch: each group's sum, and the same noise on both, over the group's own size. */
  noised(noisy: Tensor, poison: Tensor, counts: Groups<number>): void {
    for (const group of groupNames) if (counts[group] > 0) this.batches[group]++;
    this.params.engine.kernels.addNoisyParts(
      this.sums.clean.address,
      this.sums.poison.address,
      counts.clean > 0 ? 1 / counts.clean : 0,
      counts.poison > 0 ? 1 / counts.poison : 0,
      this.whole.address,
      this.partOf(noisy),
      this.partOf(poison),
      this.size,
    );
  }

  endEpoch(): PaperAnatomy {
    const { batches } = this;
    const sums = bothGroups((group) => this.sums[group].values() as Float64Array);
    for (const group of groupNames) {
      if (batches[group] > 0) this.means[group] = sums[group].map((value) => value / batches[group]);
      this.sums[group].view().fill(0);
    }
    const { clean, poison } = this.means;
    const norms = { clean: length(clean), poison: length(poison) };
    const totals = bothGroups((group) => (batches[group] > 0 ? length(sums[group]) : null));
    this.batches = { clean: 0, poison: 0 };
    return {
      norms,
      ratio: ratioOf(norms),
      cosine: clean === null || poison === null ? null : cosineOf(norms, dot(clean, poison)),
      sums: { norms: totals, ratio: ratioOf(totals) },
      batches,
    };
  }

  free(): void {
    for (const group of groupNames) this.sums[group].free();
    this.whole.free();
  }
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function length(vector: Float64Array | null): number | null {
  return vector === null ? null : Math.sqrt(dot(vector, vector));
}
