import { GradshapeError } from '../errors.js';
import type { KernelExports } from '../kernels.js';
import { alignedExamples, type Op, type PerExampleRule, run, type Use } from '../op.js';
import { sizeOf, Tensor } from '../tensor.js';
import { negate, square } from './elementwise.js';
import { sumTo } from './reduction.js';
import { broadcastShapes, broadcastStrides, walk } from './strides.js';

type BinaryKernel = KernelExports['add'];

/** A tensor, or a number that broadcasts. */
export type Operand = Tensor | number;

/** The gradients to the two inputs, before they are summed to the inputs' shapes. */
type Partials = readonly [(use: Context) => Tensor, (use: Context) => Tensor];
type Context = Pick<Use, 'inputs' | 'output' | 'dOutput'>;

function binary(
  name: string,
  summary: string,
  kernel: (kernels: KernelExports) => BinaryKernel,
  partials: Partials | null,
): Op<undefined> {
  return {
    name,
    summary,
    shape: (inputs) => broadcastShapes(name, inputs[0]!.shape, inputs[1]!.shape),
    examples: alignedExamples,
    forward({ kernels, inputs, output }) {
      const [a, b] = inputs as [Tensor, Tensor];
      const { dims, strides } = walk(name, output.shape, [
        broadcastStrides(a.shape, output.shape),
        broadcastStrides(b.shape, output.shape),
      ]);
      kernel(kernels)(output.address, a.address, b.address, ...dims, ...strides[0]!, ...strides[1]!);
      return undefined;
    },
    backward: (c) =>
      c.inputs.map((input, i) =>
        partials !== null && c.needs[i] ? sumTo(partials[i]!(c), input.shape) : null,
      ),
    secondOrder: true,
    ...(partials && { perExample: { 0: broadcastRule(partials[0]), 1: broadcastRule(partials[1]) } }),
  };
}

/** A parameter that is broadcast over the batch: each example's gradient is the partial, summed over its own elements. */
function broadcastRule(partial: (use: Context) => Tensor): PerExampleRule<undefined> {
  const perExample = (use: Use<undefined>): Tensor => {
    const parameter = use.inputs[use.argument]!.shape;
    const { shape } = use.output;
    const padded = [...new Array<number>(shape.length - parameter.length).fill(1), ...parameter];
    return sumTo(partial(use), [use.batch, ...padded.slice(1)]);
  };
  const sizeOfParameter = (use: Use<undefined>): number => sizeOf(use.inputs[use.argument]!.shape);
  return {
    instantiate(use, out, stride, accumulate) {
      const rows = perExample(use);
      use.kernels.instantiateRowSums(
        out,
        rows.address,
        use.batch,
        1,
        sizeOfParameter(use),
        stride,
        accumulate ? 1 : 0,
      );
    },
    weightedSum(use, weights, out, accumulate) {
      const rows = perExample(use);
      use.kernels.columnSums(out, rows.address, weights, use.batch, sizeOfParameter(use), accumulate ? 1 : 0);
    },
  };
}

export const arithmeticOps = {
  add: binary('add', 'a + b, broadcast', (k) => k.add, [(c) => c.dOutput, (c) => c.dOutput]),
  sub: binary('sub', 'a − b, broadcast', (k) => k.subtract, [(c) => c.dOutput, (c) => negate(c.dOutput)]),
  mul: binary('mul', 'a · b, broadcast', (k) => k.multiply, [
    (c) => mul(c.dOutput, c.inputs[1]!),
    (c) => mul(c.dOutput, c.inputs[0]!),
  ]),
  div: binary('div', 'a / b, broadcast', (k) => k.divide, [
    (c) => div(c.dOutput, c.inputs[1]!),
    (c) => negate(div(mul(c.dOutput, c.inputs[0]!), square(c.inputs[1]!))),
  ]),
  equal: binary('equal', '1 where a = b, else 0, broadcast; its gradient is 0', (k) => k.equal, null),
  greater: binary('greater', '1 where a > b, else 0, broadcast; its gradient is 0', (k) => k.greater, null),
} satisfies Record<string, Op<undefined>>;

function apply(op: Op<undefined>, a: Operand, b: Operand): Tensor {
  const engine = a instanceof Tensor ? a.engine : b instanceof Tensor ? b.engine : undefined;
  if (engine === undefined) {
    throw new GradshapeError(
      'NOT_A_TENSOR',
      `${op.name}: both arguments are numbers; expected at least one tensor.`,
    );
  }
  const operand = (x: Operand): Tensor => {
    if (x instanceof Tensor) return x;
    if (typeof x === 'number') return engine.full([], x);
    throw new GradshapeError(
      'NOT_A_TENSOR',
      `${op.name}: ${String(x)}; expected a tensor or a number. Make a tensor with engine.tensor.`,
    );
  };
  return run(op, [operand(a), operand(b)], undefined);
}

/** a + b with broadcasting. @throws SHAPE_MISMATCH */
export const add = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.add, a, b);
/** a − b with broadcasting. @throws SHAPE_MISMATCH */
export const sub = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.sub, a, b);
/** a · b, element by element, with broadcasting. @throws SHAPE_MISMATCH */
export const mul = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.mul, a, b);
/** a / b, element by element, with broadcasting. @throws SHAPE_MISMATCH */
export const div = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.div, a, b);
/** 1 where a = b, else 0. */
export const equal = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.equal, a, b);
/** 1 where a > b, else 0. */
export const greater = (a: Operand, b: Operand): Tensor => apply(arithmeticOps.greater, a, b);
