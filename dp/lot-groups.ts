import { groupSize } from '../engine/index.js';

/** The examples of a lot in the order in which they are summed, and the group that each is in. */
export interface GroupedLot {
  readonly indices: Int32Array;
  /** One number an example; equal ones stand side by side. */
  readonly groups: Int32Array;
}

/** Examples that a cell is expected to have: few have more than a group takes. */
const expectedInCell = 300;

/**
 * Groups for a lot in a public order, of which each example's part may be set to zero, and all keep their places: position i is
 * in group ⌊i / 320⌋.
 */
export function groupsByPosition(indices: Int32Array): GroupedLot {
  return { indices, groups: indices.map((_, i) => Math.floor(i / groupSize)) };
}

/**
 * Groups for a lot that was drawn in secret, by Poisson sampling or by size: each example falls, by a secret random word of its own, into one of ⌈expected / 300⌉ cells, and a
 * cell of more than 320 is halved by the word's further bits until no part has more. So one example more or less, wherever it
 * stands in the data set, changes its own cell's groups alone, and one in another's place those of two cells: all others have their
 * words, cells and order as before.
 * @param expected the public expected size of a lot
 * @param word gives the next example's word, of 32 bits
 */
export function groupsBySecret(indices: Int32Array, expected: number, word: () => number): GroupedLot {
  const cells = Math.max(1, Math.ceil(expected / expectedInCell));
  if (cells === 1 && indices.length <= groupSize) return { indices, groups: new Int32Array(indices.length) };
  const members = Array.from({ length: cells }, (): Member[] => []);
  for (const index of indices) {
    const scaled = (word() / 4294967296) * cells;
    const cell = Math.floor(scaled);
    members[cell]!.push({ index, within: scaled - cell });
  }
  const ordered = new Int32Array(indices.length);
  const groups = new Int32Array(indices.length);
  let [at, group] = [0, 0];
  for (const cell of members) {
    for (const part of halved(cell)) {
      for (const { index } of part) {
        ordered[at] = index;
        groups[at++] = group;
      }
      group++;
    }
  }
  return { indices: ordered, groups };
}

interface Member {
  readonly index: number;
  /** Uniform in [0, 1). */
  readonly within: number;
}

/** Parts of at most a group: a larger one is cut in the middle of its interval, again and again. */
function halved(part: readonly Member[], from = 0, size = 1): (readonly Member[])[] {
  // Below 2⁻²⁰ the words have no bits left: 320 examples alike there have a chance of less than 2⁻¹⁰⁰⁰.
  if (part.length <= groupSize || size < 1e-6) return [part];
  const middle = from + size / 2;
  return [
    ...halved(
      part.filter(({ within }) => within < middle),
      from,
      size / 2,
    ),
    ...halved(
      part.filter(({ within }) => within >= middle),
      middle,
      size / 2,
    ),
  ];
}
