import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate, doubles, floats, ints, kernels, near, put, reset, same } from './kernel-harness.js';

const f = Math.fround;
// Lengths around the vector's, addresses off 16-byte alignment, and every float there is.
const anyFloats = fc.array(fc.float(), { minLength: 0, maxLength: 41 });
const skew = fc.constantFrom(0, 4, 8, 12);
const moderate = fc.float({ min: f(-20), max: 20, noNaN: true });
const pairs = fc.array(fc.tuple(fc.float(), fc.float()), { maxLength: 41 });

test.before.each(reset);

/** Runs `run(out, a, n)` over random arrays, into another array and in place, and compares. */
function checkUnary(
  run: (out: number, a: number, n: number) => void,
  oracle: (x: number) => number,
  numbers: fc.Arbitrary<number[]> = anyFloats,
  relative = 0,
): void {
  fc.assert(
    fc.property(numbers, skew, (values, shift) => {
      reset();
      const n = values.length;
      const [a, out] = [put(values, shift), put(new Float32Array(n + 4).fill(7), shift)];
      const expected = values.map((x) => f(oracle(x)));
      run(out, a, n);
      near(floats(out, n), expected, relative, 1e-44);
      same(floats(out + 4 * n, 4), [7, 7, 7, 7], 'past the end');
      run(a, a, n);
      near(floats(a, n), expected, relative, 1e-44, 'in place');
    }),
  );
}

for (const [name, oracle] of Object.entries({
  negate: (x: number) => -x,
  relu: (x: number) => Math.max(x, 0),
  sqrt: Math.sqrt,
  square: (x: number) => x * x,
  absolute: Math.abs,
  sign: Math.sign,
  reciprocal: (x: number) => 1 / x,
  step: (x: number) => (x > 0 ? 1 : 0),
})) {
  test(`${name} is exact for every float`, () => checkUnary(kernels[name as 'negate'], oracle));
}

for (const [name, oracle, relative] of [
  ['exp', Math.exp, 2e-7],
  ['tanh', Math.tanh, 3e-7],
  ['sigmoid', (x: number) => 1 / (1 + Math.exp(-x)), 5e-7],
] as const) {
  test(`${name} is within a few units in the last place`, () =>
    checkUnary(kernels[name], oracle, fc.array(moderate, { maxLength: 41 }), relative));
}

test('log is within a few units in the last place', () => {
  const positive = fc.float({ min: f(1e-38), max: f(1e38), noNaN: true });
  checkUnary(kernels.log, Math.log, fc.array(positive, { maxLength: 41 }), 2e-7);
});

test('clamp and insideMask include both ends; NaN stays NaN', () => {
  checkUnary(
    (out, a, n) => kernels.clamp(out, a, -1, 2, n),
    (x) => Math.min(Math.max(x, -1), 2),
  );
  checkUnary(
    (out, a, n) => kernels.insideMask(out, a, -1, 2, n),
    (x) => (x >= -1 && x <= 2 ? 1 : 0),
  );
  const a = put([-1, 2, f(2.0000002), f(-1.0000001), Number.NaN]);
  kernels.insideMask(a, a, -1, 2, 5);
  same(floats(a, 5), [1, 1, 0, 0, 0]);
});

test('an element has the same bits wherever it falls in a vector', () => {
  for (const name of ['exp', 'log', 'tanh', 'sigmoid'] as const) {
    const values = Float32Array.from({ length: 7 }, (_, i) => 0.37 + 0.61 * i);
    const [a, out] = [put(values), allocate(64)];
    kernels[name](out, a, 7);
    const whole = floats(out, 7);
    for (let i = 0; i < 7; i++) {
      kernels[name](out, a + 4 * i, 1);
      assert.is(floats(out, 1)[0], whole[i]);
    }
  }
});

test('gradients of tanh, sigmoid and relu from their outputs', () => {
  const rules = {
    tanhGradient: (y: number, d: number) => f(d * f(1 - f(y * y))),
    sigmoidGradient: (y: number, d: number) => f(d * f(y * f(1 - y))),
    reluGradient: (y: number, d: number) => (y > 0 ? d : 0),
  };
  fc.assert(
    fc.property(pairs, skew, (values, shift) => {
      reset();
      const n = values.length;
      const [y, d] = [values.map((v) => v[0]), values.map((v) => v[1])];
      const [py, pd, out] = [put(y, shift), put(d, shift), allocate(4 * n, shift)];
      for (const [name, rule] of Object.entries(rules)) {
        kernels[name as keyof typeof rules](out, py, pd, n);
        same(
          floats(out, n),
          y.map((v, i) => rule(v, d[i]!)),
          name,
        );
      }
    }),
  );
});

