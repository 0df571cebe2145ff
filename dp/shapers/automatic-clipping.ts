import { checkClipNorm } from '../clip.js';
import type { Shaper } from '../shaper.js';
import { checkShaper, slack, weightsFrom } from './weights.js';

/**
 * Automatic clipping (Bu et al. 2023, AUTO-S): each gradient times C/(‖g‖ + γ), so that all come near norm C, the small ones
 * too. Bound: C. With γ = 0 it is plain normalising (AUTO-V).
 * @param options clipNorm: default 1, since the learning rate scales the same; gamma: default 0.01
 * @throws CLIP_NORM_INVALID, SHAPER_INVALID
 * @example automaticClipping({ gamma: 0.01 })
 */
export function automaticClipping(
  options: { readonly clipNorm?: number; readonly gamma?: number } = {},
): Shaper {
  const { clipNorm = 1, gamma = 0.01 } = options;
  checkClipNorm('automaticClipping', clipNorm);
  checkShaper('automaticClipping: clipNorm', clipNorm, clipNorm < Infinity, 'a finite number');
  checkShaper(
    'automaticClipping: gamma',
    gamma,
    gamma >= 0 && gamma < Infinity,
    'a finite number of at least 0',
  );
  return {
    name: 'automaticClipping',
    wholeBatch: false,
    bound: () => clipNorm,
    accumulate(g, sum, { tightening }) {
      const target = clipNorm * tightening * slack;
      const weights = weightsFrom(g.norms(), (norm) => (norm === 0 ? 0 : target / (norm + gamma)));
      g.weightedSums([weights], [sum]);
      return weights;
    },
    toString: () => `automaticClipping(${clipNorm}, gamma ${gamma})`,
  };
}
