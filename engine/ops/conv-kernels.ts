// The convolution kernels by what they compute: their geometry and scratch memory in place, their algorithm chosen.
import type { Engine } from '../engine.js';
import type { Block } from '../memory.js';
import type { Shape } from '../tensor.js';
import { type ConvAttributes, convolvedShape } from './conv-geometry.js';
import { placeWindows } from './window.js';

/** A convolution's shapes, and how its filter slides. */
export interface Convolution {
  readonly op: string;
  readonly x: Shape;
  readonly filter: Shape;
  readonly sliding: ConvAttributes;
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

interface Prepared {
  readonly geometry: number;
  readonly scratch: number;
}

/** Writes the geometry to where the kernels read it, and finds their scratch memory; good until the next call. */
function prepare(engine: Engine, c: Convolution, algorithm: 'direct' | 'winograd'): Prepared {
  const { stride, dilation, groups, padding } = c.sliding;
  const [batch, outHeight, outWidth, out] = convolvedShape(c.op, c.x, c.filter, c.sliding);
  const [height, width] = c.filter as [number, number];
  const { before } = placeWindows(c.op, c.x, { window: [height, width], stride, padding }, dilation);
  const numbers = [
    ...[batch!, c.x[1]!, c.x[2]!, c.x[3]!],
    ...[outHeight!, outWidth!, out!],
    ...[height, width, ...stride, ...dilation, ...before, groups],
  ];
  const write = (bytes: number): number => {
    const at = workspace(engine, bytes);
    new Int32Array(engine.memory.wasm.buffer, at, numbers.length).set(numbers);
    return at;
  };
  const head = Math.ceil((geometryBytes + bytesPerStride * (stride[0] + stride[1])) / 64) * 64;
  const { kernels } = engine;
  const at = write(head);
  const bytes = algorithm === 'direct' ? kernels.conv2dScratchBytes(at) : kernels.winogradScratchBytes(at);
  const geometry = write(head + bytes);
  return { geometry, scratch: geometry + head };
}

/** Transformed filters of more than this many numbers would take too much memory. */
const mostTransformed = 36 * 131_072;

/**
 * Whether Winograd's F(4×4, 3×3) is the faster. Products are counted: 36 a tile of 4×4 outputs instead of 9 an output;
 * transforming a tile costs as much as 256 products a channel, and transforming an example's filter gradient back (which
 * a batch in pieces needs, to have the bits of the whole) as much as 180 a filter's number. Found by measuring sizes from
 * 2×2 to 32×32 with 8 to 128 channels. A formula of the shapes alone, without the batch: bits depend on nothing else.
 */
function winogradIsFaster(
  { x, filter, sliding }: Convolution,
  outputs: readonly [number, number],
  result: 'image' | 'filter',
): boolean {
  const { stride, dilation, groups, algorithm } = sliding;
  const [height, width, channels, out] = filter as [number, number, number, number];
  const ones = stride[0] * stride[1] * dilation[0] * dilation[1] * groups === 1;
  const fits = channels % 8 === 0 && out % 8 === 0 && 36 * channels * out <= mostTransformed;
  if (algorithm === 'direct' || !ones || height !== 3 || width !== 3 || !fits || x[0] === 0) return false;
  const tiles = Math.ceil(outputs[0] / 4) * Math.ceil(outputs[1] / 4);
  const pairs = channels * out;
  const back = result === 'filter' ? 180 * pairs * Math.ceil(tiles / 64) : 0;
  return back + tiles * (36 * pairs + 256 * (channels + out)) < 9 * outputs[0] * outputs[1] * pairs;
}

function outputsOf(c: Convolution): readonly [number, number] {
  const [, height, width] = convolvedShape(c.op, c.x, c.filter, c.sliding);
  return [height!, width!];
}

/** out = activation(x ⋆ filter + bias); bias may be 0. All are addresses. */
export function convolve(
  engine: Engine,
  c: Convolution,
  out: number,
  x: number,
  filter: number,
  bias: number,
  relu: boolean,
): void {
  const winograd = winogradIsFaster(c, outputsOf(c), 'image');
  const { geometry, scratch } = prepare(engine, c, winograd ? 'winograd' : 'direct');
  const kernel = winograd ? engine.kernels.winogradConv2d : engine.kernels.conv2d;
  kernel(out, x, filter, bias, relu ? 1 : 0, geometry, scratch);
}

/** dX from dOut. */
export function convolveBack(engine: Engine, c: Convolution, dX: number, dOut: number, filter: number): void {
  const winograd = winogradIsFaster(c, [c.x[1]!, c.x[2]!], 'image');
  const { geometry, scratch } = prepare(engine, c, winograd ? 'winograd' : 'direct');
  const kernel = winograd ? engine.kernels.winogradInputGradient : engine.kernels.conv2dInputGradient;
  kernel(dX, dOut, filter, geometry, scratch);
}

/** dFilter (+)= Σ weights[i] · example i's gradient; weights 0: all ones. Weighted sums are direct. */
export function sumFilterGradients(
  engine: Engine,
  c: Convolution,
  dFilter: number,
  x: number,
  dOut: number,
  weights: number,
  accumulate: boolean,
): void {
  const add = accumulate ? 1 : 0;
  const { kernels } = engine;
  if (weights === 0 && winogradIsFaster(c, outputsOf(c), 'filter')) {
    const { geometry, scratch } = prepare(engine, c, 'winograd');
    kernels.winogradFilterGradient(dFilter, x, dOut, geometry, add, scratch);
  } else {
    const { geometry, scratch } = prepare(engine, c, 'direct');
    kernels.conv2dFilterGradient(dFilter, x, dOut, weights, geometry, add, scratch);
  }
}

/** out[i] (+)= example i's filter gradient, rows `stride` numbers apart. */
export function instantiateFilterGradients(
  engine: Engine,
  c: Convolution,
  out: number,
  x: number,
  dOut: number,
  stride: number,
  accumulate: boolean,
): void {
  const winograd = winogradIsFaster(c, outputsOf(c), 'filter');
  const { geometry, scratch } = prepare(engine, c, winograd ? 'winograd' : 'direct');
  const { kernels } = engine;
  const kernel = winograd ? kernels.instantiateWinograd : kernels.instantiateConv2d;
  kernel(out, x, dOut, geometry, stride, accumulate ? 1 : 0, scratch);
}

/** out f64[batch] = ‖example i's filter gradient‖², without making it; terms: see `conv2dGhostNorms`. */
export function filterGhostNorms(
  engine: Engine,
  c: Convolution,
  out: number,
  terms: number,
  x: number,
  dOut: number,
): void {
  const { geometry, scratch } = prepare(engine, c, 'direct');
  engine.kernels.conv2dGhostNorms(out, terms, x, dOut, geometry, 0, scratch);
}
