// Group normalisation (Wu & He 2018), of which layer normalisation (Ba et al. 2016) is the case of one position and
// one group: a [outer, positions, groups, depth] is normalised over positions and depth. Sums are in float64, in an
// order that depends on positions and depth alone.
import { loadUpTo4, storeUpTo4, sumOfLanes } from './lanes';

/** Lanes 2 and 3 as float64. */
// @ts-ignore: decorator
@inline
function promoteHigh(v: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<f32>(v, v, 2, 3, 2, 3));
}

/** (a - mean)·inverseStd; lanes beyond the count are whatever: their sums are multiplied by zeros of dOut. */
// @ts-ignore: decorator
@inline
function normalized(a: usize, count: i32, mean: v128, inverseStd: v128): v128 {
  return f32x4.mul(f32x4.sub(loadUpTo4(a, count), mean), inverseStd);
}

/**
 * out = (a - mean)/√(variance + epsilon)·scale + offset, scale and offset f32[groups·depth]. Means and 1/√… go to
 * statistics f32[outer, groups, 2]. The variance is the biased one.
 */
export function groupNorm(
  out: usize, statistics: usize, a: usize, scale: usize, offset: usize,
  outer: i32, positions: i32, groups: i32, depth: i32, epsilon: f64,
): void {
  const line = <usize>(groups * depth) << 2;
  let at: usize = 0;
  let record = statistics;
  for (let o = 0; o < outer; o++) {
    for (let g = 0; g < groups; g++) {
      const first = <usize>(g * depth) << 2;
      const block = at + first;
      let low = f64x2.splat(0);
      let high = f64x2.splat(0);
      let lowSquares = f64x2.splat(0);
      let highSquares = f64x2.splat(0);
      for (let d = 0; d < depth; d += 4) {
        let from = a + block + (<usize>d << 2);
        for (let t = 0; t < positions; t++) {
          const value = loadUpTo4(from, depth - d);
          const x = f64x2.promote_low_f32x4(value);
          const y = promoteHigh(value);
          low = f64x2.add(low, x);
          high = f64x2.add(high, y);
          lowSquares = f64x2.add(lowSquares, f64x2.mul(x, x));
          highSquares = f64x2.add(highSquares, f64x2.mul(y, y));
          from += line;
        }
      }
      const n = <f64>positions * <f64>depth;
      const mean = sumOfLanes(f64x2.add(low, high)) / n;
      // In float64 this cancels no digit that a float32 has.
      const variance = max<f64>(sumOfLanes(f64x2.add(lowSquares, highSquares)) / n - mean * mean, 0);
      const inverse = 1 / sqrt<f64>(variance + epsilon);
      store<f32>(record, <f32>mean);
      store<f32>(record, <f32>inverse, 4);
      record += 8;
      const means = f32x4.splat(<f32>mean);
      const inverses = f32x4.splat(<f32>inverse);
      for (let d = 0; d < depth; d += 4) {
        const count = depth - d;
        const channel = <usize>d << 2;
        const scales = loadUpTo4(scale + first + channel, count);
        const offsets = loadUpTo4(offset + first + channel, count);
        let p = block + channel;
        for (let t = 0; t < positions; t++) {
          const value = normalized(a + p, count, means, inverses);
          storeUpTo4(out + p, f32x4.add(f32x4.mul(value, scales), offsets), count);
          p += line;
        }
      }
    }
    at += <usize>positions * line;
  }
}

/** dA, from dOut and what groupNorm left in statistics. */
export function groupNormGradient(
  dA: usize, a: usize, statistics: usize, scale: usize, dOut: usize,
  outer: i32, positions: i32, groups: i32, depth: i32,
): void {
  const line = <usize>(groups * depth) << 2;
  const n = <f64>positions * <f64>depth;
  let at: usize = 0;
  let record = statistics;
  for (let o = 0; o < outer; o++) {
    for (let g = 0; g < groups; g++) {
      const first = <usize>(g * depth) << 2;
      const block = at + first;
      const means = v128.load32_splat(record);
      const inverses = v128.load32_splat(record, 4);
      record += 8;
      // With y the normalised a, and v = dOut·scale: dA = (v - mean(v) - y·mean(v·y))·inverse
      let sums = f64x2.splat(0);
      let products = f64x2.splat(0);
      for (let d = 0; d < depth; d += 4) {
        const count = depth - d;
        const channel = <usize>d << 2;
        const scales = loadUpTo4(scale + first + channel, count);
        let p = block + channel;
        for (let t = 0; t < positions; t++) {
          const y = normalized(a + p, count, means, inverses);
          const v = f32x4.mul(loadUpTo4(dOut + p, count), scales);
          const low = f64x2.promote_low_f32x4(v);
          const high = promoteHigh(v);
          sums = f64x2.add(sums, f64x2.add(low, high));
          const lowProducts = f64x2.mul(low, f64x2.promote_low_f32x4(y));
          products = f64x2.add(products, f64x2.add(lowProducts, f64x2.mul(high, promoteHigh(y))));
          p += line;
        }
      }
      const meanV = f32x4.splat(<f32>(sumOfLanes(sums) / n));
      const meanProduct = f32x4.splat(<f32>(sumOfLanes(products) / n));
      for (let d = 0; d < depth; d += 4) {
        const count = depth - d;
        const channel = <usize>d << 2;
        const scales = loadUpTo4(scale + first + channel, count);
        let p = block + channel;
        for (let t = 0; t < positions; t++) {
          const y = normalized(a + p, count, means, inverses);
          const v = f32x4.mul(loadUpTo4(dOut + p, count), scales);
          const rest = f32x4.sub(f32x4.sub(v, meanV), f32x4.mul(y, meanProduct));
          storeUpTo4(dA + p, f32x4.mul(rest, inverses), count);
          p += line;
        }
      }
    }
    at += <usize>positions * line;
  }
}

/** out [outer, groups·depth] = Σ over positions of dOut·(a - mean)·inverseStd: the gradient of scale, one row an outer index */
export function groupNormScaleRows(
  out: usize, a: usize, statistics: usize, dOut: usize,
  outer: i32, positions: i32, groups: i32, depth: i32,
): void {
  const line = <usize>(groups * depth) << 2;
  let at: usize = 0;
  let to = out;
  let record = statistics;
  for (let o = 0; o < outer; o++) {
    for (let g = 0; g < groups; g++) {
      const means = v128.load32_splat(record);
      const inverses = v128.load32_splat(record, 4);
      record += 8;
      for (let d = 0; d < depth; d += 4) {
        const count = depth - d;
        let low = f64x2.splat(0);
        let high = f64x2.splat(0);
        let p = at + (<usize>(g * depth + d) << 2);
        for (let t = 0; t < positions; t++) {
          const product = f32x4.mul(loadUpTo4(dOut + p, count), normalized(a + p, count, means, inverses));
          low = f64x2.add(low, f64x2.promote_low_f32x4(product));
          high = f64x2.add(high, promoteHigh(product));
          p += line;
        }
        const sums = v128.shuffle<f32>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
        storeUpTo4(to + (<usize>d << 2), sums, min(count, 4));
      }
      to += <usize>depth << 2;
    }
    at += <usize>positions * line;
  }
}
