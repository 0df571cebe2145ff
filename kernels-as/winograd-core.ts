// The transforms of Winograd's convolution F(4×4, 3×3) (Winograd 1980; Lavin and Gray 2016): y = Aᵀ[(G·f·Gᵀ) ⊙
// (Bᵀ·d·B)]·A, from 6×6 pixels d to 4×4 outputs with 36 products in place of 144.
//
// The points are 0, ±5/8, ±3/2 and ∞: their squares and products are exact in f32, and the error is half of
// that of the usual 0, ±1, ±2 (about 2.5 times a direct convolution's). All transforms handle four channels at
// once and are written as two passes of a one-dimensional transform over a 6×6 block of vectors.
const P: f32 = 0.625;
const Q: f32 = 1.5;
const P2: f32 = P * P;
const Q2: f32 = Q * Q;
/** Normalisers of the points: p²q², 2p²(p² - q²), 2q²(q² - p²). */
const N0: f32 = P2 * Q2;
const NP: f32 = 2 * P2 * (P2 - Q2);
const NQ: f32 = 2 * Q2 * (Q2 - P2);

/** Points of the transformed domain. */
export const POINTS: usize = 36;
/** Bytes of a 6×6 block of vectors. */
export const BLOCK_BYTES: i32 = 36 * 16;

@inline
function times(x: v128, factor: f32): v128 {
  return f32x4.mul(x, f32x4.splat(factor));
}

/** Bᵀ: six vectors `step` bytes apart to six vectors `outStep` apart. */
@inline
function imageLine(out: usize, outStep: usize, from: usize, step: usize): void {
  const x0 = v128.load(from);
  const x1 = v128.load(from + step);
  const x2 = v128.load(from + 2 * step);
  const x3 = v128.load(from + 3 * step);
  const x4 = v128.load(from + 4 * step);
  const x5 = v128.load(from + 5 * step);
  v128.store(out, f32x4.add(f32x4.sub(times(x0, N0), times(x2, P2 + Q2)), x4));
  v128.store(out + 5 * outStep, f32x4.add(f32x4.sub(times(x1, N0), times(x3, P2 + Q2)), x5));
  let even = f32x4.sub(x4, times(x2, Q2));
  let odd = f32x4.sub(times(x3, P), times(x1, P * Q2));
  v128.store(out + outStep, f32x4.add(even, odd));
  v128.store(out + 2 * outStep, f32x4.sub(even, odd));
  even = f32x4.sub(x4, times(x2, P2));
  odd = f32x4.sub(times(x3, Q), times(x1, Q * P2));
  v128.store(out + 3 * outStep, f32x4.add(even, odd));
  v128.store(out + 4 * outStep, f32x4.sub(even, odd));
}

/** Aᵀ: six vectors to four. */
@inline
function outputLine(out: usize, outStep: usize, from: usize, step: usize): void {
  const m1 = v128.load(from + step);
  const m2 = v128.load(from + 2 * step);
  const m3 = v128.load(from + 3 * step);
  const m4 = v128.load(from + 4 * step);
  const evenP = f32x4.add(m1, m2);
  const evenQ = f32x4.add(m3, m4);
  const oddP = f32x4.sub(m1, m2);
  const oddQ = f32x4.sub(m3, m4);
  v128.store(out, f32x4.add(f32x4.add(v128.load(from), evenP), evenQ));
  v128.store(out + outStep, f32x4.add(times(oddP, P), times(oddQ, Q)));
  v128.store(out + 2 * outStep, f32x4.add(times(evenP, P2), times(evenQ, Q2)));
  const odd = f32x4.add(times(oddP, P * P2), times(oddQ, Q * Q2));
  v128.store(out + 3 * outStep, f32x4.add(odd, v128.load(from + 5 * step)));
}

/** A, the transpose of the outputs' transform: four vectors to six. */
@inline
function gradientLine(out: usize, outStep: usize, from: usize, step: usize): void {
  const y0 = v128.load(from);
  const y1 = v128.load(from + step);
  const y2 = v128.load(from + 2 * step);
  const y3 = v128.load(from + 3 * step);
  v128.store(out, y0);
  v128.store(out + 5 * outStep, y3);
  let even = f32x4.add(y0, times(y2, P2));
  let odd = f32x4.add(times(y1, P), times(y3, P * P2));
  v128.store(out + outStep, f32x4.add(even, odd));
  v128.store(out + 2 * outStep, f32x4.sub(even, odd));
  even = f32x4.add(y0, times(y2, Q2));
  odd = f32x4.add(times(y1, Q), times(y3, Q * Q2));
  v128.store(out + 3 * outStep, f32x4.add(even, odd));
  v128.store(out + 4 * outStep, f32x4.sub(even, odd));
}