const binaries = {
  add: (a: number, b: number) => f(a + b),
  subtract: (a: number, b: number) => f(a - b),
  multiply: (a: number, b: number) => f(a * b),
  divide: (a: number, b: number) => f(a / b),
  maximum: Math.max,
  equal: (a: number, b: number) => (a === b ? 1 : 0),
  greater: (a: number, b: number) => (a > b ? 1 : 0),
};

type Quad = [number, number, number, number];
const shape: fc.Arbitrary<Quad> = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 3 }),
  fc.integer({ min: 1, max: 11 }),
  fc.integer({ min: 1, max: 11 }),
);

/** A layout of the shape: any order of the axes in memory, some of them broadcast. */
const layout = fc.record({
  order: fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4, maxLength: 4 }),
  broadcast: fc.tuple(fc.boolean(), fc.boolean(), fc.boolean(), fc.boolean()),
});

function stridesOf(dims: Quad, { order, broadcast }: { order: number[]; broadcast: boolean[] }): Quad {
  const strides: Quad = [0, 0, 0, 0];
  let stride = 1;
  for (const axis of order) {
    if (broadcast[axis]) continue;
    strides[axis] = stride;
    stride *= dims[axis]!;
  }
  return strides;
}

/** The offset of each element, in the order of a contiguous array. */
function offsets([d0, d1, d2, d3]: Quad, [s0, s1, s2, s3]: Quad): number[] {
  const all: number[] = [];
  for (let i = 0; i < d0; i++)
    for (let j = 0; j < d1; j++)
      for (let k = 0; k < d2; k++) for (let l = 0; l < d3; l++) all.push(i * s0 + j * s1 + k * s2 + l * s3);
  return all;
}

const numbers = Float32Array.from({ length: 3 * 3 * 11 * 11 }, (_, i) => ((i * 7919) % 1013) / 64 - 8);

test('binary ops are exact for every layout and broadcast', () => {
  fc.assert(
    fc.property(shape, layout, layout, (dims, layoutA, layoutB) => {
      reset();
      const [sa, sb] = [stridesOf(dims, layoutA), stridesOf(dims, layoutB)];
      const [a, b] = [put(numbers), put(numbers.slice().reverse())];
      const [fromA, fromB] = [offsets(dims, sa), offsets(dims, sb)];
      const out = allocate(4 * fromA.length);
      for (const [name, rule] of Object.entries(binaries)) {
        kernels[name as keyof typeof binaries](out, a, b, ...dims, ...sa, ...sb);
        const last = numbers.length - 1;
        same(
          floats(out, fromA.length),
          fromA.map((at, i) => rule(numbers[at]!, numbers[last - fromB[i]!]!)),
          name,
        );
      }
    }),
    { numRuns: 300 },
  );
});

test('binary ops treat every float as JavaScript does', () => {
  fc.assert(
    fc.property(pairs, (values) => {
      reset();
      const n = values.length;
      const [a, b, out] = [put(values.map((v) => v[0])), put(values.map((v) => v[1])), allocate(4 * n)];
      for (const [name, rule] of Object.entries(binaries)) {
        kernels[name as keyof typeof binaries](out, a, b, 1, 1, 1, n, 0, 0, 0, 1, 0, 0, 0, 1);
        same(
          floats(out, n),
          values.map(([x, y]) => rule(x, y)),
          name,
        );
      }
    }),
  );
});

test('copyStrided copies every layout', () => {
  fc.assert(
    fc.property(shape, layout, (dims, form) => {
      reset();
      const strides = stridesOf(dims, form);
      const from = offsets(dims, strides);
      const [a, out] = [put(numbers), put(new Float32Array(from.length + 4).fill(7))];
      kernels.copyStrided(out, a, ...dims, ...strides);
      same(
        floats(out, from.length),
        from.map((at) => numbers[at]!),
      );
      same(floats(out + 4 * from.length, 4), [7, 7, 7, 7], 'past the end');
    }),
    { numRuns: 500 },
  );
});

