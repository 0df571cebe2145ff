import type { Engine } from '../engine.js';
import { gemm, type Stored } from '../gemm.js';
import type { PerExampleRule, Use } from '../op.js';
import { addressOf, knownRows, type Tensor } from '../tensor.js';

/** The sides of a weight's gradient: example i's is Σ_t a[i, t]ᵀ · b[i, t]. */
type Sides<A> = (use: Use<A>) => readonly [a: Tensor, b: Tensor];

const columnsOf = (t: Tensor): number => t.shape[t.rank - 1]!;
const stored = (t: Tensor, transposed = false): Stored => ({
  address: addressOf(t),
  columns: columnsOf(t),
  transposed,
});
/** Rows of `t` an example has. */
const positionsOf = (t: Tensor, batch: number): number => (batch === 0 ? 1 : t.size / batch / columnsOf(t));

/** The most positions whose products one block of the matrix product sums from 0. */
export const mostGhostPositions = 384;

/**
 * The examples of weight 0 left out, where they are more than half: sums over a small group, such as the poisons, then cost
 * what its size does. Null where all are kept.
 */
function fewExamples(
  engine: Engine,
  weights: number,
  batch: number,
  sides: readonly number[],
  columns: readonly number[],
): { count: number; weights: number; rows: number[] } | null {
  const { kernels } = engine;
  const count = kernels.countNonZero(weights, batch);
  if (2 * count >= batch) return null;
  const kept = engine.allocate([count], 'f32', 'weightedSums').address;
  kernels.keepRows(kept, weights, weights, batch, 1);
  const rows = sides.map((side, i) => {
    const { address } = engine.allocate([count, columns[i]!], 'f32', 'weightedSums');
    kernels.keepRows(address, side, weights, batch, columns[i]!);
    return address;
  });
  return { count, weights: kept, rows };
}

interface Factors {
  readonly a: Tensor;
  readonly b: Tensor;
  readonly positions: number;
  readonly inner: number;
  readonly outer: number;
}

/**
 * out += Σᵢ wᵢ·(Σ_t a[i, t]ᵀ · b[i, t]) over the examples from…to−1: one product Aᵀ · diag(w) · B (book-keeping, Bu et al. 2023)
 * where each has one position, else each example's product by itself.
 */
function addProducts(
  { engine, kernels }: Pick<Use, 'engine' | 'kernels'>,
  { a, b, positions, inner, outer }: Factors,
  weights: number,
  from: number,
  to: number,
  out: number,
): void {
  const left = addressOf(a) + from * positions * inner * 4;
  const right = b.address + from * positions * outer * 4;
  if (positions > 1) {
    const { gemmScratch } = engine;
    kernels.sumOverPositions(out, left, right, weights, to - from, positions, inner, outer, gemmScratch);
    return;
  }
  const few = fewExamples(engine, weights, to - from, [left, right], [inner, outer]);
  const count = few?.count ?? to - from;
  const [rowsA, rowsB] = few?.rows ?? [left, right];
  const scaled = engine.allocate([count, outer], 'f32', 'weightedSums').address;
  kernels.scaleFactors(scaled, rowsB!, few?.weights ?? weights, count, outer);
  gemm(
    engine,
    [inner, outer, count],
    { address: rowsA!, columns: inner, transposed: true },
    { address: scaled, columns: outer },
    out,
    { accumulate: true },
  );
}

/**
 * A weight in a matrix product with the batch: ghost norms (Goodfellow 2015 for one position, Li et al. 2022 for
 * more), and sums of weighted gradients as one product Aᵀ · diag(w) · B (book-keeping, Bu et al. 2023).
 */
