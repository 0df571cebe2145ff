import { GradshapeError } from '../engine/index.js';
import { checkAllowedEpsilon, checkAuditDelta } from './accounting/audit.js';
import { type AttackCounts, type AuditVerdict, auditVerdict, epsilonLowerBound } from './accounting/index.js';
import { checkFraction } from './accounting/validate.js';

/** One training of an audit. */
export interface AuditRun {
  /** Whether the target (or the poisons) are in the training data. */
  readonly included: boolean;
  /** Numbers the runs, from 0, for seeds: noise must be fresh in each. */
  readonly run: number;
}

export interface RunsAuditOptions {
  /**
   * Trainings in each of the two worlds. The first half chooses the attack's threshold, the second half is counted. With few of them not
   * even perfect attacks prove much: see the result's `ceiling`.
   */
  readonly runs: number;
  /** Trains and attacks: a number that is larger when the attack believes that the target was there. */
  readonly attack: (run: AuditRun) => number;
  /** What the training promises at δ: then the audit has a verdict. */
  readonly allowedEpsilon?: number;
  /** @default 1e-5 */
  readonly delta?: number;
  /** @default 0.95 */
  readonly confidence?: number;
}

export interface RunsAuditResult {
  readonly threshold: number;
  /** Of the runs that were counted. */
  readonly counts: AttackCounts;
  /** With the confidence asked for, the training is not (ε, δ)-DP for any smaller ε. */
  readonly epsilonLowerBound: number;
  /** The bound that an attack without an error would have proved with so many runs. */
  readonly ceiling: number;
  /** `undecided` where the ceiling is not above what is allowed; null where nothing was. */
  readonly verdict: AuditVerdict | null;
}

/**
 * A membership inference audit: many trainings with and without a target example, and an attack that tells them apart. (ε, δ)-DP
 * limits its true positive rate to e^ε times its false positive rate plus δ; the Clopper–Pearson ends of both prove a lower
 * bound on ε (Jagielski, Ullman and Oprea 2020; Nasr et al. 2021 for audits by membership).
 * @throws AUDIT_INVALID, DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE, EPSILON_OUT_OF_RANGE
 * @example
 * // An attack that is always right proves what so many runs can prove.
 * const audit = auditMembership({ runs: 200, allowedEpsilon: 8, attack: ({ included }) => (included ? 1 : 0) });
 * audit.epsilonLowerBound > 3 // true
 * audit.verdict; // "undecided"
 */
export function auditMembership(options: RunsAuditOptions): RunsAuditResult {
  return auditRuns('auditMembership', options, 1);
}

/**
 * A poisoning audit (Jagielski, Ullman and Oprea 2020): as a membership audit, with k poisons in the data or not. The bound is on the
 * ε of one example: group privacy allows k of them e^(kε).
 * @param options poisons: k
 * @throws as `auditMembership`
 * @example
 * auditPoisoning({ runs: 200, poisons: 2, attack: ({ included }) => (included ? 1 : 0) }).epsilonLowerBound > 1.5 // true
 */
export function auditPoisoning(options: RunsAuditOptions & { readonly poisons: number }): RunsAuditResult {
  return auditRuns('auditPoisoning', options, options?.poisons);
}

function auditRuns(caller: string, options: RunsAuditOptions, groupSize: number): RunsAuditResult {
  if (options === null || typeof options !== 'object') {
    throw new GradshapeError(
      'AUDIT_INVALID',
      `${caller}: given ${String(options)}; expected options, { runs, attack }.`,
    );
  }
  const { runs, attack, allowedEpsilon, delta = 1e-5, confidence = 0.95 } = options;
  checkAuditDelta(delta);
  checkFraction(confidence, 'confidence');
  if (allowedEpsilon !== undefined) checkAllowedEpsilon(allowedEpsilon);
  const whole = (value: number, least: number): boolean => Number.isSafeInteger(value) && value >= least;
  if (!whole(runs, 2)) {
    throw new GradshapeError(
      'AUDIT_INVALID',
      `${caller}: runs is ${String(runs)}; expected a whole number from 2.`,
    );
  }
  if (!whole(groupSize, 1)) {
    throw new GradshapeError(
      'AUDIT_INVALID',
      `${caller}: poisons is ${String(groupSize)}; expected a whole number from 1.`,
    );
  }
  if (typeof attack !== 'function') {
    throw new GradshapeError(
      'AUDIT_INVALID',
      `${caller}: attack is ${String(attack)}; expected a function that trains and returns a score.`,
    );
  }
  const [positive, negative] = [true, false].map((included, world) =>
    Array.from({ length: runs }, (_, i) => scoreOf(caller, attack({ included, run: world * runs + i }))),
  ) as [number[], number[]];
  const half = Math.floor(runs / 2);
  const bound = (counts: AttackCounts): number => epsilonLowerBound(counts, { delta, confidence, groupSize });
  const candidates = thresholds([...positive.slice(0, half), ...negative.slice(0, half)]);
  let best = { threshold: candidates[0]!, bound: -1, gap: -Infinity };
  for (const threshold of candidates) {
    const counts = countsOf(positive.slice(0, half), negative.slice(0, half), threshold);
    const found = bound(counts);
    // Where nothing is proved yet, the largest gap between the rates is the best bet.
    const gap = counts.truePositives - counts.falsePositives;
    if (found > best.bound || (found === best.bound && gap > best.gap))
      best = { threshold, bound: found, gap };
  }
  const counts = countsOf(positive.slice(half), negative.slice(half), best.threshold);
  const { positives, negatives } = counts;
  const bounds = {
    epsilonLowerBound: bound(counts),
    ceiling: bound({ positives, truePositives: positives, negatives, falsePositives: 0 }),
  };
  const verdict = allowedEpsilon === undefined ? null : auditVerdict(bounds, allowedEpsilon);
  return { threshold: best.threshold, counts, ...bounds, verdict };
}

function scoreOf(caller: string, score: number): number {
  if (typeof score === 'number' && !Number.isNaN(score)) return score;
  throw new GradshapeError(
    'AUDIT_INVALID',
    `${caller}: the attack returned ${String(score)}; expected a number.`,
  );
}

/** Up to a hundred values between which the scores are cut. */
function thresholds(scores: readonly number[]): number[] {
  const sorted = [...new Set(scores)].sort((a, b) => a - b);
  const count = Math.min(sorted.length, 100);
  return Array.from({ length: count }, (_, i) => sorted[Math.floor((i * sorted.length) / count)]!);
}

function countsOf(positive: readonly number[], negative: readonly number[], threshold: number): AttackCounts {
  const above = (scores: readonly number[]): number => scores.filter((score) => score >= threshold).length;
  return {
    positives: positive.length,
    truePositives: above(positive),
    negatives: negative.length,
    falsePositives: above(negative),
  };
}
