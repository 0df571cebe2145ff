// What softmax, its losses and the metrics do to one row of floats. Not exported to the host.
import { loadTail, storeTail } from './lanes';
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
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  for (let i = 0; i < n; i += 4) {
    const offset = <usize>i << 2;
    const rest = n - i;
    let e = exp4(f32x4.sub(rest >= 4 ? v128.load(a + offset) : loadTail(a + offset, rest), shifts));
    if (rest < 4) {
      e = v128.and(e, i32x4.lt_s(i32x4(0, 1, 2, 3), i32x4.splat(rest)));
      if (out) storeTail(out + offset, e, rest);
    } else if (out) v128.store(out + offset, e);
    low = f64x2.add(low, f64x2.promote_low_f32x4(e));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(e, e, 2, 3, 2, 3)));
  }
  const total = f64x2.add(low, high);
  return f64x2.extract_lane(total, 0) + f64x2.extract_lane(total, 1);
}

/**
 * ln of a sum of shifted exponentials, total ≥ 1. Keeps its relative accuracy where the sum is barely above 1 (a
 * confident prediction): ln(1 + s) = s·ln(u)/(u - 1) with u = 1 + s rounded.
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
  for (let i = 0; i < n; i += 4) {
    const p = out + (<usize>i << 2);
    const rest = n - i;
    if (rest >= 4) v128.store(p, f32x4.div(v128.load(p), divisor));
    else storeTail(p, f32x4.div(loadTail(p, rest), divisor), rest);
  }
  return total;
}
