import type { PerExampleGradients, Tensor } from '../../engine/index.js';
import type { Shaper } from '../shaper.js';
import { checkShaper } from './weights.js';

export interface GeometricMedianOptions {
  /** Weiszfeld's iterations: each takes the dot products with the centre and one weighted sum. @default 8 */
  readonly iterations?: number;
  /** Distances below this share of the root mean square norm count as it (smoothing). @default 1e-3 */
  readonly smoothing?: number;
}

/**
 * The geometric median, the point with the smallest sum of distances to the gradients, times the batch (RFA: Pillutla et
 * al. 2022, smoothed Weiszfeld). From norms, dot products and weighted sums alone: ‖gᵢ − z‖² = ‖gᵢ‖² − 2⟨gᵢ, z⟩ + ‖z‖². No
 * guarantee: one example moves the weights of the others. Needs the whole batch.
 * @throws SHAPER_INVALID
 * @example geometricMedian({ iterations: 8 })
 */
export function geometricMedian(options: GeometricMedianOptions = {}): Shaper {
  const { iterations } = checkedOptions('geometricMedian', options);
  return {
    name: 'geometricMedian',
    wholeBatch: true,
    bound: () => null,
    accumulate(g, sum) {
      if (g.batch === 0) return [];
      const { weights: shares, finite } = weiszfeld(g, options);
      const weights = shares.map((share) => share * finite);
      g.weightedSums([weights], [sum]);
      return weights;
    },
    toString: () => `geometricMedian(${iterations} iterations), no guarantee`,
  };
}

export function checkedOptions(
  caller: string,
  { iterations = 8, smoothing = 1e-3 }: GeometricMedianOptions,
): Required<GeometricMedianOptions> {
  checkShaper(
    `${caller}: iterations`,
    iterations,
    Number.isSafeInteger(iterations) && iterations >= 1,
    'a whole number from 1',
  );
  checkShaper(
    `${caller}: smoothing`,
    smoothing,
    smoothing > 0 && smoothing < Infinity,
    'a finite number above 0',
  );
  return { iterations, smoothing };
}

/** The examples' weights in their geometric median, which add up to 1; 0 for gradients that are not finite. */
export function weiszfeld(
  g: PerExampleGradients,
  options: GeometricMedianOptions,
): { weights: Float32Array; centre: Tensor; finite: number } {
  const { iterations, smoothing } = checkedOptions('geometricMedian', options);
  const squared = g.norms().squared.values() as Float64Array;
  const finite = squared.reduce((count, norm) => count + (Number.isFinite(norm) ? 1 : 0), 0);
  const total = squared.reduce((sum, norm) => sum + (Number.isFinite(norm) ? norm : 0), 0);
  const nearest = smoothing * Math.sqrt(total / Math.max(finite, 1));
  const weights = new Float32Array(g.batch);
  squared.forEach((norm, i) => {
    if (Number.isFinite(norm)) weights[i] = 1 / finite;
  });
  const [centre] = g.weightedSums([weights]) as [Tensor];
  const { kernels } = centre.engine;
  for (let iteration = 0; iteration < iterations && nearest > 0; iteration++) {
    const along = g.dots(centre).view();
    const length = kernels.squaredNorm(centre.address, centre.size);
    let sum = 0;
    const inverse = squared.map((norm, i) => {
      if (!Number.isFinite(norm)) return 0;
      const distance = Math.sqrt(Math.max(norm - 2 * along[i]! + length, 0));
      const weight = 1 / Math.max(distance, nearest);
      sum += weight;
      return weight;
    });
    for (let i = 0; i < weights.length; i++) weights[i] = inverse[i]! / sum;
    kernels.fill(centre.address, 0, centre.size);
    g.weightedSums([weights], [centre]);
  }
  return { weights, centre, finite };
}
