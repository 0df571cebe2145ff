// Winograd's convolutions for 3×3 filters of stride 1 (see winograd-core): forward, gradient to the input, and filter
// gradients, for channels in multiples of 8. Bits are a function of the example and the filter alone; filter
// gradients are transformed back example by example and added in their order, so that a batch in pieces gives
// the bits of the whole.
import { Geometry } from './conv-core';
import { NR, madd, packB, tile } from './gemm-core';
import {
  BLOCK_BYTES, POINTS, transformFilter, transformFilterGradient, transformGradient, transformImage,
  transformOutput,
} from './winograd-core';

/** Bytes of transformed tiles that are held at a time, images and products together. */
const TILES_BYTES: i32 = 384 * 1024;
/** Most tiles of an example whose filter gradient is summed before it is transformed back. */
const GRADIENT_TILES: i32 = 64;
/** Bytes between points beyond what they hold, so that a tile's 36 points lie in different sets of the cache. */
const APART: i32 = 64;

/** Tiles of a forward block, for so many channels in and out: a multiple of 4. */
function blockTiles(channels: i32, outChannels: i32): i32 {
  const fit = TILES_BYTES / (<i32>POINTS * 4 * (channels + outChannels));
  return max(4, min(64, fit & ~3));
}

function ceilDiv(n: i32, by: i32): i32 {
  return (n + by - 1) / by;
}

function forwardBytes(channels: i32, outChannels: i32): i32 {
  const tiles = blockTiles(channels, outChannels);
  return (
    3 * BLOCK_BYTES + 36 * channels * 4 + 9 * channels * outChannels * 4 +
    <i32>POINTS * (channels * outChannels * 4 + APART) +
    <i32>POINTS * (tiles * (channels + outChannels) * 4 + 2 * APART)
  );
}

function gradientBytes(g: Geometry): i32 {
  return (
    3 * BLOCK_BYTES + 36 * max(g.channels, g.outChannels) * 4 + <i32>POINTS * 128 +
    <i32>POINTS * (g.channels / 4) * (GRADIENT_TILES * 16 + APART) +
    <i32>POINTS * (g.outChannels / 8) * (GRADIENT_TILES * 32 + APART)
  );
}

/** Bytes of scratch that this family's kernels need for a geometry. */
export function winogradScratchBytes(geometry: usize): i32 {
  const g = changetype<Geometry>(geometry);
  const forward = max(forwardBytes(g.channels, g.outChannels), forwardBytes(g.outChannels, g.channels));
  return max(forward, gradientBytes(g));
}

/**
 * Where a tile's `size`×`size` pixels at (y, x) are read: in the image, or, where some lie outside it, in a copy padded
 * with zeros at `copy`, whose pixels follow each other.
 */
function inside(y: i32, x: i32, size: i32, height: i32, width: i32): bool {
  return y >= 0 && x >= 0 && y + size <= height && x + size <= width;
}

function copyPadded(
  copy: usize, image: usize, y: i32, x: i32, size: i32, height: i32, width: i32, pixel: usize,
): void {
  for (let row = y; row < y + size; row++) {
    const from = row >= 0 && row < height ? max(0, -x) : size;
    const to = row >= 0 && row < height ? max(from, min(size, width - x)) : size;
    memory.fill(copy, 0, <usize>from * pixel);
    if (to > from) {
      const source = image + <usize>(row * width + x + from) * pixel;
      memory.copy(copy + <usize>from * pixel, source, <usize>(to - from) * pixel);
    }
    memory.fill(copy + <usize>to * pixel, 0, <usize>(size - to) * pixel);
    copy += <usize>size * pixel;
  }
}

