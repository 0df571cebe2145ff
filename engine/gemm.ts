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
}

/** C [m, n] = A [m, k] · B [k, n], all row-major, with what can be fused into it. */
export function gemm(
  engine: Engine,
  [m, n, k]: readonly [number, number, number],
  a: Stored,
  b: Stored,
  c: number,
  { accumulate = false, bias = 0, relu = false }: GemmOptions = {},
): void {
  const { kernels } = engine;
  if (k === 0) {
    // The kernel wants at least one term: an empty batch, or no features.
    if (bias !== 0) kernels.copyStrided(c, bias, 1, 1, m, n, 0, 0, 0, 1);
    else if (!accumulate) kernels.fill(c, 0, m * n);
    if (relu) kernels.relu(c, c, m * n);
    return;
  }
  kernels.gemm(
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
    engine.gemmScratch,
  );
}
