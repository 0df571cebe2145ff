// Convolutions and all their gradients against a naive float64 convolution over random geometries; the borders.
import fc from 'fast-check';
import {
  conv2d,
  createEngineSync,
  filterFromPyTorch,
  fromNCHW,
  gradients,
  mul,
  type Shape,
  sizeOf,
  sum,
  type Tensor,
  toNCHW,
  transpose,
  weightFromPyTorch,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addUp,
  type Convolution,
  convolutions,
  convolved,
  filterGradients,
  inputGradient,
  optionsOf,
  outputShape,
} from './conv-oracle.js';
import { throwsCode } from './engine-helpers.js';
import { near, same } from './kernel-harness.js';
import { checkAgainst, numbers, operand } from './numeric.js';

const engine = createEngineSync();

/**
 * Checks conv2d and the gradients to x, filter and bias for a random dOut. Tolerance: far above the rounding of sums of so
 * many products of numbers below 1, far below a wrong product.
 */
function check(c: Convolution, seed: number, activation: 'none' | 'relu', tolerance = 2e-5): void {
  const shape = outputShape(c);
  const x = numbers(seed, sizeOf(c.x));
  const filter = numbers(seed + 1, sizeOf(c.filter));
  const bias = numbers(seed + 2, c.filter[3]);
  const dOut = numbers(seed + 3, sizeOf(shape));
  const before = convolved(c, x, filter, bias);
  const masked = dOut.map((d, i) => (activation === 'none' || before[i]! > 0 ? d : 0));
  // A sum that is 0 but for rounding may fall on either side of the ReLU.
  if (activation === 'relu' && before.some((z) => Math.abs(z) < tolerance)) return;
  engine.scope(() => {
    const inputs = [engine.tensor(x, c.x), engine.tensor(filter, c.filter), engine.tensor(bias)];
    let out!: Tensor;
    const { gradients: found } = gradients((...args) => {
      out = conv2d(args[0]!, args[1]!, args[2]!, { ...optionsOf(c), activation });
      return sum(mul(out, engine.tensor(dOut, shape)));
    }, inputs);
    const expected = activation === 'relu' ? before.map((z) => Math.max(z, 0)) : before;
    near(out.values(), expected, tolerance, tolerance, 'output');
    near(found[0]!.values(), inputGradient(c, masked, filter), tolerance, tolerance, 'to x');
    near(found[1]!.values(), addUp(filterGradients(c, x, masked)), tolerance, tolerance, 'to the filter');
    const toBias = Float64Array.from({ length: c.filter[3] }, (_, o) =>
      masked.reduce((total, d, i) => (i % c.filter[3] === o ? total + d : total), 0),
    );
    near(found[2]!.values(), toBias, tolerance, tolerance, 'to the bias');
  });
}

test('forward and the three gradients: any kernel, stride, dilation, padding, groups', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), fc.constantFrom('none', 'relu'), (c, seed, activation) =>
      check(c, seed, activation),
    ),
    { numRuns: 300 },
  );
});

const plain = {
  stride: [1, 1],
  dilation: [1, 1],
  padding: [
    [1, 1],
    [1, 1],
  ],
  groups: 1,
} as const;

test('images that take several blocks of rows, deep filters, many outputs', () => {
  check({ ...plain, x: [1, 150, 90, 5], filter: [3, 3, 5, 9] }, 1, 'none', 3e-4);
  check({ ...plain, x: [1, 101, 60, 8], filter: [3, 3, 8, 8], stride: [2, 3] }, 2, 'none', 3e-4);
  check({ ...plain, x: [1, 4, 5, 530], filter: [3, 3, 530, 12] }, 3, 'none', 3e-4);
  check({ ...plain, x: [1, 3, 3, 6], filter: [3, 3, 6, 530] }, 4, 'none', 3e-4);
  check(
    {
      ...plain,
      x: [2, 25, 23, 1],
      filter: [5, 5, 1, 8],
      padding: [
        [0, 0],
        [0, 0],
      ],
    },
    5,
    'none',
  );
});

