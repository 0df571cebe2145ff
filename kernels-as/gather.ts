// A batch by index: rows out of several segments, none of them copied before.

/** Row of u8 → f32, value·scale + offset. */
// @ts-ignore: decorator
@inline
function widenRow(out: usize, a: usize, n: i32, scale: f32, offset: f32): void {
  const scales = f32x4.splat(scale);
  const offsets = f32x4.splat(offset);
  let to = out;
  let from = a;
  for (let i = n >> 4; i > 0; i--) {
    const bytes = v128.load(from);
    const low = i16x8.extend_low_i8x16_u(bytes);
    const high = i16x8.extend_high_i8x16_u(bytes);
    const x0 = f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(low));
    const x1 = f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(low));
    const x2 = f32x4.convert_i32x4_u(i32x4.extend_low_i16x8_u(high));
    const x3 = f32x4.convert_i32x4_u(i32x4.extend_high_i16x8_u(high));
    v128.store(to, f32x4.add(f32x4.mul(x0, scales), offsets));
    v128.store(to, f32x4.add(f32x4.mul(x1, scales), offsets), 16);
    v128.store(to, f32x4.add(f32x4.mul(x2, scales), offsets), 32);
    v128.store(to, f32x4.add(f32x4.mul(x3, scales), offsets), 48);
    from += 16;
    to += 64;
  }
  for (let rest = n & 15; rest > 0; rest--) {
    store<f32>(to, <f32>load<u8>(from) * scale + offset);
    from += 1;
    to += 4;
  }
}

/** Row of f32, value·scale + offset. */
// @ts-ignore: decorator
@inline
function scaleRow(out: usize, a: usize, n: i32, scale: f32, offset: f32): void {
  const scales = f32x4.splat(scale);
  const offsets = f32x4.splat(offset);
  let to = out;
  let from = a;
  for (let i = n >> 2; i > 0; i--) {
    v128.store(to, f32x4.add(f32x4.mul(v128.load(from), scales), offsets));
    from += 16;
    to += 16;
  }
  for (let rest = n & 3; rest > 0; rest--) {
    store<f32>(to, load<f32>(from) * scale + offset);
    from += 4;
    to += 4;
  }
}

/**
 * out f32[count, rowSize] = the rows at indices i32[count]. segments is segmentCount records of six i32, in ascending
 * order: first row, row count, address, dtype (0 u8, 1 f32), scale and offset (f32 bits); a value becomes
 * value·scale + offset. Indices must lie in a segment: the host checks them.
 */
export function gatherRows(
  out: usize, indices: usize, count: i32, rowSize: i32, segments: usize, segmentCount: i32,
): void {
  const last = segments + <usize>(segmentCount - 1) * 24;
  for (let r: usize = 0; r < <usize>count; r++) {
    const index = load<i32>(indices + (r << 2));
    let segment = segments;
    while (segment < last && index >= load<i32>(segment) + load<i32>(segment, 4)) segment += 24;
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
