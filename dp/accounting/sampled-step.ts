/** One step of the Poisson-sampled Gaussian in closed form: no grid, so that even a single rare loss is met exactly. */
import { firstBelow } from './minimise.js';
import { outcomeAt } from './pld-grid.js';
import { logNormalTail, normalCdf, normalTail } from './special-functions.js';

/** Up to this ε the exponents below are exact enough for `slack`. */
const MAX_EPSILON = 500;
/** Relative error of the terms whose difference is δ, and more. */
const slack = 1e-12;

/**
 * δ at ε ≤ 500 of one step, rounded up: the hockey-stick divergence of P = (1 − q)·N(0, σ²) + q·N(1, σ²) from Q = N(0, σ²)
 * beyond the outcome where log P/Q = ε, or of Q from P below the one where it is −ε, whichever is larger.
 */
export function sampledStepDelta(q: number, sigma: number, epsilon: number): number {
  const above = outcomeAt({ q, sigma }, epsilon) / sigma;
  const tail = normalTail(above);
  const shifted = normalTail(above - 1 / sigma);
  // (exp(ε) − 1)·tail, where the tail alone may underflow
  const excess = epsilon < 1 ? Math.expm1(epsilon) * tail : Math.exp(epsilon + logNormalTail(above)) - tail;
  const removed = q * (shifted - tail) - excess + slack * (q * shifted + excess);
  const below = outcomeAt({ q, sigma }, -epsilon) / sigma;
  const unsampled = -Math.expm1(epsilon + Math.log1p(-q)) * normalCdf(below);
  const sampled = q * Math.exp(epsilon) * normalCdf(below - 1 / sigma);
  const added = unsampled > 0 ? unsampled - sampled + slack * (unsampled + sampled) : 0;
  return Math.min(1, Math.max(0, removed, added));
}

/** The ε at δ of one step, rounded up; null where it is above 500. */
export function sampledStepEpsilon(q: number, sigma: number, delta: number): number | null {
  const at = (epsilon: number): number => sampledStepDelta(q, sigma, epsilon);
  if (at(0) <= delta) return 0;
  return at(MAX_EPSILON) > delta ? null : firstBelow(at, delta, MAX_EPSILON);
}

/** Whether `sampledStepDelta` holds at this ε. */
export const inClosedForm = (epsilon: number): boolean => epsilon <= MAX_EPSILON;
