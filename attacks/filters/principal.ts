import { choose, publicGenerator } from '../../engine/index.js';
import type { Rows } from '../sphere-and-slab.js';
import { addTo, dot, dotAt, orthonormal, type Vector } from '../vectors.js';

/**
 * The leading right singular vectors of rows (minus a centre), by orthogonal iteration: they lie where the rows spread
 * most. As many as asked for, or as there are.
 */
export function leadingDirections(
  { x, size }: Pick<Rows, 'x' | 'size'>,
  members: ArrayLike<number>,
  centre: Vector | null,
  count: number,
  iterations = 30,
): Vector[] {
  const n = members.length;
  const starts = choose(Math.min(n, 2 * count + 4), n, publicGenerator(0, 'data'));
  // More vectors than asked for: the wanted ones then settle sooner.
  let basis = orthonormal(
    Array.from(starts, (i) => {
      const at = members[i]! * size;
      return Float64Array.from(x.subarray(at, at + size), (value, j) => value - (centre?.[j] ?? 0));
    }),
  );
  for (let iteration = 0; iteration < iterations && basis.length > 0; iteration++) {
    const images = basis.map((direction) => {
      const shift = centre === null ? 0 : dot(centre, direction);
      const image = new Float64Array(size);
      let total = 0;
      for (let i = 0; i < n; i++) {
        const along = dotAt(x, members[i]! * size, direction) - shift;
        addTo(image, along, x, members[i]! * size);
        total += along;
      }
      if (centre !== null) addTo(image, -total, centre);
      return { image, strength: dot(image, direction) };
    });
    images.sort((a, b) => b.strength - a.strength);
    basis = orthonormal(images.map(({ image }) => image));
  }
  return basis.slice(0, count);
}
