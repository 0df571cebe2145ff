import { type ComposedSet, GradshapeError, type LabelledSet } from '../engine/index.js';

/**
 * A poisoned data set, as a value: the base, what was added to it, all labels as they stand now, and which examples
 * are the attacker's. `engine.dataset(set)` takes it as it is; `engine.dataset({ ...set, base: data })` shares a base
 * that is in memory already.
 */
export interface PoisonedSet extends ComposedSet {
  readonly base: LabelledSet;
  readonly added: readonly LabelledSet[];
  /** Labels of the base and the added examples, in this order. */
  readonly y: Int32Array;
  /** Indices of the poisoned examples, ascending. */
  readonly poison: Int32Array;
}

/** How many examples the attacker may poison: a share of the base set, or a count. */
export type Budget =
  | { readonly ratio: number; readonly count?: undefined }
  | { readonly count: number; readonly ratio?: undefined };

/**
 * The number of poisons that a budget allows for a set of n examples.
 * @throws BUDGET_INVALID when it is negative, fractional or above n
 */
export function budgetCount(caller: string, { ratio, count }: Budget, n: number): number {
  if ((ratio === undefined) === (count === undefined)) {
    throw new GradshapeError(
      'BUDGET_INVALID',
      `${caller}: ratio is ${ratio} and count is ${count}; expected one of them.`,
    );
  }
  const poisons = ratio === undefined ? count! : Math.round(ratio * n);
  if (!Number.isInteger(poisons) || poisons < 0 || poisons > n) {
    const given =
      ratio === undefined ? `count is ${count}` : `ratio is ${ratio}, which makes ${poisons} poisons`;
    throw new GradshapeError(
      'BUDGET_INVALID',
      `${caller}: ${given}; expected a whole number from 0 to ${n}, the size of the set (a ratio from 0 to 1).`,
    );
  }
  return poisons;
}

/** The examples of a set at these indices, with these labels. */
export function copyExamples(set: LabelledSet, indices: ArrayLike<number>, y: Int32Array): LabelledSet {
  const size = set.shape.reduce((product, n) => product * n, 1);
  const x = set.x instanceof Uint8Array ? new Uint8Array(y.length * size) : new Float32Array(y.length * size);
  for (let i = 0; i < y.length; i++) {
    const from = indices[i]! * size;
    x.set(set.x.subarray(from, from + size), i * size);
  }
  return { ...set, x, y };
}
