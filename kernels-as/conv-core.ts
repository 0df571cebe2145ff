// What convolutions share: their geometry, the taps of an axis, and the loop that slides filters over an image.
//
// A convolution is a matrix product whose left side, one row of patches an output position, is never made: the
// micro-kernel reads its four rows where they lie in the image. An image that needs padding is first copied, a
// block of rows at a time, into a padded slab that stays in L2; one that doesn't is read in place.
import { KC, NR, madd, packB } from './gemm-core';

/**
 * A convolution's numbers, as the host writes them: 16 i32. x [batch, height, width, channels], filter
 * [kernelHeight, kernelWidth, channels / groups, outChannels], y [batch, outHeight, outWidth, outChannels];
 * y[i, j] sees x[i·strideY - padTop + p·dilationY, j·strideX - padLeft + q·dilationX], 0 outside the image.
 */
@unmanaged
export class Geometry {
  batch: i32;
  height: i32;
  width: i32;
  channels: i32;
  outHeight: i32;
  outWidth: i32;
  outChannels: i32;
  kernelHeight: i32;
  kernelWidth: i32;
  strideY: i32;
  strideX: i32;
  dilationY: i32;
  dilationX: i32;
  padTop: i32;
  padLeft: i32;
  groups: i32;
}

/**
 * One axis of a sliding filter: position i of `positions` sees the source at i·stride + first + t·step for t <
 * count, through the filter's tap tapFirst + t·tapStep. Offsets ascend. Destination: base + i·spread.
 */
@unmanaged
export class Axis {
  positions: i32;
  first: i32;
  step: i32;
  count: i32;
  tapFirst: i32;
  tapStep: i32;
}

/** Bytes of slab that stay in L2 beside a panel of the filter. */
const SLAB_BYTES: i32 = 192 * 1024;
/** Bytes of an Axis. */
const AXIS_BYTES: i32 = 24;
/** Room for a tile over the edge of the output, and its bias. */
const TILE_BYTES: i32 = 160;

/** The taps of a forward convolution's axis. */
function forwardAxis(axis: Axis, out: i32, kernel: i32, dilation: i32, pad: i32): void {
  axis.positions = out;
  axis.first = -pad;
  axis.step = dilation;
  axis.count = kernel;
  axis.tapFirst = 0;
  axis.tapStep = 1;
}

/**
 * The taps that the input's positions ≡ phase mod stride receive gradient through: input y gets dOut[o] where
 * o·stride - pad + tap·dilation = y. Within a phase that is a convolution of stride 1 again, with some of the
 * taps in reverse order.
 */
function gradientAxis(
  axis: Axis, size: i32, kernel: i32, stride: i32, dilation: i32, pad: i32, phase: i32,
): void {
  let count = 0;
  let last = 0;
  let before = 0;
  for (let tap = 0; tap < kernel; tap++) {
    if ((phase + pad - tap * dilation) % stride != 0) continue;
    before = last;
    last = tap;
    count++;
  }
  axis.positions = (size - phase + stride - 1) / stride;
  axis.count = count;
  axis.tapFirst = last;
  axis.tapStep = before - last;
  axis.first = (phase + pad - last * dilation) / stride;
  axis.step = count > 1 ? ((last - before) * dilation) / stride : 1;
}

/** The loop's numbers, which follow from the geometry; `plan` fills them in. */
@unmanaged
class Plan {
  // The source, from which patches are read, and the destination.
  height: i32;
  width: i32;
  channels: i32;
  outHeight: i32;
  outWidth: i32;
  outChannels: i32;
  /** Channels of a group on either side. */
  depth: i32;
  columns: i32;
  /** Steps in the source from one position to the next, and in the destination. */
  strideY: i32;
  strideX: i32;
  spreadY: i32;
  spreadX: i32;
  /** Positions of the largest phase. */
  rows: i32;
  rowPositions: i32;
  /** Where the slab begins in the source, as seen from position 0. */
  lowY: i32;
  lowX: i32;
  /** Source rows that one row of positions sees. */
  span: i32;
  /** Whether the source must be copied to be padded, and if so the slab's pixels in a row. */
  padded: i32;
  slabWidth: i32;
  /** Rows of positions in a block. */
  blockRows: i32;
  /** Offsets from the scratch. */
  axes: i32;
  packed: i32;
  slab: i32;
  table: i32;
  taps: i32;
  bytes: i32;
}

