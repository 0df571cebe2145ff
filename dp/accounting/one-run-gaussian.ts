/** One-run audits of the Gaussian mechanism, without any assumption on how the canaries' outcomes depend on each other. */
import { checkAudit, type OneRunAudit } from './audit.js';
import { gaussianEpsilon } from './gaussian.js';
import { normalCdf, normalQuantile } from './special-functions.js';
import { checkDelta, checkFraction } from './validate.js';

/**
 * Whether a one-run audit refutes that the training is μ-GDP (Mahloujifar, Melis and Chaudhuri 2025, for the trade-off
 * function of the Gaussian). With f̄(x) = Φ(Φ⁻¹(x) + μ) = 1 − f(x) and p_j = P[j of the c guesses are right], they show that
 *
 *   Σ_{j ≥ i} j/m · p_j ≤ f̄(Σ_{j ≥ i} (c − j + 1)/m · p_{j−1})   for each i.
 *
 * Suppose that c' or more are right with probability α. From r = α·c'/m and h = α·(c − c')/m, the parts of right and wrong
 * guesses in that, the inequality demands more and more probability below: h ← max(h, f̄⁻¹(r)), and r grows by i/(c − i) times
 * as much. If all of it is more than there is, r + h > c/m, then so many right guesses are rarer than α.
 */
function refutes({ canaries, guesses, correct }: OneRunAudit, mu: number, alpha: number): boolean {
  let r = (alpha * correct) / canaries;
  let h = (alpha * (guesses - correct)) / canaries;
  for (let i = correct - 1; i >= 0; i--) {
    const least = normalCdf(normalQuantile(r) - mu);
    if (least <= h) break; // neither will change any more
    r = Math.min(1, r + (i / (guesses - i)) * (least - h));
    h = least;
  }
  return r + h > (guesses / canaries) * (1 + 1e-12);
}

/**
 * The ε that a one-run audit refutes for a mechanism whose trade-off curve is a Gaussian's: with probability `confidence`, the
 * training is no Gaussian mechanism that is (ε', δ)-DP for an ε' below the returned value (Mahloujifar, Melis and Chaudhuri
 * 2025). It uses the whole curve, and so proves more than `oneRunEpsilonLowerBound` from the same guesses; like that, it holds however the
 * canaries' outcomes depend on each other. Rounded down. 0 where nothing is refuted.
 * @throws GradshapeError COUNT_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 * @example
 * const audit = { canaries: 10_000, guesses: 400, correct: 400 };
 * oneRunGaussianEpsilonLowerBound(audit, { delta: 1e-5 }) > oneRunEpsilonLowerBound(audit, { delta: 1e-5 }) // true
 */
export function oneRunGaussianEpsilonLowerBound(
  audit: OneRunAudit,
  { delta = 1e-5, confidence = 0.95 }: { delta?: number; confidence?: number } = {},
): number {
  checkAudit(audit);
  checkDelta(delta);
  checkFraction(confidence, 'confidence');
  const refuted = (mu: number): boolean => refutes(audit, mu, 1 - confidence);
  if (audit.guesses === 0 || !refuted(0)) return 0;
  let low = 0;
  let high = 1;
  while (refuted(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1e-6 * high) {
    const middle = (low + high) / 2;
    if (refuted(middle)) low = middle;
    else high = middle;
  }
  return gaussianEpsilon(low, delta);
}
