import { checkClipNorm, clipFactors } from '../clip.js';
import { type Scheduled, valueAt } from '../schedules.js';
import type { Shaper } from '../shaper.js';

/**
 * Flat clipping (Abadi et al. 2016, Algorithm 1): each gradient times min(1, C/‖g‖). Bound: C; none when C is Infinity.
 * @param options clipNorm: C, or a schedule of it
 * @throws CLIP_NORM_INVALID
 * @example flatClipping({ clipNorm: geometricSchedule({ from: 4, factor: 0.5, every: 500 }) })
 */
export function flatClipping({ clipNorm }: { readonly clipNorm: Scheduled }): Shaper {
  const at = (step: number): number => {
    const value = valueAt('flatClipping', clipNorm, step);
    checkClipNorm(typeof clipNorm === 'number' ? 'flatClipping' : `flatClipping: at step ${step}`, value);
    return value;
  };
  at(0);
  return {
    name: 'flatClipping',
    wholeBatch: false,
    bound(step) {
      const value = at(step);
      return value === Infinity ? null : value;
    },
    accumulate(g, sum, { step, tightening, bound = at(step) }) {
      const factors = clipFactors(g.norms(), { clipNorm: (bound ?? Infinity) * tightening });
      g.weightedSums([factors], [sum]);
      return factors;
    },
    toString: () => `flatClipping(${typeof clipNorm === 'number' ? clipNorm : 'by schedule'})`,
  };
}
