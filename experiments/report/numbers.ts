// Numbers that may be infinite, as ε without noise is, in text, figures and JSON.

import { formatUpperBound } from 'gradshape';

/** Five digits, rounded to the nearest, or ∞. Bounds are not to be rounded so: see `epsilonText`. */
export function digits(value: number): string {
  return value === Infinity ? '∞' : String(Number(value.toPrecision(5)));
}

/** ε, δ or a sampling rate in a table: five digits, rounded up, or ∞. */
export function epsilonText(value: number): string {
  return formatUpperBound(value, 5);
}

/** For CSV. */
export function finite(value: number): number | string {
  return value === Infinity ? 'Infinity' : value;
}

export function isFinitePoint({ y }: { y: number }): boolean {
  return Number.isFinite(y);
}

/** For JSON.stringify: JSON has no infinity. */
export function replaceInfinity(_key: string, value: unknown): unknown {
  return value === Infinity ? 'Infinity' : value;
}