/** Filters to panels of 8 columns, [panel][channels, 8] at each point; flipped and transposed for the input gradient. */
function transformFilters(
  out: usize, point: usize, filter: usize, channels: i32, outChannels: i32, flipped: bool, packed: usize,
  work: usize,
): void {
  const panel = <usize>(channels * NR * 4);
  const tap = panel * <usize>(outChannels / NR);
  const stored = <usize>(flipped ? channels : outChannels) << 2;
  for (let t: usize = 0; t < 9; t++) {
    const from = filter + (flipped ? 8 - t : t) * <usize>(channels * outChannels * 4);
    packB(packed + t * tap, from, stored, outChannels, channels, flipped ? 1 : 0);
  }
  for (let at: usize = 0; at < tap; at += 16) transformFilter(out + at, point, packed + at, tap, work);
}

/** Four rows of `lda` bytes by a packed panel: C [4, 8] = A·B, over k ≥ 1 steps. */
@inline
function rowsTile(c: usize, ldc: usize, a: usize, lda: usize, b: usize, k: i32): void {
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  let a1 = a + lda;
  let a2 = a1 + lda;
  let a3 = a2 + lda;
  const end = a + ((<usize>k) << 2);
  do {
    const b0 = v128.load(b);
    const b1 = v128.load(b, 16);
    let x = v128.load_splat<f32>(a);
    s00 = madd(s00, x, b0);
    s01 = madd(s01, x, b1);
    x = v128.load_splat<f32>(a1);
    s10 = madd(s10, x, b0);
    s11 = madd(s11, x, b1);
    x = v128.load_splat<f32>(a2);
    s20 = madd(s20, x, b0);
    s21 = madd(s21, x, b1);
    x = v128.load_splat<f32>(a3);
    s30 = madd(s30, x, b0);
    s31 = madd(s31, x, b1);
    a += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    b += 32;
  } while (a < end);
  v128.store(c, s00);
  v128.store(c, s01, 16);
  c += ldc;
  v128.store(c, s10);
  v128.store(c, s11, 16);
  c += ldc;
  v128.store(c, s20);
  v128.store(c, s21, 16);
  c += ldc;
  v128.store(c, s30);
  v128.store(c, s31, 16);
}

/** The 36 products of a block: M[point] [tiles, outChannels] = V[point] [tiles, channels] · U[point]. */
function multiplyPoints(
  m: usize, mPoint: usize, v: usize, vPoint: usize, u: usize, uPoint: usize, tiles: i32, channels: i32, outChannels: i32,
): void {
  const lda = <usize>channels << 2;
  const ldc = <usize>outChannels << 2;
  for (let point: usize = 0; point < POINTS; point++) {
    let b = u;
    for (let j: usize = 0; j < ldc; j += NR * 4) {
      let a = v;
      let c = m + j;
      for (let t = 0; t < tiles; t += 4) {
        rowsTile(c, ldc, a, lda, b, channels);
        a += 4 * lda;
        c += 4 * ldc;
      }
      b += lda * NR;
    }
    u += uPoint;
    v += vPoint;
    m += mPoint;
  }
}

/** Writes a tile's outputs: with bias and ReLU, and only the pixels that exist. */
function storeTile(
  out: usize, m: usize, point: usize, bias: usize, activation: i32, y: i32, x: i32, height: i32, width: i32,
  channels: i32, work: usize,
): void {
  const rows = <usize>min(4, height - y);
  const columns = <usize>min(4, width - x);
  const pixel = <usize>channels << 2;
  const row = <usize>width * pixel;
  const values = work + BLOCK_BYTES;
  const zero = f32x4.splat(0);
  out += <usize>(y * width + x) * pixel;
  for (let c: usize = 0; c < pixel; c += 16) {
    transformOutput(values, m + c, point, work);
    const shift = bias ? v128.load(bias + c) : zero;
    for (let i: usize = 0; i < rows; i++) {
      for (let j: usize = 0; j < columns; j++) {
        let value = f32x4.add(v128.load(values + i * 64 + j * 16), shift);
        if (activation) value = f32x4.max(value, zero);
        v128.store(out + i * row + j * pixel + c, value);
      }
    }
  }
}

