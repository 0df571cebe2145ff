// The DP-SGD step against Algorithm 1 of Abadi et al. (2016) written out in float64, and its noise against what N(0, σ²C²)
// must be. Keys are fixed but for secure noise, whose bounds fail with a probability below 1e-6.
import { addNoise, clipFactors, type NoiseSource, privateStep, secureNoise, seededNoise } from 'gradshape/dp';
import {
  type BatchLoss,
  createEngineSync,
  crossEntropy,
  denseLayer,
  Parameters,
  perExample,
  type Strategy,
  square,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { adam, type Optimizer, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { softmaxRegression, throwsCode } from './engine-helpers.js';

type Loss = BatchLoss<{ x: Tensor; y: Tensor }>;

const engine = createEngineSync();
const [d, c, n] = [6, 3, 20];
const strategies: Strategy[] = ['ghost', 'materialize', 'loop'];
const loss: Loss = (p, b) => crossEntropy(denseLayer(b.x, p.get('w'), p.get('b')), b.y);

const x = Float32Array.from({ length: n * d }, (_, i) => Math.sin(i * i + 1) * 2);
const y = Int32Array.from({ length: n }, (_, i) => (i * 7) % c);
const data = engine.dataset({ x, y, shape: [d] });

const regression = (): Parameters => softmaxRegression(engine, d, c);

/** Softmax regression's gradient for one example, by its closed form. */
function gradient(p: Float64Array, i: number): Float64Array {
  const row = x.subarray(i * d, (i + 1) * d);
  const logits = Array.from({ length: c }, (_, k) =>
    row.reduce((z, v, j) => z + v * p[j * c + k]!, p[d * c + k]!),
  );
  const total = logits.reduce((s, z) => s + Math.exp(z), 0);
  const delta = logits.map((z, k) => Math.exp(z) / total - (y[i] === k ? 1 : 0));
  return Float64Array.from({ length: d * c + c }, (_, at) => (row[Math.floor(at / c)] ?? 1) * delta[at % c]!);
}

/** The clipped sum over a batch. */
function clippedSum(p: Float64Array, indices: readonly number[], clipNorm: number): Float64Array {
  const total = new Float64Array(p.length);
  for (const i of indices) {
    const g = gradient(p, i);
    const factor = Math.min(1, clipNorm / Math.hypot(...g));
    g.forEach((value, at) => {
      total[at]! += factor * value;
    });
  }
  return total;
}

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  assert.is(actual.length, expected.length);
  for (let i = 0; i < actual.length; i++) {
    assert.ok(
      Math.abs(actual[i]! - expected[i]!) <= tolerance,
      `[${i}]: ${actual[i]}, expected ${expected[i]}`,
    );
  }
}

const batchOf = (step: number) => Array.from({ length: 8 }, (_, i) => (step * 5 + i * 3) % n);

test('clipping alone: DP-SGD in float64, for every strategy', () => {
  for (const strategy of strategies) {
    for (const clipNorm of [0.1, 1, 2.5, Infinity]) {
      using params = regression();
      const p = Float64Array.from(params.values());
      const noise = clipNorm === Infinity ? { noiseStd: 0 } : { noiseMultiplier: 0 };
      const step = privateStep({
        params,
        optimizer: sgd({ learningRate: 0.5 }),
        clipNorm,
        expectedBatchSize: 10,
        strategy,
        ...noise,
      });
      for (let s = 0; s < 6; s++) {
        engine.scope(() => void step.accumulate(loss, data.batch(batchOf(s))));
        step.finish();
        clippedSum(p, batchOf(s), clipNorm).forEach((value, i) => {
          p[i]! -= (0.5 * value) / 10;
        });
      }
      assert.is(step.step, 6);
      near(params.values(), p, 3e-6);
      step.free();
    }
  }
});

test('clipping alone: DP-Adam in float64', () => {
  using params = regression();
  const p = Float64Array.from(params.values());
  const [m, v] = [new Float64Array(p.length), new Float64Array(p.length)];
  const step = privateStep({
    params,
    optimizer: adam({ learningRate: 0.05 }),
    clipNorm: 0.7,
    noiseMultiplier: 0,
    expectedBatchSize: 8,
  });
  for (let s = 0; s < 5; s++) {
    engine.scope(() => void step.accumulate(loss, data.batch(batchOf(s))));
    step.finish();
    clippedSum(p, batchOf(s), 0.7).forEach((value, i) => {
      const g = value / 8;
      m[i] = 0.9 * m[i]! + 0.1 * g;
      v[i] = 0.999 * v[i]! + 0.001 * g * g;
      p[i]! -= (0.05 * (m[i]! / (1 - 0.9 ** (s + 1)))) / (Math.sqrt(v[i]! / (1 - 0.999 ** (s + 1))) + 1e-8);
    });
  }
  near(params.values(), p, 2e-4); // Adam divides by small numbers
  step.free();
});

/** The noise that an empty step adds to `size` parameters at 0, taken back to the sum's scale. */
function emptyStep(
  size: number,
  noise: NoiseSource,
  at: number,
  clipNorm: number,
  multiplier: number,
): Float64Array {
  using params = new Parameters(engine, [{ name: 'w', shape: [size] }]);
  const step = privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    clipNorm,
    noiseMultiplier: multiplier,
    expectedBatchSize: 16,
    noise,
  });
  step.step = at;
  using empty = engine.dataset({ x: Float32Array.of(1), y: [0], shape: [1] });
  engine.scope(() => {
    const losses = step.accumulate(
      (p, b: { x: Tensor }) => sum(square(denseLayer(b.x, broadcast(p), zero())), { axes: 1 }),
      empty.batch([]),
    );
    assert.is(losses?.size, 0);
  });
  step.finish();
  assert.is(step.step, at + 1);
  step.free();
  return Float64Array.from(params.values()).map((value) => -16 * value);

  function broadcast(p: Parameters): Tensor {
    return engine.full([1, p.size], 0);
  }
  function zero(): Tensor {
    return engine.full([size], 0);
  }
}

