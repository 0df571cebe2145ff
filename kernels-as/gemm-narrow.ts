// Products with few columns or few rows, where packing would cost more than it saves.
import { ADD, CONTINUE, madd } from './gemm-core';
import { loadUpTo4, storeUpTo4 } from './lanes';

/** Floats of a row of sums that `multiplyStreamed` keeps in L1, with eight rows of X of the same width. */
export const STREAM_WIDTH: i32 = 512;

/** The four sums of the lanes of a, b, c and d. */
@inline
function sumLanes(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}

/** The products of 4 rows of A and 2 columns of B, all contiguous over k: out[2, 4], one row per column. */
@inline
function dotTile(out: usize, a0: usize, a1: usize, a2: usize, a3: usize, b0: usize, b1: usize, k: i32): void {
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  const end = a0 + ((<usize>(k & ~3)) << 2);
  while (a0 < end) {
    const y0 = v128.load(b0);
    const y1 = v128.load(b1);
    let x = v128.load(a0);
    s00 = madd(s00, x, y0);
    s01 = madd(s01, x, y1);
    x = v128.load(a1);
    s10 = madd(s10, x, y0);
    s11 = madd(s11, x, y1);
    x = v128.load(a2);
    s20 = madd(s20, x, y0);
    s21 = madd(s21, x, y1);
    x = v128.load(a3);
    s30 = madd(s30, x, y0);
    s31 = madd(s31, x, y1);
    a0 += 16;
    a1 += 16;
    a2 += 16;
    a3 += 16;
    b0 += 16;
    b1 += 16;
  }
  let sum0 = sumLanes(s00, s10, s20, s30);
  let sum1 = sumLanes(s01, s11, s21, s31);
  for (let rest = k & 3; rest > 0; rest--) {
    let x = v128.load32_zero(a0);
    x = v128.load32_lane(a1, x, 1);
    x = v128.load32_lane(a2, x, 2);
    x = v128.load32_lane(a3, x, 3);
    sum0 = madd(sum0, x, v128.load_splat<f32>(b0));
    sum1 = madd(sum1, x, v128.load_splat<f32>(b1));
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    b0 += 4;
    b1 += 4;
  }
  v128.store(out, sum0);
  v128.store(out, sum1, 16);
}

/**
 * C[m, n] for few columns: rows of A [m, k] times columns of B, stored [n, k]; four lanes share the sum over
 * k, in an order that depends on k alone. Strides in bytes; `edge`: 32 bytes. The rest as in `gemm`.
 */
export function multiplyColumns(
  c: usize,
  ldc: usize,
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  lda: usize,
  b: usize,
  ldb: usize,
  accumulate: i32,
  bias: usize,
  activation: i32,
  edge: usize,
): void {
  for (let i = 0; i < m; i += 4) {
    const rows = min(4, m - i);
    const a1 = rows > 1 ? a + lda : a;
    const a2 = rows > 2 ? a1 + lda : a1;
    const a3 = rows > 3 ? a2 + lda : a2;
    for (let j = 0; j < n; j += 2) {
      const columns = min(2, n - j);
      const b0 = b + <usize>j * ldb;
      dotTile(edge, a, a1, a2, a3, b0, columns > 1 ? b0 + ldb : b0, k);
      for (let column = 0; column < columns; column++) {
        const shift = bias ? load<f32>(bias + ((<usize>(j + column)) << 2)) : f32(0);
        let at = c + ((<usize>(j + column)) << 2);
        for (let row = 0; row < rows; row++) {
          let value = load<f32>(edge + ((<usize>(column * 4 + row)) << 2));
          if (accumulate) value += load<f32>(at);
          value += shift;
          store<f32>(at, activation ? max(value, f32(0)) : value);
          at += ldc;
        }
      }
    }
    a += lda * 4;
    c += ldc * 4;
  }
}

/** sums[width] += factor·x[width] */
function addRow(sums: usize, width: i32, x: usize, factor: v128): void {
  const end = sums + ((<usize>(width & ~3)) << 2);
  while (sums < end) {
    v128.store(sums, madd(v128.load(sums), factor, v128.load(x)));
    x += 16;
    sums += 16;
  }
  const rest = width & 3;
  if (rest) storeUpTo4(sums, madd(loadUpTo4(sums, rest), factor, loadUpTo4(x, rest)), rest);
}

