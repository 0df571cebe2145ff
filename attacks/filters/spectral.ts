import type { Engine } from '../../engine/index.js';
import { centroid, type Rows } from '../sphere-and-slab.js';
import { dot, dotAt } from '../vectors.js';
import {
  checkCount,
  checkShare,
  classesOf,
  type Filtered,
  type FilterOptions,
  keepLowest,
  membersOf,
} from './filter.js';
import { leadingDirections } from './principal.js';

/**
 * Removes what the leading singular vectors of the whole set don't explain: the squared length of x outside their span
 * (Rubinstein et al. 2009; Koh, Steinhardt and Liang 2022, "SVD").
 * @throws FILTER_INVALID
 */
export function svdFilter(
  engine: Engine,
  rows: Rows,
  { rank = 5, keep = 0.95 }: FilterOptions & { readonly rank?: number } = {},
): Filtered {
  checkCount('svdFilter', 'rank', rank);
  checkShare('svdFilter', 'keep', keep);
  const { x, y, size } = rows;
  const directions = leadingDirections(engine, rows, Array.from(Array.from(y).keys()), null, rank);
  const scores = Float64Array.from(y, (_, i) => {
    const row = x.subarray(i * size, (i + 1) * size);
    return directions.reduce((rest, direction) => rest - squared(dotAt(row, 0, direction)), dot(row, row));
  });
  return keepLowest('svdFilter', y, scores, { keep });
}

/**
 * Spectral signatures (Tran, Li and Madry 2018): the squared length along the top singular vector of a class's centred
 * features. Features are a network's last hidden layer, or the inputs of a linear model.
 * @throws FILTER_INVALID
 */
export function spectralFilter(engine: Engine, features: Rows, options: FilterOptions = {}): Filtered {
  const { x, y, size } = features;
  const scores = new Float64Array(y.length);
  for (const label of classesOf(y)) {
    const members = membersOf(y, label);
    const centre = centroid(features, label);
    const [top] = leadingDirections(engine, features, members, centre, 1);
    if (top === undefined) continue;
    const shift = dot(centre, top);
    for (const i of members) scores[i] = squared(dotAt(x, i * size, top) - shift);
  }
  return keepLowest('spectralFilter', y, scores, options);
}

const squared = (value: number): number => value * value;