test('an empty batch: noise all the same, of standard deviation C · σ, for either source', () => {
  for (const noise of [seededNoise(3), secureNoise()]) {
    const count = 200_000;
    const std = 1.5 * 0.8;
    const draws = emptyStep(count, noise, 0, 1.5, 0.8);
    const mean = draws.reduce((total, z) => total + z, 0) / count;
    const variance = draws.reduce((total, z) => total + z * z, 0) / count;
    const fourth = draws.reduce((total, z) => total + z ** 4, 0) / count;
    const neighbours = draws.reduce((total, z, i) => total + z * (draws[i + 1] ?? 0), 0) / count;
    const bound = 5 / Math.sqrt(count);
    assert.ok(Math.abs(mean) < bound * std, `mean ${mean}`);
    assert.ok(Math.abs(variance / std ** 2 - 1) < bound * Math.sqrt(2), `variance ${variance}`);
    assert.ok(Math.abs(fourth / std ** 4 - 3) < bound * Math.sqrt(96), `fourth moment ${fourth}`);
    assert.ok(Math.abs(neighbours) < bound * std ** 2, `neighbours ${neighbours}`);
  }
});

test('seeded noise is a function of seed and step; secure noise never comes twice', () => {
  const of = (noise: NoiseSource, step: number) => emptyStep(100, noise, step, 1, 1);
  const first = of(seededNoise(1), 0);
  assert.equal(of(seededNoise(1), 0), first);
  const others = [
    of(seededNoise(1), 1),
    of(seededNoise(2), 0),
    of(seededNoise(2 ** 40 + 1), 0),
    of(seededNoise(1), 2 ** 32),
    of(secureNoise(), 0),
    of(secureNoise(), 0),
  ];
  for (const [i, a] of [first, ...others].entries()) {
    for (const b of others.slice(i))
      if (a !== b)
        assert.is(
          a.some((z, j) => z === b[j]),
          false,
          'independent',
        );
  }
  assert.is(seededNoise(1).kind, 'seeded');
  assert.is(secureNoise().kind, 'secure');
});

test('clip, noise and update together: the same noise on the same sum', () => {
  using both = pair();
  const [params, quiet] = both;
  const options = { clipNorm: 1, expectedBatchSize: 8, noise: seededNoise(9) };
  const noisy = privateStep({ ...options, params, optimizer: sgd({ learningRate: 1 }), noiseMultiplier: 2 });
  const clipped = privateStep({
    ...options,
    clipNorm: 1 - 0.0103, // what noise leaves to rounding
    params: quiet,
    optimizer: sgd({ learningRate: 1 }),
    noiseMultiplier: 0,
  });
  for (const step of [noisy, clipped]) {
    engine.scope(() => void step.accumulate(loss, data.batch(batchOf(0))));
    step.finish();
  }
  const expected = engine.scope(() => {
    const noise = addNoise(engine.full([params.size], 0), { std: 2, noise: seededNoise(9), step: 0 });
    return [...noise.values()].map((z, i) => quiet.values()[i]! - z / 8);
  });
  near(params.values(), expected, 1e-6);
  assert.is(noisy.noiseStd, 2);
  assert.is(noisy.noiseMultiplier, 2);
  noisy.free();
  clipped.free();
});

