// The filter gradient as a product Patchesᵀ·dOut over positions: patches go straight into the packed panels.
import { Geometry } from './conv-core';
import { addDepthwiseGradient, isDepthwise } from './conv-depthwise';
import {
  ADD, CONTINUE, EDGE_BYTES, KC, MC, MR, NC, PACKED_A_BYTES, PACKED_B_BYTES, addPacked, multiplyPacked, packB,
} from './gemm-core';

export function filterGradientBytes(): i32 {
  return PACKED_A_BYTES + PACKED_B_BYTES + EDGE_BYTES;
}

/** A floor and a ceiling of a / b for b > 0 and any a. */
function floorOf(a: i32, b: i32): i32 {
  return a >= 0 ? a / b : -((b - 1 - a) / b);
}

/**
 * Packs positions from…to-1 (counted over the whole batch) of `lanes` ≤ 4 neighbouring channels of a tap, or
 * of a single lane, into out, 16 bytes a position; 0 where the tap lies in the padding.
 */
@inline
function packTap(
  out: usize, x: usize, g: Geometry, from: i32, to: i32, tapY: i32, tapX: i32, channel: i32, whole: bool,
): void {
  const positions = g.outHeight * g.outWidth;
  const offsetY = tapY * g.dilationY - g.padTop;
  const offsetX = tapX * g.dilationX - g.padLeft;
  // The columns of positions whose tap lies inside the image.
  const inside = max(0, -floorOf(offsetX, g.strideX));
  const beyond = floorOf(g.width - 1 - offsetX, g.strideX) + 1;
  const step = <usize>(g.strideX * g.channels) << 2;
  while (from < to) {
    const example = from / positions;
    const position = from - example * positions;
    const oy = position / g.outWidth;
    const ox = position - oy * g.outWidth;
    const count = min(g.outWidth - ox, to - from);
    const y = oy * g.strideY + offsetY;
    const rowInside = y >= 0 && y < g.height;
    const first = rowInside ? min(max(inside, ox), ox + count) : ox + count;
    const last = rowInside ? min(max(beyond, first), ox + count) : ox + count;
    let end = out + (<usize>(first - ox) << 4);
    for (; out < end; out += 16) {
      if (whole) v128.store(out, f32x4.splat(0));
      else store<f32>(out, 0);
    }
    end += <usize>(last - first) << 4;
    let source =
      x + (<usize>(((example * g.height + y) * g.width + first * g.strideX + offsetX) * g.channels + channel) << 2);
    for (; out < end; out += 16) {
      if (whole) v128.store(out, v128.load(source));
      else store<f32>(out, load<f32>(source));
      source += step;
    }
    end += <usize>(ox + count - last) << 4;
    for (; out < end; out += 16) {
      if (whole) v128.store(out, f32x4.splat(0));
      else store<f32>(out, 0);
    }
    from += count;
  }
}

function packVector(
  out: usize, x: usize, g: Geometry, from: i32, to: i32, tapY: i32, tapX: i32, channel: i32,
): void {
  packTap(out, x, g, from, to, tapY, tapX, channel, true);
}
function packLane(
  out: usize, x: usize, g: Geometry, from: i32, to: i32, tapY: i32, tapX: i32, channel: i32,
): void {
  packTap(out, x, g, from, to, tapY, tapX, channel, false);
}

/** Packs rows row…row+rows-1 of Patchesᵀ [taps · depth, positions] for a group into panels of MR. */
function packPatches(
  out: usize, x: usize, g: Geometry, group: i32, row: i32, rows: i32, from: i32, to: i32,
): void {
  const depth = g.channels / g.groups;
  const all = g.kernelHeight * g.kernelWidth * depth;
  const panel = <usize>(to - from) * MR * 4;
  for (const end = row + rows; row < end; row += MR) {
    const tap = row / depth;
    const channel = row - tap * depth;
    if (channel + MR <= depth) {
      packVector(
        out, x, g, from, to, tap / g.kernelWidth, tap % g.kernelWidth, group * depth + channel,
      );
    } else {
      // A panel over the edge of a tap, lane by lane; lanes beyond the last repeat it.
      for (let lane = 0; lane < MR; lane++) {
        const at = min(row + lane, all - 1);
        const own = at / depth;
        packLane(
          out + (<usize>lane << 2), x, g, from, to, own / g.kernelWidth, own % g.kernelWidth,
          group * depth + at - own * depth,
        );
      }
    }
    out += panel;
  }
}

