import { choose, type Engine, matmul, publicGenerator, transpose } from '../../engine/index.js';
import type { Rows } from '../sphere-and-slab.js';
import { dot, orthonormal, type Vector } from '../vectors.js';

/** Rows whose products are summed at a time. */
const tile = 2048;
const iterations = 60;

/**
 * The leading right singular vectors of rows (minus a centre): where the rows spread most. As many as asked for, or as
 * there are. Their second moments [size, size] by the engine, then orthogonal iteration on them in float64.
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
    const images = basis.map((direction) => {
      const image = Float64Array.from(moments, (row) => dot(row, direction));
      return { image, strength: dot(image, direction) };
    });
    images.sort((a, b) => b.strength - a.strength);
    basis = orthonormal(images.map(({ image }) => image));
  }
  return basis.slice(0, count);
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
