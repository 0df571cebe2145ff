import { type ComposedSet, GradshapeError, type LabelledSet, showShape, sizeOf } from '../engine/index.js';

/** A value that JSON holds. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** What a poisoned set was crafted from, with every default filled in: `craft` makes the same set from it. */
export interface PoisonSpec {
  readonly attack: string;
  readonly seed: number;
  /** How many poisons. */
  readonly count: number;
  readonly [option: string]: Json;
}

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
  readonly spec: PoisonSpec;
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

/** The poisoned set of a base with these examples added to it. */
export function withAdded(base: LabelledSet, poisons: LabelledSet, spec: PoisonSpec): PoisonedSet {
  const n = base.y.length;
  const count = poisons.y.length;
  const y = new Int32Array(n + count);
  y.set(base.y);
  y.set(poisons.y, n);
  const poison = Int32Array.from({ length: count }, (_, i) => n + i);
  return { base, added: count === 0 ? [] : [poisons], y, poison, spec };
}

/** The poisoned set of a base where these examples carry other labels. */
export function withRelabelled(
  base: LabelledSet,
  chosen: ArrayLike<number>,
  labels: ArrayLike<number>,
  spec: PoisonSpec,
): PoisonedSet {
  const y = Int32Array.from(base.y);
  for (let i = 0; i < chosen.length; i++) y[chosen[i]!] = labels[i]!;
  return { base, added: [], y, poison: Int32Array.from(chosen).sort(), spec };
}

/** The examples of a set at these indices, with these labels. */
export function copyExamples(set: LabelledSet, indices: ArrayLike<number>, y: Int32Array): LabelledSet {
  const size = sizeOf(set.shape);
  const x = set.x instanceof Uint8Array ? new Uint8Array(y.length * size) : new Float32Array(y.length * size);
  for (let i = 0; i < y.length; i++) {
    const from = indices[i]! * size;
    x.set(set.x.subarray(from, from + size), i * size);
  }
  return { ...set, x, y };
}

/** All numbers of a set as the model reads them: scaled, row by row. */
export function scaledValues({ x, scale = 1 }: LabelledSet): Float32Array {
  const values = new Float32Array(x.length); // Float32Array.from takes ten times as long
  for (let i = 0; i < x.length; i++) values[i] = x[i]! * scale;
  return values;
}

/** The indices of the examples with this label. */
export function indicesOf(y: ArrayLike<number>, label: number): number[] {
  const found: number[] = [];
  for (let i = 0; i < y.length; i++) if (y[i] === label) found.push(i);
  return found;
}

/** Throws LABEL_OUT_OF_RANGE unless some example of the set has this label. */
export function checkLabel(caller: string, what: string, set: LabelledSet, label: number): void {
  for (let i = 0; i < set.y.length; i++) if (set.y[i] === label) return;
  throw new GradshapeError(
    'LABEL_OUT_OF_RANGE',
    `${caller}: ${what} is ${label}; expected a label that the set holds.`,
  );
}

/** Height, width and channels of a set of images. @throws SHAPE_MISMATCH */
export function imageShape(caller: string, { shape }: LabelledSet): readonly [number, number, number] {
  if (shape.length === 3) return [shape[0]!, shape[1]!, shape[2]!];
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `${caller}: the examples have shape ${showShape(shape)}; expected images, [height, width, channels].`,
  );
}

/** Throws `code` unless `low ≤ value ≤ high`. */
export function checkBetween(code: string, what: string, value: number, low: number, high: number): void {
  if (typeof value === 'number' && value >= low && value <= high) return;
  throw new GradshapeError(code, `${what} is ${String(value)}; expected a number from ${low} to ${high}.`);
}