export function denseWeightRule<A>(sides: Sides<A>): PerExampleRule<A> {
  const factors = (use: Use<A>): Factors => {
    const [a, b] = sides(use);
    return { a, b, positions: positionsOf(a, use.batch), inner: columnsOf(a), outer: columnsOf(b) };
  };
  return {
    instantiate(use, out, stride, accumulate) {
      const { a, b, positions, inner, outer } = factors(use);
      const add = accumulate ? 1 : 0;
      use.kernels.instantiateDense(
        out,
        addressOf(a),
        b.address,
        use.batch,
        positions,
        inner,
        outer,
        stride,
        add,
      );
    },
    weightedSum(use, weights, out, accumulate) {
      const { a, b, positions, inner, outer } = factors(use);
      if (weights === 0) {
        const left = { address: addressOf(a), columns: inner, transposed: true };
        const right = { address: b.address, columns: outer };
        gemm(use.engine, [inner, outer, use.batch * positions], left, right, out, { accumulate });
        return;
      }
      if (!accumulate) use.kernels.fill(out, 0, inner * outer);
      addProducts(use, factors(use), weights, 0, use.batch, out);
    },
    ghost: {
      addRange: (use, weights, from, to, out) => addProducts(use, factors(use), weights, from, to, out),
      positions: (use) => factors(use).positions,
      cheaper(use) {
        const { positions, inner, outer } = factors(use);
        const fewer = 2 * positions * positions < inner * outer && positions <= mostGhostPositions;
        return positions === 1 || fewer;
      },
      squaredNorms(use, out, terms) {
        const { a, b, positions, inner, outer } = factors(use);
        const known = knownRows(a);
        if (positions === 1 && known !== null) {
          const { squaredNorms, indices } = known;
          use.kernels.ghostNormsKnown(
            out,
            squaredNorms().address,
            addressOf(indices),
            b.address,
            use.batch,
            outer,
          );
          return;
        }
        use.kernels.ghostNorms(out, terms, addressOf(a), b.address, use.batch, positions, inner, outer, 0);
      },
      dots(use, direction, out) {
        // ⟨Σ_t aᵀb, V⟩ = Σ_t ⟨a·V, b⟩
        const { a, b, positions, inner, outer } = factors(use);
        const rows = use.batch * positions;
        const product = use.engine.allocate([rows, outer], 'f32', 'dots');
        gemm(
          use.engine,
          [rows, outer, inner],
          stored(a),
          { address: direction, columns: outer },
          product.address,
        );
        use.kernels.rowDots(out, product.address, b.address, use.batch, positions * outer, 0);
      },
    },
  };
}

/** A bias added to every row: each example's gradient is the sum of its rows of dOutput. */
export const denseBiasRule: PerExampleRule<unknown> = {
  instantiate({ kernels, batch, dOutput }, out, stride, accumulate) {
    const positions = positionsOf(dOutput, batch);
    const add = accumulate ? 1 : 0;
    kernels.instantiateRowSums(out, dOutput.address, batch, positions, columnsOf(dOutput), stride, add);
  },
  weightedSum(use, weights, out, accumulate) {
    const { kernels, batch, dOutput } = use;
    const columns = columnsOf(dOutput);
    const positions = positionsOf(dOutput, batch);
    let rows = dOutput.address;
    if (weights !== 0 && positions > 1) {
      rows = use.engine.allocate([batch, columns], 'f32', 'weightedSums').address;
      kernels.instantiateRowSums(rows, dOutput.address, batch, positions, columns, columns, 0);
    }
    const count = weights === 0 ? batch * positions : batch;
    kernels.columnSums(out, rows, weights, count, columns, accumulate ? 1 : 0);
  },
  // At one position, the gradients are dOutput's rows.
  ghost: {
    addRange({ kernels, dOutput }, weights, from, to, out) {
      const columns = columnsOf(dOutput);
      kernels.columnSums(out, dOutput.address + from * columns * 4, weights, to - from, columns, 1);
    },
    positions: ({ batch, dOutput }) => positionsOf(dOutput, batch),
    cheaper: ({ batch, dOutput }) => positionsOf(dOutput, batch) === 1,
    squaredNorms({ kernels, batch, dOutput }, out) {
      kernels.rowSquaredNorms(out, dOutput.address, batch, columnsOf(dOutput), 0);
    },
    dots({ engine, kernels, batch, dOutput }, direction, out) {
      const size = columnsOf(dOutput);
      const dots = new Float64Array(engine.memory.wasm.buffer, out, batch);
      for (let i = 0; i < batch; i++) dots[i] = kernels.dot(dOutput.address + i * size * 4, direction, size);
    },
  },
};
