// Sums, extrema and softmax. Sums accumulate in float64 in an order that depends on the reduced length alone.
import { dotF64, loadPair, loadUpTo4, squaredNormF64, storeUpTo4, sumF64Of } from './lanes';
import { argmaxOf, logOfSum, maxOf, softmaxRow, sumExp } from './rows';

/** a [outer, n, inner] → out [outer, inner] = Σ over n, accumulated in float64 */
export function sumAxis(out: usize, a: usize, outer: i32, n: i32, inner: i32): void {
  const line = <usize>inner << 2;
  for (let o = 0; o < outer; o++) {
    const block = a + <usize>o * <usize>n * line;
    const to = out + <usize>o * line;
    if (inner == 1) {
      store<f32>(to, <f32>sumF64Of(block, n));
      continue;
    }
    let i = 0;
    for (; i + 4 <= inner; i += 4) {
      let low = f64x2.splat(0);
      let high = f64x2.splat(0);
      let from = block + (<usize>i << 2);
      for (let j = 0; j < n; j++) {
        low = f64x2.add(low, loadPair(from));
        high = f64x2.add(high, loadPair(from, 8));
        from += line;
      }
      v128.store64_lane(to + (<usize>i << 2), f32x4.demote_f64x2_zero(low), 0);
      v128.store64_lane(to + (<usize>i << 2), f32x4.demote_f64x2_zero(high), 0, 8);
    }
    for (; i < inner; i++) {
      let total: f64 = 0;
      let from = block + (<usize>i << 2);
      for (let j = 0; j < n; j++) {
        total += <f64>load<f32>(from);
        from += line;
      }
      store<f32>(to + (<usize>i << 2), <f32>total);
    }
  }
}

/** a [outer, n, inner] → out [outer, inner] = the largest over n; NaN if any is */
export function maxAxis(out: usize, a: usize, outer: i32, n: i32, inner: i32): void {
  const line = <usize>inner << 2;
  for (let o = 0; o < outer; o++) {
    const block = a + <usize>o * <usize>n * line;
    const to = out + <usize>o * line;
    if (inner == 1) {
      store<f32>(to, maxOf(block, n));
      continue;
    }
    for (let i = 0; i < inner; i += 4) {
      const count = inner - i;
      let largest = f32x4.splat(-Infinity);
      let from = block + (<usize>i << 2);
      for (let j = 0; j < n; j++) {
        largest = f32x4.max(largest, loadUpTo4(from, count));
        from += line;
      }
      storeUpTo4(to + (<usize>i << 2), largest, count);
    }
  }
}

/** out i32[rows] = the index of each row's largest element, the first on ties; a NaN never wins */
export function argmaxRows(out: usize, a: usize, rows: i32, cols: i32): void {
  for (let i: usize = 0; i < <usize>rows; i++) {
    store<i32>(out + (i << 2), argmaxOf(a + ((i * <usize>cols) << 2), cols));
  }
}

/** Σ a[n] in float64 */
export function sum(a: usize, n: i32): f64 {
  return sumF64Of(a, n);
}

/** Σ a[n]·b[n] in float64 */
export function dot(a: usize, b: usize, n: i32): f64 {
  return dotF64(a, b, n);
}

/** Σ a[n]² in float64 */
export function squaredNorm(a: usize, n: i32): f64 {
  return squaredNormF64(a, n);
}

/** All ones in the lanes that are NaN or infinite. */
// @ts-ignore: decorator
@inline
function notFinite(x: v128): v128 {
  const exponent = i32x4.splat(0x7f800000);
  return i32x4.eq(v128.and(x, exponent), exponent);
}

/** The index of the first NaN or infinity in a[n], or -1 */
export function firstNonFinite(a: usize, n: i32): i32 {
  let i = 0;
  for (; i + 16 <= n; i += 16) {
    const p = a + (<usize>i << 2);
    const low = v128.or(notFinite(v128.load(p)), notFinite(v128.load(p, 16)));
    const high = v128.or(notFinite(v128.load(p, 32)), notFinite(v128.load(p, 48)));
    if (v128.any_true(v128.or(low, high))) break;
  }
  for (; i < n; i++) {
    const x = load<f32>(a + (<usize>i << 2));
    if (x - x != 0) return i;
  }
  return -1;
}

/** 1 if all of a[n] is finite, else 0 */
export function allFinite(a: usize, n: i32): i32 {
  return firstNonFinite(a, n) < 0 ? 1 : 0;
}

/** The index of the first element of a i32[n] outside low ≤ a ≤ high (both ends belong), or -1 */
export function allInRangeI32(a: usize, n: i32, low: i32, high: i32): i32 {
  for (let i = 0; i < n; i++) {
    const value = load<i32>(a + (<usize>i << 2));
    if (value < low || value > high) return i;
  }
  return -1;
}

/** out [rows, cols] = softmax of each row; stable for any finite logits */
export function softmaxRows(out: usize, a: usize, rows: i32, cols: i32): void {
  const line = <usize>cols << 2;
  for (let i: usize = 0; i < <usize>rows; i++) {
    softmaxRow(out + i * line, a + i * line, maxOf(a + i * line, cols), cols);
  }
}

/** out [rows, cols] = ln softmax of each row; stable for any finite logits */
export function logSoftmaxRows(out: usize, a: usize, rows: i32, cols: i32): void {
  for (let r = 0; r < rows; r++) {
    const offset = (<usize>r * <usize>cols) << 2;
    const largest = maxOf(a + offset, cols);
    const shift = f32x4.splat(largest);
    const logTotal = f32x4.splat(logOfSum(sumExp(0, a + offset, largest, cols)));
    for (let i = 0; i < cols; i += 4) {
      const at = offset + (<usize>i << 2);
      const value = f32x4.sub(f32x4.sub(loadUpTo4(a + at, cols - i), shift), logTotal);
      storeUpTo4(out + at, value, cols - i);
    }
  }
}
