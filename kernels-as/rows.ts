// What softmax, its losses and the metrics do to one row of floats. Not exported to the host.
import { loadUpTo4, storeUpTo4, sumOfLanes } from './lanes';
import { exp4, log1 } from './math';

/** The largest of n floats; NaN if any is, -∞ for n = 0. */
export function maxOf(a: usize, n: i32): f32 {
  let v = f32x4.splat(-Infinity);
  let from = a;
  const end = from + (<usize>(n & ~3) << 2);
  while (from < end) {
    v = f32x4.max(v, v128.load(from));
    from += 16;
  }
  for (let rest = n & 3; rest > 0; rest--) {
    v = f32x4.max(v, v128.load32_splat(from));
    from += 4;
  }
  v = f32x4.max(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.max(v, v128.shuffle<f32>(v, v, 1, 0, 3, 2)), 0);
}

/** The index of the largest of n floats, the first on ties; a NaN never wins. */
export function argmaxOf(a: usize, n: i32): i32 {
  let best = 0;
  let largest: f32 = -Infinity;
  for (let i = 0; i < n; i++) {
    const value = load<f32>(a + (<usize>i << 2));
    if (value > largest) {
      largest = value;
      best = i;
    }
  }
  return best;
}

/** Σ e^(a[n] - shift) in float64; the terms also go to out[n] unless out is 0. */
export function sumExp(out: usize, a: usize, shift: f32, n: i32): f64 {
  const shifts = f32x4.splat(shift);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  if (rest) {
    const real = i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(rest));
    const e = v128.and(exp4(f32x4.sub(loadUpTo4(a + end, rest), shifts)), real);
    if (out) storeUpTo4(out + end, e, rest);
    low = f64x2.promote_low_f32x4(e);
    high = f64x2.promote_low_f32x4(v128.shuffle<f32>(e, e, 2, 3, 2, 3));
  }
  for (let i: usize = 0; i < end; i += 16) {
    const e = exp4(f32x4.sub(v128.load(a + i), shifts));
    if (out) v128.store(out + i, e);
    low = f64x2.add(low, f64x2.promote_low_f32x4(e));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(e, e, 2, 3, 2, 3)));
  }
  return sumOfLanes(f64x2.add(low, high));
}

/**
 * ln of a sum of shifted exponentials, total ≥ 1. Keeps its relative accuracy where the sum is barely above 1
 * (a confident prediction): ln(1 + s) = s·ln(u)/(u - 1) with u = 1 + s rounded.
 */
export function logOfSum(total: f64): f32 {
  const s = <f32>(total - 1);
  const u = <f32>1 + s;
  return u == 1 ? s : log1(u) * (s / (u - 1));
}

/** out[n] = softmax of a[n], whose largest element is given; returns Σ e^(a - largest). */
export function softmaxRow(out: usize, a: usize, largest: f32, n: i32): f64 {
  const total = sumExp(out, a, largest, n);
  const divisor = f32x4.splat(<f32>total);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, f32x4.div(loadUpTo4(out + end, rest), divisor), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, f32x4.div(v128.load(out + i), divisor));
  return total;
}