const PLAN_BYTES: i32 = 128;

/** Fills the axes of all phases: first those of y, then those of x. */
function fillAxes(axes: usize, g: Geometry, flipped: bool): void {
  if (!flipped) {
    forwardAxis(changetype<Axis>(axes), g.outHeight, g.kernelHeight, g.dilationY, g.padTop);
    forwardAxis(changetype<Axis>(axes + AXIS_BYTES), g.outWidth, g.kernelWidth, g.dilationX, g.padLeft);
    return;
  }
  let axis = axes;
  for (let phase = 0; phase < g.strideY; phase++) {
    gradientAxis(
      changetype<Axis>(axis), g.height, g.kernelHeight, g.strideY, g.dilationY, g.padTop, phase,
    );
    axis += AXIS_BYTES;
  }
  for (let phase = 0; phase < g.strideX; phase++) {
    gradientAxis(changetype<Axis>(axis), g.width, g.kernelWidth, g.strideX, g.dilationX, g.padLeft, phase);
    axis += AXIS_BYTES;
  }
}

/** The smallest offset of any phase, and one beyond the largest. */
function lowest(axes: usize, phases: i32): i32 {
  let low = i32.MAX_VALUE;
  for (let i = 0; i < phases; i++) {
    const axis = changetype<Axis>(axes + <usize>(i * AXIS_BYTES));
    if (axis.count > 0) low = min(low, axis.first);
  }
  return low;
}
function highest(axes: usize, phases: i32): i32 {
  let high = i32.MIN_VALUE;
  for (let i = 0; i < phases; i++) {
    const axis = changetype<Axis>(axes + <usize>(i * AXIS_BYTES));
    if (axis.count > 0) high = max(high, axis.first + (axis.count - 1) * axis.step + 1);
  }
  return high;
}

function roundUp(n: i32, to: i32): i32 {
  return ((n + to - 1) / to) * to;
}

/** Makes the plan of a forward convolution, or of the input gradient (flipped); axes follow it in the scratch. */
function plan(scratch: usize, g: Geometry, flipped: bool): Plan {
  const p = changetype<Plan>(scratch);
  p.height = flipped ? g.outHeight : g.height;
  p.width = flipped ? g.outWidth : g.width;
  p.channels = flipped ? g.outChannels : g.channels;
  p.outHeight = flipped ? g.height : g.outHeight;
  p.outWidth = flipped ? g.width : g.outWidth;
  p.outChannels = flipped ? g.channels : g.outChannels;
  p.depth = p.channels / g.groups;
  p.columns = p.outChannels / g.groups;
  p.strideY = flipped ? 1 : g.strideY;
  p.strideX = flipped ? 1 : g.strideX;
  p.spreadY = flipped ? g.strideY : 1;
  p.spreadX = flipped ? g.strideX : 1;
  p.rows = (p.outHeight + p.spreadY - 1) / p.spreadY;
  p.rowPositions = (p.outWidth + p.spreadX - 1) / p.spreadX;
  p.axes = PLAN_BYTES;
  const axesY = scratch + PLAN_BYTES;
  const axesX = axesY + <usize>(p.spreadY * AXIS_BYTES);
  fillAxes(axesY, g, flipped);
  p.lowY = lowest(axesY, p.spreadY);
  p.lowX = lowest(axesX, p.spreadX);
  const highX = highest(axesX, p.spreadX);
  const highY = highest(axesY, p.spreadY);
  p.span = highY - p.lowY;
  const fits =
    p.lowY >= 0 && p.lowX >= 0 && (p.rows - 1) * p.strideY + highY <= p.height &&
    (p.rowPositions - 1) * p.strideX + highX <= p.width;
  p.padded = fits ? 0 : 1;
  p.slabWidth = (p.rowPositions - 1) * p.strideX + highX - p.lowX;
  const pitch = p.slabWidth * p.depth * 4;
  p.blockRows = min(p.rows, max(1, (SLAB_BYTES / pitch - p.span) / p.strideY + 1));
  p.packed = roundUp(PLAN_BYTES + (p.spreadY + p.spreadX) * AXIS_BYTES + TILE_BYTES, 64);
  const taps = g.kernelHeight * g.kernelWidth;
  p.slab = p.packed + taps * p.depth * roundUp(p.columns, NR) * 4;
  const slabRows = (p.blockRows - 1) * p.strideY + p.span;
  p.table = roundUp(p.slab + (fits ? 0 : slabRows * pitch), 16);
  p.taps = p.table + (p.blockRows * p.rowPositions + 3) * 8;
  p.bytes = p.taps + taps * 4;
  return p;
}

