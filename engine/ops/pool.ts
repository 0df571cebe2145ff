import { GradshapeError } from '../errors.js';
import { type Op, run, sameExamples } from '../op.js';
import { type Shape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { mean } from './reduction.js';
import { bothOf, type Padding, type Pair, placeWindows, type Windows } from './window.js';

export interface PoolOptions {
  /** Pixels from one window to the next. @default the window's size */
  readonly stride?: Pair;
  /** What is outside the image counts neither as a largest value nor in a mean. @default 'valid' */
  readonly padding?: Padding;
}

/** What a pooling's gradient needs to know of its input. */
export interface Pooled {
  readonly shape: Shape;
}

function pooledShape(op: string, image: Shape, windows: Windows): Shape {
  const { outputs } = placeWindows(op, image, windows);
  return [image[0]!, ...outputs, image[3]!];
}

/** The kernels' sizes: from batch to left. */
function geometry(op: string, image: Shape, windows: Windows) {
  const [batch, height, width, channels] = image as [number, number, number, number];
  const { outputs, before } = placeWindows(op, image, windows);
  return [
    ...([batch, height, width, channels] as const),
    ...outputs,
    ...windows.window,
    ...windows.stride,
    ...before,
  ] as const;
}

const rowsOf = ({ shape }: Tensor): [rows: number, size: number] => [shape[0]!, sizeOf(shape.slice(1))];

export const poolOps = {
  maxPool2d: {
    name: 'maxPool2d',
    summary: 'largest in each window of an image; the first of equal ones gets the gradient',
    shape: ([x], windows) => pooledShape('maxPool2d', x!.shape, windows),
    examples: sameExamples,
    forward({ engine, kernels, inputs, attributes, output }) {
      const x = inputs[0]!;
      const indices = engine.allocate(output.shape, 'i32', 'maxPool2d');
      kernels.maxPool2d(
        output.address,
        indices.address,
        x.address,
        ...geometry('maxPool2d', x.shape, attributes),
      );
      return [indices];
    },
    backward: ({ inputs, saved, dOutput }) => [scatterMaxima(dOutput, saved[0]!, inputs[0]!.shape)],
    secondOrder: true,
  } satisfies Op<Windows>,

  scatterMaxima: {
    name: 'scatterMaxima',
    summary: 'adds each number to where its maximum was: the backward of maxPool2d',
    dtypes: ['f32', 'i32'],
    shape: (_inputs, { shape }) => shape,
    examples: sameExamples,
    forward({ kernels, inputs: [a, indices], output }) {
      const [rows, size] = rowsOf(output);
      kernels.scatterRows(output.address, a!.address, indices!.address, rows, rowsOf(a!)[1], size);
      return undefined;
    },
    backward: ({ inputs: [a, indices], dOutput }) => [gatherMaxima(dOutput, indices!, a!.shape), null],
    secondOrder: true,
  } satisfies Op<Pooled>,

  gatherMaxima: {
    name: 'gatherMaxima',
    summary: 'reads each number where the maximum was: the backward of scatterMaxima',
    dtypes: ['f32', 'i32'],
    shape: (_inputs, { shape }) => shape,
    examples: sameExamples,
    forward({ kernels, inputs: [a, indices], output }) {
      const [rows, count] = rowsOf(output);
      kernels.gatherFromRows(output.address, a!.address, indices!.address, rows, count, rowsOf(a!)[1]);
      return undefined;
    },
    backward: ({ inputs: [a, indices], dOutput }) => [scatterMaxima(dOutput, indices!, a!.shape), null],
    secondOrder: true,
  } satisfies Op<Pooled>,

  avgPool2d: {
    name: 'avgPool2d',
    summary: "mean of each window's part inside the image",
    shape: ([x], windows) => pooledShape('avgPool2d', x!.shape, windows),
    examples: sameExamples,
    forward({ kernels, inputs, attributes, output }) {
      const x = inputs[0]!;
      kernels.avgPool2d(output.address, x.address, ...geometry('avgPool2d', x.shape, attributes));
      return undefined;
    },
    backward: ({ inputs, attributes, dOutput }) => [spreadMeans(dOutput, attributes, inputs[0]!.shape)],
    secondOrder: true,
  } satisfies Op<Windows>,

  spreadMeans: {
    name: 'spreadMeans',
    summary: "shares each number among its window's pixels: the backward of avgPool2d",
    shape: (_inputs, { shape }) => shape,
    examples: sameExamples,
    forward({ kernels, inputs, attributes, output }) {
      kernels.avgPool2dGradient(
        output.address,
        inputs[0]!.address,
        ...geometry('avgPool2d', output.shape, attributes),
      );
      return undefined;
    },
    backward: ({ attributes, dOutput }) => [means(dOutput, attributes)],
    secondOrder: true,
  } satisfies Op<Windows & Pooled>,
};

const scatterMaxima = (a: Tensor, indices: Tensor, shape: Shape): Tensor =>
  run(poolOps.scatterMaxima, [a, indices], { shape });
const gatherMaxima = (a: Tensor, indices: Tensor, shape: Shape): Tensor =>
  run(poolOps.gatherMaxima, [a, indices], { shape });
const means = (x: Tensor, windows: Windows): Tensor => run(poolOps.avgPool2d, [x], windows);
const spreadMeans = (a: Tensor, windows: Windows, shape: Shape): Tensor =>
  run(poolOps.spreadMeans, [a], { ...windows, shape });

function windowsOf(window: Pair, { stride = window, padding = 'valid' }: PoolOptions): Windows {
  return { window: bothOf(window), stride: bothOf(stride), padding };
}

/**
 * The largest number in each window, channel by channel. Of equal ones, the first (row by row) gets the gradient.
 * @param x f32 [batch, height, width, channels]
 * @param window pixels, one number or [vertical, horizontal]
 * @returns f32 [batch, height', width', channels]
 * @throws SHAPE_MISMATCH, WINDOW_INVALID
 * @example maxPool2d(x, 2) // halves height and width
 */
export const maxPool2d = (x: Tensor, window: Pair, options: PoolOptions = {}): Tensor =>
  run(poolOps.maxPool2d, [x], windowsOf(window, options));

/**
 * The mean of each window, channel by channel; padding is not counted.
 * @param x f32 [batch, height, width, channels]
 * @param window pixels, one number or [vertical, horizontal]
 * @returns f32 [batch, height', width', channels]
 * @throws SHAPE_MISMATCH, WINDOW_INVALID
 */
export const avgPool2d = (x: Tensor, window: Pair, options: PoolOptions = {}): Tensor =>
  means(x, windowsOf(window, options));

/**
 * The mean over an image, channel by channel: [batch, height, width, channels] → [batch, channels].
 * @throws SHAPE_MISMATCH
 */
export function globalAvgPool(x: Tensor): Tensor {
  if (x.rank !== 4) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `globalAvgPool: x has shape ${showShape(x.shape)}; expected images, [batch, height, width, channels].`,
    );
  }
  return mean(x, { axes: [1, 2] });
}
