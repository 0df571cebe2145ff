import { GradshapeError } from '../errors.js';
import { alignedExamples, type Op, run } from '../op.js';
import { type Shape, showShape, type Tensor } from '../tensor.js';
import { stridesOf, walk } from './strides.js';

export interface Box {
  readonly begin: readonly number[];
  readonly size: readonly number[];
}

/** Numbers before and after, axis by axis. */
export type Paddings = readonly (readonly [before: number, after: number])[];

/** Elements from a tensor's start to the element at an index. */
const offsetOf = (shape: Shape, index: readonly number[]): number =>
  stridesOf(shape).reduce((offset, stride, axis) => offset + stride * index[axis]!, 0);

/** Writes `part` into `whole`, its first element at `begin`. */
function place(op: string, whole: Tensor, part: Tensor, begin: readonly number[]): void {
  const { dims, strides } = walk(op, part.shape, [stridesOf(whole.shape)]);
  const to = whole.address + offsetOf(whole.shape, begin) * 4;
  whole.engine.kernels.copyToStrided(to, part.address, ...dims, ...strides[0]!);
}

const startOn = (shape: Shape, axis: number, at: number): number[] =>
  shape.map((_, i) => (i === axis ? at : 0));

export const joinOps = {
  slice: {
    name: 'slice',
    summary: 'a box of a tensor',
    shape: (_inputs, { size }) => size,
    examples: ([input], { size }) => (size[0] === input!.shape[0] ? input!.examples : null),
    forward({ kernels, inputs, attributes: { begin, size }, output }) {
      const { shape, address } = inputs[0]!;
      const { dims, strides } = walk('slice', size, [stridesOf(shape)]);
      kernels.copyStrided(output.address, address + offsetOf(shape, begin) * 4, ...dims, ...strides[0]!);
      return undefined;
    },
    backward({ inputs, attributes: { begin, size }, dOutput }) {
      const { shape } = inputs[0]!;
      return [
        pad(
          dOutput,
          begin.map((b, axis) => [b, shape[axis]! - b - size[axis]!]),
        ),
      ];
    },
    secondOrder: true,
  } satisfies Op<Box>,

  pad: {
    name: 'pad',
    summary: 'a constant around a tensor',
    shape: ([input], { paddings }) =>
      input!.shape.map((n, axis) => n + paddings[axis]![0] + paddings[axis]![1]),
    examples: ([input], { paddings: [first] }) =>
      first && first[0] === 0 && first[1] === 0 ? input!.examples : null,
    forward({ kernels, inputs, attributes: { paddings, value }, output }) {
      kernels.fill(output.address, value, output.size);
      place(
        'pad',
        output,
        inputs[0]!,
        paddings.map(([before]) => before),
      );
      return undefined;
    },
    backward: ({ inputs, attributes: { paddings }, dOutput }) => [
      slice(
        dOutput,
        paddings.map(([before]) => before),
        inputs[0]!.shape,
      ),
    ],
    secondOrder: true,
  } satisfies Op<{ readonly paddings: Paddings; readonly value: number }>,

  concat: {
    name: 'concat',
    summary: 'tensors one after another along an axis',
    shape([first, ...others], { axis }) {
      let length = first!.shape[axis]!;
      for (const { shape } of others) {
        if (shape.length !== first!.rank || shape.some((n, i) => i !== axis && n !== first!.shape[i])) {
          throw new GradshapeError(
            'SHAPE_MISMATCH',
            `concat: shapes ${showShape(first!.shape)} and ${showShape(shape)}; expected them to differ on axis ${axis} alone.`,
          );
        }
        length += shape[axis]!;
      }
      return first!.shape.map((n, i) => (i === axis ? length : n));
    },
    examples: (inputs, { axis }, output) => (axis === 0 ? null : alignedExamples(inputs, undefined, output)),
    forward({ inputs, attributes: { axis }, output }) {
      let at = 0;
      for (const input of inputs) {
        place('concat', output, input, startOn(output.shape, axis, at));
        at += input.shape[axis]!;
      }
      return undefined;
    },
    backward({ inputs, attributes: { axis }, dOutput, needs }) {
      let at = 0;
      return inputs.map(({ shape }, i) => {
        const begin = startOn(shape, axis, at);
        at += shape[axis]!;
        return needs[i] ? slice(dOutput, begin, shape) : null;
      });
    },
    secondOrder: true,
  } satisfies Op<{ readonly axis: number }>,
};

/**
 * A box of a tensor: `size[i]` numbers from `begin[i]` on, on each axis. A size of −1 is what is left.
 * @throws RANGE_INVALID
 * @example slice(images, [0, 2, 2, 0], [-1, 24, 24, -1]) // the middle of 28 × 28 images
 */
export function slice(input: Tensor, begin: readonly number[], size: readonly number[]): Tensor {
  const full = size.map((n, axis) => (n === -1 ? (input.shape[axis] ?? 0) - begin[axis]! : n));
  const fits =
    begin.length === input.rank &&
    full.length === input.rank &&
    full.every((n, axis) => isCount(n) && isCount(begin[axis]!) && begin[axis]! + n <= input.shape[axis]!);
  if (!fits) {
    throw new GradshapeError(
      'RANGE_INVALID',
      `slice: from ${showShape(begin)}, ${showShape(size)} numbers of ${showShape(input.shape)}; expected a start and a size for each of its ${input.rank} axes, inside it.`,
    );
  }
  return run(joinOps.slice, [input], { begin, size: full });
}

const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0;

/**
 * A constant around a tensor.
 * @param paddings [before, after] for each axis
 * @param value @default 0
 * @throws RANGE_INVALID
 * @example pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]]) // 28 × 28 → 32 × 32
 */
export function pad(input: Tensor, paddings: Paddings, value = 0): Tensor {
  if (
    paddings.length !== input.rank ||
    !paddings.every(([before, after]) => isCount(before) && isCount(after))
  ) {
    throw new GradshapeError(
      'RANGE_INVALID',
      `pad: ${JSON.stringify(paddings)} around ${showShape(input.shape)}; expected [before, after], whole numbers of at least 0, for each of its ${input.rank} axes.`,
    );
  }
  return run(joinOps.pad, [input], { paddings, value });
}

/**
 * Tensors one after another along an axis (negative: from the end); their other axes must agree. Along axis 0 it
 * joins batches, which per-example gradients refuse.
 * @throws SHAPE_MISMATCH, AXIS_INVALID
 */
export function concat(inputs: readonly Tensor[], axis: number): Tensor {
  const rank = inputs[0]?.rank ?? 0;
  const own = axis < 0 ? axis + rank : axis;
  if (inputs.length > 0 && !(Number.isInteger(own) && own >= 0 && own < rank)) {
    throw new GradshapeError(
      'AXIS_INVALID',
      `concat: axis ${axis} of tensors of shape ${showShape(inputs[0]!.shape)}.`,
    );
  }
  return run(joinOps.concat, inputs, { axis: own });
}
