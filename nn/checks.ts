import { GradshapeError } from '../engine/index.js';

/** Throws `code` unless `value` is a whole number of at least `least`. `what` names it: 'dense: inputs'. */
export function checkWhole(code: string, what: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new GradshapeError(
    code,
    `${what} is ${String(value)}; expected a whole number of at least ${least}.`,
  );
}

/** Throws `code` unless `low ≤ value < high`. */
export function checkRange(code: string, what: string, value: number, low: number, high = Infinity): void {
  if (typeof value === 'number' && value >= low && value < high) return;
  const expected = high === Infinity ? `a finite number of at least ${low}` : `${low} ≤ ${what} < ${high}`;
  throw new GradshapeError(code, `${what} is ${String(value)}; expected ${expected}.`);
}
