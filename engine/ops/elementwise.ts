import { GradshapeError } from '../errors.js';
import type { KernelExports } from '../kernels.js';
import { type Backward, type Op, run, sameExamples } from '../op.js';
import { sameShape, showShape, type Tensor } from '../tensor.js';
import { div, mul, sub } from './arithmetic.js';

type UnaryKernel = KernelExports['exp'];
type GradientKernel = KernelExports['reluGradient'];

function unary(
  name: string,
  summary: string,
  kernel: (kernels: KernelExports) => UnaryKernel,
  gradient: ((c: Backward<undefined>) => Tensor) | null,
): Op<undefined> {
  return {
    name,
    summary,
    shape: (inputs) => inputs[0]!.shape,
    examples: sameExamples,
    forward({ kernels, inputs, output }) {
      kernel(kernels)(output.address, inputs[0]!.address, output.size);
      return undefined;
    },
    backward: (c) => [gradient?.(c) ?? null],
    secondOrder: true,
  };
}

/** dOutput · f′, f′ written by the op's output y (or input): one pass, and itself differentiable. Inputs: y, dOutput. */
function activationGradient(
  name: string,
  summary: string,
  kernel: (kernels: KernelExports) => GradientKernel,
  toOutput: ((c: Backward<undefined>) => Tensor) | null,
  again: (y: Tensor, g: Tensor) => Tensor,
): Op<undefined> {
  return {
    name,
    summary,
    shape([y, dOutput]) {
      if (!sameShape(y!.shape, dOutput!.shape)) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `${name}: shapes ${showShape(y!.shape)} and ${showShape(dOutput!.shape)} differ; expected the same.`,
        );
      }
      return y!.shape;
    },
    examples: sameExamples,
    forward({ kernels, inputs, output }) {
      kernel(kernels)(output.address, inputs[0]!.address, inputs[1]!.address, output.size);
      return undefined;
    },
    backward: (c) => [
      toOutput !== null && c.needs[0] ? toOutput(c) : null,
      c.needs[1] ? again(c.inputs[0]!, c.dOutput) : null,
    ],
    secondOrder: true,
  };
}

const x = (c: Backward<undefined>): Tensor => c.inputs[0]!;

export const elementwiseOps = {
  negate: unary(
    'negate',
    '−x',
    (k) => k.negate,
    (c) => negate(c.dOutput),
  ),
  exp: unary(
    'exp',
    'eˣ',
    (k) => k.exp,
    (c) => mul(c.dOutput, c.output),
  ),
  log: unary(
    'log',
    'natural logarithm',
    (k) => k.log,
    (c) => div(c.dOutput, x(c)),
  ),
  sqrt: unary(
    'sqrt',
    'square root',
    (k) => k.sqrt,
    (c) => div(c.dOutput, mul(c.output, 2)),
  ),
  square: unary(
    'square',
    'x²',
    (k) => k.square,
    (c) => mul(c.dOutput, mul(x(c), 2)),
  ),
  absolute: unary(
    'absolute',
    '|x|; gradient 0 at 0',
    (k) => k.absolute,
    (c) => mul(c.dOutput, sign(x(c))),
  ),
  sign: unary('sign', '−1, 0 or 1; its gradient is 0', (k) => k.sign, null),
  tanh: unary(
    'tanh',
    'hyperbolic tangent',
    (k) => k.tanh,
    (c) => tanhGradient(c.output, c.dOutput),
  ),
  sigmoid: unary(
    'sigmoid',
    '1/(1 + e⁻ˣ)',
    (k) => k.sigmoid,
    (c) => sigmoidGradient(c.output, c.dOutput),
  ),
  relu: unary(
    'relu',
    'max(x, 0); gradient 0 at 0',
    (k) => k.relu,
    (c) => reluGradient(c.output, c.dOutput),
  ),
  tanhGradient: activationGradient(
    'tanhGradient',
    'dOutput · (1 − y²): the backward of tanh',
    (k) => k.tanhGradient,
    (c) => mul(mul(c.dOutput, c.inputs[1]!), mul(c.inputs[0]!, -2)),
    (y, g) => tanhGradient(y, g),
  ),
  sigmoidGradient: activationGradient(
    'sigmoidGradient',
    'dOutput · y · (1 − y): the backward of sigmoid',
    (k) => k.sigmoidGradient,
    (c) => mul(mul(c.dOutput, c.inputs[1]!), sub(1, mul(c.inputs[0]!, 2))),
    (y, g) => sigmoidGradient(y, g),
  ),
  gelu: unary(
    'gelu',
    'x · Φ(x), Φ the normal distribution function',
    (k) => k.gelu,
    (c) => geluGradient(x(c), c.dOutput),
  ),
  geluGradient: activationGradient(
    'geluGradient',
    'dOutput · (Φ(x) + x · φ(x)): the backward of gelu, written by its input',
    (k) => k.geluGradient,
    // φ(x) · (2 − x²)
    (c) => {
      const squared = square(c.inputs[0]!);
      const density = mul(exp(mul(squared, -0.5)), 0.3989422804014327);
      return mul(mul(c.dOutput, c.inputs[1]!), mul(density, sub(2, squared)));
    },
    (input, g) => geluGradient(input, g),
  ),
  reluGradient: activationGradient(
    'reluGradient',
    'dOutput where y > 0, else 0: the backward of relu',
    (k) => k.reluGradient,
    null,
    (y, g) => reluGradient(y, g),
  ),
} satisfies Record<string, Op<undefined>>;

const apply =
  (op: Op<undefined>) =>
  (input: Tensor): Tensor =>
    run(op, [input], undefined);

/** −x */
export const negate = apply(elementwiseOps.negate);
/** eˣ */
export const exp = apply(elementwiseOps.exp);
/** The natural logarithm; −∞ at 0, NaN below. */
export const log = apply(elementwiseOps.log);
/** The square root; NaN below 0. */
export const sqrt = apply(elementwiseOps.sqrt);
/** x² */
export const square = apply(elementwiseOps.square);
/** |x|; the gradient at 0 is 0. */
export const absolute = apply(elementwiseOps.absolute);
/** −1, 0 or 1; the gradient is 0. */
export const sign = apply(elementwiseOps.sign);
/** The hyperbolic tangent. */
export const tanh = apply(elementwiseOps.tanh);
/** 1/(1 + e⁻ˣ) */
export const sigmoid = apply(elementwiseOps.sigmoid);
/** max(x, 0); the gradient at 0 is 0. */
export const relu = apply(elementwiseOps.relu);

/**
 * GELU (Hendrycks & Gimpel 2016), the exact form: x · Φ(x) with Φ the normal distribution function, as in PyTorch's
 * default; not the tanh approximation.
 */
export const gelu = apply(elementwiseOps.gelu);

const geluGradient = (input: Tensor, g: Tensor): Tensor =>
  run(elementwiseOps.geluGradient, [input, g], undefined);
const tanhGradient = (y: Tensor, g: Tensor): Tensor => run(elementwiseOps.tanhGradient, [y, g], undefined);
const sigmoidGradient = (y: Tensor, g: Tensor): Tensor =>
  run(elementwiseOps.sigmoidGradient, [y, g], undefined);
/** dOutput where y > 0, else 0: the backward of relu, for ops that end in one. */
export const reluGradient = (y: Tensor, g: Tensor): Tensor =>
  run(elementwiseOps.reluGradient, [y, g], undefined);