function pair() {
  const both = [regression(), regression()] as [Parameters, Parameters] & Disposable;
  both[Symbol.dispose] = () => {
    for (const params of both) params.free();
  };
  return both;
}

test('noiseStd is the deviation itself, with clipping or without', () => {
  using params = regression();
  const optimizer = sgd({ learningRate: 1 });
  const clipped = privateStep({ params, optimizer, clipNorm: 4, noiseStd: 0.1, expectedBatchSize: 1 });
  assert.is(clipped.noiseStd, 0.1);
  assert.is(clipped.noiseMultiplier, 0.025);
  const noiseOnly = privateStep({
    params,
    optimizer,
    clipNorm: Infinity,
    noiseStd: 0.1,
    expectedBatchSize: 1,
  });
  assert.is(noiseOnly.noiseStd, 0.1);
  assert.is(noiseOnly.noiseMultiplier, 0);
  clipped.free();
  noiseOnly.free();
});

test('a batch in pieces updates to the bits of the whole', () => {
  for (const strategy of strategies) {
    using both = pair();
    const [pieces, whole] = both.map((params) =>
      privateStep({
        params,
        optimizer: adam({ learningRate: 0.1 }),
        clipNorm: 0.9,
        noiseMultiplier: 1,
        expectedBatchSize: 8,
        noise: seededNoise(4),
        strategy,
      }),
    ) as [ReturnType<typeof privateStep>, ReturnType<typeof privateStep>];
    for (let s = 0; s < 3; s++) {
      const indices = batchOf(s);
      engine.scope(() => void whole.accumulate(loss, data.batch(indices)));
      for (const [from, to] of [
        [0, 3],
        [3, 3],
        [3, 8],
      ] as const) {
        engine.scope(() => void pieces.accumulate(loss, data.batch(indices.slice(from, to))));
      }
      pieces.finish();
      whole.finish();
    }
    assert.equal(both[0].values(), both[1].values());
    pieces.free();
    whole.free();
  }
});

test('a step resumed by its number goes on to the same bits', () => {
  using both = pair();
  const make = (params: Parameters, optimizer: Optimizer) =>
    privateStep({
      params,
      optimizer,
      clipNorm: 1,
      noiseMultiplier: 1,
      expectedBatchSize: 8,
      noise: seededNoise(8),
    });
  const straight = make(both[0], sgd({ learningRate: 0.1 }));
  for (let s = 0; s < 4; s++) {
    const resumed = make(both[1], sgd({ learningRate: 0.1 }));
    resumed.step = s;
    for (const step of [straight, resumed]) {
      engine.scope(() => void step.accumulate(loss, data.batch(batchOf(s))));
      step.finish();
    }
    resumed.free();
  }
  assert.equal(both[0].values(), both[1].values());
  straight.free();
});

test('frozen parameters get neither gradient nor noise', () => {
  using params = regression();
  const before = params.values();
  params.freeze(['w']);
  const step = privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    clipNorm: 1,
    noiseMultiplier: 1,
    expectedBatchSize: 8,
    noise: seededNoise(1),
  });
  engine.scope(() => void step.accumulate(loss, data.batch(batchOf(0))));
  step.finish();
  const after = params.values();
  assert.equal(after.slice(0, d * c), before.slice(0, d * c));
  assert.ok(after.slice(d * c).every((value, i) => value !== before[d * c + i]));
  step.free();
});

