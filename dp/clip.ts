import { GradshapeError, type Norms, type Tensor } from '../engine/index.js';

/** How per-example gradients are bounded. */
export interface ClipOptions {
  /** C: the L2 norm that no example's gradient may exceed. Infinity clips nothing. */
  readonly clipNorm: number;
}

/** @throws CLIP_NORM_INVALID */
export function checkClipNorm(caller: string, clipNorm: number): void {
  if (clipNorm > 0) return;
  throw new GradshapeError(
    'CLIP_NORM_INVALID',
    `${caller}: clipNorm is ${clipNorm}; expected a number above 0, or Infinity to clip nothing.`,
  );
}

/**
 * Flat clipping (Abadi et al. 2016, Algorithm 1): the factors min(1, C/‖gᵢ‖), f32 [batch]. They are a millionth
 * smaller than that where they clip, so that the gradient's true norm stays ≤ C in spite of rounding. A gradient
 * whose norm is not finite gets 0.
 * @throws CLIP_NORM_INVALID
 * @example const factors = clipFactors(g.norms(), { clipNorm: 1 });
 */
export function clipFactors(norms: Norms, { clipNorm }: ClipOptions): Tensor {
  checkClipNorm('clipFactors', clipNorm);
  const { engine, size, examples } = norms.squared;
  const factors = engine.allocate([size], 'f32', 'clipFactors');
  engine.kernels.clipFactors(factors.address, norms.squared.address, clipNorm, size);
  factors.examples = examples;
  return factors;
}
