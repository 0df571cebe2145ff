import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

interface Kernels {
  gemm(...args: number[]): void;
  gemmPeak(c: number, a: number, b: number, k: number, repeats: number): void;
  gemmScratchBytes(): number;
}

interface Problem {
  transA: number;
  transB: number;
  m: number;
  n: number;
  k: number;
  /** Floats between the end of a row and the next, for A, B and C. */
  gaps: [number, number, number];
  accumulate: number;
  bias: boolean;
  activation: number;
  seed: number;
}

interface Operands {
  a: Float32Array;
  b: Float32Array;
  c: Float32Array;
  bias: Float32Array;
}

const memory = new WebAssembly.Memory({ initial: 256 });
const floats = new Float32Array(memory.buffer);

function load(build: string): Kernels | undefined {
  const bytes = readFileSync(new URL(`../dist/kernels/${build}.wasm`, import.meta.url));
  if (!WebAssembly.validate(bytes)) return undefined;
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  return instance.exports as unknown as Kernels;
}

const strides = ({ transA, transB, m, n, k, gaps }: Problem) => ({
  lda: (transA ? m : k) + gaps[0],
  ldb: (transB ? k : n) + gaps[1],
  ldc: n + gaps[2],
});

/** Random operands; the gaps between rows hold NaN, so that a kernel that uses them shows it. */
function randomOperands(problem: Problem): Operands {
  const { transA, transB, m, n, k } = problem;
  const { lda, ldb, ldc } = strides(problem);
  let state = problem.seed | 1;
  const matrix = (rows: number, columns: number, stride: number) => {
    const values = new Float32Array((rows - 1) * stride + columns).fill(Number.NaN);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        values[row * stride + column] = state / 2 ** 31;
      }
    }
    return values;
  };
  return {
    a: transA ? matrix(k, m, lda) : matrix(m, k, lda),
    b: transB ? matrix(n, k, ldb) : matrix(k, n, ldb),
    c: matrix(m, n, ldc),
    bias: matrix(1, n, n),
  };
}

/** Runs the kernel on copies of the operands placed at the very end of memory (what overruns, traps); returns C. */
function run(kernels: Kernels, problem: Problem, { a, b, c, bias }: Operands): Float32Array {
  const { transA, transB, m, n, k, accumulate, activation } = problem;
  const { lda, ldb, ldc } = strides(problem);
  floats.fill(Number.NaN);
  const addresses = new Map<Float32Array, number>();
  let end = floats.length;
  const order = [a, b, c, bias];
  for (let i = 0; i < order.length; i++) {
    const values = order[(i + (problem.seed >>> 0)) % order.length] as Float32Array;
    end -= values.length;
    floats.set(values, end);
    addresses.set(values, end * 4);
  }
  const at = (values: Float32Array) => addresses.get(values) as number;
  kernels.gemm(
    ...[transA, transB, m, n, k, at(a), lda, at(b), ldb, at(c), ldc, accumulate],
    ...[problem.bias ? at(bias) : 0, activation, 16],
  );
  return floats.slice(at(c) / 4, at(c) / 4 + c.length);
}

/** Compares with a float64 oracle, within the rounding-error bound of an f32 sum of k products. */
function checkAgainstOracle(problem: Problem, operands: Operands, result: Float32Array): void {
  const { transA, transB, m, n, k } = problem;
  const { lda, ldb, ldc } = strides(problem);
  const { a, b, c, bias } = operands;
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < ldc && i * ldc + j < result.length; j++) {
      const actual = result[i * ldc + j] as number;
      if (j >= n) {
        assert.ok(Number.isNaN(actual), `wrote beyond row ${i}, column ${j}`);
        continue;
      }
      let sum = problem.accumulate ? (c[i * ldc + j] as number) : 0;
      let size = Math.abs(sum);
      for (let p = 0; p < k; p++) {
        const left = a[transA ? p * lda + i : i * lda + p] as number;
        const right = b[transB ? j * ldb + p : p * ldb + j] as number;
        const product = left * right;
        sum += product;
        size += Math.abs(product);
      }
      if (problem.bias) sum += bias[j] as number;
      if (problem.activation) sum = Math.max(0, sum);
      const bound = (k + 4) * 2 ** -24 * (size + 1);
      assert.ok(Math.abs(actual - sum) <= bound, `[${i}, ${j}] is ${actual}, expected ${sum} ± ${bound}`);
    }
  }
}

const sameBits = (actual: Float32Array, expected: Float32Array, message: string) =>
  assert.equal(new Uint32Array(actual.slice().buffer), new Uint32Array(expected.slice().buffer), message);