test('copyStrided transposes matrices of all sizes', () => {
  for (const [rows, cols] of [
    [784, 256],
    [33, 130],
    [10, 256],
    [2, 784],
  ] as const) {
    reset();
    const a = Float32Array.from({ length: rows * cols }, (_, i) => i);
    const [pa, out] = [put(a), allocate(4 * a.length)];
    kernels.copyStrided(out, pa, 1, 1, cols, rows, 0, 0, 1, cols);
    same(
      floats(out, a.length),
      a.map((_, i) => (i % rows) * cols + Math.floor(i / rows)),
    );
  }
});

test('addToStrided adds a contiguous array into a slice', () => {
  fc.assert(
    fc.property(shape, layout, ({ ...dims }, { order }) => {
      reset();
      const size = [dims[0], dims[1], dims[2], dims[3]] as Quad;
      const strides = stridesOf(size, { order, broadcast: [false, false, false, false] });
      const at = offsets(size, strides);
      const [a, out] = [put(numbers.slice(0, at.length)), put(numbers)];
      const expected = numbers.slice();
      at.forEach((o, i) => {
        expected[o] = f(expected[o]! + numbers[i]!);
      });
      kernels.addToStrided(out, a, ...size, ...strides);
      same(floats(out, numbers.length), expected);
    }),
  );
});

test('fill, addScaled, scaleBy and toF32FromF64', () => {
  fc.assert(
    fc.property(pairs, fc.float(), skew, (values, scale, shift) => {
      reset();
      const n = values.length;
      const [x, y] = [values.map((v) => v[0]), values.map((v) => v[1])];
      const [out, a] = [put([...x, 7, 7], shift), put(y, shift)];
      kernels.addScaled(out, a, scale, n);
      same(floats(out, n + 2), [...x.map((v, i) => f(v + f(scale * y[i]!))), 7, 7], 'addScaled');
      kernels.scaleBy(out, a, scale, n);
      same(floats(out, n + 2), [...y.map((v) => f(scale * v)), 7, 7], 'scaleBy');
      kernels.fill(out, scale, n);
      same(floats(out, n + 2), [...y.map(() => scale), 7, 7], 'fill');
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.double(), { maxLength: 9 }), (values) => {
      reset();
      const [a, out] = [put(Float64Array.from(values)), allocate(64)];
      kernels.toF32FromF64(out, a, values.length);
      same(floats(out, values.length), Float32Array.from(values));
    }),
  );
});

test('gatherRows takes rows of every segment, u8 and f32', () => {
  const [scale, offset] = [f(1 / 255), f(-0.5)];
  for (const rowSize of [1, 3, 15, 16, 17, 31, 784]) {
    reset();
    const base = Uint8Array.from({ length: 10 * rowSize }, (_, i) => (i * 37) % 256);
    const poison = Float32Array.from({ length: 3 * rowSize }, (_, i) => i / 7);
    const more = Uint8Array.from({ length: 2 * rowSize }, (_, i) => (i * 91) % 256);
    const records = new Int32Array(18);
    const reals = new Float32Array(records.buffer);
    records.set([0, 10, put(base), 0], 0);
    reals.set([scale, offset], 4);
    records.set([10, 3, put(poison), 1], 6);
    reals.set([2, 1], 10);
    records.set([13, 2, put(more, 1), 0], 12);
    reals.set([1, 0], 16);
    const indices = Int32Array.from([14, 0, 9, 10, 12, 13, 0]);
    const out = put(new Float32Array(7 * rowSize + 2).fill(7));
    kernels.gatherRows(out, put(indices), 7, rowSize, put(records), 3);
    const value = (row: number, j: number) => {
      if (row < 10) return f(f(base[row * rowSize + j]! * scale) + offset);
      if (row < 13) return f(f(poison[(row - 10) * rowSize + j]! * 2) + 1);
      return more[(row - 13) * rowSize + j]!;
    };
    const expected = [...indices].flatMap((row) => Array.from({ length: rowSize }, (_, j) => value(row, j)));
    same(floats(out, 7 * rowSize + 2), [...expected, 7, 7], `row size ${rowSize}`);
  }
});

