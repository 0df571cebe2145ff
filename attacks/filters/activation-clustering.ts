import type { Engine } from '../../engine/index.js';
import { centroid, type Rows } from '../sphere-and-slab.js';
import { dot, dotAt, minus, type Vector } from '../vectors.js';
import { checkCount, classesOf, type Filtered, type FilterOptions, keepLowest, membersOf } from './filter.js';
import { leadingDirections } from './principal.js';

/**
 * Activation clustering (Chen et al. 2018): the features of each class, reduced to `dimensions`, fall into two clusters,
 * and the smaller one is suspicious. The score is how much nearer an example lies to the smaller cluster's centre. The
 * authors reduce by ICA; this by PCA, which 2-means cannot tell from a rotation of it.
 * @throws FILTER_INVALID
 */
export function activationClusteringFilter(
  engine: Engine,
  features: Rows,
  { dimensions = 10, keep = 0.95 }: FilterOptions & { readonly dimensions?: number } = {},
): Filtered {
  checkCount('activationClusteringFilter', 'dimensions', dimensions);
  const { x, y, size } = features;
  const scores = new Float64Array(y.length);
  for (const label of classesOf(y)) {
    const members = membersOf(y, label);
    const centre = centroid(features, label);
    const directions = leadingDirections(engine, features, members, centre, dimensions);
    const shifts = directions.map((direction) => dot(centre, direction));
    const points = Array.from(members, (i) =>
      Float64Array.from(directions, (direction, k) => dotAt(x, i * size, direction) - shifts[k]!),
    );
    const { small, large } = twoMeans(points);
    members.forEach((example, i) => {
      scores[example] = squaredDistance(points[i]!, large) - squaredDistance(points[i]!, small);
    });
  }
  return keepLowest('activationClusteringFilter', y, scores, { keep });
}

function squaredDistance(a: Vector, b: Vector): number {
  const offset = minus(a, b);
  return dot(offset, offset);
}

/** 2-means (Lloyd) from the two ends of the first axis; the centres of the smaller and the larger cluster. */
function twoMeans(points: readonly Vector[]): { small: Vector; large: Vector } {
  const byFirst = [...points].sort((a, b) => (a[0] ?? 0) - (b[0] ?? 0));
  let centres = [byFirst[0]!, byFirst.at(-1)!];
  let counts = [0, 0];
  for (let iteration = 0; iteration < 100; iteration++) {
    const sums = centres.map((centre) => new Float64Array(centre.length));
    counts = [0, 0];
    for (const point of points) {
      const nearest = squaredDistance(point, centres[1]!) < squaredDistance(point, centres[0]!) ? 1 : 0;
      counts[nearest]!++;
      point.forEach((value, j) => {
        sums[nearest]![j]! += value;
      });
    }
    const next = sums.map((sum, k) =>
      counts[k] === 0 ? centres[k]! : sum.map((value) => value / counts[k]!),
    );
    const moved = next.reduce((total, centre, k) => total + squaredDistance(centre, centres[k]!), 0);
    centres = next;
    if (moved === 0) break;
  }
  const [first, second] = centres as [Vector, Vector];
  return counts[0]! <= counts[1]! ? { small: first, large: second } : { small: second, large: first };
}
