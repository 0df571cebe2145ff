import { GradshapeError } from './errors.js';
import { Grouping, type Run } from './grouping.js';
import type { Parameters } from './parameters.js';
import type { BlockTensor, Examples } from './tensor.js';

/** Above this the sum over groups would no longer be exact enough (docs/arithmetic.md, lemma 3). */
const mostGroupsTimesExamples = 4.5e11;

function tooLarge(groups: number, examples: number): GradshapeError {
  return new GradshapeError(
    'LOT_TOO_LARGE',
    `a lot of ${examples} examples in ${groups} groups is larger than its sum is exact for; expected groups × examples of at most ${mostGroupsTimesExamples}: ` +
      'a smaller lot, or one whose groups the sampler chose (data.batch(indices, { groups }) with sampler.lot(step)).',
  );
}

/**
 * A sum of gradients over a lot that comes in pieces: within a group in float32, over groups in float64, so that what one
 * example adds is what it would add to any other lot, to a fraction of a percent (docs/arithmetic.md). As long as there is one
 * group, `part` is the sum.
 */
export class GroupedSum {
  /** The open group's sum, f32, laid out like the parameters. Add to it what `runs` says belongs there. */
  readonly part: BlockTensor;
  private readonly grouping = new Grouping();
  private total: BlockTensor | null = null;
  /** Groups whose sums are in `total`. */
  private closed = 0;
  /** Whether all groups are in `total`, if there is more than one: then `part` is free for other uses. */
  private settled = false;

  constructor(private readonly params: Parameters) {
    this.part = params.engine.allocateBlock([params.size], 'f32', 'the sum of shaped gradients');
  }

  /** The next examples' runs: `close` the open group before those that say so. */
  runs(examples: Examples | null, count: number): readonly Run[] {
    return this.grouping.runs(examples, count);
  }

  /** @throws LOT_TOO_LARGE */
  close(): void {
    const { engine, size } = this.params;
    if (this.closed * this.grouping.seen > mostGroupsTimesExamples)
      throw tooLarge(this.closed, this.grouping.seen);
    this.total ??= engine.allocateBlock([size], 'f64', 'the sum over groups');
    engine.kernels.moveToF64(this.total.address, this.part.address, size);
    this.closed++;
  }

  /** The groups' sum in float64 where there is more than one; null where `part` is all. */
  get overGroups(): BlockTensor | null {
    return this.closed === 0 ? null : this.total;
  }

  /** Brings the open group to the others, where there are others: `overGroups` is then the whole sum. Once: a second time does nothing. */
  settle(): void {
    if (this.settled) return;
    if (this.closed > 0) this.close();
    this.settled = true;
  }

  /** The settled sum in float32: `part`. */
  rounded(): BlockTensor {
    const { part, overGroups } = this;
    if (overGroups !== null)
      part.engine.kernels.addFromF64(part.address, overGroups.address, 0, 0, part.size);
    return part;
  }

  clear(): void {
    const { kernels } = this.params.engine;
    kernels.fill(this.part.address, 0, this.part.size);
    if (this.closed > 0) kernels.fill(this.total!.address, 0, this.part.size * 2);
    this.closed = 0;
    this.settled = false;
    this.grouping.clear();
  }

  free(): void {
    this.part.free();
    this.total?.free();
  }
}