test('gatherI32 picks values', () => {
  const [out, values] = [allocate(16), put(Int32Array.from([5, 6, 7]))];
  kernels.gatherI32(out, put(Int32Array.from([2, 0, 2])), 3, values);
  assert.equal([...ints(out, 3)], [7, 5, 7]);
});

test('float64 sums: sum, dot, squaredNorm', () => {
  const real = fc.float({ min: f(-1e30), max: f(1e30), noNaN: true });
  fc.assert(
    fc.property(fc.array(fc.tuple(real, real), { maxLength: 70 }), skew, (values, shift) => {
      reset();
      const n = values.length;
      const [x, y] = [values.map((v) => v[0]), values.map((v) => v[1])];
      const [a, b] = [put(x, shift), put(y, shift)];
      const total = (terms: number[]) => terms.reduce((s, t) => s + t, 0);
      const bound = (terms: number[]) => 1e-14 * total(terms.map(Math.abs));
      const products = x.map((v, i) => v * y[i]!);
      near([kernels.sum(a, n)], [total(x)], 0, bound(x), 'sum');
      near([kernels.dot(a, b, n)], [total(products)], 0, bound(products), 'dot');
      near([kernels.squaredNorm(a, n)], [total(x.map((v) => v * v))], 1e-14, 0, 'squaredNorm');
    }),
  );
});

test('sumAxis and maxAxis over any axis', () => {
  const size = fc.integer({ min: 1, max: 13 });
  fc.assert(
    fc.property(size, size, size, (outer, n, inner) => {
      reset();
      const [a, out] = [put(numbers.slice(0, 1000)), put(new Float32Array(outer * inner + 1).fill(7))];
      const element = (o: number, j: number, i: number) => numbers[((o * n + j) * inner + i) % 1000]!;
      fc.pre(outer * n * inner <= 1000);
      const over = (o: number, i: number) => Array.from({ length: n }, (_, j) => element(o, j, i));
      const all = Array.from({ length: outer * inner }, (_, at) => over(Math.floor(at / inner), at % inner));
      kernels.sumAxis(out, a, outer, n, inner);
      near(floats(out, all.length + 1), [...all.map((v) => f(v.reduce((s, t) => s + t))), 7], 6e-8);
      kernels.maxAxis(out, a, outer, n, inner);
      same(floats(out, all.length + 1), [...all.map((v) => Math.max(...v)), 7]);
    }),
  );
});

test('sumAxis accumulates in float64; maxAxis keeps NaN', () => {
  const a = put([1e8, 1, -1e8, 1, 1e8, 1, -1e8, 1]);
  const out = allocate(16);
  kernels.sumAxis(out, a, 1, 8, 1);
  assert.is(floats(out, 1)[0], 4);
  kernels.sumAxis(out, a, 1, 4, 2);
  same(floats(out, 2), [0, 4]);
  kernels.maxAxis(out, put([1, Number.NaN, 3, 2]), 2, 2, 1);
  same(floats(out, 2), [Number.NaN, 3]);
});

test('argmaxRows and countCorrect: the first wins a tie, NaN never wins', () => {
  const rows = [
    [1, 3, 3],
    [Number.NaN, -1, -2],
    [-5, -5, -6],
    [0, 1, Number.POSITIVE_INFINITY],
  ].flat();
  const [a, out] = [put(rows), allocate(16)];
  kernels.argmaxRows(out, a, 4, 3);
  assert.equal([...ints(out, 4)], [1, 1, 0, 2]);
  assert.is(kernels.countCorrect(a, put(Int32Array.from([1, 1, 1, 2])), 4, 3), 3);
});

test('firstNonFinite, allFinite and allInRangeI32 find the first offender', () => {
  for (const n of [0, 1, 15, 16, 17, 50]) {
    reset();
    const values = new Float32Array(n).fill(f(3.4e38));
    assert.is(kernels.firstNonFinite(put(values), n), -1);
    assert.is(kernels.allFinite(put(values), n), 1);
    for (let i = 0; i < n; i++) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        reset();
        const a = put(values.map((v, j) => (j >= i ? bad : v)));
        assert.is(kernels.firstNonFinite(a, n), i);
        assert.is(kernels.allFinite(a, n), 0);
      }
    }
  }
  const a = put(Int32Array.from([0, 9, 3, 10, -1]));
  assert.is(kernels.allInRangeI32(a, 3, 0, 9), -1);
  assert.is(kernels.allInRangeI32(a, 5, 0, 9), 3);
  assert.is(kernels.allInRangeI32(a + 16, 1, 0, 9), 0);
});