/** The convolution of `from` [batch, height, width, channels] into out [batch, outHeight, outWidth, outChannels]. */
function slide(
  out: usize, from: usize, filter: usize, bias: usize, activation: i32, batch: i32, height: i32, width: i32,
  channels: i32, outHeight: i32, outWidth: i32, outChannels: i32, top: i32, left: i32, flipped: bool, scratch: usize,
): void {
  const work = scratch;
  const copy = work + 3 * BLOCK_BYTES;
  const packed = copy + <usize>(36 * channels * 4);
  const u = packed + <usize>(9 * channels * outChannels * 4);
  const uPoint = <usize>(channels * outChannels * 4 + APART);
  const v = u + POINTS * uPoint;
  const most = blockTiles(channels, outChannels);
  const vPoint = <usize>(most * channels * 4 + APART);
  const mPoint = <usize>(most * outChannels * 4 + APART);
  const m = v + POINTS * vPoint;
  transformFilters(u, uPoint, filter, channels, outChannels, flipped, packed, work);
  const across = ceilDiv(outWidth, 4);
  const perImage = across * ceilDiv(outHeight, 4);
  const all = batch * perImage;
  const pixel = <usize>channels << 2;
  for (let first = 0; first < all; first += most) {
    const tiles = min(most, all - first);
    for (let t = 0; t < tiles; t++) {
      const example = (first + t) / perImage;
      const place = first + t - example * perImage;
      const y = (place / across) * 4 - top;
      const x = (place % across) * 4 - left;
      const image = from + <usize>(example * height * width) * pixel;
      const to = v + <usize>t * pixel;
      if (inside(y, x, 6, height, width)) {
        transformImage(
          to, 16, vPoint, image + <usize>(y * width + x) * pixel, <usize>width * pixel, pixel, channels, work,
        );
      } else {
        copyPadded(copy, image, y, x, 6, height, width, pixel);
        transformImage(to, 16, vPoint, copy, 6 * pixel, pixel, channels, work);
      }
    }
    multiplyPoints(m, mPoint, v, vPoint, u, uPoint, tiles, channels, outChannels);
    for (let t = 0; t < tiles; t++) {
      const example = (first + t) / perImage;
      const place = first + t - example * perImage;
      storeTile(
        out + (<usize>(example * outHeight * outWidth * outChannels) << 2), m + (<usize>(t * outChannels) << 2),
        mPoint, bias, activation, (place / across) * 4, (place % across) * 4, outHeight, outWidth, outChannels, work,
      );
    }
  }
}

/** As `conv2d`, for 3×3 filters, stride and dilation 1, one group, channels in multiples of 8. */
export function winogradConv2d(
  out: usize, x: usize, filter: usize, bias: usize, activation: i32, geometry: usize, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  slide(
    out, x, filter, bias, activation, g.batch, g.height, g.width, g.channels, g.outHeight, g.outWidth,
    g.outChannels, g.padTop, g.padLeft, false, scratch,
  );
}

/** As `conv2dInputGradient`, for the same geometries. */
export function winogradInputGradient(
  dX: usize, dOut: usize, filter: usize, geometry: usize, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  slide(
    dX, dOut, filter, 0, 0, g.batch, g.outHeight, g.outWidth, g.outChannels, g.height, g.width, g.channels,
    2 - g.padTop, 2 - g.padLeft, true, scratch,
  );
}