/** Bytes of scratch that `convolve` needs; `work`: room for a plan and its axes. */
export function convolveBytes(work: usize, g: Geometry): i32 {
  return max(plan(work, g, false).bytes, plan(work, g, true).bytes);
}

/** Packs the part of the filter that a phase uses, for one group, in the order of its taps. Returns its end. */
function packFilter(
  out: usize, filter: usize, g: Geometry, p: Plan, axisY: Axis, axisX: Axis, group: i32, flipped: bool,
): usize {
  const ld = <usize>g.outChannels << 2;
  for (let j = 0; j < p.columns; j += NR) {
    for (let ty = 0; ty < axisY.count; ty++) {
      const tapY = axisY.tapFirst + ty * axisY.tapStep;
      for (let tx = 0; tx < axisX.count; tx++) {
        const tap = tapY * g.kernelWidth + axisX.tapFirst + tx * axisX.tapStep;
        const from = flipped
          ? filter + <usize>(tap * p.columns + j) * ld + (<usize>(group * p.depth) << 2)
          : filter + <usize>(tap * p.depth) * ld + (<usize>(group * p.columns + j) << 2);
        packB(out, from, ld, min(NR, p.columns - j), p.depth, flipped ? 1 : 0);
        out += <usize>(p.depth * NR * 4);
      }
    }
  }
  return out;
}

/**
 * Copies source rows from `row` (which may lie outside the image) into the slab, padded with zeros: a group's
 * channels of `slabWidth` pixels from lowX on.
 */
function fillSlab(slab: usize, image: usize, p: Plan, row: i32, rows: i32): void {
  const pixel = <usize>p.depth << 2;
  const stride = <usize>p.channels << 2;
  const pitch = <usize>p.slabWidth * pixel;
  const from = max(0, p.lowX);
  const to = max(from, min(p.width, p.lowX + p.slabWidth));
  const left = <usize>(from - p.lowX) * pixel;
  const middle = <usize>(to - from) * pixel;
  for (let end = row + rows; row < end; row++) {
    if (row < 0 || row >= p.height || middle == 0) {
      memory.fill(slab, 0, pitch);
    } else {
      const source = image + <usize>(row * p.width + from) * stride;
      memory.fill(slab, 0, left);
      if (pixel == stride) memory.copy(slab + left, source, middle);
      else copyPixels(slab + left, source, to - from, pixel, stride);
      memory.fill(slab + left + middle, 0, pitch - left - middle);
    }
    slab += pitch;
  }
}

function copyPixels(out: usize, from: usize, pixels: i32, bytes: usize, stride: usize): void {
  for (let i = 0; i < pixels; i++) {
    for (let at: usize = 0; at < bytes; at += 4) store<f32>(out + at, load<f32>(from + at));
    out += bytes;
    from += stride;
  }
}

