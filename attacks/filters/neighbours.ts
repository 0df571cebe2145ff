import { type Engine, matmul, transpose } from '../../engine/index.js';
import type { Rows } from '../sphere-and-slab.js';
import { dot } from '../vectors.js';
import {
  checkCount,
  classesOf,
  type Filtered,
  type FilterOptions,
  keepLowest,
  membersOf,
  selectRows,
} from './filter.js';

/** Rows whose distances are computed at a time. */
const tile = 256;

/**
 * Removes what is far from its neighbours: the distance to the k-th nearest other example of the class (Koh, Steinhardt
 * and Liang 2022, "k-NN"). Takes n²·features multiplications; copies of one point are each other's neighbours.
 * @throws FILTER_INVALID
 */
export function nearestNeighbourFilter(
  engine: Engine,
  rows: Rows,
  { neighbours = 5, keep = 0.95 }: FilterOptions & { readonly neighbours?: number } = {},
): Filtered {
  checkCount('nearestNeighbourFilter', 'neighbours', neighbours);
  const scores = new Float64Array(rows.y.length);
  for (const label of classesOf(rows.y)) {
    const members = membersOf(rows.y, label);
    const { x, size } = selectRows(rows, members);
    const n = members.length;
    const squares = Float64Array.from(members, (_, i) => {
      const row = x.subarray(i * size, (i + 1) * size);
      return dot(row, row);
    });
    using all = engine.block(x, [n, size]);
    for (let from = 0; from < n; from += tile) {
      const height = Math.min(tile, n - from);
      engine.scope(() => {
        const some = engine.tensor(x.subarray(from * size, (from + height) * size), [height, size]);
        const products = matmul(some, transpose(all)).view();
        for (let i = 0; i < height; i++) {
          const row = products.subarray(i * n, (i + 1) * n);
          scores[members[from + i]!] = kthDistance(row, squares, from + i, neighbours);
        }
      });
    }
  }
  return keepLowest('nearestNeighbourFilter', rows.y, scores, { keep });
}

/** The distance of example `self` to its k-th nearest other, from products ⟨x, xⱼ⟩; to the farthest where there are fewer. */
function kthDistance(products: ArrayLike<number>, squares: Float64Array, self: number, k: number): number {
  const nearest: number[] = [];
  let limit = Infinity;
  for (let j = 0; j < squares.length; j++) {
    const squared = squares[self]! + squares[j]! - 2 * products[j]!;
    if (squared >= limit || j === self) continue;
    let at = nearest.length;
    while (at > 0 && nearest[at - 1]! > squared) at--;
    nearest.splice(at, 0, squared);
    if (nearest.length > k) nearest.pop();
    if (nearest.length === k) limit = nearest[k - 1]!;
  }
  return Math.sqrt(Math.max(0, nearest.at(-1) ?? 0));
}