/** sums[width] += Σ factors[p]·X[p] over eight steps p from the first on, in this order. Strides in bytes. */
@inline
function addEightRows(sums: usize, width: i32, x: usize, ldx: usize, factors: usize, stride: usize): void {
  const x1 = x + ldx;
  const x2 = x1 + ldx;
  const x3 = x2 + ldx;
  const x4 = x3 + ldx;
  const x5 = x4 + ldx;
  const x6 = x5 + ldx;
  const x7 = x6 + ldx;
  const f0 = v128.load_splat<f32>(factors);
  const f1 = v128.load_splat<f32>(factors + stride);
  const f2 = v128.load_splat<f32>(factors + stride * 2);
  const f3 = v128.load_splat<f32>(factors + stride * 3);
  const f4 = v128.load_splat<f32>(factors + stride * 4);
  const f5 = v128.load_splat<f32>(factors + stride * 5);
  const f6 = v128.load_splat<f32>(factors + stride * 6);
  const f7 = v128.load_splat<f32>(factors + stride * 7);
  const end = (<usize>(width & ~3)) << 2;
  let at: usize = 0;
  for (; at < end; at += 16) {
    let sum = madd(v128.load(sums + at), f0, v128.load(x + at));
    sum = madd(sum, f1, v128.load(x1 + at));
    sum = madd(sum, f2, v128.load(x2 + at));
    sum = madd(sum, f3, v128.load(x3 + at));
    sum = madd(sum, f4, v128.load(x4 + at));
    sum = madd(sum, f5, v128.load(x5 + at));
    sum = madd(sum, f6, v128.load(x6 + at));
    sum = madd(sum, f7, v128.load(x7 + at));
    v128.store(sums + at, sum);
  }
  const rest = width & 3;
  for (let q: usize = 0; rest && q < 8; q++) {
    addRow(sums + at, rest, x + q * ldx + at, v128.load_splat<f32>(factors + q * stride));
  }
}

/**
 * Y[rows, width] = factors [rows, k]·X [k, width] for few rows, reading X once, in place; every element is the sum over k in
 * order. With ADD the sum is multiplied by `factor` and added to Y. With Y = C this takes the few rows of A as factors, with Y = Cᵀ the few
 * columns of B, so all but X have a stride for rows and one for steps along the row, in bytes. `sums`:
 * rows·STREAM_WIDTH floats.
 */
export function multiplyStreamed(
  y: usize,
  yRow: usize,
  yStep: usize,
  rows: i32,
  width: i32,
  k: i32,
  factors: usize,
  factorsRow: usize,
  factorsStep: usize,
  x: usize,
  ldx: usize,
  accumulate: i32,
  bias: usize,
  biasRow: usize,
  biasStep: usize,
  activation: i32,
  factor: f32,
  sums: usize,
): void {
  for (let first = 0; first < width; first += STREAM_WIDTH) {
    const columns = min(STREAM_WIDTH, width - first);
    const part = y + <usize>first * yStep;
    for (let row = 0; row < rows; row++) {
      const to = sums + ((<usize>(row * STREAM_WIDTH)) << 2);
      const from = part + <usize>row * yRow;
      for (let i = 0; i < columns; i++) {
        store<f32>(to + ((<usize>i) << 2), accumulate == CONTINUE ? load<f32>(from + <usize>i * yStep) : f32(0));
      }
    }
    const xPart = x + ((<usize>first) << 2);
    for (let p = 0; p < k; p += 8) {
      const steps = min(8, k - p);
      const rowsOfX = xPart + <usize>p * ldx;
      for (let row = 0; row < rows; row++) {
        const to = sums + ((<usize>(row * STREAM_WIDTH)) << 2);
        const from = factors + <usize>row * factorsRow + <usize>p * factorsStep;
        if (steps == 8) {
          addEightRows(to, columns, rowsOfX, ldx, from, factorsStep);
          continue;
        }
        for (let q: usize = 0; q < <usize>steps; q++) {
          addRow(to, columns, rowsOfX + q * ldx, v128.load_splat<f32>(from + q * factorsStep));
        }
      }
    }
    for (let row = 0; row < rows; row++) {
      const from = sums + ((<usize>(row * STREAM_WIDTH)) << 2);
      const to = part + <usize>row * yRow;
      for (let i = 0; i < columns; i++) {
        let value = load<f32>(from + ((<usize>i) << 2));
        if (accumulate == ADD) value = load<f32>(to + <usize>i * yStep) + value * factor;
        if (bias) value += load<f32>(bias + <usize>row * biasRow + <usize>(first + i) * biasStep);
        store<f32>(to + <usize>i * yStep, activation ? max(value, f32(0)) : value);
      }
    }
  }
}
