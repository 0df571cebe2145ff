// Filter gradients of convolutions, summed over the batch or example by example. Sums over examples are strictly
// sequential in f32 from what the output holds: a batch in pieces gives the bits of the whole.
import { Geometry } from './conv-core';
import { addFilterGradient } from './conv-filter-core';

/**
 * dFilter [kernelHeight, kernelWidth, channels / groups, outChannels] (+)= Σ_i scale[i]·gradient of example i;
 * scale f32[batch] or 0 for none.
 */
export function conv2dFilterGradient(
  dFilter: usize, x: usize, dOut: usize, scale: usize, geometry: usize, accumulate: i32, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  addFilterGradient(dFilter, x, dOut, scale, g, 0, g.batch, accumulate, scratch);
}

/** out[i] (+)= example i's filter gradient; out's rows are `stride` floats apart. */
export function instantiateConv2d(
  out: usize, x: usize, dOut: usize, geometry: usize, stride: i32, accumulate: i32, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  for (let i = 0; i < g.batch; i++) {
    addFilterGradient(out + (<usize>i * <usize>stride << 2), x, dOut, 0, g, i, i + 1, accumulate, scratch);
  }
}
