/** Rényi bounds for fixed-size batches drawn without replacement (Wang, Balle and Kasiviswanathan 2019, theorem 27). */
import { logAdd, logBinomial, logExpm1 } from './special-functions.js';

/** Up to this order the tighter bound with even differences is used; above it, the simple one (as dp_accounting does). */
const MAX_TIGHT_ORDER = 256;

/**
 * log E_Q[(P/Q − 1)^l] for even l, P = N(1, σ²), Q = N(0, σ²): the alternating binomial sum where it doesn't cancel, else a
 * trapezoid sum over the (positive) integrand, which converges exponentially.
 */
function logEvenDifference(sigma: number, l: number): number {
  let plus = Number.NEGATIVE_INFINITY;
  let minus = Number.NEGATIVE_INFINITY;
  for (let i = 0; i <= l; i++) {
    const term = logBinomial(l, i) + ((i / sigma) * ((i - 1) / sigma)) / 2;
    if (i % 2 === 0) plus = logAdd(plus, term);
    else minus = logAdd(minus, term);
  }
  if (plus - minus > 1e-3) return plus + Math.log(-Math.expm1(minus - plus));
  const step = 0.25;
  let logSum = Number.NEGATIVE_INFINITY;
  for (let v = -12; v < l / sigma + 12; v += step) {
    const y = (v - 0.5 / sigma) / sigma;
    logSum = logAdd(logSum, l * Math.log(Math.abs(Math.expm1(y))) - 0.5 * v * v);
  }
  return logSum + Math.log(step) - 0.9189385332046728;
}

/**
 * The moment function t ↦ t·RDP(1 + t) of one step that samples a fraction q without replacement, neighbours differing in
 * the exchange of one example; sigma is the noise over *that* sensitivity (twice the clip norm). Between whole orders it is
 * interpolated linearly, which bounds a convex function from above (their corollary 10).
 */
export function fixedSizeMoments(q: number, sigma: number): (t: number) => number {
  const differences: number[] = [];
  const even = (l: number): number => (differences[l] ??= logEvenDifference(sigma, l));
  const whole = new Map<number, number>();
  const gaussian = (x: number): number => ((x / sigma) * ((x + 1) / sigma)) / 2;
  const atInteger = (alpha: number): number => {
    if (alpha < 2) return 0;
    const known = whole.get(alpha);
    if (known !== undefined) return known;
    let logA = 0;
    for (let j = 2; j <= alpha; j++) {
      let bound = Math.LN2 + gaussian(j - 1);
      if (j === 2) bound = Math.min(bound, 2 * Math.LN2 + logExpm1(gaussian(1)));
      else if (alpha <= MAX_TIGHT_ORDER) {
        bound = Math.min(bound, 2 * Math.LN2 + (even(j - (j % 2)) + even(j + (j % 2))) / 2);
      }
      logA = logAdd(logA, j * Math.log(q) + logBinomial(alpha, j) + bound);
    }
    whole.set(alpha, logA);
    return logA;
  };
  return (t) => {
    const below = Math.floor(1 + t);
    const fraction = 1 + t - below;
    const lower = atInteger(below);
    return fraction === 0 ? lower : lower + fraction * (atInteger(below + 1) - lower);
  };
}