/** G: three vectors to six. */
@inline
function filterLine(out: usize, outStep: usize, from: usize, step: usize): void {
  const f0 = v128.load(from);
  const f1 = v128.load(from + step);
  const f2 = v128.load(from + 2 * step);
  v128.store(out, times(f0, 1 / N0));
  v128.store(out + 5 * outStep, f2);
  let even = f32x4.add(times(f0, 1 / NP), times(f2, P2 / NP));
  let odd = times(f1, P / NP);
  v128.store(out + outStep, f32x4.add(even, odd));
  v128.store(out + 2 * outStep, f32x4.sub(even, odd));
  even = f32x4.add(times(f0, 1 / NQ), times(f2, Q2 / NQ));
  odd = times(f1, Q / NQ);
  v128.store(out + 3 * outStep, f32x4.add(even, odd));
  v128.store(out + 4 * outStep, f32x4.sub(even, odd));
}

/** Gᵀ, the transpose of the filters' transform: six vectors to three. */
@inline
function filterGradientLine(out: usize, outStep: usize, from: usize, step: usize): void {
  const m1 = v128.load(from + step);
  const m2 = v128.load(from + 2 * step);
  const m3 = v128.load(from + 3 * step);
  const m4 = v128.load(from + 4 * step);
  const evenP = f32x4.add(m1, m2);
  const evenQ = f32x4.add(m3, m4);
  const first = f32x4.add(times(evenP, 1 / NP), times(evenQ, 1 / NQ));
  v128.store(out, f32x4.add(times(v128.load(from), 1 / N0), first));
  const odd = f32x4.add(times(f32x4.sub(m1, m2), P / NP), times(f32x4.sub(m3, m4), Q / NQ));
  v128.store(out + outStep, odd);
  const last = f32x4.add(times(evenP, P2 / NP), times(evenQ, Q2 / NQ));
  v128.store(out + 2 * outStep, f32x4.add(last, v128.load(from + 5 * step)));
}

/**
 * Bᵀ·d·B for `channels` channels, four by four: pixels `pixel` bytes apart in rows `row` apart. Point k of
 * channels 4g… goes to out + g·group + k·point. `work`: BLOCK_BYTES.
 */
export function transformImage(
  out: usize, group: usize, point: usize, d: usize, row: usize, pixel: usize, channels: i32, work: usize,
): void {
  for (const end = d + (<usize>channels << 2); d < end; d += 16) {
    for (let x: usize = 0; x < 6; x++) imageLine(work + x * 16, 96, d + x * pixel, row);
    for (let y: usize = 0; y < 6; y++) imageLine(out + y * 6 * point, point, work + y * 96, 16);
    out += group;
  }
}

/** A·dY·Aᵀ for 4×4 pixels of gradient; panels of eight channels, the next one `panel` bytes on. */
export function transformGradient(
  out: usize, panel: usize, point: usize, d: usize, row: usize, pixel: usize, channels: i32, work: usize,
): void {
  for (let channel: usize = 0; channel < <usize>channels; channel += 4) {
    const to = out + (channel >> 3) * panel + ((channel & 4) << 2);
    for (let x: usize = 0; x < 4; x++) gradientLine(work + x * 16, 64, d + x * pixel, row);
    for (let y: usize = 0; y < 6; y++) gradientLine(to + y * 6 * point, point, work + y * 64, 16);
    d += 16;
  }
}

/** Aᵀ·m·A: 4×4 vectors at out, 16 bytes apart, from points `point` bytes apart. */
@inline
export function transformOutput(out: usize, m: usize, point: usize, work: usize): void {
  for (let x: usize = 0; x < 6; x++) outputLine(work + x * 16, 96, m + x * point, 6 * point);
  for (let y: usize = 0; y < 4; y++) outputLine(out + y * 64, 16, work + y * 96, 16);
}

/** G·f·Gᵀ of four filters' vectors, taps `tap` bytes apart. */
export function transformFilter(out: usize, point: usize, f: usize, tap: usize, work: usize): void {
  for (let x: usize = 0; x < 3; x++) filterLine(work + x * 16, 48, f + x * tap, 3 * tap);
  for (let y: usize = 0; y < 6; y++) filterLine(out + y * 6 * point, point, work + y * 48, 16);
}

/** Gᵀ·m·G: 3×3 vectors at out, 16 bytes apart. */
@inline
export function transformFilterGradient(out: usize, m: usize, point: usize, work: usize): void {
  for (let x: usize = 0; x < 6; x++) filterGradientLine(work + x * 16, 96, m + x * point, 6 * point);
  for (let y: usize = 0; y < 3; y++) filterGradientLine(out + y * 48, 16, work + y * 96, 16);
}