/** The positions of a block: [offset in the source, offset in the destination], the last repeated to fill a tile. */
function fillTable(
  table: usize, p: Plan, rows: i32, positions: i32, pitch: usize, pixel: usize,
): usize {
  const outPixel = <usize>p.outChannels << 2;
  let at = table;
  let source: usize = 0;
  let destination: usize = 0;
  for (let i = 0; i < rows; i++) {
    const sourceRow = <usize>(i * p.strideY) * pitch;
    const destinationRow = <usize>(i * p.spreadY * p.outWidth) * outPixel;
    for (let j = 0; j < positions; j++) {
      source = sourceRow + <usize>(j * p.strideX) * pixel;
      destination = destinationRow + <usize>(j * p.spreadX) * outPixel;
      store<u32>(at, <u32>source);
      store<u32>(at, <u32>destination, 4);
      at += 8;
    }
  }
  const end = table + <usize>(roundUp(rows * positions, 4) * 8);
  for (; at < end; at += 8) {
    store<u32>(at, <u32>source);
    store<u32>(at, <u32>destination, 4);
  }
  return end;
}

/**
 * Four positions by eight columns: C = (accumulate ? C : 0) + Σ over taps, `run` bytes of source each, times
 * the packed panel b; then bias and ReLU as in the matrix product. The four rows of A are where the patches lie.
 */
@inline
function convolutionTile(
  c0: usize, c1: usize, c2: usize, c3: usize, a0: usize, a1: usize, a2: usize, a3: usize, taps: usize,
  tapsEnd: usize, run: usize, b: usize, accumulate: i32, bias: usize, activation: i32,
): void {
  let s00 = f32x4.splat(0);
  let s01 = s00;
  let s10 = s00;
  let s11 = s00;
  let s20 = s00;
  let s21 = s00;
  let s30 = s00;
  let s31 = s00;
  if (accumulate) {
    s00 = v128.load(c0);
    s01 = v128.load(c0, 16);
    s10 = v128.load(c1);
    s11 = v128.load(c1, 16);
    s20 = v128.load(c2);
    s21 = v128.load(c2, 16);
    s30 = v128.load(c3);
    s31 = v128.load(c3, 16);
  }
  while (taps < tapsEnd) {
    const offset = <usize>load<u32>(taps);
    let p0 = a0 + offset;
    let p1 = a1 + offset;
    let p2 = a2 + offset;
    let p3 = a3 + offset;
    const end = p0 + run;
    do {
      const b0 = v128.load(b);
      const b1 = v128.load(b, 16);
      let x = v128.load_splat<f32>(p0);
      s00 = madd(s00, x, b0);
      s01 = madd(s01, x, b1);
      x = v128.load_splat<f32>(p1);
      s10 = madd(s10, x, b0);
      s11 = madd(s11, x, b1);
      x = v128.load_splat<f32>(p2);
      s20 = madd(s20, x, b0);
      s21 = madd(s21, x, b1);
      x = v128.load_splat<f32>(p3);
      s30 = madd(s30, x, b0);
      s31 = madd(s31, x, b1);
      p0 += 4;
      p1 += 4;
      p2 += 4;
      p3 += 4;
      b += 32;
    } while (p0 < end);
    taps += 4;
  }
  if (bias) {
    const bias0 = v128.load(bias);
    const bias1 = v128.load(bias, 16);
    s00 = f32x4.add(s00, bias0);
    s01 = f32x4.add(s01, bias1);
    s10 = f32x4.add(s10, bias0);
    s11 = f32x4.add(s11, bias1);
    s20 = f32x4.add(s20, bias0);
    s21 = f32x4.add(s21, bias1);
    s30 = f32x4.add(s30, bias0);
    s31 = f32x4.add(s31, bias1);
  }
  if (activation) {
    const zero = f32x4.splat(0);
    s00 = f32x4.max(s00, zero);
    s01 = f32x4.max(s01, zero);
    s10 = f32x4.max(s10, zero);
    s11 = f32x4.max(s11, zero);
    s20 = f32x4.max(s20, zero);
    s21 = f32x4.max(s21, zero);
    s30 = f32x4.max(s30, zero);
    s31 = f32x4.max(s31, zero);
  }
  v128.store(c0, s00);
  v128.store(c0, s01, 16);
  v128.store(c1, s10);
  v128.store(c1, s11, 16);
  v128.store(c2, s20);
  v128.store(c2, s21, 16);
  v128.store(c3, s30);
  v128.store(c3, s31, 16);
}

