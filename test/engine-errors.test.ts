// Bad input gets an error with a stable code, which names what was given, what was expected and the fix.
import {
  add,
  asExamples,
  avgPool2d,
  broadcastTo,
  clip,
  concat,
  createEngine,
  createEngineSync,
  crossEntropy,
  defineOp,
  denseLayer,
  dropout,
  type Engine,
  gradients,
  groupNorm,
  type LabelledSet,
  layerNorm,
  leakyRelu,
  logSoftmax,
  matmul,
  max,
  maxPool2d,
  mean,
  meanSquaredError,
  mul,
  Parameters,
  pad,
  perExample,
  relu,
  reshape,
  slice,
  sliceBatch,
  softmax,
  sub,
  sum,
  supportsRelaxedSimd,
  type Tensor,
  transpose,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const other = createEngineSync();

/** Each body must throw the code, with a text that matches. */
const inScope = (on: Engine, code: string, cases: [() => unknown, RegExp][]): void =>
  on.scope(() => {
    for (const [body, text] of cases) assert.match(throwsCode(code, body), text);
  });

const full = (...shape: number[]): Tensor => engine.full(shape, 1);

test('SHAPE_MISMATCH: both shapes and what fits', () => {
  const labels = (n: number) => engine.tensor(new Int32Array(n), [n], 'i32');
  inScope(engine, 'SHAPE_MISMATCH', [
    [() => add(full(2, 3), full(2)), /add: shapes \[2, 3\] and \[2\].*3 meets 2.*reshape or transpose/],
    [() => mul(full(4), full(3)), /mul: .*4 meets 3/],
    [() => matmul(full(2, 3), full(2, 3)), /matmul: \[2, 3\] times \[2, 3\]; expected \[\.\.\., m, k\]/],
    [
      () => matmul(full(2, 3), full(2, 3), { transposeA: true, transposeB: true }),
      /\[2, 3\] transposed times \[2, 3\] transposed/,
    ],
    [() => matmul(full(3), full(3, 2)), /matmul/],
    [() => matmul(full(3, 3), full(3)), /matmul/],
    [() => matmul(full(), full()), /matmul/],
    [() => matmul(full(2, 3, 4), full(3, 4, 5)), /same leading axes/],
    [() => matmul(full(4, 3), full(2, 3, 5)), /matmul/],
    [() => matmul(full(2, 3, 4), full(3, 5), { transposeA: true }), /transposed/],
    [
      () => denseLayer(full(2, 4), full(3, 5), full(5)),
      /dense: x \[2, 4\], weight \[3, 5\] and bias \[5\].*Flatten/,
    ],
    [() => denseLayer(full(2, 3), full(3, 5), full(4)), /bias \[4\]/],
    [() => denseLayer(full(3), full(3, 5), full(5)), /x \[3\]/],
    [
      () => crossEntropy(full(2, 3), labels(3)),
      /logits \[2, 3\] and labels \[3\]; expected \[batch, classes\] and \[batch\]/,
    ],
    [() => crossEntropy(full(2), labels(2)), /logits \[2\]/],
    [() => meanSquaredError(full(2, 3), full(2, 1)), /\[2, 3\] and target \[2, 1\]/],
    [() => meanSquaredError(full(), full()), /\[batch, \.\.\.\]/],
    [() => reshape(full(2, 3), [4]), /\[2, 3\] holds 6 numbers.*\[4\]/],
    [() => reshape(full(2, 3), [-1, -1]), /\[-1, -1\]/],
    [() => reshape(full(2, 3), [-1, 4]), /\[-1, 4\]/],
    [() => reshape(full(2, 3), [-2, -3]), /\[-2, -3\]/],
    [() => reshape(full(2, 3), [1.5, 4]), /\[1\.5, 4\]/],
    [() => broadcastTo(full(2, 3), [3]), /larger than the target \[3\]/],
    [() => broadcastTo(full(2), [3]), /2 meets 3/],
    [() => concat([full(2, 3), full(3, 4)], 1), /\[2, 3\] and \[3, 4\].*axis 1/],
    [() => groupNorm(full(2, 4), full(3), full(3), 1), /scale \[3\]/],
    [() => layerNorm(full(2, 4), full(3), full(3)), /scale \[3\]/],
    [() => maxPool2d(full(2, 4, 4), 2), /\[batch, height, width, channels\]/],
    [() => avgPool2d(full(1, 2, 2, 1), 3), /3 pixels in height.*have 2/],
    [() => engine.tensor([1, 2, 3], [2, 2]), /3 numbers.*\[2, 2\], which holds 4/],
    [() => engine.block([1], []) && engine.block([1, 2], []), /2 numbers.*\[\]/],
    [() => asExamples(full()), /\[batch, \.\.\.\]/],
    [() => new Parameters(engine, [{ name: 'w', shape: [2] }]).load([1]), /1 numbers.*2 parameters/],
  ]);
});

test('SHAPE_INVALID: shapes that are none, wherever memory is taken', () => {
  inScope(engine, 'SHAPE_INVALID', [
    [
      () => engine.tensor([1, 2], [-1, -2]),
      /engine\.tensor: the shape is \[-1, -2\]; expected whole numbers of at least 0/,
    ],
    [() => engine.block([], [0.5]), /\[0\.5\]/],
    [() => engine.full([2, -1], 0), /\[2, -1\]/],
    [() => engine.full([Number.NaN], 0), /NaN/],
    [() => engine.tensor([1], 1 as unknown as number[]), /the shape is 1; expected an array/],
    [() => new Parameters(engine, [{ name: 'w', shape: [-3] }]), /parameter 'w': .*\[-3\]/],
    [
      () =>
        defineOp({ name: 'odd', shape: () => [1.5], forward: () => undefined, backward: () => [null] })([
          full(1),
        ]),
      /odd: the shape is \[1\.5\]/,
    ],
  ]);
});

test('DTYPE_MISMATCH: the argument, what it is and how to make it right', () => {
  const ints = () => engine.tensor([1, 0], [2], 'i32');
  inScope(engine, 'DTYPE_MISMATCH', [
    [
      () => add(full(2), ints()),
      /add: argument 1 is i32; expected f32.*engine\.tensor\(values, shape, 'f32'\)/,
    ],
    [() => crossEntropy(full(2, 3), full(2)), /crossEntropy: argument 1 is f32; expected i32/],
    [() => relu(engine.tensor([1], [1], 'f64')), /argument 0 is f64/],
    [() => engine.tensor([1, 1.5], [2], 'i32'), /1\.5 at position 1 can't be i32; expected whole numbers/],
    [() => engine.tensor([Number.NaN], [1], 'i32'), /NaN at position 0/],
    [() => engine.tensor([2 ** 31], [1], 'i32'), /2147483648/],
    [() => engine.block([0.1], [1], 'i32'), /engine\.block: 0\.1/],
    [
      () =>
        engine.tensor(
          [
            [1, 2],
            [3, 4],
          ] as unknown as number[],
          [2],
        ),
      /1,2 at position 0.*nested arrays.*row by row/,
    ],
    [() => engine.tensor('ab' as unknown as number[]), /a at position 0/],
    [() => engine.tensor(undefined as unknown as number[]), /undefined; expected a number or an array/],
    [() => engine.tensor([1], [1], 'f16' as 'f32'), /dtype is 'f16'; expected 'f32', 'i32' or 'f64'/],
  ]);
  engine.scope(() =>
    assert.equal(
      [...engine.tensor([-(2 ** 31), 2 ** 31 - 1], [2], 'i32').values()],
      [-(2 ** 31), 2 ** 31 - 1],
    ),
  );
});

test('NOT_A_TENSOR, NOT_A_SCALAR, ENGINE_MISMATCH', () => {
  const notTensor = 3 as unknown as Tensor;
  inScope(engine, 'NOT_A_TENSOR', [
    [() => add(1, 2), /add: both arguments are numbers/],
    [() => add(full(1), undefined as unknown as number), /add: undefined; expected a tensor or a number/],
    [() => mul('2' as unknown as number, full(1)), /mul: 2; expected/],
    [() => sub(full(1), [1] as unknown as number), /sub: 1; expected/],
    [() => relu(notTensor), /relu: the first argument.*engine\.tensor/],
    [() => matmul(full(1, 1), notTensor), /matmul: argument 1/],
    [() => relu(undefined as unknown as Tensor), /relu/],
  ]);
  inScope(engine, 'NOT_A_SCALAR', [[() => full(2, 2).item(), /\[2, 2\].*one element.*values\(\)/]]);
  other.scope(() =>
    inScope(engine, 'ENGINE_MISMATCH', [
      [() => add(full(2), other.full([2], 1)), /add: .*two engines/],
      [
        () => {
          const base = other.dataset({ x: Uint8Array.of(1), y: [0], shape: [1] });
          engine.dataset({ base, added: [] });
        },
        /engine\.dataset: the base lives in another engine/,
      ],
    ]),
  );
});

test('AXIS_INVALID, AXIS_EMPTY, RANGE_INVALID, RANK_TOO_HIGH', () => {
  inScope(engine, 'AXIS_INVALID', [
    [() => sum(full(2, 3), { axes: 2 }), /sum: axes \[2\].*\[2, 3\].*from -2 to 1/],
    [() => mean(full(2, 3), { axes: [0, -3] }), /-3/],
    [() => max(full(2), { axes: 0.5 }), /0\.5/],
    [() => softmax(full(2, 3), 2), /softmax: axis 2/],
    [() => logSoftmax(full(), -1), /axis -1/],
    [() => transpose(full(2, 3), [0, 0]), /order \[0, 0\].*2 axes of \[2, 3\]/],
    [() => transpose(full(2, 3), [0]), /\[0\]/],
    [() => concat([full(2)], 1), /axis 1/],
  ]);
  inScope(engine, 'AXIS_EMPTY', [
    [() => mean(full(0, 3), { axes: 0 }), /mean: axes 0 to 0 of \[0, 3\] hold no numbers/],
    [() => max(full(3, 0), { axes: 1 }), /max: .*\[3, 0\]/],
    [() => mean(full(0)), /\[0\]/],
  ]);
  engine.scope(() => {
    assert.equal(mean(full(0, 3), { axes: 1 }).shape, [0]);
    assert.equal([...sum(full(0, 2), { axes: 0 }).values()], [0, 0]);
  });
  inScope(engine, 'RANGE_INVALID', [
    [() => clip(full(1), 2, 1), /low is 2 and high is 1; expected low ≤ high/],
    [() => clip(full(1), Number.NaN, 1), /NaN/],
    [() => dropout(full(1), 1), /rate is 1; expected 0 ≤ rate < 1/],
    [() => dropout(full(1), -0.1), /-0\.1/],
    [() => dropout(full(1), Number.NaN), /NaN/],
    [() => leakyRelu(full(1), Infinity), /slope is Infinity/],
    [() => slice(full(3), [2], [2]), /\[2\].*\[3\]/],
    [() => pad(full(3), [[-1, 0]]), /-1/],
  ]);
  inScope(engine, 'RANK_TOO_HIGH', [
    [() => transpose(full(2, 2, 2, 2, 2), [4, 3, 2, 1, 0]), /5 loops.*at most 4.*Reshape/],
  ]);
});

test('labels and indices out of range, fractional and not numbers', () => {
  const set = { x: Float32Array.of(1, 2), y: [0, 1], shape: [1] };
  using data = engine.dataset(set);
  inScope(engine, 'INDEX_OUT_OF_RANGE', [
    [() => data.batch([0, 2]), /batch: index 2 at position 1; expected whole numbers from 0 to 1/],
    [() => data.batch([-1]), /index -1/],
    [() => data.batch([0.5]), /index 0\.5/],
    [() => data.batch([Number.NaN]), /index NaN/],
    [() => data.batch([2 ** 32]), /index 4294967296/],
    [() => sliceBatch(data.batch([0, 1]), 1, 3), /from 1 to 3 of a batch of 2/],
    [() => sliceBatch(data.batch([0, 1]), -1, 1), /from -1/],
    [() => sliceBatch(data.batch([0, 1]), 2, 1), /from 2 to 1/],
  ]);
  inScope(engine, 'LABEL_OUT_OF_RANGE', [
    [() => engine.dataset({ ...set, y: [0, -1] }), /label -1 of example 1; expected a whole number from 0/],
    [() => engine.dataset({ ...set, y: [0, 1.5] }), /1\.5/],
    [() => engine.dataset({ ...set, y: [2 ** 31, 0] }), /2147483648 of example 0/],
    [() => crossEntropy(full(2, 1), data.batch([0, 1]).y), /label 1 at row 1; expected 0 to 0.*1 classes/],
    [() => crossEntropy(full(1, 3), engine.tensor([-1], [1], 'i32')), /label -1 at row 0; expected 0 to 2/],
  ]);
});

test('data that is empty, not finite or does not fit', () => {
  const set = { x: Float32Array.of(1, 2, 3, 4), y: [0, 1], shape: [2] };
  inScope(engine, 'DATA_EMPTY', [
    [() => engine.dataset({ ...set, x: new Float32Array(0), y: [] }), /0 examples.*at least one/],
    [() => engine.dataset({ ...set, shape: [0] }), /shape \[0\]/],
  ]);
  inScope(engine, 'DATA_NOT_FINITE', [
    [
      () => engine.dataset({ ...set, x: Float32Array.of(1, 2, 3, Number.NaN) }),
      /NaN in example 1, element 1; expected finite/,
    ],
    [
      () => engine.dataset({ ...set, x: Float32Array.of(-Infinity, 2, 3, 4) }),
      /-Infinity in example 0, element 0/,
    ],
    [() => engine.dataset({ ...set, scale: Number.NaN }), /scale is NaN/],
    [() => engine.dataset({ ...set, x: Uint8Array.of(1, 2, 3, 4), scale: 1e38 }), /255 · 1e\+38/],
    [() => engine.dataset({ ...set, x: Float32Array.of(1, -3e38, 3, 4), scale: 2 }), /e\+38 · 2/],
  ]);
  inScope(engine, 'SHAPE_MISMATCH', [
    [() => engine.dataset({ ...set, x: Float32Array.of(1, 2, 3) }), /3 numbers and 2 labels.*2 · 2 = 4/],
    [() => engine.dataset({ base: set, added: [{ ...set, shape: [1, 2] }] }), /\[1, 2\].*\[2\]/],
    [() => engine.dataset({ base: set, added: [], y: [0] }), /1 labels for 2 examples/],
  ]);
});

test('DATA_INVALID: a part of the set is missing', () => {
  const set = { x: Float32Array.of(1, 2), y: [0, 1], shape: [1] };
  const give = (over: object | undefined) => () =>
    engine.dataset((over && { ...set, ...over }) as unknown as LabelledSet);
  inScope(engine, 'DATA_INVALID', [
    [give({ x: undefined }), /x is undefined; expected \{ x, y, shape \}/],
    [give({ y: 3 }), /y is 3/],
    [give({ shape: undefined }), /shape is undefined/],
    [give(undefined), /x is undefined/],
    [
      () => engine.dataset({ base: set, added: [{ ...set, y: undefined }] as unknown as LabelledSet[] }),
      /y is/,
    ],
  ]);
});

test('seeds, steps, kernels, strategies', async () => {
  using data = engine.dataset({ x: Uint8Array.of(1), y: [0], shape: [1] });
  inScope(
    engine,
    'SEED_INVALID',
    [-1, 0.5, Number.NaN, 2 ** 53, '1' as unknown as number].map((seed) => [
      () => data.batch([0], { seed }),
      new RegExp(`the seed is ${seed}; expected a whole number from 0 to 9007199254740991`),
    ]),
  );
  inScope(
    engine,
    'STEP_INVALID',
    [-1, 1.5, Number.NaN].map((step) => [
      () => data.batch([0], { seed: 1, step }),
      new RegExp(`step is ${step}`),
    ]),
  );
  const kernels = 'fast' as 'base';
  assert.match(
    throwsCode('UNKNOWN_KERNEL_BUILD', () => createEngineSync({ kernels })),
    /'fast'.*'base', 'relaxed' or 'auto'/,
  );
  let failure: unknown;
  await createEngine({ kernels }).catch((error) => {
    failure = error;
  });
  throwsCode('UNKNOWN_KERNEL_BUILD', () => {
    throw failure;
  });
  if (!supportsRelaxedSimd()) {
    throwsCode('NO_RELAXED_SIMD', () => createEngineSync({ kernels: 'relaxed' }));
  }
  assert.ok(['base', 'relaxed'].includes(createEngineSync({ kernels: 'auto' }).build));
  inScope(engine, 'NO_RANDOM_STATE', [
    [() => dropout(full(2), 0.5), /data\.batch\(indices, \{ seed, step \}\)/],
    [() => dropout(data.batch([0]).x, 0.5), /dropout/],
  ]);
  const params = new Parameters(engine, []);
  inScope(engine, 'NOT_A_BATCH', [
    [() => perExample(() => full(1), params, { x: full(2) }, { strategy: 'loop' }), /asExamples/],
  ]);
});

test('gradients: inputs, results, and what backward returns', () => {
  inScope(engine, 'NOT_DIFFERENTIABLE', [
    [() => gradients(() => full(1), []), /at least one input/],
    [() => gradients((x) => x, [engine.tensor([1], [1], 'i32')]), /f32/],
    [() => gradients(() => 3 as unknown as Tensor, [full(1)]), /returned 3/],
    [() => gradients(() => undefined as unknown as Tensor, [full(1)]), /returned undefined/],
  ]);
  const op = (backward: (x: Tensor) => unknown) =>
    defineOp({
      name: 'mine',
      shape: ([x]) => x!.shape,
      forward: () => undefined,
      backward: ({ inputs }) => backward(inputs[0]!) as Tensor[],
    });
  const through = (backward: (x: Tensor) => unknown) => () =>
    gradients((x) => op(backward)([x]), [full(2, 3)]);
  inScope(engine, 'BACKWARD_INVALID', [
    [through(() => undefined), /mine: backward returned undefined; expected an array of 1/],
    [through(() => []), /mine: backward returned 0 gradients for 1 inputs/],
    [through((x) => [x, x]), /2 gradients for 1/],
    [through(() => [full(3, 2)]), /Tensor f32 \[3, 2\] as the gradient of input 0.*\[2, 3\]/],
    [through((x) => [engine.tensor(new Int32Array(6), x.shape, 'i32')]), /Tensor i32/],
    [through(() => [7]), /returned 7/],
  ]);
  engine.scope(() => {
    assert.equal([...gradients((x) => op(() => [null])([x]), [full(2)]).gradients[0]!.values()], [0, 0]);
    assert.is(engine.recorder.active, false);
  });
});

test('parameters', () => {
  using params = new Parameters(engine, [
    { name: 'w', shape: [2] },
    { name: 'b', shape: [] },
  ]);
  assert.match(
    throwsCode('PARAMETER_UNKNOWN', () => params.get('W')),
    /no parameter 'W'; there are w, b/,
  );
  throwsCode('PARAMETER_UNKNOWN', () => params.freeze(['v']));
  assert.match(
    throwsCode(
      'PARAMETER_DUPLICATE',
      () =>
        new Parameters(engine, [
          { name: 'w', shape: [] },
          { name: 'w', shape: [] },
        ]),
    ),
    /'w'.*unique/,
  );
  const [view] = [params.get('w')];
  params.free();
  assert.match(
    throwsCode('TENSOR_USED_LATE', () => view.values()),
    /block was freed/,
  );
});

test.run();
