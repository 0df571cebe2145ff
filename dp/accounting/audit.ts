/** The statistics of privacy audits: what attacks' successes prove about ε, from below. */
import { GradshapeError } from '../../engine/errors.js';
import { binomialTail, incompleteBeta, logBinomial, normalQuantile } from './special-functions.js';
import { checkFraction } from './validate.js';

/**
 * What an audit says about the ε that was allowed: `violated` where its lower bound is above; `undecided` where even perfect
 * guesses would not have proved more than is allowed, so that it could not fail; `holds` where it could have failed, and
 * did not. (That is no proof: another audit may find what this one did not.)
 */
export type AuditVerdict = 'holds' | 'violated' | 'undecided';

/** The verdict on an allowed ε, given what an audit proved and the most that it could have proved. */
export function auditVerdict(
  { epsilonLowerBound, ceiling }: { epsilonLowerBound: number; ceiling: number },
  allowedEpsilon: number,
): AuditVerdict {
  if (epsilonLowerBound > allowedEpsilon) return 'violated';
  return ceiling > allowedEpsilon ? 'holds' : 'undecided';
}

/** @throws GradshapeError EPSILON_OUT_OF_RANGE */
export function checkAllowedEpsilon(epsilon: number): void {
  if (typeof epsilon === 'number' && epsilon >= 0) return;
  const given = typeof epsilon === 'string' ? `'${epsilon}'` : String(epsilon);
  throw new GradshapeError('EPSILON_OUT_OF_RANGE', `allowedEpsilon must be a number ≥ 0; given: ${given}.`);
}

function checkCounts(part: number, total: number, partName: string, totalName: string): void {
  if (Number.isSafeInteger(part) && Number.isSafeInteger(total) && 0 <= part && part <= total && total >= 1)
    return;
  throw new GradshapeError(
    'COUNT_OUT_OF_RANGE',
    `${partName} and ${totalName} must be whole numbers with 0 ≤ ${partName} ≤ ${totalName}, ${totalName} ≥ 1; given: ` +
      `${partName} = ${part}, ${totalName} = ${total}.`,
  );
}

/** Zero of an increasing function on [low, high], to float64's resolution. */
function bisect(f: (x: number) => number, low: number, high: number): number {
  let lo = low;
  let hi = high;
  for (let i = 0; i < 200 && hi - lo > 1e-15 * Math.abs(hi); i++) {
    const middle = (lo + hi) / 2;
    if (middle === lo || middle === hi) break;
    if (f(middle) > 0) hi = middle;
    else lo = middle;
  }
  return (lo + hi) / 2;
}

/** One-sided Clopper–Pearson bounds, each missed with probability at most α. */
export function proportionLowerBound(successes: number, trials: number, alpha: number): number {
  if (successes === 0) return 0;
  return bisect((p) => incompleteBeta(p, successes, trials - successes + 1) - alpha, 0, 1);
}

export function proportionUpperBound(successes: number, trials: number, alpha: number): number {
  return 1 - proportionLowerBound(trials - successes, trials, alpha);
}

/** An upper bound on the probability of `seen` or more, or fewer, of N trials, that are right with probability p in the mean. */
export function hoeffding(seen: number, trials: number, p: number): number {
  const part = seen / trials;
  const term = (a: number, b: number): number => (a === 0 ? 0 : a * Math.log(a / b));
  return Math.exp(-trials * (term(part, p) + term(1 - part, 1 - p)));
}

/**
 * The exact (Clopper–Pearson 1934) confidence interval of a proportion.
 * @param confidence in (0, 1), default 0.95; each side is missed with probability (1 − confidence)/2
 * @throws GradshapeError COUNT_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 */
export function clopperPearson(
  successes: number,
  trials: number,
  confidence = 0.95,
): { lower: number; upper: number } {
  checkCounts(successes, trials, 'successes', 'trials');
  checkFraction(confidence, 'confidence');
  const alpha = (1 - confidence) / 2;
  return {
    lower: proportionLowerBound(successes, trials, alpha),
    upper: proportionUpperBound(successes, trials, alpha),
  };
}

export function checkAuditDelta(delta: number): void {
  if (typeof delta === 'number' && delta >= 0 && delta < 1) return;
  const given = typeof delta === 'string' ? `'${delta}'` : String(delta);
  throw new GradshapeError('DELTA_OUT_OF_RANGE', `delta must be a number in [0, 1); given: ${given}.`);
}

export interface AttackCounts {
  /** Runs (or examples) with the target in the training data, and those of them the attack called so. */
  positives: number;
  truePositives: number;
  /** Runs without it, and those the attack wrongly called positive. */
  negatives: number;
  falsePositives: number;
}

/**
 * A lower bound on ε from an attack's counts, right with probability `confidence`: (ε, δ)-DP demands TPR ≤ exp(ε)·FPR + δ
 * and TNR ≤ exp(ε)·FNR + δ, of which the Clopper–Pearson ends are taken (Jagielski, Ullman and Oprea 2020; each of the two
 * rates is given half the error). For an audit by `groupSize` poisons at once, ε is per poison.
 * @throws GradshapeError COUNT_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 */