/** out (+)= an example's filter gradient, in blocks of tiles. */
function addFilterGradient(out: usize, x: usize, dOut: usize, g: Geometry, accumulate: i32, scratch: usize): void {
  const work = scratch;
  const copy = work + 3 * BLOCK_BYTES;
  const products = copy + <usize>(36 * max(g.channels, g.outChannels) * 4);
  const v = products + POINTS * 128;
  const across = ceilDiv(g.outWidth, 4);
  const all = across * ceilDiv(g.outHeight, 4);
  const blocks = ceilDiv(all, GRADIENT_TILES);
  const most = ceilDiv(all, blocks);
  const vPoint = <usize>(most * 16 + APART);
  const wPoint = <usize>(most * 32 + APART);
  const w = v + <usize>(g.channels / 4) * POINTS * vPoint;
  const pixel = <usize>g.channels << 2;
  const outPixel = <usize>g.outChannels << 2;
  const tap = pixel * <usize>g.outChannels;
  for (let first = 0; first < all; first += most) {
    const tiles = min(most, all - first);
    for (let t = 0; t < tiles; t++) {
      const y = ((first + t) / across) * 4;
      const xx = ((first + t) % across) * 4;
      const top = y - g.padTop;
      const left = xx - g.padLeft;
      const toV = v + (<usize>t << 4);
      const toW = w + (<usize>t << 5);
      if (inside(top, left, 6, g.height, g.width)) {
        transformImage(
          toV, POINTS * vPoint, vPoint, x + <usize>(top * g.width + left) * pixel, <usize>g.width * pixel, pixel,
          g.channels, work,
        );
      } else {
        copyPadded(copy, x, top, left, 6, g.height, g.width, pixel);
        transformImage(toV, POINTS * vPoint, vPoint, copy, 6 * pixel, pixel, g.channels, work);
      }
      if (inside(y, xx, 4, g.outHeight, g.outWidth)) {
        transformGradient(
          toW, POINTS * wPoint, wPoint, dOut + <usize>(y * g.outWidth + xx) * outPixel, <usize>g.outWidth * outPixel,
          outPixel, g.outChannels, work,
        );
      } else {
        copyPadded(copy, dOut, y, xx, 4, g.outHeight, g.outWidth, outPixel);
        transformGradient(toW, POINTS * wPoint, wPoint, copy, 4 * outPixel, outPixel, g.outChannels, work);
      }
    }
    const add = first > 0 ? 1 : accumulate;
    for (let c = 0; c < g.channels; c += 4) {
      for (let o = 0; o < g.outChannels; o += 8) {
        let a = v + <usize>(c / 4) * POINTS * vPoint;
        let b = w + <usize>(o / 8) * POINTS * wPoint;
        for (let point: usize = 0; point < POINTS; point++) {
          tile(products + point * 128, 32, a, b, tiles, 0, 0, 0);
          a += vPoint;
          b += wPoint;
        }
        const to = out + <usize>c * outPixel + (<usize>o << 2);
        for (let part: usize = 0; part < 8; part++) {
          addTaps(to + (part >> 1) * outPixel + ((part & 1) << 4), tap, products + part * 16, add, work);
        }
      }
    }
  }
}

/** Transforms the products of one vector of filters back, and adds the nine taps. */
function addTaps(out: usize, tap: usize, products: usize, accumulate: i32, work: usize): void {
  const values = work + BLOCK_BYTES;
  transformFilterGradient(values, products, 128, work);
  for (let t: usize = 0; t < 9; t++) {
    const value = v128.load(values + t * 16);
    v128.store(out, accumulate ? f32x4.add(v128.load(out), value) : value);
    out += tap;
  }
}

/** As `conv2dFilterGradient` without scales, for the same geometries. */
export function winogradFilterGradient(
  dFilter: usize, x: usize, dOut: usize, geometry: usize, accumulate: i32, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  if (g.batch == 0 && !accumulate) memory.fill(dFilter, 0, <usize>(9 * g.channels * g.outChannels * 4));
  for (let i = 0; i < g.batch; i++) {
    addFilterGradient(
      dFilter, x + (<usize>(i * g.height * g.width * g.channels) << 2),
      dOut + (<usize>(i * g.outHeight * g.outWidth * g.outChannels) << 2), g, i > 0 ? 1 : accumulate, scratch,
    );
  }
}

/** As `instantiateConv2d`, for the same geometries. */
export function instantiateWinograd(
  out: usize, x: usize, dOut: usize, geometry: usize, stride: i32, accumulate: i32, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  for (let i = 0; i < g.batch; i++) {
    addFilterGradient(
      out + (<usize>i * <usize>stride << 2), x + (<usize>(i * g.height * g.width * g.channels) << 2),
      dOut + (<usize>(i * g.outHeight * g.outWidth * g.outChannels) << 2), g, accumulate, scratch,
    );
  }
}
