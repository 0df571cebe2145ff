import { GradshapeError } from '../engine/index.js';
import { type Schedule, stepDecay } from '../nn/index.js';
import { shown } from './accounting/validate.js';

/**
 * A number that changes from step to step: a clip norm, or a noise multiplier. A schedule is a function of the step alone, never
 * of the data, and so costs no privacy; the accountant gets each step's own noise. A plan asks for every step's value when it
 * is made, and refuses schedules that switch protection off on the way.
 */
export type Scheduled = number | Schedule;

/** The value at a step; a constant is its caller's to check. @throws SCHEDULE_INVALID where it is no number of at least 0 */
export function valueAt(what: string, scheduled: Scheduled, step: number): number {
  if (typeof scheduled === 'number') return scheduled;
  if (typeof scheduled !== 'function') {
    throw new GradshapeError(
      'SCHEDULE_INVALID',
      `${what} is ${shown(scheduled)}; expected a number, or a function of the step.`,
    );
  }
  const value = scheduled(step);
  if (typeof value === 'number' && value >= 0) return value;
  throw new GradshapeError(
    'SCHEDULE_INVALID',
    `${what}: the schedule gives ${shown(value)} at step ${step}; expected a number of at least 0.`,
  );
}

/**
 * In a straight line from one value to another over `steps` steps, and the last one after them.
 * @throws SCHEDULE_INVALID
 * @example linearSchedule({ from: 2, to: 1, steps: 100 })(50); // 1.5
 */
export function linearSchedule(options: {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
}): Schedule {
  const { from, to, steps } = options;
  const sound = (value: number): boolean => Number.isFinite(value) && value >= 0;
  if (!(sound(from) && sound(to) && Number.isSafeInteger(steps) && steps >= 1)) {
    throw new GradshapeError(
      'SCHEDULE_INVALID',
      `linearSchedule: from ${from} to ${to} in ${steps} steps; expected finite numbers of at least 0, and a whole number of steps from 1.`,
    );
  }
  return (step) => from + (to - from) * Math.min(step / steps, 1);
}

/**
 * from · factor^⌊step / every⌋. With a large `every` there are few different values, which keeps accounting fast.
 * @throws SCHEDULE_INVALID
 * @example geometricSchedule({ from: 4, factor: 0.5, every: 100 })(250); // 1
 */
export function geometricSchedule(options: {
  readonly from: number;
  readonly factor: number;
  readonly every: number;
}): Schedule {
  const { from, factor, every } = options;
  return stepDecay({ learningRate: from, factor, every });
}