test('depthwise: one channel in, one or several out, in each group', () => {
  for (const perChannel of [1, 2]) {
    check({ ...plain, x: [2, 9, 7, 13], filter: [3, 3, 1, 13 * perChannel], groups: 13 }, 6, 'relu');
    check(
      { ...plain, x: [2, 9, 7, 8], filter: [3, 3, 1, 8 * perChannel], groups: 8, stride: [2, 2] },
      7,
      'none',
    );
  }
});

test('second order, by central differences', () => {
  for (const options of [
    { padding: 'same' },
    {
      stride: 2,
      padding: [
        [1, 0],
        [0, 1],
      ],
      groups: 2,
    },
    { dilation: 2, padding: 2 },
  ] as const) {
    const groups = 'groups' in options ? options.groups : 1;
    const operands = [operand(1, [2, 5, 4, 2]), operand(2, [3, 2, 2 / groups, 4]), operand(3, [4])];
    // The float64 twin is the op's own shape rule and the naive convolution.
    const [x, filter] = operands.map(({ shape }) => shape) as [Shape, Shape];
    const stride = 'stride' in options ? 2 : 1;
    const dilation = 'dilation' in options ? 2 : 1;
    const padding =
      options.padding === 'same'
        ? ([
            [1, 1],
            [0, 1],
          ] as const)
        : options.padding === 2
          ? ([
              [2, 2],
              [2, 2],
            ] as const)
          : options.padding;
    const c = {
      ...{ x, filter, padding, groups },
      ...{ stride: [stride, stride], dilation: [dilation, dilation] },
    } as unknown as Convolution;
    checkAgainst(
      engine,
      (...inputs) => conv2d(inputs[0]!, inputs[1]!, inputs[2]!, options),
      (...inputs) => convolved(c, inputs[0]!, inputs[1]!, inputs[2]!),
      operands,
      { step: 1e-3 },
    );
  }
});

test('an example is computed alike in any batch', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), (c, seed) => {
      const whole = { ...c, x: [5, ...c.x.slice(1)] as unknown as Convolution['x'] };
      const [x, filter, bias] = [
        numbers(seed, sizeOf(whole.x)),
        numbers(seed + 1, sizeOf(c.filter)),
        numbers(seed + 2, c.filter[3]),
      ];
      engine.scope(() => {
        const run = (images: Float64Array, count: number): ArrayLike<number>[] => {
          const inputs = [engine.tensor(images, [count, ...c.x.slice(1)]), engine.tensor(filter, c.filter)];
          const { value, gradients: found } = gradients(
            (a, f) => conv2d(a!, f!, engine.tensor(bias), { ...optionsOf(c), activation: 'relu' }),
            inputs,
          );
          return [value.values(), found[0]!.values()];
        };
        const all = run(x, 5);
        const size = x.length / 5;
        for (let i = 0; i < 5; i++) {
          run(x.subarray(i * size, (i + 1) * size), 1).forEach((one, k) => {
            const from = i * one.length;
            same(one, (all[k] as Float32Array).subarray(from, from + one.length), `example ${i}`);
          });
        }
      });
    }),
    { numRuns: 50 },
  );
});

test('a batch of none, and no bias', () => {
  engine.scope(() => {
    const filter = engine.tensor(numbers(1, 54), [3, 3, 2, 3]);
    const none = gradients((x, f) => conv2d(x!, f!, null), [engine.tensor([], [0, 5, 5, 2]), filter]);
    assert.equal(none.value.shape, [0, 3, 3, 3]);
    same(none.gradients[1]!.values(), new Float64Array(54));
    const one = engine.tensor(numbers(2, 50), [1, 5, 5, 2]);
    same(conv2d(one, filter, null).values(), conv2d(one, filter, engine.tensor([0, 0, 0])).values());
  });
});

