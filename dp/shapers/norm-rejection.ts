import { GradshapeError } from '../../engine/index.js';
import type { Shaper } from '../shaper.js';
import { checkShaper, median, slack, weightsFrom } from './weights.js';

export interface NormRejectionOptions {
  /** Gradients with a larger norm are left out. */
  readonly maxNorm?: number;
  /** Or those whose norm is more than this many times the batch's median norm. */
  readonly factor?: number;
}

/**
 * Leaves out gradients with large norms; the others stay as they are. With a fixed `maxNorm` each example's part is its own
 * affair and bounded by it, so the rule has a guarantee as clipping has. With a `factor` of the batch's median there is none, and
 * the whole batch is needed.
 * @throws SHAPER_INVALID
 * @example normRejection({ factor: 3 })
 */
export function normRejection({ maxNorm, factor }: NormRejectionOptions): Shaper {
  if ((maxNorm === undefined) === (factor === undefined)) {
    throw new GradshapeError(
      'SHAPER_INVALID',
      'normRejection: expected either maxNorm, or a factor of the median norm.',
    );
  }
  const limit = (maxNorm ?? factor)!;
  const name = maxNorm === undefined ? 'factor' : 'maxNorm';
  checkShaper(`normRejection: ${name}`, limit, limit > 0 && limit < Infinity, 'a finite number above 0');
  return {
    name: 'normRejection',
    wholeBatch: maxNorm === undefined,
    bound: () => maxNorm ?? null,
    accumulate(g, sum, { tightening }) {
      const norms = g.norms();
      const largest =
        maxNorm === undefined
          ? limit * median(norms.values().filter(Number.isFinite))
          : maxNorm * tightening * slack;
      const weights = weightsFrom(norms, (norm) => (norm <= largest ? 1 : 0));
      g.weightedSums([weights], [sum]);
      return weights;
    },
    toString: () => `normRejection(${name} ${limit})${maxNorm === undefined ? ', no guarantee' : ''}`,
  };
}
