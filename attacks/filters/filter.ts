import { GradshapeError, type LabelledSet, sizeOf } from '../../engine/index.js';
import { indicesOf, type PoisonedSet, scaledValues } from '../poisoned-set.js';
import type { Rows } from '../sphere-and-slab.js';
import { quantile } from '../vectors.js';

/** What a filter makes of a set. */
export interface Filtered {
  /** One an example; the higher, the more suspicious. */
  readonly scores: Float64Array;
  /** Indices of the examples that stay, ascending. */
  readonly kept: Int32Array;
}

export interface FilterOptions {
  /** The share of each class that stays: those of the lowest scores. @default 0.95 */
  readonly keep?: number;
}

/** The examples of a set, poisons included, as a filter reads them: features are the inputs themselves. */
export function rowsOf(set: LabelledSet | PoisonedSet): Rows {
  const parts = 'base' in set ? [set.base, ...set.added] : [set];
  const { shape } = parts[0]!;
  const size = sizeOf(shape);
  const count = parts.reduce((sum, part) => sum + part.y.length, 0);
  const x = new Float32Array(count * size);
  let at = 0;
  for (const part of parts) {
    x.set(scaledValues(part), at);
    at += part.x.length;
  }
  return { x, y: set.y, size };
}

/** The examples of these indices, for training on what a filter kept. */
export function selectRows({ x, y, size }: Rows, indices: ArrayLike<number>): Rows & { y: Int32Array } {
  const chosen = new Float32Array(indices.length * size);
  const labels = new Int32Array(indices.length);
  for (let i = 0; i < indices.length; i++) {
    const from = indices[i]! * size;
    chosen.set(x.subarray(from, from + size), i * size);
    labels[i] = y[from / size]!;
  }
  return { x: chosen, y: labels, size };
}

/** The classes that occur, ascending. */
export function classesOf(y: ArrayLike<number>): number[] {
  return [...new Set(Array.from(y))].sort((a, b) => a - b);
}

/** The places of a class's examples. */
export function membersOf(y: ArrayLike<number>, label: number): Int32Array {
  return Int32Array.from(indicesOf(y, label));
}

/**
 * Keeps, of each class, the examples whose scores are at most its `keep`-quantile.
 * @throws FILTER_INVALID
 */
export function keepLowest(
  caller: string,
  y: ArrayLike<number>,
  scores: Float64Array,
  { keep = 0.95 }: FilterOptions,
): Filtered {
  checkShare(caller, 'keep', keep);
  const limits = new Map(
    classesOf(y).map((label) => [
      label,
      quantile(
        Array.from(membersOf(y, label), (i) => scores[i]!),
        keep,
      ),
    ]),
  );
  const kept = Array.from(scores.keys()).filter((i) => scores[i]! <= limits.get(y[i]!)!);
  return { scores, kept: Int32Array.from(kept) };
}

export function checkShare(caller: string, what: string, value: number): void {
  if (value >= 0 && value <= 1) return;
  throw new GradshapeError(
    'FILTER_INVALID',
    `${caller}: ${what} is ${value}; expected a number from 0 to 1.`,
  );
}

/** Throws FILTER_INVALID unless it is a whole number of at least 1. */
export function checkCount(caller: string, what: string, value: number): void {
  if (Number.isSafeInteger(value) && value >= 1) return;
  throw new GradshapeError(
    'FILTER_INVALID',
    `${caller}: ${what} is ${value}; expected a whole number of at least 1.`,
  );
}

/** What share of the clean examples and of the poisons a filter took out; null for none there. */
export function removedShares(
  { poison, y }: Pick<PoisonedSet, 'poison' | 'y'>,
  { kept }: Pick<Filtered, 'kept'>,
): { readonly clean: number | null; readonly poison: number | null } {
  const bad = new Set(poison);
  const badKept = kept.filter((i) => bad.has(i)).length;
  const good = y.length - bad.size;
  return {
    clean: good === 0 ? null : 1 - (kept.length - badKept) / good,
    poison: bad.size === 0 ? null : 1 - badKept / bad.size,
  };
}
