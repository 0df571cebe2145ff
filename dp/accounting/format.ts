/** Bounds in print: rounded to few digits, and never to the side that would promise more than was proved. */
import { GradshapeError } from '../../engine/errors.js';

/**
 * An upper bound, such as ε, δ or a sampling rate, rounded up: the printed number is never below the value.
 * @param digits significant digits, 1 to 15
 * @throws DIGITS_OUT_OF_RANGE
 * @example formatUpperBound(1.23401); // "1.235"
 */
export function formatUpperBound(value: number, digits = 4): string {
  return rounded(value, digits, 1);
}

/**
 * A lower bound, such as a noise multiplier or what an audit proves, rounded down: the printed number is never above the value.
 * @param digits significant digits, 1 to 15
 * @throws DIGITS_OUT_OF_RANGE
 * @example formatLowerBound(1.23499); // "1.234"
 */
export function formatLowerBound(value: number, digits = 4): string {
  return rounded(value, digits, -1);
}

/** The nearest decimal of so many digits, and the next one where that is on the wrong side. */
function rounded(value: number, digits: number, direction: 1 | -1): string {
  if (!(Number.isInteger(digits) && digits >= 1 && digits <= 15)) {
    throw new GradshapeError(
      'DIGITS_OUT_OF_RANGE',
      `digits is ${digits}; expected a whole number from 1 to 15.`,
    );
  }
  if (!Number.isFinite(value)) return String(value).replace('Infinity', '∞');
  const [mantissa, exponent] = value.toExponential(digits - 1).split('e') as [string, string];
  const whole = Number(mantissa.replace('.', ''));
  const unit = Number(exponent) - digits + 1;
  const nearest = Number(`${whole}e${unit}`);
  if (direction > 0) return written(nearest >= value ? nearest : Number(`${whole + 1}e${unit}`));
  if (nearest <= value) return written(nearest);
  // Below a power of ten the units are ten times finer.
  const finer = whole === 10 ** (digits - 1);
  return written(finer ? Number(`${whole * 10 - 1}e${unit - 1}`) : Number(`${whole - 1}e${unit}`));
}

/** 6.77, 1e-5, ∞. */
function written(value: number): string {
  if (!Number.isFinite(value)) return String(value).replace('Infinity', '∞');
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}
