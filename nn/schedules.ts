import { checkRange, checkWhole } from './checks.js';

/**
 * The learning rate of a step, counted from 0. Those below use only operations whose results IEEE 754 fixes, so that
 * every runtime gets the same bits.
 */
export type Schedule = (step: number) => number;

const code = 'SCHEDULE_INVALID';

/** The same at every step. @throws SCHEDULE_INVALID */
export function constantRate(learningRate: number): Schedule {
  checkRange(code, 'constantRate: learningRate', learningRate, 0);
  return () => learningRate;
}

/**
 * learningRate · factor^⌊step / every⌋.
 * @throws SCHEDULE_INVALID
 * @example const schedule = stepDecay({ learningRate: 0.1, factor: 0.5, every: 1000 });
 */
export function stepDecay(options: {
  readonly learningRate: number;
  readonly factor: number;
  readonly every: number;
}): Schedule {
  const { learningRate, factor, every } = options;
  checkRange(code, 'stepDecay: learningRate', learningRate, 0);
  checkRange(code, 'stepDecay: factor', factor, 0);
  checkWhole(code, 'stepDecay: every', every, 1);
  return (step) => learningRate * power(factor, Math.floor(step / every));
}

/**
 * learningRate · factor^step.
 * @throws SCHEDULE_INVALID
 * @example const schedule = exponentialDecay({ learningRate: 0.1, factor: 0.999 });
 */
export function exponentialDecay(options: {
  readonly learningRate: number;
  readonly factor: number;
}): Schedule {
  const { learningRate, factor } = options;
  checkRange(code, 'exponentialDecay: learningRate', learningRate, 0);
  checkRange(code, 'exponentialDecay: factor', factor, 0);
  return (step) => learningRate * power(factor, step);
}

/**
 * Half a cosine from learningRate down to `final` over `steps` steps, and `final` after them
 * (Loshchilov & Hutter 2017, equation 5, without restarts).
 * @param options final: default 0
 * @throws SCHEDULE_INVALID
 * @example const schedule = cosineDecay({ learningRate: 0.1, steps: 1440 });
 */
export function cosineDecay(options: {
  readonly learningRate: number;
  readonly steps: number;
  readonly final?: number;
}): Schedule {
  const { learningRate, steps, final = 0 } = options;
  checkRange(code, 'cosineDecay: learningRate', learningRate, 0);
  checkRange(code, 'cosineDecay: final', final, 0);
  checkWhole(code, 'cosineDecay: steps', steps, 1);
  return (step) => final + ((learningRate - final) / 2) * (1 + cosHalfTurns(Math.min(step / steps, 1)));
}

/**
 * In `steps` steps in equal strides up to the first rate of `schedule`, which follows from its own step 0.
 * @throws SCHEDULE_INVALID
 * @example const schedule = linearWarmup({ steps: 100, schedule: cosineDecay({ learningRate: 0.1, steps: 1340 }) });
 */
export function linearWarmup(options: { readonly steps: number; readonly schedule: Schedule }): Schedule {
  const { steps, schedule } = options;
  checkWhole(code, 'linearWarmup: steps', steps, 1);
  return (step) => (step < steps ? (schedule(0) * (step + 1)) / steps : schedule(step - steps));
}

/** base^n for whole n ≥ 0, by squaring. */
function power(base: number, n: number): number {
  let result = 1;
  let square = base;
  for (let rest = n; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return result;
}

/** cos(πx) for 0 ≤ x ≤ 1: Taylor's series about the nearer of 0 and 1 (error below 1e-12). */
function cosHalfTurns(x: number): number {
  if (x > 0.5) return -cosHalfTurns(1 - x);
  const squared = Math.PI * x * (Math.PI * x);
  let sum = 1;
  for (let k = 16; k > 0; k -= 2) sum = 1 - (squared * sum) / (k * (k - 1));
  return sum;
}
