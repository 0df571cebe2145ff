/** The Gaussian mechanism in closed form (Balle and Wang 2018, theorem 8). */
import { firstBelow } from './minimise.js';
import { erfcx, normalCdf, normalQuantile } from './special-functions.js';
import { checkDelta, checkEpsilon, checkRatio } from './validate.js';

/**
 * The exact δ at ε of a Gaussian mechanism with sensitivity/noise ratio μ; T steps with noise multiplier σ and no sampling
 * compose to μ = √T/σ. δ = Φ(μ/2 − ε/μ) − exp(ε)·Φ(−μ/2 − ε/μ).
 * @throws GradshapeError RATIO_OUT_OF_RANGE, EPSILON_OUT_OF_RANGE
 */
export function gaussianDelta(mu: number, epsilon: number): number {
  checkRatio(mu);
  checkEpsilon(epsilon);
  if (mu === 0) return 0;
  if (mu === Infinity) return 1;
  const a = mu / 2 - epsilon / mu;
  const b = -mu / 2 - epsilon / mu;
  // exp(ε)·φ(b) = φ(a): the second term in this form can't overflow, and the difference keeps its digits.
  const phi = 0.5 * Math.exp(-0.5 * a * a);
  const second = phi * erfcx(-b * Math.SQRT1_2);
  return Math.max(0, a > 0 ? normalCdf(a) - second : phi * erfcx(-a * Math.SQRT1_2) - second);
}

/**
 * The ε at δ of a Gaussian mechanism with ratio μ: the smallest, rounded up in its last digits; ∞ for μ = ∞.
 * @throws GradshapeError RATIO_OUT_OF_RANGE, DELTA_OUT_OF_RANGE
 */
export function gaussianEpsilon(mu: number, delta: number): number {
  checkRatio(mu);
  checkDelta(delta);
  if (mu === Infinity) return Infinity;
  if (gaussianDelta(mu, 0) <= delta) return 0;
  const hi = Math.max(mu * (mu / 2 - normalQuantile(delta)), Number.MIN_VALUE); // here Φ(a) alone is δ
  return firstBelow((epsilon) => gaussianDelta(mu, epsilon), delta, hi);
}
