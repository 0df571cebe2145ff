/** Gaussian differential privacy: the central-limit approximation of Bu, Dong, Long and Su 2020. Not a bound. */
import type { Component } from './events.js';
import { normalCdf } from './special-functions.js';

/**
 * The μ of the composition: steps' μ² add. Poisson sampling: q²·(exp(1/σ²) − 1) a step (their corollary 4); fixed-size
 * batches: 2q²·(exp(1/σ²)·Φ(3/2σ) + 3Φ(−1/2σ) − 2) (Dong, Roth and Su 2022, corollary 5.4); no sampling: 1/σ², exact.
 */
export function gdpMu(components: readonly Component[]): number {
  let square = 0;
  for (const { sampling, q, sigma, count } of components) {
    const precision = 1 / sigma / sigma;
    if (sampling === 'none') square += count * precision;
    else if (sampling === 'poisson') square += count * q * q * Math.expm1(precision);
    else {
      const mixture = Math.exp(precision) * normalCdf(1.5 / sigma) + 3 * normalCdf(-0.5 / sigma) - 2;
      square += 2 * count * q * q * mixture;
    }
  }
  return Math.sqrt(square);
}
