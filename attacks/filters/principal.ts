import { choose, type Engine, matmul, publicGenerator, transpose } from '../../engine/index.js';
import type { Rows } from '../sphere-and-slab.js';
import { combine, dot, orthonormal, type Vector } from '../vectors.js';

/** Rows whose products are summed at a time. */
const tile = 2048;
const iterations = 60;

/**
 * The leading right singular vectors of rows (minus a centre): where the rows spread most. As many as asked for, or as
 * there are. Their second moments [size, size] by the engine, then subspace iteration on them in float64, and Rayleigh and
 * Ritz's step in the subspace (Saad 2011, algorithm 5.3).
 */
export function leadingDirections(
  engine: Engine,
  { x, size }: Pick<Rows, 'x' | 'size'>,
  members: ArrayLike<number>,
  centre: Vector | null,
  count: number,
): Vector[] {
  const moments = secondMoments(engine, x, size, members, centre);
  const starts = choose(Math.min(members.length, 2 * count + 4), members.length, publicGenerator(0, 'data'));
  // More vectors than asked for: the wanted ones then settle sooner.
  let basis = orthonormal(
    Array.from(starts, (i) => {
      const at = members[i]! * size;
      return Float64Array.from(x.subarray(at, at + size), (value, j) => value - (centre?.[j] ?? 0));
    }),
  );
  for (let iteration = 0; iteration < iterations && basis.length > 0; iteration++) {
    basis = orthonormal(basis.map((direction) => imageOf(moments, direction)));
  }
  const images = basis.map((direction) => imageOf(moments, direction));
  const within = basis.map((a) => Float64Array.from(images, (image) => dot(a, image)));
  return eigenvectors(within)
    .slice(0, count)
    .map((weights) => combine(weights, basis));
}

const imageOf = (matrix: readonly Vector[], vector: Vector): Vector =>
  Float64Array.from(matrix, (row) => dot(row, vector));

/** The eigenvectors of a small symmetric matrix, those of the largest eigenvalues first (Jacobi's rotations). */
function eigenvectors(matrix: readonly Vector[]): number[][] {
  const n = matrix.length;
  const a = matrix.map((row) => row.slice());
  const vectors = a.map((_, i) => Array.from({ length: n }, (_, j) => (i === j ? 1 : 0)));
  for (let sweep = 0; sweep < 30; sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (Math.abs(a[p]![q]!) < 1e-17 * (a[p]![p]! + a[q]![q]!)) continue;
        const ratio = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!);
        const tan = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.sqrt(ratio * ratio + 1));
        const cos = 1 / Math.sqrt(tan * tan + 1);
        const sin = tan * cos;
        rotate(vectors[p]!, vectors[q]!, cos, sin);
        rotate(a[p]!, a[q]!, cos, sin);
        for (const row of a) {
          const [first, second] = [row[p]!, row[q]!];
          row[p] = cos * first - sin * second;
          row[q] = sin * first + cos * second;
        }
      }
    }
  }
  return Array.from(vectors.keys())
    .sort((i, j) => a[j]![j]! - a[i]![i]!)
    .map((i) => vectors[i]!);
}

function rotate(one: Vector | number[], other: Vector | number[], cos: number, sin: number): void {
  for (let i = 0; i < one.length; i++) {
    const [first, second] = [one[i]!, other[i]!];
    one[i] = cos * first - sin * second;
    other[i] = sin * first + cos * second;
  }
}

/** Σ (x − centre)(x − centre)ᵀ, a vector a row. */
function secondMoments(
  engine: Engine,
  x: Float32Array,
  size: number,
  members: ArrayLike<number>,
  centre: Vector | null,
): Vector[] {
  const sums = Array.from({ length: size }, () => new Float64Array(size));
  for (let from = 0; from < members.length; from += tile) {
    const height = Math.min(tile, members.length - from);
    const part = new Float32Array(height * size);
    for (let i = 0; i < height; i++) {
      const at = members[from + i]! * size;
      for (let j = 0; j < size; j++) part[i * size + j] = x[at + j]! - (centre === null ? 0 : centre[j]!);
    }
    engine.scope(() => {
      const rows = engine.tensor(part, [height, size]);
      const products = matmul(transpose(rows), rows).view();
      sums.forEach((sum, i) => {
        for (let j = 0; j < size; j++) sum[j]! += products[i * size + j]!;
      });
    });
  }
  return sums;
}