/** Copies `columns` floats of the four rows of a tile, between C and an edge tile. */
function copyEdge(edge: usize, c: usize, table: usize, columns: i32, out: bool): void {
  for (let row = 0; row < 4; row++) {
    const at = c + <usize>load<u32>(table, 4);
    for (let i: usize = 0; i < <usize>columns << 2; i += 4) {
      if (out) store<f32>(at + i, load<f32>(edge + i));
      else store<f32>(edge + i, load<f32>(at + i));
    }
    edge += 32;
    table += 8;
  }
}

/** All tiles of one panel of columns over a block of positions. */
function convolvePanel(
  c: usize, a: usize, table: usize, tableEnd: usize, columns: i32, taps: usize, tapsEnd: usize, run: usize,
  b: usize, accumulate: i32, bias: usize, activation: i32, edge: usize,
): void {
  if (columns < NR) {
    if (bias) {
      memory.copy(edge + 128, bias, <usize>columns << 2);
      bias = edge + 128;
    }
    for (; table < tableEnd; table += 32) {
      if (accumulate) copyEdge(edge, c, table, columns, false);
      convolutionTile(
        edge, edge + 32, edge + 64, edge + 96, a + <usize>load<u32>(table), a + <usize>load<u32>(table, 8),
        a + <usize>load<u32>(table, 16), a + <usize>load<u32>(table, 24), taps, tapsEnd, run, b, accumulate, bias,
        activation,
      );
      copyEdge(edge, c, table, columns, true);
    }
    return;
  }
  for (; table < tableEnd; table += 32) {
    convolutionTile(
      c + <usize>load<u32>(table, 4), c + <usize>load<u32>(table, 12), c + <usize>load<u32>(table, 20),
      c + <usize>load<u32>(table, 28), a + <usize>load<u32>(table), a + <usize>load<u32>(table, 8),
      a + <usize>load<u32>(table, 16), a + <usize>load<u32>(table, 24), taps, tapsEnd, run, b, accumulate, bias,
      activation,
    );
  }
}

/** One phase of a group over a block of positions: a from the slab (or the image), c the first position's place. */
function convolveBlock(
  c: usize, a: usize, table: usize, tableEnd: usize, p: Plan, axisY: Axis, axisX: Axis, pitch: usize, pixel: usize,
  taps: usize, b: usize, bias: usize, activation: i32, edge: usize,
): void {
  // Neighbouring taps of a row are one run where their channels are contiguous.
  const merged = axisX.step == 1 && pixel == <usize>p.depth << 2 && axisX.count * p.depth <= KC;
  const inRow = merged ? min(1, axisX.count) : axisX.count;
  const run = <usize>(p.depth * (merged ? axisX.count : 1)) << 2;
  let tapsEnd = taps;
  for (let ty = 0; ty < axisY.count; ty++) {
    const row = <usize>(axisY.first + ty * axisY.step - p.lowY) * pitch;
    for (let tx = 0; tx < inRow; tx++) {
      store<u32>(tapsEnd, <u32>(row + <usize>(axisX.first + tx * axisX.step - p.lowX) * pixel));
      tapsEnd += 4;
    }
  }
  const panel = <usize>(axisY.count * axisX.count * p.depth * NR * 4);
  const total = axisY.count * inRow;
  const depth = <i32>(run >> 2);
  const blocks = max(1, (total * depth + KC - 1) / KC);
  const step = max(1, (total + blocks - 1) / blocks);
  let done = 0;
  do {
    const from = taps + <usize>(done * 4);
    const count = min(step, total - done);
    const last = done + count >= total;
    const rows = b + <usize>(done * depth * NR * 4);
    for (let j = 0; j < p.columns; j += NR) {
      convolvePanel(
        c + (<usize>j << 2), a, table, tableEnd, min(NR, p.columns - j), from, from + <usize>(count * 4), run,
        rows + <usize>(j / NR) * panel, done > 0 ? 1 : 0, last && bias ? bias + (<usize>j << 2) : 0,
        last ? activation : 0, edge,
      );
    }
    done += count;
  } while (done < total);
}

