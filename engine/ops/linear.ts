import { GradshapeError } from '../errors.js';
import { gemm } from '../gemm.js';
import { type Op, run } from '../op.js';
import { type Examples, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { denseBiasRule, denseWeightRule } from './dense-rules.js';
import { reluGradient } from './elementwise.js';
import { sum } from './reduction.js';
import { reshape } from './shape.js';

/** Which sides of a product are read transposed. */
export interface Transposes {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

export interface Activation {
  readonly activation: 'none' | 'relu';
}

/** rows × columns of a shape's last two axes, after its transpose flag. */
function matrix(shape: Shape, transposed: boolean): [number, number] {
  const [rows, columns] = shape.slice(-2) as [number, number];
  return transposed ? [columns, rows] : [rows, columns];
}

function matmulShape([a, b]: readonly Tensor[], { transposeA, transposeB }: Transposes): Shape {
  const [m, k] = matrix(a!.shape, transposeA);
  const [rows, n] = matrix(b!.shape, transposeB);
  const stacks = a!.shape.slice(0, -2);
  const single = b!.rank === 2 && (a!.rank === 2 || !transposeA);
  if (a!.rank < 2 || b!.rank < 2 || k !== rows || !(single || sameShape(stacks, b!.shape.slice(0, -2)))) {
    const show = (t: Tensor, transposed: boolean): string =>
      showShape(t.shape) + (transposed ? ' transposed' : '');
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `matmul: ${show(a!, transposeA)} times ${show(b!, transposeB)}; expected [..., m, k] times [k, n], ` +
        'or [..., m, k] times [..., k, n] with the same leading axes.',
    );
  }
  return [...stacks, m, n];
}

/** Axis 0 stays the examples unless the product sums over it, or only one side of a stack is theirs. */
function matmulExamples([a, b]: readonly Tensor[], { transposeA }: Transposes): Examples | null {
  if (b!.rank > 2) return b!.examples === null ? null : a!.examples;
  const sumsOver = b!.examples !== null || (a!.rank === 2 && transposeA);
  return sumsOver ? null : a!.examples;
}

/** The rows of a stack as one tall matrix. */
function rowsOf(t: Tensor): Tensor {
  return t.rank === 2 ? t : reshape(t, [sizeOf(t.shape.slice(0, -1)), t.shape[t.rank - 1]!]);
}

export const linearOps = {
  matmul: {
    name: 'matmul',
    summary: 'matrix product, stacked over leading axes; either side may be read transposed',
    shape: matmulShape,
    examples: matmulExamples,
    forward({ engine, inputs, attributes: { transposeA, transposeB }, output }) {
      const [a, b] = inputs as [Tensor, Tensor];
      const [m, k] = matrix(a.shape, transposeA);
      const [, n] = matrix(output.shape, false);
      const tall = b.rank === 2 && a.rank > 2;
      const stacks = tall ? 1 : sizeOf(a.shape.slice(0, -2));
      const rows = tall ? sizeOf(a.shape.slice(0, -1)) : m;
      for (let i = 0; i < stacks; i++) {
        gemm(
          engine,
          [rows, n, k],
          { address: a.address + i * m * k * 4, columns: transposeA ? m : k, transposed: transposeA },
          { address: b.address + i * k * n * 4, columns: transposeB ? k : n, transposed: transposeB },
          output.address + i * m * n * 4,
        );
      }
      return undefined;
    },
    backward({ inputs, attributes: { transposeA, transposeB }, dOutput, needs }) {
      const [a, b] = inputs as [Tensor, Tensor];
      const toA = (): Tensor =>
        transposeA
          ? matmul(b, dOutput, { transposeA: transposeB, transposeB: true })
          : matmul(dOutput, b, { transposeB: !transposeB });
      const toB = (): Tensor => {
        const [left, right] = b.rank === 2 ? [rowsOf(a), rowsOf(dOutput)] : [a, dOutput];
        return transposeB
          ? matmul(right, left, { transposeA: true, transposeB: transposeA })
          : matmul(left, right, { transposeA: !transposeA });
      };
      return [needs[0] ? toA() : null, needs[1] ? toB() : null];
    },
    secondOrder: true,
    perExample: {
      1: denseWeightRule<Transposes>(({ inputs, dOutput, attributes }) =>
        attributes.transposeB ? [dOutput, inputs[0]!] : [inputs[0]!, dOutput],
      ),
    },
  } satisfies Op<Transposes>,

  dense: {
    name: 'dense',
    summary: 'x · W + b, with the activation fused: x [batch, ..., in], W [in, out], b [out]',
    shape([x, weight, bias]) {
      const [inputs, outputs] = weight!.shape;
      const fits =
        weight!.rank === 2 &&
        x!.rank >= 2 &&
        x!.shape[x!.rank - 1] === inputs &&
        sameShape(bias!.shape, [outputs!]);
      if (!fits) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `dense: x ${showShape(x!.shape)}, weight ${showShape(weight!.shape)} and bias ${showShape(bias!.shape)}; ` +
            'expected [batch, ..., in], [in, out] and [out]. Flatten x first if it is an image.',
        );
      }
      return [...x!.shape.slice(0, -1), outputs!];
    },
    examples: ([x, weight, bias]) => (weight!.examples || bias!.examples ? null : x!.examples),
    forward({ engine, inputs, attributes, output }) {
      const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor];
      const [k, n] = weight.shape as [number, number];
      gemm(
        engine,
        [sizeOf(x.shape.slice(0, -1)), n, k],
        { address: x.address, columns: k },
        { address: weight.address, columns: n },
        output.address,
        { bias: bias.address, relu: attributes.activation === 'relu' },
      );
      return undefined;
    },
    beforeActivation: ({ attributes, output, dOutput }) =>
      attributes.activation === 'relu' ? reluGradient(output, dOutput) : dOutput,
    backward({ inputs, dOutput, needs }) {
      const [x, weight] = inputs as [Tensor, Tensor];
      const rows = rowsOf(dOutput);
      return [
        needs[0] ? matmul(dOutput, weight, { transposeB: true }) : null,
        needs[1] ? matmul(rowsOf(x), rows, { transposeA: true }) : null,
        needs[2] ? sum(rows, { axes: 0 }) : null,
      ];
    },
    secondOrder: true,
    perExample: {
      1: denseWeightRule<Activation>(({ inputs, dOutput }) => [inputs[0]!, dOutput]),
      2: denseBiasRule,
    },
  } satisfies Op<Activation>,
};

/**
 * Matrix product: [..., m, k] times [k, n], or times [..., k, n] with the same leading axes.
 * `transposeA`, `transposeB`: read that side transposed, without a copy.
 * @throws SHAPE_MISMATCH
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<Transposes> = {}): Tensor {
  return run(linearOps.matmul, [a, b], {
    transposeA: options.transposeA ?? false,
    transposeB: options.transposeB ?? false,
  });
}

/**
 * The dense layer as one operation: activation(x · weight + bias).
 * @param x f32 [batch, ..., in]
 * @param weight f32 [in, out]
 * @param bias f32 [out]
 * @throws SHAPE_MISMATCH
 */
export function denseLayer(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  activation: 'none' | 'relu' = 'none',
): Tensor {
  return run(linearOps.dense, [x, weight, bias], { activation });
}