/** Logits of any size, from the tame to the largest floats. */
const logits = fc
  .tuple(fc.integer({ min: 1, max: 13 }), fc.integer({ min: 1, max: 4 }), fc.constantFrom(1, 30, 1e4, 3e38))
  .chain(([cols, rows, range]) =>
    fc.record({
      cols: fc.constant(cols),
      rows: fc.constant(rows),
      z: fc.array(fc.float({ min: f(-range), max: f(range), noNaN: true }), {
        minLength: rows * cols,
        maxLength: rows * cols,
      }),
      labels: fc.array(fc.integer({ min: 0, max: cols - 1 }), { minLength: rows, maxLength: rows }),
    }),
  );

function exactSoftmax(row: number[]) {
  const shift = Math.max(...row);
  const others = row.map((v) => Math.exp(v - shift));
  others[row.indexOf(shift)] = 0;
  const rest = others.reduce((s, t) => s + t, 0);
  const logSum = Math.log1p(rest);
  return {
    p: row.map((v) => Math.exp(v - shift) / (1 + rest)),
    logP: row.map((v) => v - shift - logSum),
  };
}

test('softmax, its logarithm and cross-entropy are stable for any finite logits', () => {
  fc.assert(
    fc.property(logits, ({ rows, cols, z, labels }) => {
      reset();
      const n = rows * cols;
      const [a, out, loss, p] = [put(z), allocate(4 * n), allocate(4 * rows), allocate(4 * n)];
      const exact = Array.from({ length: rows }, (_, i) => exactSoftmax(z.slice(i * cols, (i + 1) * cols)));
      const exactP = exact.flatMap((row) => row.p);
      const exactLoss = exact.map((row, i) => f(-row.logP[labels[i]!]!));
      const scale = f(z.reduce((s, v) => Math.max(s, Math.abs(v)), 0));
      kernels.softmaxRows(out, a, rows, cols);
      near(floats(out, n), exactP, 4e-7 + 1e-7 * Math.min(scale, 100), 1e-37, 'softmax');
      kernels.logSoftmaxRows(out, a, rows, cols);
      near(floats(out, n), Float32Array.from(exact.flatMap((row) => row.logP)), 6e-7, 1e-6, 'log softmax');
      kernels.softmaxCrossEntropy(loss, p, a, put(Int32Array.from(labels)), rows, cols);
      near(floats(loss, rows), exactLoss, 6e-7, 1e-6, 'loss');
      kernels.softmaxRows(out, a, rows, cols);
      same(floats(p, n), floats(out, n), 'probabilities');
    }),
    { numRuns: 300 },
  );
});

test('the loss of a confident prediction keeps its relative accuracy', () => {
  for (const margin of [10, 17, 20, 40, 80]) {
    const [loss, p] = [allocate(4), allocate(8)];
    kernels.softmaxCrossEntropy(loss, p, put([margin, 0]), put(Int32Array.from([0])), 1, 2);
    near(floats(loss, 1), [Math.log1p(Math.exp(-margin))], 3e-7, 3e-16);
  }
});

test('the gradient of cross-entropy', () => {
  const [p, d] = [
    [0.25, 0.5, 0.25, 0.125, 0.125, 0.75],
    [2, -3],
  ];
  const out = allocate(24);
  kernels.softmaxCrossEntropyGradient(out, put(p), put(Int32Array.from([1, 2])), put(d), 2, 3);
  same(floats(out, 6), [0.5, -1, 0.5, -0.375, -0.375, 0.75]);
});

const fourFloats = fc.array(
  fc.tuple(moderate, moderate, moderate, fc.float({ min: 0, max: 20, noNaN: true })),
  { maxLength: 23 },
);

