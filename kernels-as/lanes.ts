// Loads, stores and sums shared by the kernels: partial vectors for the last one to three floats, and float64
// sums whose order is a function of the length alone.
//
// Loops over vectors do the partial vector first: V8 computes a splat or a constant inside the loop when the
// loop is its only use, and before it when something earlier uses it too.

/** The first `count` floats at p, other lanes 0; all four for 4 and more. */
// @ts-ignore: decorator
@inline
export function loadUpTo4(p: usize, count: i32): v128 {
  if (count >= 4) return v128.load(p);
  if (count == 1) return v128.load32_zero(p);
  const pair = v128.load64_zero(p);
  return count == 2 ? pair : v128.load32_lane(p, pair, 2, 8);
}

/** Stores the first `count` lanes; all four for 4 and more. */
// @ts-ignore: decorator
@inline
export function storeUpTo4(p: usize, value: v128, count: i32): void {
  if (count >= 4) {
    v128.store(p, value);
  } else if (count == 1) {
    v128.store32_lane(p, value, 0);
  } else {
    v128.store64_lane(p, value, 0);
    if (count == 3) v128.store32_lane(p, value, 2, 8);
  }
}

/** Numbers smaller than this are denormal: they have fewer than 24 bits. */
const SMALLEST_NORMAL: f32 = 1.17549435e-38;
const LARGEST: f32 = 3.40282347e38;

/**
 * x·scale, as 0 where the product is no normal number: its relative error is then at most 2⁻²⁴, or it is 0, and never
 * larger than the exact product by more. A denormal product times a number of 1e38 would be far from what it stands for.
 * What was not finite in x stays so.
 */
// @ts-ignore: decorator
@inline
export function scaled(x: v128, scale: v128): v128 {
  const product = f32x4.mul(x, scale);
  const size = f32x4.abs(product);
  const normal = v128.and(
    f32x4.ge(size, f32x4.splat(SMALLEST_NORMAL)), f32x4.le(size, f32x4.splat(LARGEST)),
  );
  return f32x4.add(v128.and(product, normal), f32x4.mul(x, f32x4.splat(0)));
}

/** The same for one number. */
// @ts-ignore: decorator
@inline
export function scaledOne(x: f32, scale: f32): f32 {
  const product = x * scale;
  const size = abs<f32>(product);
  return (size >= SMALLEST_NORMAL && size <= LARGEST ? product : 0) + x * 0;
}

/** Two floats at p as float64. */
// @ts-ignore: decorator
@inline
export function loadPair(p: usize, offset: usize = 0): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(p + offset));
}

// @ts-ignore: decorator
@inline
export function sumOfLanes(v: v128): f64 {
  return f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1);
}

const enum Sum {
  Plain,
  Squares,
  Products,
}

// The next two terms of a sum; products of two floats are exact in float64.
// @ts-ignore: decorator
@inline
function terms(kind: Sum, a: usize, b: usize, offset: usize): v128 {
  const x = loadPair(a, offset);
  if (kind == Sum.Plain) return x;
  return f64x2.mul(x, kind == Sum.Squares ? x : loadPair(b, offset));
}

// @ts-ignore: decorator
@inline
function sumOf(kind: Sum, a: usize, b: usize, n: i32): f64 {
  let s0 = f64x2.splat(0);
  let s1 = f64x2.splat(0);
  let s2 = f64x2.splat(0);
  let s3 = f64x2.splat(0);
  let pa = a;
  let pb = b;
  const end = a + (<usize>(n & ~7) << 2);
  while (pa < end) {
    s0 = f64x2.add(s0, terms(kind, pa, pb, 0));
    s1 = f64x2.add(s1, terms(kind, pa, pb, 8));
    s2 = f64x2.add(s2, terms(kind, pa, pb, 16));
    s3 = f64x2.add(s3, terms(kind, pa, pb, 24));
    pa += 32;
    pb += 32;
  }
  let total = sumOfLanes(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (let rest = n & 7; rest > 0; rest--) {
    const x = <f64>load<f32>(pa);
    if (kind == Sum.Plain) total += x;
    else total += x * (kind == Sum.Squares ? x : <f64>load<f32>(pb));
    pa += 4;
    pb += 4;
  }
  return total;
}

/** Σ a[i]·b[i] */
export function dotF64(a: usize, b: usize, n: i32): f64 {
  return sumOf(Sum.Products, a, b, n);
}

/** Σ a[i]² */
export function squaredNormF64(a: usize, n: i32): f64 {
  return sumOf(Sum.Squares, a, 0, n);
}

/** Σ a[i] */
export function sumF64Of(a: usize, n: i32): f64 {
  return sumOf(Sum.Plain, a, 0, n);
}
