import type { Shaper } from '../shaper.js';
import { checkedOptions, type GeometricMedianOptions, weiszfeld } from './geometric-median.js';
import { weightsFrom } from './weights.js';

/**
 * Down-weighting by direction (after FLTrust: Cao et al. 2021, with a robust centre in place of a trusted set): each gradient's weight
 * is max(0, cos) of its angle to the batch's geometric median, and the weights add up to the batch. What points away counts
 * nothing. From norms, dot products and weighted sums alone. No guarantee. Needs the whole batch.
 * @throws SHAPER_INVALID
 * @example cosineWeighting({ iterations: 4 })
 */
export function cosineWeighting(options: GeometricMedianOptions = {}): Shaper {
  const { iterations } = checkedOptions('cosineWeighting', options);
  return {
    name: 'cosineWeighting',
    wholeBatch: true,
    bound: () => null,
    accumulate(g, sum) {
      if (g.batch === 0) return [];
      const { centre, finite } = weiszfeld(g, options);
      const along = g.dots(centre).view();
      const length = Math.sqrt(centre.engine.kernels.squaredNorm(centre.address, centre.size));
      const cosines = weightsFrom(g.norms(), (norm, i) =>
        norm * length > 0 ? Math.max(along[i]! / (norm * length), 0) : 0,
      );
      const total = cosines.reduce((a, b) => a + b, 0);
      const weights = cosines.map((cosine) => (total > 0 ? (cosine * finite) / total : 0));
      if (total > 0) g.weightedSums([weights], [sum]);
      return weights;
    },
    toString: () => `cosineWeighting(${iterations} iterations), no guarantee`,
  };
}
