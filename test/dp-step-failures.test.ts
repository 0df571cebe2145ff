// What a private step that failed, or whose loss, rule or schedule can't be trusted, must not do.
import {
  flatClipping,
  type PrivateStep,
  type PrivateStepOptions,
  privateStep,
  type Shaper,
  seededNoise,
} from 'gradshape/dp';
import {
  asExamples,
  type BatchLoss,
  createEngineSync,
  crossEntropy,
  denseLayer,
  matmul,
  mul,
  Parameters,
  perExample,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { adam, type Optimizer, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { softmaxRegression, throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
type Loss = BatchLoss<{ x: Tensor; y: Tensor }>;

const [d, c] = [4, 3];
const logistic: Loss = (p, b) => crossEntropy(denseLayer(b.x, p.get('w'), p.get('b')), b.y);
const data = engine.dataset({
  x: Float32Array.from({ length: 10 * d }, (_, i) => Math.sin(i * i + 1) * 2),
  y: Int32Array.from({ length: 10 }, (_, i) => i % c),
  shape: [d],
});

const regression = (): Parameters => softmaxRegression(engine, d, c);

/** Some of a step's options; undefined leaves one out. */
type Settings = { [K in keyof PrivateStepOptions]?: PrivateStepOptions[K] | undefined };

function stepOf(params: Parameters, options: Settings = {}): PrivateStep {
  return privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    ...(options.shaper === undefined && { clipNorm: 1 }),
    noiseMultiplier: 1,
    expectedBatchSize: 4,
    noise: seededNoise(5),
    ...options,
  } as PrivateStepOptions);
}

const give = (step: PrivateStep, indices: number[], loss: Loss = logistic): void =>
  engine.scope(() => void step.accumulate(loss, data.batch(indices)));

test('after an error in a piece the step goes on only when it was discarded, and nothing counts twice', () => {
  using failing = regression();
  using straight = regression();
  const [step, other] = [stepOf(failing), stepOf(straight)];
  const broken: Loss = () => {
    throw new Error('no memory');
  };
  give(step, [0, 1]);
  assert.throws(() => give(step, [2], broken), 'no memory');
  assert.match(
    throwsCode('STEP_FAILED', () => give(step, [2])),
    'discard()',
  );
  throwsCode('STEP_FAILED', () => step.finish());
  step.discard();
  for (const one of [step, other]) {
    give(one, [0, 1]);
    give(one, [2]);
    one.finish();
  }
  assert.equal(failing.values(), straight.values());
  assert.is(step.step, 1);
  step.free();
  other.free();
});

test('an example is given once in a lot, in whatever piece', () => {
  using params = regression();
  const step = stepOf(params);
  assert.match(
    throwsCode('EXAMPLE_REPEATED', () => give(step, [3, 4, 3])),
    'example 3',
  );
  step.discard();
  give(step, [3, 4]);
  throwsCode('EXAMPLE_REPEATED', () => give(step, [5, 4]));
  step.discard();
  for (let lot = 0; lot < 600; lot++) {
    give(step, [3, 4, 9]);
    step.finish();
  }
  step.free();
});

test('a finish that throws has noised at most once, and the next one goes on from the same noisy sum', () => {
  using twice = regression();
  using once = regression();
  const sums: number[][] = [];
  const observer = { piece() {}, summed: (s: Tensor) => void sums.push([...s.values()]), noised() {} };
  const failing = sgd({ learningRate: 1 });
  const { update } = failing;
  let fails = true;
  failing.update = (...args) => {
    if (fails) throw new Error('no memory');
    update.apply(failing, args);
  };
  const [step, other] = [stepOf(twice, { observer, optimizer: failing }), stepOf(once)];
  for (const one of [step, other]) give(one, [0, 1, 2]);
  throwsCode('LEARNING_RATE_INVALID', () => step.finish({ learningRate: Number.NaN }));
  assert.is(sums.length, 0, 'what the update would refuse is refused before the noise');
  assert.throws(() => step.finish(), 'no memory');
  throwsCode('STEP_FAILED', () => give(step, [4]));
  assert.match(
    throwsCode('STEP_FAILED', () => step.discard()),
    'finish() once more',
  );
  fails = false;
  assert.is(step.step, 0);
  for (const one of [step, other]) one.finish();
  assert.equal(twice.values(), once.values());
  assert.is(sums.length, 1);
  step.free();
  other.free();
});

test('a finish that throws before its noise can be made again, and sums nothing twice', () => {
  const count = 1000;
  using set = engine.dataset({ x: new Float32Array(count).fill(0.5), y: new Int32Array(count), shape: [1] });
  using params = new Parameters(engine, [{ name: 'w', shape: [1, 1] }]);
  const linear: Loss = (p, b) => sum(matmul(b.x, p.get('w')), { axes: [1] });
  let fails = true;
  const observer = {
    piece() {},
    summed() {
      if (fails) throw new Error('no disk');
    },
    noised() {},
  };
  const step = stepOf(params, { observer, noiseMultiplier: 0, expectedBatchSize: 1 });
  const add = (indices: ArrayLike<number>): void =>
    engine.scope(() => void step.accumulate(linear, set.batch(indices)));
  add(Int32Array.from({ length: count }, (_, i) => i));
  for (let attempt = 0; attempt < 3; attempt++) assert.throws(() => step.finish(), 'no disk');
  throwsCode('STEP_FAILED', () => add([0]));
  fails = false;
  step.finish();
  assert.is(params.values()[0], -count / 2);
  assert.is(step.step, 1);
  step.free();
});

test('a parameter that is unfrozen in the middle of a step gets no sum without noise', () => {
  using params = regression();
  params.freeze(['b']);
  const step = stepOf(params);
  give(step, [0, 1]);
  params.unfreeze(['b']);
  throwsCode('STEP_FAILED', () => step.finish());
  throwsCode('STEP_FAILED', () => give(step, [2]));
  step.discard();
  give(step, [0, 1]);
  step.finish();
  step.free();
});

test('examples that share a base, and the same batch by hand, are given once', () => {
  using params = regression();
  using more = engine.dataset({ base: data, added: [] });
  const step = stepOf(params);
  give(step, [0, 1]);
  throwsCode('EXAMPLE_REPEATED', () => engine.scope(() => void step.accumulate(logistic, more.batch([0]))));
  step.discard();
  throwsCode('EXAMPLE_REPEATED', () =>
    engine.scope(() => {
      const x = asExamples(engine.full([2, d], 0.5));
      const batch = { x, y: asExamples(engine.tensor([0, 1], [2], 'i32'), x) };
      step.accumulate(logistic, batch);
      step.accumulate(logistic, batch);
    }),
  );
  step.free();
});

test('groups that are none, or too large, are refused', () => {
  using params = regression();
  engine.scope(() => {
    for (const groups of [new Int32Array(1), [0, 0], new Int32Array([0, -1]), 3, 'x'] as Int32Array[]) {
      throwsCode('GROUPS_INVALID', () => data.batch([0, 1], { groups }));
    }
  });
  const count = 321;
  using set = engine.dataset({
    x: new Float32Array(count * d).fill(0.5),
    y: new Int32Array(count),
    shape: [d],
  });
  const step = stepOf(params);
  const everyone = Int32Array.from({ length: count }, (_, i) => i);
  throwsCode('GROUPS_INVALID', () =>
    engine.scope(
      () => void step.accumulate(logistic, set.batch(everyone, { groups: new Int32Array(count) })),
    ),
  );
  step.free();
});

test('steps are whole numbers', () => {
  using params = regression();
  const step = stepOf(params);
  for (const bad of [-1, 2.5, Infinity, Number.NaN, '3'] as number[]) {
    step.step = bad;
    throwsCode('STEP_INVALID', () => give(step, [0]));
    step.discard();
  }
  step.step = 3;
  give(step, [0]);
  step.free();
});

test('five lines of a user’s own rule, and a gradient that overflows: nothing is spoilt', () => {
  const own: Shaper = {
    name: 'own',
    wholeBatch: false,
    bound: () => 1,
    accumulate(g, into, { tightening }) {
      const weights = g
        .norms()
        .values()
        .map((norm) => tightening / Math.max(norm, 1));
      g.weightedSums([Float32Array.from(weights)], [into]);
      return undefined;
    },
    toString: () => 'own',
  };
  const wild = Float32Array.from({ length: 4 * d }, (_, i) => (i < d ? (i % 2 === 0 ? 3e38 : -3e38) : i / 9));
  using set = engine.dataset({ x: wild, y: [0, 1, 2, 0], shape: [d] });
  for (const strategy of ['ghost', 'materialize', 'loop'] as const) {
    using both = regression();
    using without = regression();
    for (const [params, indices] of [
      [both, [0, 1, 2]],
      [without, [1, 2]],
    ] as const) {
      params.load(params.values().map((w) => 4 * w));
      const step = stepOf(params, { shaper: own, strategy });
      engine.scope(() => void step.accumulate(logistic, set.batch(indices)));
      step.finish();
      step.free();
    }
    assert.ok(both.values().every(Number.isFinite));
    assert.equal(both.values(), without.values());
  }
});

test('weights that are not finite are refused by name', () => {
  using params = regression();
  engine.scope(() => {
    const g = perExample(logistic, params, data.batch([0, 1]));
    assert.match(
      throwsCode('WEIGHTS_NOT_FINITE', () => g.weightedSums([[1, Number.NaN]])),
      'example 1',
    );
  });
});

test('a loss that is another the second time is refused where its gradients are made twice', () => {
  using params = regression();
  let calls = 0;
  const moody: Loss = (p, b) => mul(logistic(p, b), ++calls > 2 ? 1e6 : 1);
  const step = stepOf(params, { strategy: 'loop' });
  throwsCode('LOSS_NOT_REPEATABLE', () => give(step, [0, 1], moody));
  step.free();
});

test('a schedule that would switch protection off is refused at that step', () => {
  const after = (first: number, then: number) => (step: number) => (step < 2 ? first : then);
  const cases: [Settings, string][] = [
    [{ clipNorm: after(1, Infinity) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, 1e38) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, 0) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, Number.NaN) }, 'SCHEDULE_INVALID'],
    [{ noiseMultiplier: after(1, 0) }, 'NOISE_INVALID'],
    [{ noiseMultiplier: after(1, Infinity) }, 'NOISE_INVALID'],
    [{ noiseMultiplier: after(1, Number.NaN) }, 'SCHEDULE_INVALID'],
    [{ noiseMultiplier: undefined, noiseStd: 1, clipNorm: after(1, Infinity) }, 'CLIP_NORM_INVALID'],
    [
      { shaper: { ...flatClipping({ clipNorm: 1 }), bound: (step) => (step < 2 ? 1 : null) } },
      'CLIP_NORM_INVALID',
    ],
  ];
  for (const [options, code] of cases) {
    using params = regression();
    const step = stepOf(params, options);
    for (let s = 0; s < 2; s++) {
      give(step, [s]);
      assert.is(step.release().bound, 1);
      step.finish();
    }
    const before = params.values();
    throwsCode(code, () => give(step, [3]));
    throwsCode(code, () => step.release());
    assert.equal(params.values(), before);
    step.free();
  }
});

