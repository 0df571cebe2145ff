import { GradshapeError } from '../../engine/index.js';
import { centroid, distances, type Rows } from '../sphere-and-slab.js';
import { minus, type Vector } from '../vectors.js';
import { classesOf, type Filtered, type FilterOptions, keepLowest, membersOf } from './filter.js';

/** Removes what lies far from its class's centroid: ‖x − μ‖ (Steinhardt, Koh and Liang 2017, "sphere"). @throws FILTER_INVALID */
export function sphereFilter(rows: Rows, options: FilterOptions = {}): Filtered {
  const scores = new Float64Array(rows.y.length);
  for (const label of classesOf(rows.y)) {
    const centre = centroid(rows, label);
    assign(scores, rows, label, distances(rows, label, centre, centre).sphere);
  }
  return keepLowest('sphereFilter', rows.y, scores, options);
}

/**
 * Removes what lies far from its class's centroid along the line between the two centroids: |⟨x − μ, μ₁ − μ₀⟩|
 * (Steinhardt, Koh and Liang 2017, "slab"). For two classes.
 * @throws FILTER_INVALID, CLASSES_NOT_TWO
 */
export function slabFilter(rows: Rows, options: FilterOptions = {}): Filtered {
  const classes = classesOf(rows.y);
  if (classes.length !== 2) {
    throw new GradshapeError(
      'CLASSES_NOT_TWO',
      `slabFilter: the set has ${classes.length} classes; expected two, since the slab lies across the line between two centroids.`,
    );
  }
  const centres = classes.map((label) => centroid(rows, label)) as [Vector, Vector];
  const axis = minus(centres[1], centres[0]);
  const scores = new Float64Array(rows.y.length);
  classes.forEach((label, i) => {
    assign(scores, rows, label, distances(rows, label, centres[i]!, axis).slab);
  });
  return keepLowest('slabFilter', rows.y, scores, options);
}

function assign(scores: Float64Array, { y }: Rows, label: number, values: readonly number[]): void {
  membersOf(y, label).forEach((example, i) => {
    scores[example] = values[i]!;
  });
}
