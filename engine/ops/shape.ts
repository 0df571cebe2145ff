import { GradshapeError } from '../errors.js';
import { type Op, run } from '../op.js';
import { type Shape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { sumTo } from './reduction.js';
import { broadcastShapes, broadcastStrides, stridesOf, walk } from './strides.js';

export interface Target {
  readonly shape: Shape;
}

export const shapeOps = {
  reshape: {
    name: 'reshape',
    summary: 'the same numbers under another shape, without copying',
    shape: (_inputs, { shape }) => shape,
    examples: ([input], { shape }) => (shape[0] === input!.shape[0] ? input!.examples : null),
    alias: true,
    forward: () => undefined,
    backward: ({ inputs, dOutput }) => [reshape(dOutput, inputs[0]!.shape)],
    secondOrder: true,
  } satisfies Op<Target>,

  broadcastTo: {
    name: 'broadcastTo',
    summary: 'repeats axes of 1 (and missing leading axes) to a larger shape',
    shape: (_inputs, { shape }) => shape,
    examples: ([input], { shape }) =>
      input!.rank === shape.length && input!.shape[0] === shape[0] ? input!.examples : null,
    forward({ kernels, inputs, output }) {
      const input = inputs[0]!;
      const { dims, strides } = walk('broadcastTo', output.shape, [
        broadcastStrides(input.shape, output.shape),
      ]);
      kernels.copyStrided(output.address, input.address, ...dims, ...strides[0]!);
      return undefined;
    },
    backward: ({ inputs, dOutput }) => [sumTo(dOutput, inputs[0]!.shape)],
    secondOrder: true,
  } satisfies Op<Target>,

  transpose: {
    name: 'transpose',
    summary: 'axes in another order',
    shape: ([input], { order }) => order.map((axis) => input!.shape[axis]!),
    examples: ([input], { order }) => (order[0] === 0 ? input!.examples : null),
    forward({ kernels, inputs, output, attributes }) {
      const input = inputs[0]!;
      const own = stridesOf(input.shape);
      const { dims, strides } = walk('transpose', output.shape, [attributes.order.map((axis) => own[axis]!)]);
      kernels.copyStrided(output.address, input.address, ...dims, ...strides[0]!);
      return undefined;
    },
    backward({ dOutput, attributes: { order } }) {
      const inverse = order.map((_, axis) => order.indexOf(axis));
      return [transpose(dOutput, inverse)];
    },
    secondOrder: true,
  } satisfies Op<{ readonly order: readonly number[] }>,
};

/**
 * The same numbers under another shape, without copying. One axis may be −1: it is what is left.
 * @throws SHAPE_MISMATCH
 */
export function reshape(input: Tensor, shape: Shape): Tensor {
  const known = sizeOf(shape.filter((n) => n !== -1));
  const free = shape.filter((n) => n === -1).length;
  const full = free === 1 ? shape.map((n) => (n === -1 ? (known === 0 ? 0 : input.size / known) : n)) : shape;
  if (free > 1 || full.some((n) => !Number.isInteger(n) || n < 0) || sizeOf(full) !== input.size) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `reshape: ${showShape(input.shape)} holds ${input.size} numbers and can't take shape ${showShape(shape)}.`,
    );
  }
  return run(shapeOps.reshape, [input], { shape: full });
}

/** Repeats axes of 1, and adds leading axes, up to `shape`. @throws SHAPE_MISMATCH */
export function broadcastTo(input: Tensor, shape: Shape): Tensor {
  const common = broadcastShapes('broadcastTo', input.shape, shape);
  if (showShape(common) !== showShape(shape)) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `broadcastTo: ${showShape(input.shape)} is larger than the target ${showShape(shape)}.`,
    );
  }
  return run(shapeOps.broadcastTo, [input], { shape });
}

/** Axes in another order; default: reversed. @throws AXIS_INVALID */
export function transpose(input: Tensor, order?: readonly number[]): Tensor {
  const axes = order ?? input.shape.map((_, axis) => input.rank - 1 - axis);
  if ([...axes].sort((a, b) => a - b).some((axis, i) => axis !== i) || axes.length !== input.rank) {
    throw new GradshapeError(
      'AXIS_INVALID',
      `transpose: order ${showShape(axes)} is not a rearrangement of the ${input.rank} axes of ${showShape(input.shape)}.`,
    );
  }
  return run(shapeOps.transpose, [input], { order: axes });
}
