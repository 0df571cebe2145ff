/**
 * The special functions that privacy accounting needs, in float64. Tails keep their *relative* accuracy (about 1e-15):
 * δ = 1e-12 is a tail, and a difference of tails.
 */

const SQRT_HALF = Math.SQRT1_2;
const SQRT_2PI = 2.5066282746310002;
const HALF_LOG_2PI = 0.9189385332046728;

/**
 * Chebyshev coefficients of (1 + 2x)·exp(x²)·erfc(x) in y = (x − 3.75)/(x + 3.75), which maps [0, ∞) on [−1, 1)
 * (the form of Shepherd and Laframboise 1981; coefficients computed with 50 digits). y → 1 is the asymptotic series.
 */
const ERFCX_CHEBYSHEV = [
  1.17757893456740175, -0.00459005458064647733, -0.0842491333665179156, 0.0592099399981918905,
  -0.0266586684353057523, 0.00907499767070526509, -0.00241316354041760819, 0.000490775836525808632,
  -0.0000691697330250120637, 4.13902798607301017e-6, 7.74038306619849067e-7, -2.18864010492343957e-7,
  1.07649994656709104e-8, 4.5219598112182869e-9, -7.75440020883135111e-10, -6.31808834088668449e-11,
  2.8687950109306699e-11, 1.94558685457773472e-13, -9.65469674843343891e-13, 3.25254814814873984e-14,
  3.34781194828680539e-14, -1.8645628804193131e-15, -1.25079505306886471e-15, 7.41823525662404346e-17,
  5.06814890479611132e-17,
];

/** exp(x²)·erfc(x) for x ≥ 0: never under- or overflows. */
export function erfcx(x: number): number {
  const twoY = (2 * (x - 3.75)) / (x + 3.75);
  let b1 = 0;
  let b2 = 0;
  for (let i = ERFCX_CHEBYSHEV.length - 1; i > 0; i--) {
    const b = twoY * b1 - b2 + ERFCX_CHEBYSHEV[i]!;
    b2 = b1;
    b1 = b;
  }
  return x === Infinity ? 0 : (0.5 * twoY * b1 - b2 + ERFCX_CHEBYSHEV[0]!) / (1 + 2 * x);
}

/** exp(−x²/s) for |x| < 40, with x² carried in two pieces, so that large |x| doesn't cost digits. */
function expMinusSquare(x: number, s: number): number {
  const hi = Math.fround(x);
  const lo = ((hi - x) * (x + hi)) / s; // below 1e-4: three terms of its exponential are exact
  return Math.exp((-hi * hi) / s) * (1 + lo * (1 + lo * (0.5 + lo / 6)));
}

/** The complementary error function. */
export function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  return x > 27.3 ? 0 : expMinusSquare(x, 1) * erfcx(x);
}

/** The error function; a Taylor series near 0, where 1 − erfc would lose digits. */
export function erf(x: number): number {
  if (Math.abs(x) > 0.5) return 1 - erfc(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** log erfc(x); finite as long as −x² is. */
export function logErfc(x: number): number {
  return x < 0 ? Math.log(erfc(x)) : Math.log(erfcx(x)) - x * x;
}

/** P[Z > z] of the standard normal. */
export function normalTail(z: number): number {
  if (z < 0) return 1 - normalTail(-z);
  return z > 38.6 ? 0 : 0.5 * expMinusSquare(z, 2) * erfcx(z * SQRT_HALF);
}

/** P[Z ≤ z] of the standard normal. */
export function normalCdf(z: number): number {
  return normalTail(-z);
}

/** log P[Z > z] of the standard normal. */
export function logNormalTail(z: number): number {
  return z < 0 ? Math.log1p(-normalTail(-z)) : -0.5 * z * z + Math.log(0.5 * erfcx(z * SQRT_HALF));
}

/** The z with P[Z ≤ z] = p, for p in (0, 1). Newton steps on log P from the rational start of Abramowitz and Stegun 26.2.23. */
export function normalQuantile(p: number): number {
  if (p > 0.5) return -normalQuantile(1 - p);
  if (p === 0) return -Infinity;
  const logP = Math.log(p);
  const s = Math.sqrt(-2 * logP);
  const numerator = 2.515517 + s * (0.802853 + s * 0.010328);
  const denominator = 1 + s * (1.432788 + s * (0.189269 + s * 0.001308));
  let z = Math.max(0, s - numerator / denominator);
  for (let i = 0; i < 3; i++) {
    const mills = 0.5 * SQRT_2PI * erfcx(z * SQRT_HALF);
    z += (logNormalTail(z) - logP) * mills;
  }
  return -z;
}

/** log(exp(a) + exp(b)) without overflow. */
export function logAdd(a: number, b: number): number {
  const hi = Math.max(a, b);
  const lo = Math.min(a, b);
  return lo === -Infinity ? hi : hi + Math.log1p(Math.exp(lo - hi));
}

/** log Σ exp(xᵢ) without overflow. */
export function logSumExp(values: ArrayLike<number>): number {
  let max = -Infinity;
  for (let i = 0; i < values.length; i++) max = Math.max(max, values[i]!);
  if (max === -Infinity || max === Infinity) return max;
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - max);
  return max + Math.log(sum);
}

/** log(exp(x) − 1) for x > 0. */
export function logExpm1(x: number): number {
  return x > 1 ? x + Math.log1p(-Math.exp(-x)) : Math.log(Math.expm1(x));
}

/** log Γ(x) for x > 0: Stirling's series, after shifting small x up. */
export function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  if (z < 10) {
    let product = 1;
    for (; z < 10; z++) product *= z;
    shift = Math.log(product);
  }
  const r = 1 / (z * z);
  const series =
    1 / 12 -
    r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r * (1 / 1188 - r * (691 / 360360 - r * (1 / 156))))));
  return (z - 0.5) * Math.log(z) - z + HALF_LOG_2PI + series / z - shift;
}

/** log of the binomial coefficient n over k, for 0 ≤ k ≤ n. */
export function logBinomial(n: number, k: number): number {
  return k === 0 || k === n ? 0 : logGamma(n + 1) - logGamma(k + 1) - logGamma(n - k + 1);
}

/** Regularised incomplete beta function I_x(a, b), a, b > 0 (continued fraction, modified Lentz). */
export function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const logFront =
    logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x) - Math.log(a);
  const tiny = 1e-300;
  let c = 1;
  let d = 1 / (1 - ((a + b) * x) / (a + 1) || tiny);
  let fraction = d;
  for (let m = 1; m < 10000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d || tiny);
    c = 1 + even / c || tiny;
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d || tiny);
    c = 1 + odd / c || tiny;
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return Math.exp(logFront) * fraction;
}

/** P[Binomial(n, p) ≥ k]. */
export function binomialTail(n: number, p: number, k: number): number {
  if (k <= 0) return 1;
  if (k > n) return 0;
  return incompleteBeta(p, k, n - k + 1);
}
