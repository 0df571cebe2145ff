// Convolutions of NHWC images: forward, and the gradient to their input. The arithmetic is a matrix product's:
// every output is the f32 sum over taps and channels in order, whatever the batch.
import { Geometry, convolve, convolveBytes } from './conv-core';
import { convolveDepthwise, depthwiseBytes, isDepthwise } from './conv-depthwise';
import { filterGradientBytes } from './conv-filter-core';

/**
 * Bytes of scratch that this family's kernels need for a geometry: 16 i32 as in `Geometry`, followed by room
 * (256 bytes, and 24 a step of the strides) that is written over.
 */
export function conv2dScratchBytes(geometry: usize): i32 {
  const g = changetype<Geometry>(geometry);
  const products = max(convolveBytes(geometry + 64, g), filterGradientBytes());
  const norms = g.height * g.width * 8;
  return max(max(products, norms), depthwiseBytes(g));
}

/** out [batch, outHeight, outWidth, outChannels] = activation(x ⋆ filter + bias); bias may be 0; activation 1: ReLU. */
export function conv2d(
  out: usize, x: usize, filter: usize, bias: usize, activation: i32, geometry: usize, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  if (isDepthwise(g)) convolveDepthwise(out, x, filter, bias, activation, g, false, scratch);
  else convolve(out, x, filter, bias, activation, g, false, scratch);
}

/** dX [batch, height, width, channels] from dOut, by gathering: every element of dX is written once. */
export function conv2dInputGradient(
  dX: usize, dOut: usize, filter: usize, geometry: usize, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  if (isDepthwise(g)) convolveDepthwise(dX, dOut, filter, 0, 0, g, true, scratch);
  else convolve(dX, dOut, filter, 0, 0, g, true, scratch);
}
