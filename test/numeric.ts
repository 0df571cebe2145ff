// Checks an op's value, gradient and second-order gradient against a float64 function by central differences.
import { add, type Engine, gradients, mul, type Shape, sizeOf, sum, type Tensor } from 'gradshape/engine';
import { near } from './kernel-harness.js';

export interface Operand {
  readonly shape: Shape;
  readonly values: Float64Array;
}

/** Numbers from a small generator, all float32; `spread` of 0.5 gives −0.5 to 0.5. */
export function numbers(seed: number, count: number, spread = 1): Float64Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround((state / 2 ** 32 - 0.5) * 2 * spread);
  });
}

export const operand = (seed: number, shape: Shape, spread = 1): Operand => ({
  shape,
  values: numbers(seed, sizeOf(shape), spread),
});

/** The numbers 0, 1, 2, … in a random order, over `count`: distances between any two are at least 1/count. */
export function distinct(seed: number, shape: Shape): Operand {
  const count = sizeOf(shape);
  const keys = numbers(seed, count);
  const order = Array.from(keys.keys()).sort((i, j) => keys[i]! - keys[j]!);
  return { shape, values: Float64Array.from(order, (i) => Math.fround(i / count)) };
}

type Oracle = (...inputs: Float64Array[]) => ArrayLike<number>;

const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i]! * b[i]!;
  return total;
};

function numericGradients(
  f: (inputs: Float64Array[]) => number,
  inputs: Float64Array[],
  h: number,
): Float64Array[] {
  return inputs.map((input, k) =>
    input.map((value, i) => {
      const at = (x: number): number => f(inputs.map((other, j) => (j === k ? other.with(i, x) : other)));
      return (at(value + h) - at(value - h)) / (2 * h);
    }),
  );
}

export interface CheckOptions {
  readonly step?: number;
  readonly tolerance?: number;
  /** Whether to check the derivative of the gradient, too. @default true */
  readonly secondOrder?: boolean;
}

/** Throws unless op = oracle, with the same gradients to all inputs and the same Hessian-vector products. */
export function checkAgainst(
  engine: Engine,
  op: (...inputs: Tensor[]) => Tensor,
  oracle: Oracle,
  operands: readonly Operand[],
  { step = 1e-4, tolerance = 2e-5, secondOrder = true }: CheckOptions = {},
): void {
  const inputs = operands.map(({ values }) => values);
  const expected = oracle(...inputs);
  const weights = numbers(7, expected.length);
  engine.scope(() => {
    const tensors = operands.map(({ values, shape }) => engine.tensor(values, shape));
    near(op(...tensors).values(), expected, tolerance, tolerance, 'value');
    const weighted = (...x: Tensor[]): Tensor => {
      const out = op(...x);
      return sum(mul(out, engine.tensor(weights, out.shape)));
    };
    const loss = (x: Float64Array[]): number => dot(oracle(...x), weights);
    const first = gradients(weighted, tensors).gradients;
    numericGradients(loss, inputs, step).forEach((gradient, k) => {
      near(first[k]!.values(), gradient, tolerance, tolerance * 10, `gradient ${k}`);
    });
    if (!secondOrder) return;
    // ⟨∇loss(x), v⟩ is differentiated once more.
    const directions = operands.map(({ shape }, k) => operand(11 + k, shape));
    const along = (...x: Tensor[]): Tensor => {
      const parts = gradients(weighted, x).gradients.map((g, k) =>
        sum(mul(g, engine.tensor(directions[k]!.values, g.shape))),
      );
      return parts.reduce((a, b) => add(a, b));
    };
    const second = gradients(along, tensors).gradients;
    const moved = (sign: number): Float64Array[] =>
      inputs.map((x, k) => x.map((value, i) => value + sign * step * directions[k]!.values[i]!));
    const after = numericGradients(loss, moved(1), step);
    const before = numericGradients(loss, moved(-1), step);
    after.forEach((gradient, k) => {
      const product = gradient.map((value, i) => (value - before[k]![i]!) / (2 * step));
      near(second[k]!.values(), product, tolerance * 10, tolerance * 100, `second-order gradient ${k}`);
    });
  });
}
