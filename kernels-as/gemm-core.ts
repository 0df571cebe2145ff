// The parts a matrix product is made of: packed panels, the micro-kernel and the loop over tiles. Convolution
// packs its patches into the same panels.
//
// Packed A: panels of MR rows, each panel [k, MR]. Packed B: panels of NR columns, each panel [k, NR]. Both
// are contiguous, so the micro-kernel reads two streams forward and its addresses have constant offsets.
// Lanes beyond the edge hold copies or zeros: they only reach elements that are never stored.
import { loadUpTo4, storeUpTo4 } from './lanes';

/** Rows of a tile. In V8 4x8, not unrolled, is fastest; only in the relaxed build is 6x8 faster, by 8 %. */
export const MR: i32 = 4;
/** Columns of a tile. */
export const NR: i32 = 8;
/** Blocks that stay in cache: a panel of B [KC, NR] in L1, packed A [MC, KC] and packed B [KC, NC] in L2. */
export const KC: i32 = 384;
export const MC: i32 = 96;
export const NC: i32 = 512;

/** Bytes of packed A, packed B, and the tile and bias of an edge, in this order in the scratch. */
export const PACKED_A_BYTES: i32 = MC * KC * 4;
export const PACKED_B_BYTES: i32 = NC * KC * 4;
export const EDGE_BYTES: i32 = (MR + 1) * NR * 4;

/** c + a * b: two roundings in the base build, one in the relaxed build. */
@inline
export function madd(c: v128, a: v128, b: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(c, f32x4.mul(a, b));
}

/** How a product meets what C holds: it is written over C, summed on from C, or summed from 0 and then added to C. */
export const OVERWRITE: i32 = 0;
export const CONTINUE: i32 = 1;
export const ADD: i32 = 2;

/**
 * One full tile: C[4, 8] = (accumulate ? C : 0) + A·B over k ≥ 1 steps of one panel each, in order of k; then
 * + bias[8] (when not 0), then ReLU (when activation is 1). `ldc` in bytes. Inlined: V8 runs the same loop 10
 * % slower as a function of its own.
 */
@inline
export function tile(
  c: usize,
  ldc: usize,
  a: usize,
  b: usize,
  k: i32,
  accumulate: i32,
  bias: usize,
  activation: i32,
): void {
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  if (accumulate) {
    let row = c;
    s00 = v128.load(row);
    s01 = v128.load(row, 16);
    row += ldc;
    s10 = v128.load(row);
    s11 = v128.load(row, 16);
    row += ldc;
    s20 = v128.load(row);
    s21 = v128.load(row, 16);
    row += ldc;
    s30 = v128.load(row);
    s31 = v128.load(row, 16);
  }
  const end = a + ((<usize>k) << 4);
  do {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load_splat<f32>(a);
    s00 = madd(s00, x, b0);
    s01 = madd(s01, x, b1);
    x = v128.load_splat<f32>(a, 4);
    s10 = madd(s10, x, b0);
    s11 = madd(s11, x, b1);
    x = v128.load_splat<f32>(a, 8);
    s20 = madd(s20, x, b0);
    s21 = madd(s21, x, b1);
    x = v128.load_splat<f32>(a, 12);
    s30 = madd(s30, x, b0);
    s31 = madd(s31, x, b1);
    a += 16;
    b += 32;
  } while (a < end);
  if (bias) {
    const bias0 = v128.load(bias);
    const bias1 = v128.load(bias, 16);
    s00 = f32x4.add(s00, bias0);
    s01 = f32x4.add(s01, bias1);
    s10 = f32x4.add(s10, bias0);
    s11 = f32x4.add(s11, bias1);
    s20 = f32x4.add(s20, bias0);
    s21 = f32x4.add(s21, bias1);
    s30 = f32x4.add(s30, bias0);
    s31 = f32x4.add(s31, bias1);
  }
  if (activation) {
    const zero = f32x4.splat(0);
    s00 = f32x4.max(s00, zero);
    s01 = f32x4.max(s01, zero);
    s10 = f32x4.max(s10, zero);
    s11 = f32x4.max(s11, zero);
    s20 = f32x4.max(s20, zero);
    s21 = f32x4.max(s21, zero);
    s30 = f32x4.max(s30, zero);
    s31 = f32x4.max(s31, zero);
  }
  v128.store(c, s00);
  v128.store(c, s01, 16);
  c += ldc;
  v128.store(c, s10);
  v128.store(c, s11, 16);
  c += ldc;
  v128.store(c, s20);
  v128.store(c, s21, 16);
  c += ldc;
  v128.store(c, s30);
  v128.store(c, s31, 16);
}

