// Depthwise convolutions (a group for each channel): too little arithmetic for a matrix product, so they go over pixels,
// four channels at a time.
import { Geometry } from './conv-core';
import { madd } from './gemm-core';
import { loadUpTo4, storeUpTo4 } from './lanes';

/** Whether every channel has a filter of its own and one output. */
export function isDepthwise(g: Geometry): bool {
  return g.groups == g.channels && g.groups == g.outChannels;
}

/** Bytes of scratch: for each tap, where the source and the filter are read. */
export function depthwiseBytes(g: Geometry): i32 {
  return g.kernelHeight * g.kernelWidth * 8;
}

/** Where an output's coordinate reads the input through a tap, or an input's coordinate dOut; -1 for nowhere. */
@inline
function sourceOf(at: i32, tap: i32, stride: i32, dilation: i32, pad: i32, size: i32, flipped: bool): i32 {
  let source = at * stride - pad + tap * dilation;
  if (flipped) {
    source = at + pad - tap * dilation;
    if (source % stride != 0) return -1;
    source /= stride;
  }
  return source < size ? source : -1;
}

/** out[channels] = Σ over taps of source·filter, in order; then bias and ReLU. */
function sumTaps(
  out: usize, from: usize, filter: usize, bias: usize, activation: i32, taps: usize, tapsEnd: usize, channels: i32,
): void {
  const zero = f32x4.splat(0);
  for (let channel = 0; channel < channels; channel += 4) {
    const at = <usize>channel << 2;
    const count = channels - channel;
    let total = zero;
    if (count >= 4) {
      for (let tap = taps; tap < tapsEnd; tap += 8) {
        const x = v128.load(from + at + <usize>load<u32>(tap));
        total = madd(total, x, v128.load(filter + at + <usize>load<u32>(tap, 4)));
      }
    } else {
      for (let tap = taps; tap < tapsEnd; tap += 8) {
        const x = loadUpTo4(from + at + <usize>load<u32>(tap), count);
        total = madd(total, x, loadUpTo4(filter + at + <usize>load<u32>(tap, 4), count));
      }
    }
    if (bias) total = f32x4.add(total, loadUpTo4(bias + at, count));
    if (activation) total = f32x4.max(total, zero);
    storeUpTo4(out + at, total, count);
  }
}

/** As `convolve`. */
export function convolveDepthwise(
  out: usize, from: usize, filter: usize, bias: usize, activation: i32, g: Geometry, flipped: bool, scratch: usize,
): void {
  const height = flipped ? g.outHeight : g.height;
  const width = flipped ? g.outWidth : g.width;
  const rows = flipped ? g.height : g.outHeight;
  const columns = flipped ? g.width : g.outWidth;
  const pixel = <usize>g.channels << 2;
  const image = <usize>(height * width) * pixel;
  for (let example = 0; example < g.batch; example++) {
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        let tapsEnd = scratch;
        for (let p = 0; p < g.kernelHeight; p++) {
          const row = sourceOf(y, p, g.strideY, g.dilationY, g.padTop, height, flipped);
          if (row < 0) continue;
          for (let q = 0; q < g.kernelWidth; q++) {
            const column = sourceOf(x, q, g.strideX, g.dilationX, g.padLeft, width, flipped);
            if (column < 0) continue;
            store<u32>(tapsEnd, <u32>(<usize>(row * width + column) * pixel));
            store<u32>(tapsEnd, <u32>(<usize>(p * g.kernelWidth + q) * pixel), 4);
            tapsEnd += 8;
          }
        }
        sumTaps(out, from, filter, bias, activation, scratch, tapsEnd, g.channels);
        out += pixel;
      }
    }
    from += image;
  }
}

/** out[channels] += x·dOut·scale */
@inline
function addProducts(out: usize, x: usize, dOut: usize, scale: v128, channels: i32): void {
  const end = <usize>(channels & ~3) << 2;
  const rest = channels & 3;
  if (rest) {
    const d = f32x4.mul(loadUpTo4(dOut + end, rest), scale);
    storeUpTo4(out + end, madd(loadUpTo4(out + end, rest), loadUpTo4(x + end, rest), d), rest);
  }
  for (let at: usize = 0; at < end; at += 16) {
    const d = f32x4.mul(v128.load(dOut + at), scale);
    v128.store(out + at, madd(v128.load(out + at), v128.load(x + at), d));
  }
}

/** out += an example's filter gradient times its scale; x and dOut are the example's. */
export function addDepthwiseGradient(out: usize, x: usize, dOut: usize, scale: f32, g: Geometry): void {
  const pixel = <usize>g.channels << 2;
  const factor = f32x4.splat(scale);
  for (let i = 0; i < g.outHeight; i++) {
    for (let j = 0; j < g.outWidth; j++) {
      for (let p = 0; p < g.kernelHeight; p++) {
        const row = sourceOf(i, p, g.strideY, g.dilationY, g.padTop, g.height, false);
        if (row < 0) continue;
        for (let q = 0; q < g.kernelWidth; q++) {
          const column = sourceOf(j, q, g.strideX, g.dilationX, g.padLeft, g.width, false);
          if (column < 0) continue;
          const tap = out + <usize>(p * g.kernelWidth + q) * pixel;
          addProducts(tap, x + <usize>(row * g.width + column) * pixel, dOut, factor, g.channels);
        }
      }
      dOut += pixel;
    }
  }
}