const flag = fc.integer({ min: 0, max: 1 });
const gap = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 9 }));
const size = (max: number) => fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max }));
const problems = fc.record<Problem>({
  transA: flag,
  transB: flag,
  m: size(60),
  n: size(60),
  k: size(90),
  gaps: fc.tuple(gap, gap, gap),
  accumulate: flag,
  bias: fc.boolean(),
  activation: flag,
  seed: fc.integer(),
});
const plain = { accumulate: 0, bias: false, activation: 0, seed: 1 };

for (const build of ['base', 'relaxed']) {
  const kernels = load(build);
  if (!kernels) {
    test.skip(`${build}: this runtime does not support it`, () => {});
    console.log(`gemm: the ${build} build is skipped, this runtime does not support it`);
    continue;
  }

  test(`${build}: agrees with a float64 oracle for random shapes, strides and options`, () => {
    fc.assert(
      fc.property(problems, (problem) => {
        const operands = randomOperands(problem);
        checkAgainstOracle(problem, operands, run(kernels, problem, operands));
      }),
      { numRuns: 400 },
    );
  });

  test(`${build}: agrees with the oracle when every block is split`, () => {
    for (const [m, n, k] of [
      [203, 1030, 9],
      [101, 19, 1601],
      [5, 2, 70001],
      [1, 1030, 390],
      [2050, 3, 33],
    ] as const) {
      for (const [transA, transB] of [[0, 0] as const, [0, 1] as const, [1, 0] as const, [1, 1] as const]) {
        const problem: Problem = {
          ...{ transA, transB, m, n, k, gaps: [1, 2, 3] },
          ...{ accumulate: 1, bias: true, activation: 1, seed: m },
        };
        const operands = randomOperands(problem);
        checkAgainstOracle(problem, operands, run(kernels, problem, operands));
      }
    }
  });

  test(`${build}: the bits of a row do not depend on the number of rows`, () => {
    fc.assert(
      fc.property(problems, fc.integer({ min: 1, max: 60 }), (any, rows) => {
        const problem = { ...any, transA: 0 };
        const operands = randomOperands(problem);
        const { lda, ldc } = strides(problem);
        const whole = run(kernels, problem, operands);
        for (let first = 0; first < problem.m; first += rows) {
          const m = Math.min(rows, problem.m - first);
          const part = {
            ...operands,
            a: operands.a.slice(first * lda, (first + m - 1) * lda + problem.k),
            c: operands.c.slice(first * ldc, (first + m - 1) * ldc + problem.n),
          };
          const result = run(kernels, { ...problem, m }, part);
          sameBits(result, whole.slice(first * ldc, first * ldc + result.length), `rows from ${first}`);
        }
      }),
      { numRuns: 200 },
    );
  });

  test(`${build}: a sum over k in several accumulating calls has the bits of one call (A transposed)`, () => {
    const check = (problem: Problem, steps: number) => {
      const operands = randomOperands(problem);
      const { lda, ldb } = strides(problem);
      const whole = run(kernels, problem, operands);
      let { c } = operands;
      for (let first = 0; first < problem.k; first += steps) {
        const k = Math.min(steps, problem.k - first);
        const part = {
          ...operands,
          a: operands.a.slice(first * lda, (first + k - 1) * lda + problem.m),
          b: operands.b.slice(first * ldb, (first + k - 1) * ldb + problem.n),
          c,
        };
        const accumulate = first > 0 ? 1 : problem.accumulate;
        c = run(kernels, { ...problem, k, accumulate }, part);
      }
      sameBits(c, whole, `k in pieces of ${steps}`);
    };
    fc.assert(
      fc.property(problems, fc.integer({ min: 1, max: 90 }), (any, steps) =>
        check({ ...any, transA: 1, transB: 0, bias: false, activation: 0 }, steps),
      ),
      { numRuns: 200 },
    );
    for (const n of [2, 40]) {
      check({ ...plain, transA: 1, transB: 0, m: 37, n, k: 1000, gaps: [0, 0, 0] }, 300);
    }
  });

  test(`${build}: is the strictly sequential f32 sum when n is not small`, () => {
    if (build === 'relaxed') return;
    const problem: Problem = { ...plain, transA: 0, transB: 0, m: 9, n: 13, k: 900, gaps: [0, 0, 0] };
    const operands = randomOperands(problem);
    const result = run(kernels, problem, operands);
    for (let i = 0; i < problem.m; i++) {
      for (let j = 0; j < problem.n; j++) {
        let sum = 0;
        for (let p = 0; p < problem.k; p++) {
          const [left, right] = [operands.a[i * problem.k + p], operands.b[p * problem.n + j]];
          sum = Math.fround(sum + Math.fround((left as number) * (right as number)));
        }
        assert.is(result[i * problem.n + j], sum);
      }
    }
  });
}

test('the scratch stays within what the engine sets aside', () => {
  const bytes = load('base')?.gemmScratchBytes() ?? 0;
  assert.ok(bytes > 0 && bytes <= 1.5 * 2 ** 20, `${bytes} bytes`);
});

test.run();
