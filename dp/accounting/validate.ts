/** Checks of what users give, shared by the accountants. Every message says the range. */
import { GradshapeError } from '../../engine/errors.js';

/** A value in a message: text in quotes, so that '1' is not taken for 1. */
export function shown(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : String(value);
}

function refuse(code: string, name: string, given: unknown, expected: string): never {
  throw new GradshapeError(code, `${name} must be ${expected}; given: ${shown(given)}.`);
}

/** Comparing turns strings into numbers, which then add as strings: only numbers pass. */
const isNumber = (value: unknown): boolean => typeof value === 'number';

export function checkDelta(delta: number, name = 'delta'): void {
  if (!(isNumber(delta) && delta > 0 && delta < 1))
    refuse('DELTA_OUT_OF_RANGE', name, delta, 'strictly between 0 and 1');
}

export function checkEpsilon(epsilon: number, name = 'epsilon'): void {
  if (!(isNumber(epsilon) && epsilon >= 0)) refuse('EPSILON_OUT_OF_RANGE', name, epsilon, 'a number ≥ 0');
}

/** μ, sensitivity over noise: ∞ where there is none. */
export function checkRatio(mu: number): void {
  if (!(isNumber(mu) && mu >= 0)) refuse('RATIO_OUT_OF_RANGE', 'mu', mu, 'a number ≥ 0');
}

export function checkNoiseMultiplier(sigma: number): void {
  if (!(isNumber(sigma) && sigma >= 0 && sigma < Infinity)) {
    refuse(
      'NOISE_MULTIPLIER_OUT_OF_RANGE',
      'noiseMultiplier',
      sigma,
      'a finite number ≥ 0 (0 means no noise: ε = ∞)',
    );
  }
}

export function checkSamplingRate(q: number): void {
  if (!(isNumber(q) && q > 0 && q <= 1)) refuse('SAMPLING_RATE_OUT_OF_RANGE', 'samplingRate', q, 'in (0, 1]');
}

export function checkCount(value: number, name: string, code: string): void {
  if (!(Number.isSafeInteger(value) && value >= 1)) refuse(code, name, value, 'a whole number ≥ 1');
}

export function checkSteps(steps: number, name = 'steps'): void {
  checkCount(steps, name, 'STEPS_OUT_OF_RANGE');
}

export function checkOneOf<T extends string>(
  value: unknown,
  allowed: readonly T[],
  name: string,
  code: string,
): void {
  if (!allowed.includes(value as T))
    refuse(code, name, value, `one of ${allowed.map((v) => `'${v}'`).join(', ')}`);
}

/** A probability or a confidence, open at both ends. */
export function checkFraction(value: number, name: string): void {
  if (!(isNumber(value) && value > 0 && value < 1))
    refuse('FRACTION_OUT_OF_RANGE', name, value, 'strictly between 0 and 1');
}
