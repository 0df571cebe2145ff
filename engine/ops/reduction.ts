import { GradshapeError } from '../errors.js';
import { type Backward, type Op, run } from '../op.js';
import { type Examples, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { add, div, equal, greater, mul, sub } from './arithmetic.js';
import { sqrt, square } from './elementwise.js';
import { broadcastTo, reshape, transpose } from './shape.js';

/** Axes are consecutive in a row of the table; the public functions bring others there. */
export interface Axes {
  readonly from: number;
  readonly to: number;
  readonly keepDims: boolean;
}

/** Axes to reduce over (negative ones count from the end), and whether to keep them as 1. */
export interface ReduceOptions {
  readonly axes?: readonly number[] | number;
  /** @default false */
  readonly keepDims?: boolean;
}

function reducedShape([input]: readonly Tensor[], { from, to, keepDims }: Axes): Shape {
  return input!.shape.flatMap((n, axis) => (axis < from || axis >= to ? [n] : keepDims ? [1] : []));
}

/** The same, for reductions that need something to reduce. */
const nonEmpty =
  (name: string): Op<Axes>['shape'] =>
  (inputs, axes) => {
    const shape = reducedShape(inputs, axes);
    if (blocks(inputs[0]!, axes)[1] === 0 && sizeOf(shape) > 0) {
      throw new GradshapeError(
        'AXIS_EMPTY',
        `${name}: axes ${axes.from} to ${axes.to - 1} of ${showShape(inputs[0]!.shape)} hold no numbers; expected at least one.`,
      );
    }
    return shape;
  };

function examplesKept([input]: readonly Tensor[], { from }: Axes): Examples | null {
  return from > 0 ? input!.examples : null;
}

/** [outer, n, inner] for the kernels. */
function blocks(input: Tensor, { from, to }: Axes): [number, number, number] {
  return [
    sizeOf(input.shape.slice(0, from)),
    sizeOf(input.shape.slice(from, to)),
    sizeOf(input.shape.slice(to)),
  ];
}

/** `reduced` with the reduced axes back as 1, repeated to the input's shape. */
function expand(reduced: Tensor, c: Backward<Axes>): Tensor {
  const input = c.inputs[0]!;
  return broadcastTo(
    reshape(reduced, reducedShape([input], { ...c.attributes, keepDims: true })),
    input.shape,
  );
}

export const reductionOps = {
  sum: {
    name: 'sum',
    summary: 'sum over axes, accumulated in f64',
    shape: reducedShape,
    examples: examplesKept,
    forward({ kernels, inputs, output, attributes }) {
      kernels.sumAxis(output.address, inputs[0]!.address, ...blocks(inputs[0]!, attributes));
      return undefined;
    },
    backward: (c) => [expand(c.dOutput, c)],
    secondOrder: true,
  } satisfies Op<Axes>,

  mean: {
    name: 'mean',
    summary: 'mean over axes, accumulated in f64',
    shape: nonEmpty('mean'),
    examples: examplesKept,
    forward({ kernels, inputs, output, attributes }) {
      const [outer, n, inner] = blocks(inputs[0]!, attributes);
      kernels.sumAxis(output.address, inputs[0]!.address, outer, n, inner);
      kernels.scaleBy(output.address, output.address, 1 / n, output.size);
      return undefined;
    },
    backward: (c) => [expand(mul(c.dOutput, 1 / blocks(c.inputs[0]!, c.attributes)[1]), c)],
    secondOrder: true,
  } satisfies Op<Axes>,

  max: {
    name: 'max',
    summary: 'largest over axes; ties share the gradient',
    shape: nonEmpty('max'),
    examples: examplesKept,
    forward({ kernels, inputs, output, attributes }) {
      kernels.maxAxis(output.address, inputs[0]!.address, ...blocks(inputs[0]!, attributes));
      return undefined;
    },
    backward(c) {
      const { from, to, keepDims } = c.attributes;
      const isMax = equal(c.inputs[0]!, expand(c.output, c));
      const ties = sum(isMax, { axes: Array.from({ length: to - from }, (_, i) => from + i), keepDims });
      return [mul(isMax, expand(div(c.dOutput, ties), c))];
    },
    secondOrder: true,
  } satisfies Op<Axes>,
};

function normalAxes(name: string, input: Tensor, axes: ReduceOptions['axes']): number[] {
  const list =
    axes === undefined ? input.shape.map((_, axis) => axis) : typeof axes === 'number' ? [axes] : [...axes];
  const positive = list.map((axis) => (axis < 0 ? axis + input.rank : axis));
  if (positive.some((axis) => !Number.isInteger(axis) || axis < 0 || axis >= input.rank)) {
    throw new GradshapeError(
      'AXIS_INVALID',
      `${name}: axes ${showShape(list)} of a tensor of shape ${showShape(input.shape)}; expected whole numbers from ${-input.rank} to ${input.rank - 1}.`,
    );
  }
  return [...new Set(positive)].sort((a, b) => a - b);
}

/** Reduces over any axes: consecutive ones at once, others after bringing them to the end. */
function reduce(op: Op<Axes>, input: Tensor, options: ReduceOptions): Tensor {
  const axes = normalAxes(op.name, input, options.axes);
  const keepDims = options.keepDims ?? false;
  if (axes.length === 0) return reshape(input, input.shape);
  const from = axes[0]!;
  const to = axes[axes.length - 1]! + 1;
  if (to - from === axes.length) return run(op, [input], { from, to, keepDims });
  const kept = input.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const moved = transpose(input, [...kept, ...axes]);
  const reduced = run(op, [moved], { from: kept.length, to: input.rank, keepDims: false });
  return keepDims
    ? reshape(
        reduced,
        input.shape.map((n, axis) => (axes.includes(axis) ? 1 : n)),
      )
    : reduced;
}

/** Sum over axes (default: all). @throws AXIS_INVALID */
export const sum = (input: Tensor, options: ReduceOptions = {}): Tensor =>
  reduce(reductionOps.sum, input, options);
/** Mean over axes (default: all). @throws AXIS_INVALID, AXIS_EMPTY */
export const mean = (input: Tensor, options: ReduceOptions = {}): Tensor =>
  reduce(reductionOps.mean, input, options);
/** Largest element over axes (default: all); where several are largest, they share the gradient. @throws AXIS_INVALID, AXIS_EMPTY */
export const max = (input: Tensor, options: ReduceOptions = {}): Tensor =>
  reduce(reductionOps.max, input, options);

/** Sums away what broadcasting added: from a shape back to one that broadcasts to it. */
export function sumTo(input: Tensor, shape: Shape): Tensor {
  if (sameShape(input.shape, shape)) return input;
  const lead = input.rank - shape.length;
  const axes = input.shape.flatMap((n, axis) =>
    axis < lead || (shape[axis - lead] === 1 && n !== 1) ? [axis] : [],
  );
  return reshape(sum(input, { axes, keepDims: true }), shape);
}

/** The L2 norm over axes (default: all). The gradient at the zero vector is 0. */
export function l2Norm(input: Tensor, options: ReduceOptions = {}): Tensor {
  // √ has no finite slope at 0: there it is taken of 1 instead, and the result is set to 0.
  const squared = sum(square(input), options);
  const positive = greater(squared, 0);
  return mul(sqrt(add(squared, sub(1, positive))), positive);
}
