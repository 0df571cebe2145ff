// Matrix products. Every element is the f32 sum over k in order, starting from C or 0, whatever the sizes and
// blocks: a row's bits do not depend on the other rows, and a sum over a batch may be split into several
// calls. The exception is C with few columns (n ≤ 11 but 8, A not transposed), where four lanes share the sum
// over k.
import {
  ADD, EDGE_BYTES, KC, MC, NC, PACKED_A_BYTES, PACKED_B_BYTES, addPacked, multiplyPacked, packA, packB, tile,
} from './gemm-core';
import { multiplyColumns, multiplyStreamed } from './gemm-narrow';

/** Up to so many columns, 8 excepted, a tile's padding costs more than packing saves. */
const FEW_COLUMNS: i32 = 11;
/** Up to so many rows, packing B costs more than it saves. */
const FEW_ROWS: i32 = 7;
/** The longest k for which few transposed columns fit in the scratch. */
const FEW_COLUMNS_DEPTH: i32 = PACKED_B_BYTES / (FEW_COLUMNS * 4);

/** Bytes of scratch memory that `gemm` needs, for any sizes. */
export function gemmScratchBytes(): i32 {
  return PACKED_A_BYTES + PACKED_B_BYTES + EDGE_BYTES;
}

/**
 * C[m, n] = activation((accumulate ? C : 0) + op(A)·op(B) + bias[n]), for k ≥ 1.
 * Row-major, leading dimensions in floats. transA: A is stored [k, m]; transB: B is stored [n, k]. bias may
 * be 0 (none). activation: 0 none, 1 ReLU. scratch: `gemmScratchBytes()` bytes.
 */
export function gemm(
  transA: i32,
  transB: i32,
  m: i32,
  n: i32,
  k: i32,
  a: usize,
  lda: i32,
  b: usize,
  ldb: i32,
  c: usize,
  ldc: i32,
  accumulate: i32,
  bias: usize,
  activation: i32,
  scratch: usize,
): void {
  const aStride = (<usize>lda) << 2;
  const bStride = (<usize>ldb) << 2;
  const cStride = (<usize>ldc) << 2;
  const packedB = scratch + PACKED_A_BYTES;
  const edge = packedB + PACKED_B_BYTES;
  const fewColumns = n <= FEW_COLUMNS && n != 8;
  if (!transA && fewColumns && k <= FEW_COLUMNS_DEPTH) {
    let columns = b;
    let columnStride = bStride;
    if (!transB) {
      columns = packedB;
      columnStride = (<usize>k) << 2;
      transposeColumns(columns, b, bStride, n, k);
    }
    multiplyColumns(
      c, cStride, m, n, k, a, aStride, columns, columnStride, accumulate, bias, activation, edge,
    );
    return;
  }
  if (transA && fewColumns) {
    const row = transB ? bStride : <usize>4;
    const step = transB ? <usize>4 : bStride;
    multiplyStreamed(
      c, 4, cStride, n, m, k, b, row, step, a, aStride, accumulate, bias, 4, 0, activation, 1, packedB,
    );
    return;
  }
  if (!transB && m <= FEW_ROWS) {
    const row = transA ? <usize>4 : aStride;
    const step = transA ? aStride : 4;
    multiplyStreamed(
      c, cStride, 4, m, n, k, a, row, step, b, bStride, accumulate, bias, 0, 4, activation, 1, packedB,
    );
    return;
  }
  // k in equal blocks: a short last one would pay for loading and storing C like a full one.
  const blocks = max(1, (k + KC - 1) / KC);
  const depth = (k + blocks - 1) / blocks;
  for (let j = 0; j < n; j += NC) {
    const columns = min(NC, n - j);
    for (let p = 0; p < k; p += depth) {
      const steps = min(depth, k - p);
      const last = p + steps >= k;
      const firstB = transB
        ? b + <usize>j * bStride + ((<usize>p) << 2)
        : b + <usize>p * bStride + ((<usize>j) << 2);
      packB(packedB, firstB, bStride, columns, steps, transB);
      for (let i = 0; i < m; i += MC) {
        const rows = min(MC, m - i);
        const firstA = transA
          ? a + <usize>p * aStride + ((<usize>i) << 2)
          : a + <usize>i * aStride + ((<usize>p) << 2);
        packA(scratch, firstA, aStride, rows, steps, transA);
        multiplyPacked(
          c + <usize>i * cStride + ((<usize>j) << 2), cStride, rows, columns, steps, scratch, packedB,
          p > 0 ? 1 : accumulate, last && bias ? bias + ((<usize>j) << 2) : 0, last ? activation : 0, edge,
        );
      }
    }
  }
}

/** out[n, k] = B [k, n] transposed; B's stride in bytes. */
function transposeColumns(out: usize, b: usize, ldb: usize, n: i32, k: i32): void {
  for (let j = 0; j < n; j++) {
    let at = b + ((<usize>j) << 2);
    for (let p = 0; p < k; p++) {
      store<f32>(out, load<f32>(at));
      out += 4;
      at += ldb;
    }
  }
}

/**
 * C[m, n] += factor·(Aᵀ·B), A [k, m] and B [k, n] without gaps, for k ≤ 384: the product is summed from 0, in order of k,
 * multiplied, and then added. scratch: as of `gemm`.
 */
export function addProduct(
  c: usize, m: i32, n: i32, k: i32, a: usize, b: usize, factor: f32, scratch: usize,
): void {
  const ldc = (<usize>n) << 2;
  const lda = (<usize>m) << 2;
  const packedB = scratch + PACKED_A_BYTES;
  if (n <= FEW_COLUMNS && n != 8) {
    multiplyStreamed(c, 4, ldc, n, m, k, b, 4, ldc, a, lda, ADD, 0, 0, 0, 0, factor, packedB);
    return;
  }
  const edge = packedB + PACKED_B_BYTES;
  for (let j = 0; j < n; j += NC) {
    const columns = min(NC, n - j);
    packB(packedB, b + ((<usize>j) << 2), ldc, columns, k, 0);
    for (let i = 0; i < m; i += MC) {
      const rows = min(MC, m - i);
      packA(scratch, a + ((<usize>i) << 2), lda, rows, k, 1);
      const to = c + <usize>i * ldc + ((<usize>j) << 2);
      addPacked(to, ldc, rows, columns, k, scratch, packedB, edge, factor);
    }
  }
}

/**
 * The micro-kernel alone, `repeats` times on one panel of A [k, 4] and one of B [k, 8] that stay in L1: the
 * ceiling.
 */
export function gemmPeak(c: usize, a: usize, b: usize, k: i32, repeats: i32): void {
  for (let repeat = 0; repeat < repeats; repeat++) tile(c, 32, a, b, k, 1, 0, 0);
}