test('an example whose gradient is not finite contributes 0', () => {
  for (const strategy of strategies) {
    using both = pair();
    const bad = x.slice();
    bad[2 * d] = 3e38; // times its weight, and as a gradient: beyond f32
    bad[2 * d + 1] = -3e38;
    using broken = engine.dataset({ x: bad, y, shape: [d] });
    const results = both.map((params, i) => {
      params.load(params.values().map((w) => 4 * w));
      const step = privateStep({
        params,
        optimizer: sgd({ learningRate: 0.5 }),
        clipNorm: 1,
        noiseMultiplier: 0,
        expectedBatchSize: 4,
        strategy,
      });
      engine.scope(() => void step.accumulate(loss, broken.batch(i === 0 ? [0, 1, 2, 3] : [0, 1, 3])));
      step.finish();
      step.free();
      return params.values();
    });
    assert.equal(results[0], results[1]);
    assert.ok(results[0]!.every(Number.isFinite));
  }
});

test('clip factors: min(1, C/‖g‖) a millionth below, 0 where the norm is not finite', () => {
  using params = new Parameters(engine, [{ name: 'w', shape: [1] }]);
  params.load([1]);
  engine.scope(() => {
    const values = [0, 0.5, 1, 2, 1000];
    using set = engine.dataset({ x: Float32Array.from(values), y: values.map(() => 0), shape: [1] });
    const g = perExample(
      (p, b: { x: Tensor }) => sum(denseLayer(b.x, engine.full([1, 1], 0), p.get('w')), { axes: 1 }),
      params,
      set.batch([0, 1]),
    );
    assert.equal([...clipFactors(g.norms(), { clipNorm: Infinity }).values()], [1, 1]);
    near(clipFactors(g.norms(), { clipNorm: 0.25 }).values(), [0.25, 0.25], 3e-7);
    const bad = (clipNorm: number) =>
      throwsCode('CLIP_NORM_INVALID', () => clipFactors(g.norms(), { clipNorm }));
    assert.match(bad(0), /clipNorm is 0.*above 0/);
    bad(-1);
    bad(Number.NaN);
  });
});

test('noise added to a batch’s own inputs is seen by ghost norms', () => {
  using params = regression();
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    perExample(loss, params, batch).norms();
    addNoise(batch.x, { std: 3, noise: seededNoise(1) });
    const [ghost, loop] = (['ghost', 'loop'] as const).map((strategy) => [
      ...perExample(loss, params, batch, { strategy }).norms().values(),
    ]);
    near(ghost!, loop!, 1e-5);
  });
});

test('errors say what was given and what to give instead', () => {
  using params = regression();
  const make = (options: object) =>
    privateStep({
      params,
      optimizer: sgd({ learningRate: 1 }),
      clipNorm: 1,
      noiseMultiplier: 1,
      expectedBatchSize: 8,
      ...options,
    });
  const used = engine.memory.bytesInUse;
  for (const clipNorm of [0, -1, Number.NaN]) {
    assert.match(
      throwsCode('CLIP_NORM_INVALID', () => make({ clipNorm })),
      new RegExp(`clipNorm is ${clipNorm}`),
    );
  }
  for (const noiseMultiplier of [-0.1, Infinity, Number.NaN]) {
    assert.match(
      throwsCode('NOISE_INVALID', () => make({ noiseMultiplier })),
      /noiseMultiplier is .*at least 0/,
    );
  }
  throwsCode('NOISE_INVALID', () => make({ noiseMultiplier: undefined, noiseStd: -1 }));
  assert.match(
    throwsCode('NOISE_INVALID', () => make({ noiseStd: 1 })),
    /noiseMultiplier is 1 and noiseStd is 1.*one of them/,
  );
  assert.match(
    throwsCode('NOISE_INVALID', () => make({ noiseMultiplier: undefined })),
    /noiseMultiplier 0/,
  );
  assert.match(
    throwsCode('NOISE_INVALID', () => make({ clipNorm: Infinity })),
    /noiseStd instead/,
  );
  for (const expectedBatchSize of [0, -3, Number.NaN, Infinity]) {
    throwsCode('BATCH_SIZE_INVALID', () => make({ expectedBatchSize }));
  }
  assert.is(engine.memory.bytesInUse, used, 'nothing is left behind');
  for (const seed of [-1, 0.5, Number.NaN, 2 ** 53]) throwsCode('SEED_INVALID', () => seededNoise(seed));
  engine.scope(() => {
    throwsCode('NOISE_INVALID', () => addNoise(engine.full([2], 0), { std: -1 }));
    const step = make({});
    throwsCode('LOSS_SHAPE', () => step.accumulate((p) => sum(p.get('w')), data.batch([0])));
    step.free();
  });
});

test.run();
