import { GradshapeError } from '../../engine/index.js';
import { type Filtered, type FilterOptions, keepLowest } from './filter.js';

/**
 * Removes what a model trained on the whole set finds hard: the examples of the highest loss (Koh, Steinhardt and Liang
 * 2022, "loss").
 * @param losses one an example, as `exampleLosses` gives them
 * @throws FILTER_INVALID, SHAPE_MISMATCH
 */
export function lossFilter(
  y: ArrayLike<number>,
  losses: ArrayLike<number>,
  options: FilterOptions = {},
): Filtered {
  if (losses.length !== y.length) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `lossFilter: ${losses.length} losses for ${y.length} examples.`,
    );
  }
  return keepLowest('lossFilter', y, Float64Array.from(losses), options);
}
