// A batch by index: rows out of several segments, none of them copied before.
import { loadUpTo4, storeUpTo4 } from './lanes';

// Four of sixteen bytes as f32: lane j of `which` is -256 + the byte's index, whose upper bytes pick zeros.
// @ts-ignore: decorator
@inline
function fourBytes(bytes: v128, which: v128): v128 {
  // Signed conversion is one instruction, unsigned is many; bytes fit both.
  return f32x4.convert_i32x4_s(i8x16.swizzle(bytes, which));
}

// @ts-ignore: decorator
@inline
function affine(x: v128, scale: v128, offset: v128, shifted: bool): v128 {
  const product = f32x4.mul(x, scale);
  return shifted ? f32x4.add(product, offset) : product;
}

// Sixteen u8 → f32, value·scale + offset; the offset only if shifted.
// @ts-ignore: decorator
@inline
function widen16(out: usize, a: usize, scale: v128, offset: v128, shifted: bool): void {
  const bytes = v128.load(a);
  const x0 = fourBytes(bytes, i32x4(-256, -255, -254, -253));
  const x1 = fourBytes(bytes, i32x4(-252, -251, -250, -249));
  const x2 = fourBytes(bytes, i32x4(-248, -247, -246, -245));
  const x3 = fourBytes(bytes, i32x4(-244, -243, -242, -241));
  v128.store(out, affine(x0, scale, offset, shifted));
  v128.store(out, affine(x1, scale, offset, shifted), 16);
  v128.store(out, affine(x2, scale, offset, shifted), 32);
  v128.store(out, affine(x3, scale, offset, shifted), 48);
}

/** Row of u8 → f32, value·scale + offset. */
// @ts-ignore: decorator
@inline
function widenRow(out: usize, a: usize, n: i32, scale: f32, offset: f32): void {
  if (n < 16) {
    for (let i: usize = 0; i < <usize>n; i++) {
      store<f32>(out + (i << 2), <f32>load<u8>(a + i) * scale + offset);
    }
    return;
  }
  const scales = f32x4.splat(scale);
  const offsets = f32x4.splat(offset);
  // The last sixteen may overlap those before them.
  const last = <usize>n - 16;
  if (offset != 0) {
    widen16(out + (last << 2), a + last, scales, offsets, true);
    for (let i: usize = 0; i < last; i += 16) widen16(out + (i << 2), a + i, scales, offsets, true);
  } else {
    // A fifth faster, for the usual scale without offset.
    widen16(out + (last << 2), a + last, scales, offsets, false);
    for (let i: usize = 0; i < last; i += 16) widen16(out + (i << 2), a + i, scales, offsets, false);
  }
}

/** Row of f32, value·scale + offset. */
// @ts-ignore: decorator
@inline
function scaleRow(out: usize, a: usize, n: i32, scale: f32, offset: f32): void {
  const scales = f32x4.splat(scale);
  const offsets = f32x4.splat(offset);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, f32x4.add(f32x4.mul(loadUpTo4(a + end, rest), scales), offsets), rest);
  for (let i: usize = 0; i < end; i += 16) {
    v128.store(out + i, f32x4.add(f32x4.mul(v128.load(a + i), scales), offsets));
  }
}

/** The record of the segment that a row is in. */
// @ts-ignore: decorator
@inline
function segmentOf(index: i32, segments: usize, last: usize): usize {
  let segment = segments;
  while (segment < last && index >= load<i32>(segment) + load<i32>(segment, 4)) segment += 24;
  return segment;
}

/** Rows whose cache lines are asked for at a time: what a first-level cache holds of rows of a thousand bytes. */
const AHEAD: usize = 32;

/**
 * Reads a byte of each cache line of the next rows. A random row is not in any cache, and converting it takes longer than a
 * processor looks ahead: asked for together, the lines come at the same time, and a random batch takes half as long.
 */
function touchRows(indices: usize, from: usize, to: usize, rowSize: i32, segments: usize, last: usize): void {
  for (let r = from; r < to; r++) {
    const index = load<i32>(indices + (r << 2));
    const segment = segmentOf(index, segments, last);
    const rowBytes = <usize>rowSize << (load<i32>(segment, 12) ? 2 : 0);
    const row = load<usize>(segment, 8) + <usize>(index - load<i32>(segment)) * rowBytes;
    for (let line: usize = 0; line < rowBytes; line += 64) load<u8>(row + line);
  }
}

/**
 * out f32[count, rowSize] = the rows at indices i32[count]. segments is segmentCount records of six i32, in
 * ascending order: first row, row count, address, dtype (0 u8, 1 f32), scale and offset (f32 bits); a value
 * becomes value·scale + offset. Indices must lie in a segment: the host checks them.
 */
export function gatherRows(
  out: usize, indices: usize, count: i32, rowSize: i32, segments: usize, segmentCount: i32,
): void {
  const last = segments + <usize>(segmentCount - 1) * 24;
  for (let r: usize = 0; r < <usize>count; r++) {
    if (r % AHEAD == 0) touchRows(indices, r, min(r + AHEAD, <usize>count), rowSize, segments, last);
    const index = load<i32>(indices + (r << 2));
    const segment = segmentOf(index, segments, last);
    const row = <usize>(index - load<i32>(segment)) * <usize>rowSize;
    const address = load<usize>(segment, 8);
    const scale = load<f32>(segment, 16);
    const offset = load<f32>(segment, 20);
    const to = out + ((r * <usize>rowSize) << 2);
    if (load<i32>(segment, 12)) scaleRow(to, address + (row << 2), rowSize, scale, offset);
    else widenRow(to, address + row, rowSize, scale, offset);
  }
}

/** out[count] = values[indices[count]], all i32 */
export function gatherI32(out: usize, indices: usize, count: i32, values: usize): void {
  for (let i: usize = 0; i < <usize>count; i++) {
    store<i32>(out + (i << 2), load<i32>(values + (<usize>load<i32>(indices + (i << 2)) << 2)));
  }
}