/**
 * out = the filter slid over every example of `from`: the forward convolution, or (flipped) the gradient to its
 * input, `from` being dOut. Every example is computed alike, whatever the batch. bias may be 0.
 */
export function convolve(
  out: usize, from: usize, filter: usize, bias: usize, activation: i32, g: Geometry, flipped: bool, scratch: usize,
): void {
  const p = plan(scratch, g, flipped);
  const axesY = scratch + <usize>p.axes;
  const axesX = axesY + <usize>(p.spreadY * AXIS_BYTES);
  const edge = axesX + <usize>(p.spreadX * AXIS_BYTES);
  const pixel = <usize>(p.padded ? p.depth : p.channels) << 2;
  const pitch = <usize>(p.padded ? p.slabWidth : p.width) * pixel;
  const image = <usize>(p.height * p.width * p.channels) << 2;
  const outImage = <usize>(p.outHeight * p.outWidth * p.outChannels) << 2;
  for (let group = 0; group < g.groups; group++) {
    let packed = scratch + <usize>p.packed;
    for (let phaseY = 0; phaseY < p.spreadY; phaseY++) {
      for (let phaseX = 0; phaseX < p.spreadX; phaseX++) {
        const axisY = changetype<Axis>(axesY + <usize>(phaseY * AXIS_BYTES));
        const axisX = changetype<Axis>(axesX + <usize>(phaseX * AXIS_BYTES));
        packed = packFilter(packed, filter, g, p, axisY, axisX, group, flipped);
      }
    }
    const groupBias = bias ? bias + (<usize>(group * p.columns) << 2) : 0;
    for (let example = 0; example < g.batch; example++) {
      const source = from + <usize>example * image + (<usize>(group * p.depth) << 2);
      const target = out + <usize>example * outImage + (<usize>(group * p.columns) << 2);
      for (let first = 0; first < p.rows; first += p.blockRows) {
        let a = scratch + <usize>p.slab;
        const rows = min(p.blockRows, p.rows - first);
        const row = first * p.strideY + p.lowY;
        if (p.padded) fillSlab(a, source, p, row, (rows - 1) * p.strideY + p.span);
        else a = source + <usize>row * pitch + <usize>p.lowX * pixel;
        let b = scratch + <usize>p.packed;
        for (let phaseY = 0; phaseY < p.spreadY; phaseY++) {
          const axisY = changetype<Axis>(axesY + <usize>(phaseY * AXIS_BYTES));
          const phaseRows = min(rows, axisY.positions - first);
          for (let phaseX = 0; phaseX < p.spreadX; phaseX++) {
            const axisX = changetype<Axis>(axesX + <usize>(phaseX * AXIS_BYTES));
            const table = scratch + <usize>p.table;
            if (phaseRows > 0 && axisX.positions > 0) {
              const y = first * p.spreadY + phaseY;
              const c = target + (<usize>((y * p.outWidth + phaseX) * p.outChannels) << 2);
              const tableEnd = fillTable(table, p, phaseRows, axisX.positions, pitch, pixel);
              convolveBlock(
                c, a, table, tableEnd, p, axisY, axisX, pitch, pixel, scratch + <usize>p.taps, b, groupBias,
                activation, edge,
              );
            }
            b += <usize>(axisY.count * axisX.count * p.depth * roundUp(p.columns, NR) * 4);
          }
        }
      }
    }
  }
}