/** Copies rows × columns floats; the strides are in bytes. */
function copyBlock(
  out: usize,
  outStride: usize,
  from: usize,
  fromStride: usize,
  rows: i32,
  columns: i32,
): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      store<f32>(out + ((<usize>column) << 2), load<f32>(from + ((<usize>column) << 2)));
    }
    out += outStride;
    from += fromStride;
  }
}

/** Adds rows × columns floats times a factor; the strides are in bytes. */
function addBlock(
  out: usize,
  outStride: usize,
  from: usize,
  fromStride: usize,
  rows: i32,
  columns: i32,
  factor: f32,
): void {
  const factors = f32x4.splat(factor);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += 4) {
      const at = (<usize>column) << 2;
      const part = f32x4.mul(v128.load(from + at), factors);
      const sum = f32x4.add(loadUpTo4(out + at, columns - column), part);
      storeUpTo4(out + at, sum, columns - column);
    }
    out += outStride;
    from += fromStride;
  }
}

/**
 * C[m, n] from packed A [m, k] and packed B [k, n], tile by tile; arguments as `tile`. A tile over the edge of C is computed in
 * `edge` (EDGE_BYTES), and the part that exists copied.
 */
export function multiplyPacked(
  c: usize,
  ldc: usize,
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  b: usize,
  accumulate: i32,
  bias: usize,
  activation: i32,
  edge: usize,
): void {
  const panelA = <usize>(k * MR * 4);
  const panelB = <usize>(k * NR * 4);
  for (let j = 0; j < n; j += NR) {
    const columns = min(NR, n - j);
    let tileBias = bias ? bias + ((<usize>j) << 2) : 0;
    if (bias && columns < NR) {
      copyBlock(edge + MR * NR * 4, 0, tileBias, 0, 1, columns);
      tileBias = edge + MR * NR * 4;
    }
    let tileA = a;
    let tileC = c + ((<usize>j) << 2);
    for (let i = 0; i < m; i += MR) {
      const rows = min(MR, m - i);
      const whole = rows == MR && columns == NR;
      if (!whole && accumulate) copyBlock(edge, NR * 4, tileC, ldc, rows, columns);
      tile(whole ? tileC : edge, whole ? ldc : NR * 4, tileA, b, k, accumulate, tileBias, activation);
      if (!whole) copyBlock(tileC, ldc, edge, NR * 4, rows, columns);
      tileA += panelA;
      tileC += ldc * MR;
    }
    b += panelB;
  }
}

/**
 * C[m, n] += factor·(A·B): each tile is summed from 0 in `edge`, multiplied, and then added. A loop of its own: as a mode of
 * `multiplyPacked` it makes that 6 % slower.
 */
export function addPacked(
  c: usize, ldc: usize, m: i32, n: i32, k: i32, a: usize, b: usize, edge: usize, factor: f32,
): void {
  const panelA = <usize>(k * MR * 4);
  const panelB = <usize>(k * NR * 4);
  for (let j = 0; j < n; j += NR) {
    let tileA = a;
    let tileC = c + ((<usize>j) << 2);
    for (let i = 0; i < m; i += MR) {
      tile(edge, NR * 4, tileA, b, k, OVERWRITE, 0, 0);
      addBlock(tileC, ldc, edge, NR * 4, min(MR, m - i), min(NR, n - j), factor);
      tileA += panelA;
      tileC += ldc * MR;
    }
    b += panelB;
  }
}

/**
 * Packs 4 neighbouring columns of X [k, …] (`width` of them exist; the rest become 0): row p goes to out +
 * p·outStride. Strides in bytes.
 */
