/** The noise, the number of steps or the sampling rate that just keeps within a privacy budget. */
import { GradshapeError } from '../../engine/errors.js';
import type { AccountantName, PrivacyGuarantee } from './accountant.js';
import { createAccountant, type RdpOptions } from './accountants.js';
import type { PrivacyPhase } from './events.js';
import { formatUpperBound } from './format.js';
import { checkDelta } from './validate.js';

export interface CalibrationTarget {
  /** ε to keep within, > 0. */
  targetEpsilon: number;
  targetDelta: number;
  /** Default 'pld'. */
  accountant?: AccountantName;
  /** Options of the Rényi accountant. */
  rdp?: RdpOptions;
}

export interface Calibration {
  /** The value found: never on the wrong side of the target, and within 0.1 % of the best one. */
  value: number;
  /** What it gives: `guarantee.epsilon` ≤ targetEpsilon. */
  guarantee: PrivacyGuarantee;
}

/** All that will be released, as a function of the value sought. */
export type PhasesFor = (value: number) => PrivacyPhase[];

/** Relative width at which bisection stops; rounding to five digits adds at most 1e-4. */
const RELATIVE = 2e-4;
const DIGITS = 5;

function check({ targetEpsilon, targetDelta }: CalibrationTarget): void {
  if (!(typeof targetEpsilon === 'number' && targetEpsilon > 0 && targetEpsilon < Infinity)) {
    throw new GradshapeError(
      'EPSILON_OUT_OF_RANGE',
      `targetEpsilon must be a finite number > 0; given: ${targetEpsilon}.`,
    );
  }
  checkDelta(targetDelta, 'targetDelta');
}

function evaluator(target: CalibrationTarget, phasesFor: PhasesFor): (value: number) => PrivacyGuarantee {
  check(target);
  const { accountant = 'pld', rdp = {}, targetDelta } = target;
  return (value) => createAccountant(accountant, phasesFor(value), rdp).epsilon(targetDelta);
}

function unreachable(target: CalibrationTarget, what: string, at: number, reached: number): GradshapeError {
  return new GradshapeError(
    'TARGET_UNREACHABLE',
    `targetEpsilon = ${target.targetEpsilon} at δ = ${target.targetDelta} can't be reached: ${what} = ${at} still gives ` +
      `ε = ${formatUpperBound(reached, 6)}. Reachable with these settings: ε ≥ ${formatUpperBound(reached, 6)}.`,
  );
}

/** Rounds to five significant digits, away from the budget's edge. */
function roundSafely(value: number, direction: 'up' | 'down'): number {
  const unit = 10 ** (Math.floor(Math.log10(value)) + 1 - DIGITS);
  const rounded = (direction === 'up' ? Math.ceil(value / unit) : Math.floor(value / unit)) * unit;
  return Number(rounded.toPrecision(DIGITS));
}

/**
 * Finds the value between a safe and an unsafe one by bisection on its logarithm, then rounds it to the safe side. The
 * rounded value's own guarantee is checked before it is returned.
 */
function bisect(
  target: CalibrationTarget,
  evaluate: (value: number) => PrivacyGuarantee,
  safe: number,
  unsafe: number,
): Calibration {
  let good = safe;
  let bad = unsafe;
  while (Math.abs(Math.log(good / bad)) > RELATIVE) {
    const middle = Math.sqrt(good * bad);
    if (evaluate(middle).epsilon <= target.targetEpsilon) good = middle;
    else bad = middle;
  }
  const direction = good > bad ? 'up' : 'down';
  for (const candidate of [roundSafely(good, direction), good]) {
    const guarantee = evaluate(candidate);
    if (guarantee.epsilon <= target.targetEpsilon) return { value: candidate, guarantee };
  }
  return { value: safe, guarantee: evaluate(safe) };
}

const MAX_NOISE = 1e6;
const MIN_NOISE = 1e-6;

/**
 * The smallest noise multiplier σ whose ε stays within the target; rounded up to five digits.
 * @param phasesFor all phases, for a given σ
 * @throws GradshapeError EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE; TARGET_UNREACHABLE where other phases already spent it
 */
export function calibrateNoiseMultiplier(target: CalibrationTarget, phasesFor: PhasesFor): Calibration {
  const evaluate = evaluator(target, phasesFor);
  const fits = (sigma: number): boolean => evaluate(sigma).epsilon <= target.targetEpsilon;
  let high = 1;
  while (!fits(high)) {
    if (high >= MAX_NOISE) throw unreachable(target, 'noiseMultiplier', high, evaluate(high).epsilon);
    high *= 2;
  }
  let low = high / 2;
  while (fits(low)) {
    high = low;
    low /= 2;
    if (low < MIN_NOISE) return { value: high, guarantee: evaluate(high) };
  }
  return bisect(target, evaluate, high, low);
}

const MAX_STEPS = Number.MAX_SAFE_INTEGER;

/**
 * The largest number of steps within the target: exactly, one more would overstep (or could not be counted, above 2⁵³ − 1).
 * @param phasesFor all phases, for a given number of steps
 * @throws GradshapeError EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE; TARGET_UNREACHABLE if a single step oversteps
 */
export function calibrateSteps(target: CalibrationTarget, phasesFor: PhasesFor): Calibration {
  const evaluate = evaluator(target, phasesFor);
  const fits = (steps: number): boolean => evaluate(steps).epsilon <= target.targetEpsilon;
  if (!fits(1)) throw unreachable(target, 'steps', 1, evaluate(1).epsilon);
  let good = 1;
  let bad = 2;
  while (bad <= MAX_STEPS && fits(bad)) {
    good = bad;
    bad *= 2;
  }
  // Beyond the last number of steps that can be counted, all are too many.
  bad = Math.min(bad, MAX_STEPS);
  if (fits(bad)) return { value: bad, guarantee: evaluate(bad) };
  while (bad - good > 1) {
    const middle = Math.floor((good + bad) / 2);
    if (fits(middle)) good = middle;
    else bad = middle;
  }
  return { value: good, guarantee: evaluate(good) };
}

const MIN_RATE = 1e-9;

/**
 * The largest sampling rate q in (0, 1] within the target; rounded down to five digits.
 * @param phasesFor all phases, for a given q
 * @throws GradshapeError EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE; TARGET_UNREACHABLE if even q = 1e-9 oversteps
 */
export function calibrateSamplingRate(target: CalibrationTarget, phasesFor: PhasesFor): Calibration {
  const evaluate = evaluator(target, phasesFor);
  const whole = evaluate(1);
  if (whole.epsilon <= target.targetEpsilon) return { value: 1, guarantee: whole };
  let bad = 1;
  let good = 0.5;
  while (evaluate(good).epsilon > target.targetEpsilon) {
    bad = good;
    good /= 4;
    if (good < MIN_RATE) throw unreachable(target, 'samplingRate', bad, evaluate(bad).epsilon);
  }
  return bisect(target, evaluate, good, bad);
}