export function epsilonLowerBound(
  { positives, truePositives, negatives, falsePositives }: AttackCounts,
  {
    delta = 0,
    confidence = 0.95,
    groupSize = 1,
  }: { delta?: number; confidence?: number; groupSize?: number } = {},
): number {
  checkCounts(truePositives, positives, 'truePositives', 'positives');
  checkCounts(falsePositives, negatives, 'falsePositives', 'negatives');
  checkAuditDelta(delta);
  checkFraction(confidence, 'confidence');
  const alpha = (1 - confidence) / 2; // two ends are bounded; the other two rates are their complements
  const tpr = proportionLowerBound(truePositives, positives, alpha);
  const fpr = proportionUpperBound(falsePositives, negatives, alpha);
  // For a group of k: p ≤ exp(kε)·p' + δ·(exp(kε) − 1)/(exp(ε) − 1), increasing in ε on the right.
  const allowed = (epsilon: number, rate: number): number => {
    const growth = Math.exp(groupSize * epsilon);
    const factor = epsilon === 0 ? groupSize : Math.expm1(groupSize * epsilon) / Math.expm1(epsilon);
    return growth * rate + delta * factor;
  };
  const smallest = (reached: number, rate: number): number => {
    if (allowed(0, rate) >= reached) return 0;
    let high = 1;
    while (allowed(high, rate) < reached && high < 1e6) high *= 2;
    return bisect((epsilon) => allowed(epsilon, rate) - reached, 0, high);
  };
  return Math.max(smallest(tpr, fpr), smallest(1 - fpr, 1 - tpr));
}

/**
 * A lower bound on μ from an attack's counts, right with probability `confidence`, where the runs (or the canaries' noises) are
 * independent of each other: μ-Gaussian DP demands Φ⁻¹(TPR) − Φ⁻¹(FPR) ≤ μ, of which the Clopper–Pearson ends are taken, each with half the
 * error (Nasr, Hayes, Steinke et al. 2023). Far tighter than a bound on (ε, δ) from the same counts, since it uses
 * the Gaussian mechanism's whole trade-off curve; it bounds ε through `gaussianEpsilon` for steps whose noise is Gaussian.
 * @throws GradshapeError COUNT_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 * @example
 * const counts = { positives: 1000, truePositives: 841, negatives: 1000, falsePositives: 159 };
 * gaussianMuLowerBound(counts) < 2 // true
 */
export function gaussianMuLowerBound(
  { positives, truePositives, negatives, falsePositives }: AttackCounts,
  { confidence = 0.95 }: { confidence?: number } = {},
): number {
  checkCounts(truePositives, positives, 'truePositives', 'positives');
  checkCounts(falsePositives, negatives, 'falsePositives', 'negatives');
  checkFraction(confidence, 'confidence');
  const alpha = (1 - confidence) / 2;
  const tpr = proportionLowerBound(truePositives, positives, alpha);
  const fpr = proportionUpperBound(falsePositives, negatives, alpha);
  return tpr > fpr ? normalQuantile(tpr) - normalQuantile(fpr) : 0;
}

/** A one-run audit: of `canaries` examples, each put in with probability ½, `guesses` were guessed at, `correct` rightly. */
export interface OneRunAudit {
  canaries: number;
  guesses: number;
  correct: number;
}

export function checkAudit({ canaries, guesses, correct }: OneRunAudit): void {
  checkCounts(guesses, canaries, 'guesses', 'canaries');
  checkCounts(correct, Math.max(guesses, 1), 'correct', 'guesses');
}

/**
 * The probability that an (ε, δ)-DP training lets an auditor guess that well (Steinke, Nasr and Jagielski 2023, theorem 3.1
 * and its appendix): P[Binomial(r, e^ε/(1 + e^ε)) ≥ v] + 2mδ·max over i of P[v > Binomial ≥ v − i]/i, at most 1.
 * @throws GradshapeError COUNT_OUT_OF_RANGE, EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE
 */
export function oneRunPValue(audit: OneRunAudit, epsilon: number, delta: number): number {
  checkAudit(audit);
  checkAuditDelta(delta);
  if (!(epsilon >= 0)) {
    throw new GradshapeError('EPSILON_OUT_OF_RANGE', `epsilon must be a number ≥ 0; given: ${epsilon}.`);
  }
  const { canaries, guesses, correct } = audit;
  const accuracy = 1 / (1 + Math.exp(-epsilon)); // of randomised response
  let alpha = 0;
  let below = 0;
  for (let i = 1; delta > 0 && i <= correct; i++) {
    const k = correct - i;
    below += Math.exp(
      logBinomial(guesses, k) +
        k * Math.log(accuracy) -
        (guesses - k) * (epsilon + Math.log1p(Math.exp(-epsilon))),
    );
    alpha = Math.max(alpha, below / i);
  }
  return Math.min(1, binomialTail(guesses, accuracy, correct) + 2 * canaries * delta * alpha);
}

/**
 * The ε that a one-run audit refutes: with probability `confidence`, the training is not (ε', δ)-DP for any ε' below the
 * returned value. 0 where nothing is refuted.
 * @throws GradshapeError COUNT_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 */
export function oneRunEpsilonLowerBound(
  audit: OneRunAudit,
  { delta = 0, confidence = 0.95 }: { delta?: number; confidence?: number } = {},
): number {
  checkAudit(audit);
  checkAuditDelta(delta);
  checkFraction(confidence, 'confidence');
  const significance = 1 - confidence;
  const excess = (epsilon: number): number => oneRunPValue(audit, epsilon, delta) - significance;
  if (excess(0) >= 0) return 0;
  let high = 1;
  while (excess(high) < 0 && high < 1000) high *= 2;
  let low = high / 2 < 1 ? 0 : high / 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (excess(middle) < 0) low = middle;
    else high = middle;
  }
  return low;
}
