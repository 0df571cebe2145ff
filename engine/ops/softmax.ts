import { GradshapeError } from '../errors.js';
import { type Op, run } from '../op.js';
import { type Examples, showShape, sizeOf, type Tensor } from '../tensor.js';
import { mul, sub } from './arithmetic.js';
import { exp } from './elementwise.js';
import { sum } from './reduction.js';
import { transpose } from './shape.js';

const lastAxisSum = (t: Tensor): Tensor => sum(t, { axes: -1, keepDims: true });

/** Rows and columns when the last axis is the classes. */
function rowsAndColumns(t: Tensor): [number, number] {
  return [sizeOf(t.shape.slice(0, -1)), t.shape[t.rank - 1]!];
}

/** The classes' axis must not be the examples'. */
const examplesUnlessLast = ([input]: readonly Tensor[]): Examples | null =>
  input!.rank > 1 ? input!.examples : null;

export const softmaxOps = {
  softmax: {
    name: 'softmax',
    summary: 'eˣ / Σ eˣ over the last axis, stable for any finite input',
    shape: ([input]) => input!.shape,
    examples: examplesUnlessLast,
    forward({ kernels, inputs, output }) {
      kernels.softmaxRows(output.address, inputs[0]!.address, ...rowsAndColumns(output));
      return undefined;
    },
    backward: ({ output, dOutput }) => [mul(output, sub(dOutput, lastAxisSum(mul(dOutput, output))))],
    secondOrder: true,
  },
  logSoftmax: {
    name: 'logSoftmax',
    summary: 'x − ln Σ eˣ over the last axis, stable for any finite input',
    shape: ([input]) => input!.shape,
    examples: examplesUnlessLast,
    forward({ kernels, inputs, output }) {
      kernels.logSoftmaxRows(output.address, inputs[0]!.address, ...rowsAndColumns(output));
      return undefined;
    },
    backward: ({ output, dOutput }) => [sub(dOutput, mul(exp(output), lastAxisSum(dOutput)))],
    secondOrder: true,
  },
} satisfies Record<string, Op<undefined>>;

function overAxis(op: Op<undefined>, input: Tensor, axis: number): Tensor {
  const own = axis < 0 ? axis + input.rank : axis;
  if (!Number.isInteger(own) || own < 0 || own >= input.rank) {
    throw new GradshapeError(
      'AXIS_INVALID',
      `${op.name}: axis ${axis} of a tensor of shape ${showShape(input.shape)}.`,
    );
  }
  if (own === input.rank - 1) return run(op, [input], undefined);
  const order = input.shape.map((_, i) => i).filter((i) => i !== own);
  order.push(own);
  const back = order.map((_, i) => order.indexOf(i));
  return transpose(run(op, [transpose(input, order)], undefined), back);
}

/** eˣ / Σ eˣ over an axis (default: the last). @throws AXIS_INVALID */
export const softmax = (input: Tensor, axis = -1): Tensor => overAxis(softmaxOps.softmax, input, axis);
/** x − ln Σ eˣ over an axis (default: the last). @throws AXIS_INVALID */
export const logSoftmax = (input: Tensor, axis = -1): Tensor => overAxis(softmaxOps.logSoftmax, input, axis);