test('sgd: plain, momentum, Nesterov, weight decay, gradient scale', () => {
  const rate = fc.constantFrom(f(0.1), 1, 0);
  fc.assert(
    fc.property(
      fourFloats,
      rate,
      fc.constantFrom(0, f(0.9)),
      fc.boolean(),
      fc.boolean(),
      (rows, lr, mu, nesterov, buffer) => {
        reset();
        const [decay, scale] = [f(0.01), f(1 / 300)];
        const [p, g, v] = [0, 1, 2].map((i) => put(rows.map((row) => row[i]!))) as [number, number, number];
        kernels.sgd(p, g, buffer ? v : 0, rows.length, lr, mu, decay, scale, nesterov ? 1 : 0);
        const stepped = rows.map(([p0, g0, v0]) => {
          const total = f(f(g0 * scale) + f(decay * p0));
          if (!buffer) return [f(p0 - f(lr * total)), v0];
          const velocity = f(f(mu * v0) + total);
          return [f(p0 - f(lr * (nesterov ? f(total + f(mu * velocity)) : velocity))), velocity];
        });
        same(
          floats(p, rows.length),
          stepped.map((row) => row[0]!),
          'params',
        );
        same(
          floats(v, rows.length),
          stepped.map((row) => row[1]!),
          'velocity',
        );
      },
    ),
  );
});

test('adam and AdamW follow Kingma & Ba', () => {
  fc.assert(
    fc.property(fourFloats, fc.boolean(), fc.integer({ min: 1, max: 50 }), (rows, decoupled, t) => {
      reset();
      const [lr, b1, b2, eps, decay, scale] = [f(0.01), f(0.9), f(0.999), f(1e-8), f(0.1), f(0.5)];
      const [c1, c2] = [f(1 / (1 - b1 ** t)), f(1 / (1 - b2 ** t))];
      const n = rows.length;
      const at = [0, 1, 2, 3].map((i) => put(rows.map((row) => row[i]!)));
      const [p, g, m, v] = at as [number, number, number, number];
      kernels.adam(p, g, m, v, n, lr, b1, b2, eps, c1, c2, decay, decoupled ? 1 : 0, scale);
      const exact = rows.map(([p0, g0, m0, v0]) => {
        const total = g0 * scale + (decoupled ? 0 : decay * p0);
        const [m1, v1] = [b1 * m0 + (1 - b1) * total, b2 * v0 + (1 - b2) * total * total];
        const kept = decoupled ? p0 * (1 - lr * decay) : p0;
        return { m1, v1, p1: kept - (lr * c1 * m1) / (Math.sqrt(c2 * v1) + eps) };
      });
      near(
        floats(m, n),
        exact.map((row) => row.m1),
        1e-6,
        1e-5,
        'm',
      );
      near(
        floats(v, n),
        exact.map((row) => row.v1),
        1e-6,
        1e-35,
        'v',
      );
      // Where m is all cancellation and v next to nothing, the quotient is as uncertain as m.
      const sure = exact.map((row) => row.v1 > 1e-3);
      near(
        floats(p, n).map((x, i) => (sure[i] ? x : 0)),
        exact.map((row, i) => (sure[i] ? row.p1 : 0)),
        1e-6,
        1e-3,
        'params',
      );
    }),
  );
});

test('adam: the first step moves by the learning rate, whatever the gradient is', () => {
  const [p, m, v] = [put([1, 1, 1, 1, 1]), put(new Float32Array(5)), put(new Float32Array(5))];
  const g = put([1e-3, -1e-3, 5, -700, 0]);
  const [b1, b2] = [f(0.9), f(0.999)];
  kernels.adam(p, g, m, v, 5, 0.01, b1, b2, 1e-12, 1 / (1 - b1), 1 / (1 - b2), 0, 0, 1);
  near(floats(p, 5), [0.99, 1.01, 0.99, 1.01, 1], 1e-6);
});

test('sqrtF64ToF32 and sumF64', () => {
  const a = put(Float64Array.from([0, 2, 1e80, Number.NaN]));
  const out = allocate(16);
  kernels.sqrtF64ToF32(out, a, 4);
  same(floats(out, 4), [0, f(Math.SQRT2), Number.POSITIVE_INFINITY, Number.NaN]);
  kernels.sumF64(a, put(Float64Array.from([1, 1, 1, 1])), 3);
  same(doubles(a, 4), [1, 3, 1e80 + 1, Number.NaN]);
});

test.run();