function packColumns(
  out: usize,
  outStride: usize,
  x: usize,
  ldx: usize,
  width: i32,
  k: i32,
): void {
  for (let p = 0; p < k; p++) {
    v128.store(out, width > 0 ? loadUpTo4(x, width) : f32x4.splat(0));
    out += outStride;
    x += ldx;
  }
}

/**
 * Packs 4 neighbouring rows of X […, k] transposed (`width` of them exist, at least 1; the last is repeated):
 * index p of the rows goes to out + p·outStride. Strides in bytes.
 */
function packRows(
  out: usize,
  outStride: usize,
  x: usize,
  ldx: usize,
  width: i32,
  k: i32,
): void {
  const x1 = width > 1 ? x + ldx : x;
  const x2 = width > 2 ? x1 + ldx : x1;
  const x3 = width > 3 ? x2 + ldx : x2;
  const bytes = (<usize>k) << 2;
  const whole = bytes & ~15;
  let at: usize = 0;
  for (; at < whole; at += 16) {
    const r0 = v128.load(x + at);
    const r1 = v128.load(x1 + at);
    const r2 = v128.load(x2 + at);
    const r3 = v128.load(x3 + at);
    const low01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const low23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const high01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const high23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    const p0 = v128.shuffle<f32>(low01, low23, 0, 1, 4, 5);
    const p1 = v128.shuffle<f32>(low01, low23, 2, 3, 6, 7);
    const p2 = v128.shuffle<f32>(high01, high23, 0, 1, 4, 5);
    const p3 = v128.shuffle<f32>(high01, high23, 2, 3, 6, 7);
    v128.store(out, p0);
    out += outStride;
    v128.store(out, p1);
    out += outStride;
    v128.store(out, p2);
    out += outStride;
    v128.store(out, p3);
    out += outStride;
  }
  for (; at < bytes; at += 4) {
    store<f32>(out, load<f32>(x + at));
    store<f32>(out, load<f32>(x1 + at), 4);
    store<f32>(out, load<f32>(x2 + at), 8);
    store<f32>(out, load<f32>(x3 + at), 12);
    out += outStride;
  }
}

/** Packs A [m, k], or its transpose stored [k, m], into panels of MR rows. `lda` in bytes. */
export function packA(out: usize, a: usize, lda: usize, m: i32, k: i32, transposed: i32): void {
  for (let i = 0; i < m; i += MR) {
    if (transposed) packColumns(out, MR * 4, a + ((<usize>i) << 2), lda, m - i, k);
    else packRows(out, MR * 4, a + <usize>i * lda, lda, m - i, k);
    out += <usize>(k * MR * 4);
  }
}

/** Packs a whole panel: NR neighbouring columns of X [k, …], as `packColumns`. `ldx` in bytes. */
function packPanel(out: usize, x: usize, ldx: usize, k: i32): void {
  const end = out + <usize>(k * NR * 4);
  while (out < end) {
    v128.store(out, v128.load(x));
    v128.store(out, v128.load(x, 16), 16);
    out += NR * 4;
    x += ldx;
  }
}

/** Packs B [k, n], or its transpose stored [n, k], into panels of NR columns. `ldb` in bytes. */
export function packB(out: usize, b: usize, ldb: usize, n: i32, k: i32, transposed: i32): void {
  for (let j = 0; j < n; j += NR) {
    const width = n - j;
    const right = min(j + 4, n - 1); // where the panel's right half starts
    if (transposed) {
      packRows(out, NR * 4, b + <usize>j * ldb, ldb, width, k);
      packRows(out + 16, NR * 4, b + <usize>right * ldb, ldb, width - 4, k);
    } else if (width >= NR) {
      packPanel(out, b + ((<usize>j) << 2), ldb, k);
    } else {
      packColumns(out, NR * 4, b + ((<usize>j) << 2), ldb, width, k);
      packColumns(out + 16, NR * 4, b + ((<usize>right) << 2), ldb, width - 4, k);
    }
    out += <usize>(k * NR * 4);
  }
}
