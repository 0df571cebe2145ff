import { GradshapeError, type Norms } from '../../engine/index.js';

/** What bounds are multiplied by, so that rounding in norms, weights and products stays below them. */
export const slack = 1 - 1e-6;

/** Beyond this a weight times the smallest gradient would no longer be finite. */
const largestWeight = 1e30;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The largest f32 that is at most x ≥ 0. */
function roundDown(x: number): number {
  float[0] = x;
  if (float[0] > x) bits[0]!--;
  return float[0];
}

/**
 * A weight for each example from its gradient's norm, rounded down, so that weight · norm is at most what the rule means;
 * 0 for a norm that is not finite.
 */
export function weightsFrom(norms: Norms, rule: (norm: number, example: number) => number): Float32Array {
  const squared = norms.squared.view();
  const weights = new Float32Array(squared.length);
  for (let i = 0; i < weights.length; i++) {
    const norm = Math.sqrt(squared[i]!);
    if (Number.isFinite(norm)) weights[i] = roundDown(Math.min(rule(norm, i), largestWeight));
  }
  return weights;
}

/** The median of a list; 0 for an empty one. */
export function median(values: Float64Array): number {
  if (values.length === 0) return 0;
  const sorted = values.slice().sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** @throws SHAPER_INVALID */
export function checkShaper(what: string, value: number, valid: boolean, expected: string): void {
  if (valid) return;
  throw new GradshapeError('SHAPER_INVALID', `${what} is ${value}; expected ${expected}.`);
}
