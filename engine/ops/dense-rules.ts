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

/** One weight an example → one an example and position; 0 (all ones) stays 0. */
function weightsByRow(
  use: Pick<Use, 'engine' | 'kernels' | 'batch'>,
  weights: number,
  positions: number,
): number {
  if (weights === 0 || positions === 1) return weights;
  const rows = use.engine.allocate([use.batch * positions], 'f32', 'weightedSums');
  use.kernels.copyStrided(rows.address, weights, 1, 1, use.batch, positions, 0, 0, 1, 0);
  return rows.address;
}

/** A product with so few columns leaves examples of weight 0 out by itself, in place. */
const streamedColumns = 7;

/**
 * The examples of weight 0 left out, where they are more than half of the batch: sums over a small group, such as the
 * poisons, then cost what its size does. Null where all are kept.
 */
function fewExamples(
  { engine, kernels, batch }: Pick<Use, 'engine' | 'kernels' | 'batch'>,
  weights: number,
  sides: readonly Tensor[],
): { count: number; weights: number; rows: number[] } | null {
  if (weights === 0) return null;
  const kept = engine.allocate([batch], 'f32', 'weightedSums').address;
  const count = kernels.keepRows(kept, weights, weights, batch, 1);
  if (2 * count >= batch) return null;
  const rows = sides.map((side) => {
    const size = side.size / batch;
    const { address } = engine.allocate([count, size], 'f32', 'weightedSums');
    kernels.keepRows(address, addressOf(side), weights, batch, size);
    return address;
  });
  return { count, weights: kept, rows };
}

/**
 * A weight in a matrix product with the batch: ghost norms (Goodfellow 2015 for one position, Li et al. 2022 for
 * more), and sums of weighted gradients as one product Aᵀ · diag(w) · B (book-keeping, Bu et al. 2023).
 */
export function denseWeightRule<A>(sides: Sides<A>): PerExampleRule<A> {
  const factors = (use: Use<A>) => {
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
      const few = outer <= streamedColumns ? null : fewExamples(use, weights, [a, b]);
      const batch = few?.count ?? use.batch;
      const scaleK = weightsByRow({ ...use, batch }, few?.weights ?? weights, positions);
      const left = { address: few?.rows[0] ?? addressOf(a), columns: inner, transposed: true };
      const right = { address: few?.rows[1] ?? b.address, columns: outer };
      gemm(use.engine, [inner, outer, batch * positions], left, right, out, { accumulate, scaleK });
    },
    ghost: {
      cheaper(use) {
        const { positions, inner, outer } = factors(use);
        return positions === 1 || 2 * positions * positions < inner * outer;
      },
      squaredNorms(use, out) {
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
        use.kernels.ghostNorms(out, addressOf(a), b.address, use.batch, positions, inner, outer, 0);
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
    const positions = positionsOf(dOutput, batch);
    const scale = weightsByRow(use, weights, positions);
    kernels.columnSums(
      out,
      dOutput.address,
      scale,
      batch * positions,
      columnsOf(dOutput),
      accumulate ? 1 : 0,
    );
  },
  // At one position, the gradients are dOutput's rows.
  ghost: {
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