test('what does not convolve is an error that says which number is wrong', () => {
  engine.scope(() => {
    const zeros = (...shape: number[]) => engine.full(shape, 0);
    const [x, filter, bias] = [zeros(2, 5, 6, 4), zeros(3, 3, 4, 8), zeros(8)];
    const message = (code: string, pattern: RegExp, body: () => unknown): void =>
      assert.match(throwsCode(code, body), pattern);
    message('SHAPE_MISMATCH', /\[5, 6, 4\].*batch/, () => conv2d(zeros(5, 6, 4), filter, bias));
    message('SHAPE_MISMATCH', /filter has shape \[3, 3, 8\]/, () => conv2d(x, zeros(3, 3, 8), bias));
    message('SHAPE_MISMATCH', /has 4 channels.*takes 3; expected 4/, () =>
      conv2d(x, zeros(3, 3, 3, 8), bias),
    );
    message('SHAPE_MISMATCH', /takes 4 in each of 2 groups; expected 2/, () =>
      conv2d(x, filter, bias, { groups: 2 }),
    );
    message('GROUPS_INVALID', /groups is 3 with 4 channels in and 8 out/, () =>
      conv2d(x, filter, bias, { groups: 3 }),
    );
    message('GROUPS_INVALID', /groups is 0/, () => conv2d(x, filter, bias, { groups: 0 }));
    message('SHAPE_MISMATCH', /bias has shape \[4\]; expected \[8\]/, () => conv2d(x, filter, zeros(4)));
    message('SHAPE_MISMATCH', /7 pixels in width.*have 6/, () => conv2d(x, zeros(3, 7, 4, 8), bias));
    message('SHAPE_MISMATCH', /7 pixels in height.*have 5/, () => conv2d(x, filter, bias, { dilation: 3 }));
    message('WINDOW_INVALID', /vertical stride is 0/, () => conv2d(x, filter, bias, { stride: 0 }));
    message('WINDOW_INVALID', /horizontal dilation is 1.5/, () =>
      conv2d(x, filter, bias, { dilation: [1, 1.5] }),
    );
    message('WINDOW_INVALID', /padding is -1/, () => conv2d(x, filter, bias, { padding: -1 }));
    message('CONV_OPTIONS_INVALID', /algorithm is 'winograd'; expected 'auto' or 'direct'/, () =>
      conv2d(x, filter, bias, { algorithm: 'winograd' as 'auto' }),
    );
    message('CONV_OPTIONS_INVALID', /activation is 'tanh'/, () =>
      conv2d(x, filter, bias, { activation: 'tanh' as 'relu' }),
    );
    message('WINDOW_INVALID', /padding is "full"/, () =>
      conv2d(x, filter, bias, { padding: 'full' as 'same' }),
    );
  });
});

test('PyTorch layouts: images, filters, and the weight after a flattened image', () => {
  engine.scope(() => {
    const image = engine.tensor(numbers(1, 2 * 3 * 4 * 5), [2, 3, 4, 5]); // NCHW
    const inside = fromNCHW(image);
    assert.equal(inside.shape, [2, 4, 5, 3]);
    assert.is(inside.values()[(1 * 5 + 2) * 3 + 1], image.values()[1 * 20 + 1 * 5 + 2]); // [0, 1, 2, 1]
    same(toNCHW(inside).values(), image.values());
    const filter = engine.tensor(numbers(2, 7 * 3 * 2 * 2), [7, 3, 2, 2]);
    const own = filterFromPyTorch(filter);
    assert.equal(own.shape, [2, 2, 3, 7]);
    assert.is(own.values()[((1 * 2 + 0) * 3 + 2) * 7 + 5], filter.values()[((5 * 3 + 2) * 2 + 1) * 2 + 0]);
    // flatten(NCHW) · weightᵀ is flatten(NHWC) · the imported weight.
    const weight = engine.tensor(numbers(3, 6 * 60), [6, 60]);
    const theirs = transpose(weight).values();
    const ours = weightFromPyTorch(weight, [4, 5, 3]).values();
    const product = (a: ArrayLike<number>, w: ArrayLike<number>): number[] =>
      Array.from({ length: 6 }, (_, o) => {
        let total = 0;
        for (let k = 0; k < 60; k++) total += a[k]! * w[k * 6 + o]!;
        return total;
      });
    near(product(inside.values(), ours), product(image.values(), theirs), 0, 1e-12);
    same(weightFromPyTorch(weight).values(), theirs);
    throwsCode('SHAPE_MISMATCH', () => fromNCHW(weight));
    throwsCode('SHAPE_MISMATCH', () => toNCHW(weight));
    throwsCode('SHAPE_MISMATCH', () => filterFromPyTorch(weight));
    throwsCode('SHAPE_MISMATCH', () => weightFromPyTorch(image));
    throwsCode('SHAPE_MISMATCH', () => weightFromPyTorch(weight, [4, 5, 4]));
  });
});

test.run();
