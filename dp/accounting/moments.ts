/**
 * Exponential moments of the privacy loss of the subsampled Gaussian,
 *
 *   P = (1 − q)·N(0, σ²) + q·N(1, σ²),  Q = N(0, σ²),  L = log P/Q,
 *
 * from which Rényi divergences, tail bounds and tilts come. Removing an example exchanges P for Q ('remove': loss L under
 * P), adding one exchanges Q for P ('add': loss −L under Q).
 */
import { logAdd, logBinomial, logExpm1 } from './special-functions.js';

export type Direction = 'remove' | 'add';

/** Gauss–Legendre nodes and weights, 16 points on [−1, 1], positive half. */
const GAUSS_NODES = [
  0.0950125098376374402, 0.281603550779258913, 0.458016777657227386, 0.617876244402643748,
  0.755404408355003034, 0.865631202387831744, 0.944575023073232576, 0.989400934991649933,
];
const GAUSS_WEIGHTS = [
  0.189450610455068496, 0.182603415044923589, 0.169156519395002538, 0.149595988816576732,
  0.124628971255533872, 0.0951585116824927848, 0.0622535239386478929, 0.0271524594117540949,
];

/** Nine standard deviations: what lies beyond is below float64's resolution of the rest. */
const REACH = 9;

/** Cuts [lo, hi] down to the union of the `centres` ± `reach`, as sorted disjoint intervals. */
function support(lo: number, hi: number, centres: number[][]): number[][] {
  const merged: number[][] = [];
  for (const [centre, reach] of [...centres].sort((a, b) => a[0]! - a[1]! - (b[0]! - b[1]!))) {
    const from = Math.max(lo, centre! - reach!);
    const to = Math.min(hi, centre! + reach!);
    const last = merged[merged.length - 1];
    if (from >= to) continue;
    if (last && from <= last[1]!) last[1] = Math.max(last[1]!, to);
    else merged.push([from, to]);
  }
  return merged;
}

/**
 * ψ(m) = exp(t·m) − 1 + t·(exp(−m) − 1) ≥ 0, times exp(−t·m) where t·m > 0 (so that it can't overflow). Its mean is the
 * moment minus one, because exp(−loss) has mean 1; being of one sign, it sums without cancellation.
 */
function excess(m: number, t: number): number {
  const tm = t * m;
  if (Math.abs(m) < 0.01 && Math.abs(tm) < 0.01) {
    const t2 = t * t;
    const series =
      (t * m * m * (1 + t + (m / 3) * (t2 - 1 + (m / 4) * (t2 * t + 1 + (m / 5) * (t2 * t2 - 1))))) / 2;
    return tm > 0 ? series * Math.exp(-tm) : series;
  }
  return tm > 0 ? -Math.expm1(-tm) + t * Math.exp(-tm) * Math.expm1(-m) : Math.expm1(tm) + t * Math.expm1(-m);
}

/**
 * log E[exp(t·loss)] of one step, for t ≥ 0 (for t < 0 a lower tail's moment). q in (0, 1], σ > 0.
 *
 * Written as E_Q[(P/Q)^α], α = 1 + t (remove) or −t (add), it is a mixture of bumps at 0 and at α that meet at z₀, where
 * both components of P weigh the same (Mironov, Talwar, Zhang 2019, section 3.3 splits there too). Each side is integrated
 * in coordinates centred on its own bump, which stays accurate for σ down to 1e-8; a series in binomials doesn't.
 * `zMin` and `zMax` restrict the integral to outcomes between them.
 */
