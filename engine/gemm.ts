import type { Engine } from './engine.js';

/** A matrix as stored: its address, the length of a stored row, and whether it is read transposed. */
export interface Stored {
  readonly address: number;
  readonly columns: number;
  readonly transposed?: boolean;
}

export interface GemmOptions {
  /** Add to C instead of overwriting it. */
  readonly accumulate?: boolean;
  /** Address of n numbers added to each row, or 0. */
  readonly bias?: number;
  readonly relu?: boolean;
  /** Address of k factors, one for each index that is summed over, or 0. */
  readonly scaleK?: number;
}

/** C [m, n] = A [m, k] · B [k, n], all row-major, with what can be fused into it. */
export function gemm(
  engine: Engine,
  [m, n, k]: readonly [number, number, number],
  a: Stored,
  b: Stored,
  c: number,
  { accumulate = false, bias = 0, relu = false, scaleK = 0 }: GemmOptions = {},
): void {
  if (k === 0) {
    // A sum over no examples: the kernel starts from its first one.
    if (!accumulate) engine.kernels.fill(c, 0, m * n);
    return;
  }
  engine.kernels.gemm(
    a.transposed ? 1 : 0,
    b.transposed ? 1 : 0,
    m,
    n,
    k,
    a.address,
    a.columns,
    b.address,
    b.columns,
    c,
    n,
    accumulate ? 1 : 0,
    bias,
    relu ? 1 : 0,
    scaleK,
    engine.gemmScratch,
  );
}
