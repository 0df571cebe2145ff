import { indicesOf } from './batch.js';
import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import type { Examples, Tensor } from './tensor.js';

/**
 * The most examples whose gradients are summed in float32 before their sum goes on in float64. Rounding moves a float32 sum of
 * m parts of norm at most C by at most 2⁻²⁴·(m²/2 + m)·C: 0.31 % of C for 320 (docs/arithmetic.md, lemma 3).
 */
export const groupSize = 320;

/** Where nothing else says what the groups are, the indices of a data set in stretches of 2⁸. */
const indexBits = 8;

/** The group of a lot's first examples. */
const first = -1;

function groupTooLarge(group: number): GradshapeError {
  return new GradshapeError(
    'GROUPS_INVALID',
    `group ${group} of the lot has more than ${groupSize} examples; expected groups as sampler.lot(step) makes them, of at most ${groupSize}, or none: ` +
      'data.batch(indices) alone.',
  );
}

/** Consecutive examples of a batch, from…to−1, that belong to one group. */
export interface Run {
  readonly from: number;
  readonly to: number;
  /** Whether the group before them is complete. */
  readonly closes: boolean;
}

/**
 * Splits the examples of a lot into groups, in the order in which they come, so that one example more or less changes few
 * groups, and pieces of the lot have the groups of the whole:
 * - the first 320 are one group;
 * - after them, examples of one data set whose indices lie in the same stretch of 256 (their positions, without a data set);
 * - or the batch itself says which group each example is in (`Examples.groups`), those of one group side by side.
 * None has more than 320.
 */
export class Grouping {
  /** Examples so far. */
  seen = 0;
  /** The open group, and how many examples it has. */
  private group = first;
  private filled = 0;
  /** The data set of the open group's last example. */
  private source: object | null = null;

  /** The runs of a batch's next examples. */
  runs(examples: Examples | null, count: number): readonly Run[] {
    const groups = examples?.groups ?? null;
    if (this.staysInGroup(groups, count)) {
      this.seen += count;
      this.filled += count;
      return [{ from: 0, to: count, closes: false }];
    }
    const indices = groups === null ? examples && indicesOf(examples) : null;
    const source = examples?.source ?? null;
    const runs: Run[] = [];
    let from = 0;
    let closes = false;
    for (let i = 0; i < count; i++) {
      const group = groups?.[i] ?? this.groupOf(indices?.[i] ?? this.seen);
      const foreign = groups === null && group !== first && source !== this.source;
      const other = group !== this.group || foreign;
      if (this.filled === groupSize && !other && groups !== null) throw groupTooLarge(group);
      if (this.filled > 0 && (other || this.filled === groupSize)) {
        if (i > from) runs.push({ from, to: i, closes });
        from = i;
        closes = true;
        this.filled = 0;
      }
      this.group = group;
      this.source = source;
      this.filled++;
      this.seen++;
    }
    if (count > from) runs.push({ from, to: count, closes });
    return runs;
  }

  /** Whether all of the next examples are of the open group: what small lots are. */
  private staysInGroup(groups: Int32Array | null, count: number): boolean {
    if (this.filled + count > groupSize) return false;
    if (groups === null) return this.seen + count <= groupSize;
    if (this.filled === 0 && count > 0) this.group = groups[0]!;
    return count === 0 || (groups[0] === this.group && groups[count - 1] === this.group);
  }

  private groupOf(index: number): number {
    return this.seen < groupSize ? first : index >> indexBits;
  }

  clear(): void {
    this.seen = 0;
    this.filled = 0;
    this.group = first;
    this.source = null;
  }
}

/**
 * Adds a batch to `out`, f32 [n]: its groups in float32, and they in float64, rounded once at the end.
 * @param add adds the examples from…to−1 to `part`, f32 [n]
 */
export function sumByGroups(
  engine: Engine,
  examples: Examples | null,
  count: number,
  out: Tensor,
  add: (from: number, to: number, part: Tensor) => void,
): void {
  const { kernels } = engine;
  const total = engine.allocate([out.size], 'f64', 'a sum over groups');
  kernels.fill(total.address, 0, out.size * 2);
  kernels.moveToF64(total.address, out.address, out.size);
  const part = engine.full([out.size], 0);
  for (const { from, to, closes } of new Grouping().runs(examples, count)) {
    if (closes) kernels.moveToF64(total.address, part.address, out.size);
    add(from, to, part);
  }
  kernels.moveToF64(total.address, part.address, out.size);
  kernels.addFromF64(out.address, total.address, 0, 0, out.size);
}