test('a schedule is asked once a step: what the step clips to, noises with and reports is the same', () => {
  using params = regression();
  let asked = 0;
  const step = stepOf(params, { clipNorm: () => 1 + asked++ });
  const made = asked;
  const { bound, noiseStd, noiseMultiplier } = step.release();
  give(step, [0]);
  give(step, [1]);
  assert.equal(step.release(), { ...step.release(), bound, noiseStd, noiseMultiplier });
  const later = asked;
  step.finish();
  assert.ok(later - made <= 4, `${later - made} times`);
  assert.ok(step.release().bound! > bound!);
  step.free();
});

test('a schedule that answers otherwise the second time clips by its first answer', () => {
  using params = regression();
  let asked = 0;
  const sums: number[] = [];
  const observer = {
    piece() {},
    summed: (s: Tensor) => void sums.push(Math.sqrt(engine.kernels.squaredNorm(s.address, s.size))),
    noised() {},
  };
  const step = stepOf(params, { clipNorm: () => (asked++ === 0 ? 1e-3 : 1e6), observer });
  asked = 0;
  give(step, [0]);
  give(step, [1]);
  step.finish();
  assert.ok(sums[0]! <= 2e-3, `${sums[0]}`);
  step.free();
});

test('a rule that does not keep its own bound is refused', () => {
  using params = regression();
  const own: Shaper = {
    name: 'own',
    wholeBatch: false,
    bound: () => 1e-3,
    accumulate(g, into) {
      const weights = new Float32Array(g.batch).fill(1);
      g.weightedSums([weights], [into]);
      return weights;
    },
    toString: () => 'own',
  };
  const step = stepOf(params, { shaper: own });
  assert.match(
    throwsCode('SHAPER_INVALID', () => give(step, [0])),
    /weight 1, .*by 0.001/,
  );
  throwsCode('STEP_FAILED', () => step.finish());
  step.free();
});

test('updates with other optimizers after discard start from a clean sum', () => {
  const make = (): [Parameters, Optimizer] => [regression(), adam({ learningRate: 0.1 })];
  const [[first, one], [second, two]] = [make(), make()];
  const [a, b] = [stepOf(first, { optimizer: one }), stepOf(second, { optimizer: two })];
  give(a, [0, 1, 2]);
  a.discard();
  for (const step of [a, b]) {
    give(step, [5, 6]);
    step.finish();
  }
  assert.equal(first.values(), second.values());
  for (const thing of [a, b, first, second]) thing.free();
});

test.run();