/**
 * out [kernelHeight, kernelWidth, channels / groups, outChannels] (+)= Σ over examples from…to-1, and their
 * positions, one after the other, of scale[example]·patchᵀ·dOut; scale may be 0 (none). With a scale each example's
 * part is summed from 0 over its positions (at most 384, no depthwise filters), multiplied, and then added: what its positions are
 * on the way to their sum never meets the others' sum. An example whose scale is 0 adds nothing.
 */
export function addFilterGradient(
  out: usize, x: usize, dOut: usize, scale: usize, g: Geometry, from: i32, to: i32, accumulate: i32, scratch: usize,
): void {
  const positions = g.outHeight * g.outWidth;
  if (!isDepthwise(g)) {
    if (!scale) {
      addProducts(out, x, dOut, 1, g, from * positions, to * positions, accumulate, scratch);
      return;
    }
    if (!accumulate) memory.fill(out, 0, <usize>(g.kernelHeight * g.kernelWidth * (g.channels / g.groups) * g.outChannels) << 2);
    for (let i = from; i < to; i++) {
      const factor = load<f32>(scale + (<usize>i << 2));
      if (factor == 0) continue;
      addProducts(out, x, dOut, factor, g, i * positions, (i + 1) * positions, ADD, scratch);
    }
    return;
  }
  if (!accumulate) memory.fill(out, 0, <usize>(g.kernelHeight * g.kernelWidth * g.channels) << 2);
  for (let i = from; i < to; i++) {
    addDepthwiseGradient(
      out, x + (<usize>(i * g.height * g.width * g.channels) << 2),
      dOut + (<usize>(i * positions * g.channels) << 2),
      scale ? load<f32>(scale + (<usize>i << 2)) : 1, g,
    );
  }
}

/**
 * out [kernelHeight, kernelWidth, channels / groups, outChannels] (+)= Σ over positions from…to-1 of the batch,
 * one after the other, of patchᵀ·dOut; with ADD, `factor` times their sum from 0.
 */
function addProducts(
  out: usize, x: usize, dOut: usize, factor: f32, g: Geometry, from: i32, to: i32, accumulate: i32, scratch: usize,
): void {
  const depth = g.channels / g.groups;
  const columns = g.outChannels / g.groups;
  const rows = g.kernelHeight * g.kernelWidth * depth;
  const ld = <usize>g.outChannels << 2;
  const packedB = scratch + PACKED_A_BYTES;
  const edge = packedB + PACKED_B_BYTES;
  const blocks = max(1, (to - from + KC - 1) / KC);
  const length = (to - from + blocks - 1) / blocks;
  if (to == from && !accumulate) memory.fill(out, 0, <usize>rows * ld);
  for (let at = from; at < to; at += length) {
    const end = min(at + length, to);
    for (let group = 0; group < g.groups; group++) {
      for (let j = 0; j < columns; j += NC) {
        const width = min(NC, columns - j);
        const column = <usize>(group * columns + j) << 2;
        packB(packedB, dOut + <usize>at * ld + column, ld, width, end - at, 0);
        for (let row = 0; row < rows; row += MC) {
          const count = min(MC, rows - row);
          packPatches(scratch, x, g, group, row, count, at, end);
          const target = out + <usize>row * ld + column;
          if (accumulate == ADD) addPacked(target, ld, count, width, end - at, scratch, packedB, edge, factor);
          else multiplyPacked(target, ld, count, width, end - at, scratch, packedB, at > from ? CONTINUE : accumulate, 0, 0, edge);
        }
      }
    }
  }
}
