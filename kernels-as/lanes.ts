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

/** Σ a[i]·b[i]; products of two floats are exact in float64. */
export function dotF64(a: usize, b: usize, n: i32): f64 {
  let s0 = f64x2.splat(0);
  let s1 = f64x2.splat(0);
  let s2 = f64x2.splat(0);
  let s3 = f64x2.splat(0);
  const end = a + (<usize>(n & ~7) << 2);
  while (a < end) {
    s0 = f64x2.add(s0, f64x2.mul(loadPair(a), loadPair(b)));
    s1 = f64x2.add(s1, f64x2.mul(loadPair(a, 8), loadPair(b, 8)));
    s2 = f64x2.add(s2, f64x2.mul(loadPair(a, 16), loadPair(b, 16)));
    s3 = f64x2.add(s3, f64x2.mul(loadPair(a, 24), loadPair(b, 24)));
    a += 32;
    b += 32;
  }
  let total = sumOfLanes(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (let rest = n & 7; rest > 0; rest--) {
    total += <f64>load<f32>(a) * <f64>load<f32>(b);
    a += 4;
    b += 4;
  }
  return total;
}

/** Σ a[i]² */
export function squaredNormF64(a: usize, n: i32): f64 {
  let s0 = f64x2.splat(0);
  let s1 = f64x2.splat(0);
  let s2 = f64x2.splat(0);
  let s3 = f64x2.splat(0);
  const end = a + (<usize>(n & ~7) << 2);
  while (a < end) {
    const x0 = loadPair(a);
    const x1 = loadPair(a, 8);
    const x2 = loadPair(a, 16);
    const x3 = loadPair(a, 24);
    s0 = f64x2.add(s0, f64x2.mul(x0, x0));
    s1 = f64x2.add(s1, f64x2.mul(x1, x1));
    s2 = f64x2.add(s2, f64x2.mul(x2, x2));
    s3 = f64x2.add(s3, f64x2.mul(x3, x3));
    a += 32;
  }
  let total = sumOfLanes(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (let rest = n & 7; rest > 0; rest--) {
    const x = <f64>load<f32>(a);
    total += x * x;
    a += 4;
  }
  return total;
}

/** Σ a[i] */
export function sumF64Of(a: usize, n: i32): f64 {
  let s0 = f64x2.splat(0);
  let s1 = f64x2.splat(0);
  let s2 = f64x2.splat(0);
  let s3 = f64x2.splat(0);
  const end = a + (<usize>(n & ~7) << 2);
  while (a < end) {
    s0 = f64x2.add(s0, loadPair(a));
    s1 = f64x2.add(s1, loadPair(a, 8));
    s2 = f64x2.add(s2, loadPair(a, 16));
    s3 = f64x2.add(s3, loadPair(a, 24));
    a += 32;
  }
  let total = sumOfLanes(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (let rest = n & 7; rest > 0; rest--) {
    total += <f64>load<f32>(a);
    a += 4;
  }
  return total;
}
