import type { Engine } from '../engine.js';
import { GradshapeError } from '../errors.js';
import type { Block } from '../memory.js';
import { type Shape, showShape } from '../tensor.js';
import { type Padding, placeWindows } from './window.js';

/** How a filter slides; pairs are [vertical, horizontal]. */
export interface Sliding {
  readonly stride: readonly [number, number];
  readonly padding: Padding;
  readonly dilation: readonly [number, number];
  /** Channels are split in so many groups, which don't see each other; as many as channels: depthwise. */
  readonly groups: number;
}

/** [batch, height, width, channels] of the output. */
export function convolvedShape(op: string, x: Shape, filter: Shape, sliding: Sliding): Shape {
  const { groups } = sliding;
  if (filter.length !== 4) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${op}: the filter has shape ${showShape(filter)}; expected [kernel height, kernel width, in / groups, out]. ` +
        'A PyTorch filter [out, in, height, width] goes through filterFromPyTorch.',
    );
  }
  const [height, width, depth, out] = filter as [number, number, number, number];
  const { outputs } = placeWindows(op, x, { ...sliding, window: [height, width] }, sliding.dilation);
  const channels = x[3]!;
  if (!Number.isSafeInteger(groups) || groups < 1 || channels % groups !== 0 || out % groups !== 0) {
    throw new GradshapeError(
      'GROUPS_INVALID',
      `${op}: groups is ${String(groups)} with ${channels} channels in and ${out} out; expected a whole number that divides both.`,
    );
  }
  if (depth * groups !== channels || depth === 0) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${op}: x ${showShape(x)} has ${channels} channels, but the filter ${showShape(filter)} takes ${depth}` +
        `${groups > 1 ? ` in each of ${groups} groups` : ''}; expected ${channels / groups}.`,
    );
  }
  return [x[0]!, ...outputs, out];
}

/** The geometry as the kernels read it, and scratch memory for them. */
export interface Prepared {
  readonly geometry: number;
  readonly scratch: number;
}

/** One growing block an engine: convolutions run one after the other. */
const workspaces = new WeakMap<Engine, Block>();

/** Bytes of a geometry with the kernels' own room behind it, without the part that grows with the strides. */
const geometryBytes = 384;
const bytesPerStride = 24;

function workspace(engine: Engine, bytes: number): number {
  let block = workspaces.get(engine);
  if (block === undefined || block.bytes < bytes) {
    block?.free();
    workspaces.delete(engine);
    block = engine.memory.block(bytes, 'conv2d');
    workspaces.set(engine, block);
  }
  return block.address;
}

/** Writes the geometry to where the kernels read it; good until the next call. */
export function prepare(engine: Engine, op: string, x: Shape, filter: Shape, sliding: Sliding): Prepared {
  const [batch, outHeight, outWidth, out] = convolvedShape(op, x, filter, sliding);
  const [height, width] = filter as [number, number];
  const { before } = placeWindows(op, x, { ...sliding, window: [height, width] }, sliding.dilation);
  const { stride, dilation, groups } = sliding;
  const numbers = [
    ...[batch!, x[1]!, x[2]!, x[3]!],
    ...[outHeight!, outWidth!, out!],
    ...[height, width, ...stride, ...dilation, ...before, groups],
  ];
  const head = geometryBytes + bytesPerStride * (stride[0] + stride[1]);
  const at = workspace(engine, head);
  new Int32Array(engine.memory.wasm.buffer, at, numbers.length).set(numbers);
  const bytes = head + engine.kernels.conv2dScratchBytes(at);
  const geometry = workspace(engine, bytes);
  new Int32Array(engine.memory.wasm.buffer, geometry, numbers.length).set(numbers);
  return { geometry, scratch: geometry + Math.ceil(head / 64) * 64 };
}