export function logMoment(
  direction: Direction,
  q: number,
  sigma: number,
  t: number,
  zMin = Number.NEGATIVE_INFINITY,
  zMax = Number.POSITIVE_INFINITY,
): number {
  if (t === 0) return 0;
  if (q === 1 && zMax - zMin === Infinity) return ((t / sigma) * ((1 + t) / sigma)) / 2;
  const sign = direction === 'remove' ? 1 : -1;
  const alpha = direction === 'remove' ? 1 + t : -t;
  const square = ((alpha / sigma) * ((direction === 'remove' ? t : -1 - t) / sigma)) / 2; // α(α − 1)/2σ²
  const logQ = Math.log(q);
  const logit = logQ - Math.log1p(-q); // ∞ at q = 1: then all lies on the right side
  const z0 = 0.5 - sigma * sigma * logit;
  const lowest = Math.max(zMin, Math.min(0, alpha) - REACH * sigma);
  const highest = Math.min(zMax, Math.max(1, alpha) + REACH * sigma);
  const blur = 39 + Math.log1p(Math.abs(alpha)); // |z − z₀|/σ² beyond which only one component is seen
  const dense = Math.abs(alpha) < 40 * sigma;

  // At z = base + σv: the integrand's exponent without its factor ψ, up to the normal's constant, and the loss.
  const integrand = (base: number, v: number): { exponent: number; m: number } => {
    const y = (base - 0.5) / sigma / sigma + v / sigma; // log N(1, σ²)/N(0, σ²)
    const far = y > 30 || q === 1;
    const loss = far ? y + logQ + Math.log1p(Math.exp(-y - logit)) : Math.log1p(q * Math.expm1(y));
    if (base === 0) return { exponent: -0.5 * v * v + alpha * loss, m: sign * loss };
    // Around α the square is completed, so that nothing large cancels.
    const rest = far ? logQ + Math.log1p(Math.exp(-y - logit)) : loss - y;
    return { exponent: -0.5 * v * v + square + alpha * rest, m: sign * loss };
  };
  let scale = 0; // the sum is kept as sum·exp(scale)
  let sum = 0;
  const addPanel = (base: number, middle: number, half: number): void => {
    for (let i = 0; i < 16; i++) {
      const weight = half * GAUSS_WEIGHTS[i < 8 ? 7 - i : i - 8]!;
      const at = integrand(base, middle + half * (i < 8 ? -GAUSS_NODES[7 - i]! : GAUSS_NODES[i - 8]!));
      let exponent = at.exponent;
      if (t * at.m <= 0) exponent -= t * at.m;
      let value = Math.abs(t); // of which exp(−m) is left, should that overflow
      if (at.m < -600) exponent -= at.m;
      else value = Math.abs(excess(at.m, t));
      if (exponent > scale + 300) {
        sum *= Math.exp(scale - exponent);
        scale = exponent;
      }
      sum += weight * value * Math.exp(exponent - scale);
    }
  };
  const addSide = (base: number, from: number, to: number): void => {
    if (!(from < to)) return;
    const at = (z: number): number => (z - base) / sigma;
    const centres = [0, 1, alpha, zMin, zMax].map((z) => [at(z), REACH]);
    centres.push([at(z0), blur * sigma]);
    if (dense) centres.push([at(alpha / 2), Math.abs(at(alpha / 2) - at(0)) + REACH]);
    const edge = at(z0);
    const panels: { middle: number; half: number }[] = [];
    for (const [lo, hi] of support(at(from), at(to), centres)) {
      for (let v = lo!; v < hi!; ) {
        const fine = sigma < 0.6 && Math.abs(v + sigma - edge) < (blur + 3) * sigma;
        const next = Math.min(hi!, v + (fine ? 3 * sigma : 2));
        if (!(next > v)) break; // the interval is shorter than float64 resolves
        panels.push({ middle: (v + next) / 2, half: (next - v) / 2 });
        v = next;
      }
    }
    // Of many panels only a few matter: those near where the integrand peaks.
    const heights = panels.length > 8 ? panels.map(({ middle }) => integrand(base, middle).exponent) : [];
    const bar = heights.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY) - 150;
    panels.forEach(({ middle, half }, i) => {
      const near = Math.max(...heights.slice(Math.max(0, i - 1), i + 2));
      if (heights.length === 0 || near >= bar) addPanel(base, middle, half);
    });
  };
  addSide(0, lowest, Math.min(z0, highest));
  addSide(alpha, Math.max(z0, lowest), highest);
  const logSum = scale + Math.log(sum / 2.5066282746310002); // the normal's constant is √2π
  if (t > 0 || t < -1) return logSum > 30 ? logAdd(0, logSum) : Math.log1p(Math.exp(logSum));
  return Math.log1p(-Math.exp(logSum));
}

/** log E[exp(t·loss)] at an integer order α = 1 + t ≥ 2 by the binomial theorem (Mironov, Talwar, Zhang 2019, eq. 6). */
export function logMomentInteger(q: number, sigma: number, alpha: number): number {
  if (q === 1) return ((alpha / sigma) * ((alpha - 1) / sigma)) / 2;
  // The terms of orders 0 and 1 sum to 1 with the binomial's own weights: subtracting 1 leaves positive terms only.
  let logSum = Number.NEGATIVE_INFINITY;
  const logQ = Math.log(q);
  const log1mQ = Math.log1p(-q);
  for (let i = 2; i <= alpha; i++) {
    const term = logBinomial(alpha, i) + i * logQ + (alpha - i) * log1mQ;
    logSum = logAdd(logSum, term + logExpm1(((i / sigma) * ((i - 1) / sigma)) / 2));
  }
  return logSum > 30 ? logAdd(0, logSum) : Math.log1p(Math.exp(logSum));
}
