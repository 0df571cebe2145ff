// exp, log, tanh and sigmoid on four f32 lanes: Cephes' single-precision polynomials (Moshier, netlib
// cephes/single) after range reduction. Only additions, multiplications, divisions and bit moves, in a fixed order
// and never fused, so that the bits are the same in both builds and on every runtime. Not exported to the host: other
// families inline them. Largest errors over dense sweeps: exp and log 1 ulp, tanh 1.5, sigmoid 2.5.

// 1.5·2^23: adding it rounds a small float to the nearest integer and leaves that integer in the low mantissa bits.
const ROUND: f32 = 12582912;
const ROUND_BITS: i32 = 0x4b400000;
// ln 2 in two parts; the first has nine bits, so its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = -2.12194440e-4;
const SQRT_HALF_BITS: i32 = 0x3f3504f3;

// @ts-ignore: decorator
@inline
export function splat(value: f32): v128 {
  return f32x4.splat(value);
}

/** p·x + constant: one step of Horner's scheme. */
// @ts-ignore: decorator
@inline
export function horner(p: v128, x: v128, constant: f32): v128 {
  return f32x4.add(f32x4.mul(p, x), splat(constant));
}

/** e^x. +∞ above 88.72; denormal results from -87.34 down to 0 below -103.97; NaN stays NaN. */
// @ts-ignore: decorator
@inline
export function exp4(x: v128): v128 {
  // pmin and pmax keep a NaN in their first argument.
  const clamped = f32x4.pmax(f32x4.pmin(x, splat(89)), splat(-104));
  const shifted = f32x4.add(f32x4.mul(clamped, splat(1.44269504088896341)), splat(ROUND));
  const n = f32x4.sub(shifted, splat(ROUND));
  const r = f32x4.sub(f32x4.sub(clamped, f32x4.mul(n, splat(LN2_HIGH))), f32x4.mul(n, splat(LN2_LOW)));
  let p = horner(splat(1.9875691500e-4), r, 1.3981999507e-3);
  p = horner(p, r, 8.3334519073e-3);
  p = horner(p, r, 4.1665795894e-2);
  p = horner(p, r, 1.6666665459e-1);
  p = horner(p, r, 5.0000001201e-1);
  p = f32x4.add(f32x4.add(f32x4.mul(p, f32x4.mul(r, r)), r), splat(1));
  // 2^n in two factors: n runs from -150 to 128, outside one factor's range; only the last product can round.
  const exponent = i32x4.sub(shifted, i32x4.splat(ROUND_BITS));
  const half = i32x4.shr_s(exponent, 1);
  const bias = i32x4.splat(127);
  const first = i32x4.shl(i32x4.add(half, bias), 23);
  const second = i32x4.shl(i32x4.add(i32x4.sub(exponent, half), bias), 23);
  return f32x4.mul(f32x4.mul(p, first), second);
}

/** ln x. ±0 gives -∞, negative numbers and NaN give NaN, +∞ gives +∞; denormals are handled. */
// @ts-ignore: decorator
@inline
export function log4(x: v128): v128 {
  const denormal = f32x4.lt(x, splat(1.17549435e-38));
  const scaled = v128.bitselect(f32x4.mul(x, splat(8388608)), x, denormal);
  // x = m·2^e with m in [√½, √2): subtracting √½'s bits makes the exponent field round the right way.
  const offset = i32x4.sub(scaled, i32x4.splat(SQRT_HALF_BITS));
  const m = i32x4.add(v128.and(offset, i32x4.splat(0x007fffff)), i32x4.splat(SQRT_HALF_BITS));
  const exponent = i32x4.sub(i32x4.shr_s(offset, 23), v128.and(denormal, i32x4.splat(23)));
  const e = f32x4.convert_i32x4_s(exponent);
  const f = f32x4.sub(m, splat(1));
  const square = f32x4.mul(f, f);
  let p = horner(splat(7.0376836292e-2), f, -1.1514610310e-1);
  p = horner(p, f, 1.1676998740e-1);
  p = horner(p, f, -1.2420140846e-1);
  p = horner(p, f, 1.4249322787e-1);
  p = horner(p, f, -1.6668057665e-1);
  p = horner(p, f, 2.0000714765e-1);
  p = horner(p, f, -2.4999993993e-1);
  p = horner(p, f, 3.3333331174e-1);
  let y = f32x4.mul(f32x4.mul(p, f), square);
  y = f32x4.add(y, f32x4.mul(e, splat(LN2_LOW)));
  y = f32x4.sub(y, f32x4.mul(square, splat(0.5)));
  y = f32x4.add(f32x4.add(y, f), f32x4.mul(e, splat(LN2_HIGH)));
  // +∞ and NaN pass through.
  const positive = v128.bitselect(y, x, f32x4.lt(x, splat(Infinity)));
  const rest = v128.bitselect(splat(-Infinity), splat(NaN), f32x4.eq(x, splat(0)));
  return v128.bitselect(rest, positive, f32x4.le(x, splat(0)));
}

/** tanh x: an odd polynomial below 0.625 (so small x keep their relative accuracy), 1 - 2/(e^2|x| + 1) above. */
// @ts-ignore: decorator
@inline
export function tanh4(x: v128): v128 {
  const signBit = i32x4.splat(0x80000000);
  const magnitude = v128.andnot(x, signBit);
  const z = f32x4.mul(magnitude, magnitude);
  let p = horner(splat(-5.70498872745e-3), z, 2.06390887954e-2);
  p = horner(p, z, -5.37397155531e-2);
  p = horner(p, z, 1.33314422036e-1);
  p = horner(p, z, -3.33332819422e-1);
  const small = f32x4.add(f32x4.mul(f32x4.mul(p, z), magnitude), magnitude);
  const e = exp4(f32x4.add(magnitude, magnitude));
  const large = f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(e, splat(1))));
  const positive = v128.bitselect(small, large, f32x4.lt(magnitude, splat(0.625)));
  return v128.or(positive, v128.and(x, signBit));
}

/** 1/(1 + e^-x). Below -88.72, where the true value is denormal, the result is 0. */
// @ts-ignore: decorator
@inline
export function sigmoid4(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp4(f32x4.neg(x))));
}

/**
 * Φ(x), the normal distribution function: erfc(|x|/√2)/2 by the Chebyshev fit of Numerical Recipes (§6.2), whose
 * relative error is below 1.2e-7 in exact arithmetic, so that the lower tail keeps its digits.
 */
// @ts-ignore: decorator
@inline
export function normalCdf4(x: v128): v128 {
  const z = f32x4.mul(f32x4.abs(x), splat(0.70710678118654752));
  const t = f32x4.div(splat(1), f32x4.add(f32x4.mul(z, splat(0.5)), splat(1)));
  let p = horner(splat(0.17087277), t, -0.82215223);
  p = horner(p, t, 1.48851587);
  p = horner(p, t, -1.13520398);
  p = horner(p, t, 0.27886807);
  p = horner(p, t, -0.18628806);
  p = horner(p, t, 0.09678418);
  p = horner(p, t, 0.37409196);
  p = horner(p, t, 1.00002368);
  p = horner(p, t, -1.26551223);
  const tail = f32x4.mul(f32x4.mul(t, splat(0.5)), exp4(f32x4.sub(p, f32x4.mul(z, z))));
  return v128.bitselect(f32x4.sub(splat(1), tail), tail, f32x4.gt(x, splat(0)));
}

// @ts-ignore: decorator
@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(splat(x)), 0);
}

// @ts-ignore: decorator
@inline
export function log1(x: f32): f32 {
  return f32x4.extract_lane(log4(splat(x)), 0);
}
