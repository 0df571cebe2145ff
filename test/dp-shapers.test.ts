// Shaping rules against their definitions in float64. The loss is linear in the parameters, so that the examples' gradients
// are exactly the rows that a test gives.
import fc from 'fast-check';
import {
  adaptiveClipping,
  automaticClipping,
  coordinateMedian,
  cosineWeighting,
  flatClipping,
  geometricMedian,
  geometricSchedule,
  linearSchedule,
  normRejection,
  type PrivateStepOptions,
  perLayerClipping,
  privateStep,
  type Shaper,
  seededNoise,
  sensitivityOf,
  trimmedMean,
} from 'gradshape/dp';
import {
  add,
  asExamples,
  createEngineSync,
  matmul,
  Parameters,
  perExample,
  reshape,
  type Strategy,
  type Tensor,
} from 'gradshape/engine';
import { sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

type Row = readonly number[];

const engine = createEngineSync();
const [sizeA, sizeB] = [5, 3];
const size = sizeA + sizeB;
const params = new Parameters(engine, [
  { name: 'a.weight', shape: [sizeA, 1] },
  { name: 'b.weight', shape: [sizeB, 1] },
]);
const strategies: Strategy[] = ['ghost', 'materialize', 'loop'];

const loss = (p: Parameters, { x, z }: { x: Tensor; z: Tensor }): Tensor => {
  const out = add(matmul(x, p.get('a.weight')), matmul(z, p.get('b.weight')));
  return reshape(out, [out.shape[0]!]);
};
const batchOf = (rows: readonly Row[]) => ({
  x: asExamples(
    engine.tensor(
      rows.flatMap((row) => row.slice(0, sizeA)),
      [rows.length, sizeA],
    ),
  ),
  z: asExamples(
    engine.tensor(
      rows.flatMap((row) => row.slice(sizeA)),
      [rows.length, sizeB],
    ),
  ),
});

/** The shaped sum of batches with these gradients, one piece after the other. */
function shapedSum(
  shaper: Shaper,
  pieces: readonly (readonly Row[])[],
  strategy: Strategy = 'ghost',
  step = 0,
) {
  return engine.scope(() => {
    const sum = engine.full([size], 0);
    for (const rows of pieces) {
      const batch = batchOf(rows);
      // One tensor's examples for both inputs.
      batch.z.examples = batch.x.examples;
      shaper.accumulate(perExample(loss, params, batch, { strategy }), sum, { step, tightening: 1 });
    }
    return Float64Array.from(sum.values());
  });
}

const norm = (v: ArrayLike<number>) => Math.hypot(...Array.from(v));
const combine = (rows: readonly Row[], weights: ArrayLike<number>) =>
  Float64Array.from({ length: size }, (_, j) => rows.reduce((s, row, i) => s + weights[i]! * row[j]!, 0));
const near = (actual: Float64Array, expected: Float64Array, tolerance = 1e-5) => {
  const scale = Math.max(1, norm(expected));
  assert.ok(
    actual.every((v, j) => Math.abs(v - expected[j]!) <= tolerance * scale),
    `${[...actual]} against ${[...expected]}`,
  );
};

const number = fc
  .double({ min: -10, max: 10, noNaN: true })
  .map((v) => Math.fround(Math.round(v * 1024) / 1024));
const row = fc.array(number, { minLength: size, maxLength: size });
const rowsOf = (minLength: number) => fc.array(row, { minLength, maxLength: 9 });

const perLayer = () => perLayerClipping({ params, clipNorms: { a: 3, b: 4 } });

test('per-example rules are what their papers say', () => {
  const rules: [Shaper, (row: Row) => Row][] = [
    [flatClipping({ clipNorm: 4 }), (g) => g.map((v) => v * Math.min(1, 4 / (norm(g) || 1)))],
    [automaticClipping({ clipNorm: 2, gamma: 0.1 }), (g) => g.map((v) => (2 * v) / (norm(g) + 0.1))],
    [automaticClipping({ gamma: 0 }), (g) => g.map((v) => v / (norm(g) || 1))],
    [normRejection({ maxNorm: 12 }), (g) => (norm(g) <= 12 ? g : g.map(() => 0))],
    [adaptiveClipping({ initialClipNorm: 5 }), (g) => g.map((v) => v * Math.min(1, 5 / (norm(g) || 1)))],
    [
      perLayer(),
      (g) => {
        const [a, b] = [g.slice(0, sizeA), g.slice(sizeA)];
        return [
          ...a.map((v) => v * Math.min(1, 3 / (norm(a) || 1))),
          ...b.map((v) => v * Math.min(1, 4 / (norm(b) || 1))),
        ];
      },
    ],
  ];
  for (const [shaper, rule] of rules) {
    fc.assert(
      fc.property(rowsOf(0), fc.constantFrom(...strategies), (rows, strategy) => {
        near(
          shapedSum(shaper, [rows], strategy),
          combine(
            rows.map(rule),
            rows.map(() => 1),
          ),
        );
      }),
      { numRuns: 40 },
    );
  }
});

test('no example’s part exceeds the bound, and pieces give the bits of the whole', () => {
  const rules = [
    flatClipping({ clipNorm: 4 }),
    automaticClipping({ clipNorm: 2 }),
    automaticClipping({ gamma: 0 }),
    normRejection({ maxNorm: 12 }),
    adaptiveClipping({ initialClipNorm: 5 }),
    perLayer(),
    perLayerClipping({ params, clipNorm: 0.7 }),
  ];
  const wild = fc.array(fc.oneof(number, fc.constantFrom(1e-30, 1e20, -1e20, 3e38, Number.NaN, Infinity)), {
    minLength: size,
    maxLength: size,
  });
  for (const shaper of rules) {
    const bound = shaper.bound(0)!;
    assert.not(shaper.wholeBatch);
    fc.assert(
      fc.property(wild, fc.constantFrom(...strategies), (g, strategy) => {
        const part = shapedSum(shaper, [[g]], strategy);
        assert.ok(norm(part) <= bound, `${shaper}: ${norm(part)} for ${g}`);
        if (!g.every(Number.isFinite)) assert.is(norm(part), 0);
      }),
      { numRuns: 60 },
    );
    fc.assert(
      fc.property(rowsOf(2), fc.nat(), fc.constantFrom(...strategies), (rows, at, strategy) => {
        const cut = at % rows.length;
        const pieces = shapedSum(shaper, [rows.slice(0, cut), rows.slice(cut)], strategy);
        assert.equal(pieces, shapedSum(shaper, [rows], strategy));
      }),
      { numRuns: 40 },
    );
  }
});

test('coordinate-wise trimmed mean and median', () => {
  const wise = (centre: (sorted: number[]) => number) => (rows: readonly Row[]) =>
    Float64Array.from(
      { length: size },
      (_, j) => centre(rows.map((g) => g[j]!).sort((a, b) => a - b)) * rows.length,
    );
  const mean = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length;
  const trimmed = wise((v) =>
    mean(v.slice(Math.floor(0.25 * v.length), v.length - Math.floor(0.25 * v.length))),
  );
  const median = wise((v) => (v[(v.length - 1) >> 1]! + v[v.length >> 1]!) / 2);
  fc.assert(
    fc.property(rowsOf(1), fc.constantFrom(...strategies), (rows, strategy) => {
      near(shapedSum(trimmedMean({ trim: 0.25 }), [rows], strategy), trimmed(rows));
      near(shapedSum(coordinateMedian(), [rows], strategy), median(rows));
      // A gradient that is not finite is left out, and the others are as without it.
      const spoilt = [...rows, new Array<number>(size).fill(Number.NaN)];
      near(shapedSum(coordinateMedian(), [spoilt], strategy), median(rows));
    }),
    { numRuns: 60 },
  );
});

/** Weiszfeld's fixed point in float64, from the start that converges. */
function median64(rows: readonly Row[], iterations: number, nearest: number): Float64Array {
  let z = combine(
    rows,
    rows.map(() => 1 / rows.length),
  );
  for (let k = 0; k < iterations; k++) {
    const inverse = rows.map((g) => 1 / Math.max(norm(g.map((v, j) => v - z[j]!)), nearest));
    const total = inverse.reduce((a, b) => a + b, 0);
    z = combine(
      rows,
      inverse.map((w) => w / total),
    );
  }
  return z;
}

test('geometric median: Weiszfeld’s iterates, near the minimum of the sum of distances, and unmoved by outliers', () => {
  fc.assert(
    fc.property(rowsOf(3), fc.constantFrom(...strategies), (rows, strategy) => {
      const rms = Math.sqrt(rows.reduce((s, g) => s + norm(g) ** 2, 0) / rows.length);
      if (rms === 0) return;
      const expected = median64(rows, 8, 0.1 * rms).map((v) => v * rows.length);
      near(shapedSum(geometricMedian({ smoothing: 0.1 }), [rows], strategy), expected, 1e-3);
    }),
    { numRuns: 40 },
  );
  const rows = Array.from({ length: 9 }, (_, i) =>
    Array.from({ length: size }, (_, j) => Math.sin(i * 8 + j)),
  );
  const distances = (z: Float64Array) => rows.reduce((s, g) => s + norm(g.map((v, j) => v - z[j]!)), 0);
  const found = shapedSum(geometricMedian({ iterations: 100 }), [rows]).map((v) => v / rows.length);
  for (let j = 0; j < size; j++) {
    for (const h of [-0.01, 0.01])
      assert.ok(distances(found) <= distances(found.with(j, found[j]! + h)) + 1e-6);
  }
  const poisoned = [...rows.slice(0, 6), ...[1, 2, 3].map(() => new Array<number>(size).fill(1000))];
  assert.ok(norm(shapedSum(geometricMedian({ iterations: 50 }), [poisoned])) / 9 < 3);
  assert.ok(
    norm(
      combine(
        poisoned,
        poisoned.map(() => 1),
      ),
    ) /
      9 >
      500,
  );
  assert.equal(shapedSum(geometricMedian(), [[]]), new Float64Array(size));
});

test('norm rejection by the median, and cosine weights', () => {
  const rows = [1, 2, 3, 4, 100].map((length) => [length, ...new Array<number>(size - 1).fill(0)]);
  near(shapedSum(normRejection({ factor: 2 }), [rows]), combine(rows, [1, 1, 1, 1, 0]));
  near(shapedSum(normRejection({ factor: 1 }), [rows]), combine(rows, [1, 1, 1, 0, 0]));
  // Three along the first axis, one across, one against: the centre is along the axis.
  const unit = (j: number, sign = 1) => Array.from({ length: size }, (_, k) => (k === j ? sign : 0));
  const directions = [unit(0), unit(0), unit(0), unit(1), unit(0, -5)];
  const centre = median64(directions, 8, 1e-3 * Math.sqrt(29 / 5));
  const cosines = directions.map((g) =>
    Math.max(0, g.reduce((s, v, j) => s + v * centre[j]!, 0) / (norm(g) * norm(centre))),
  );
  const total = cosines.reduce((a, b) => a + b, 0);
  assert.is(cosines[4], 0);
  for (const strategy of strategies) {
    near(
      shapedSum(cosineWeighting(), [directions], strategy),
      combine(
        directions,
        cosines.map((c) => (5 * c) / total),
      ),
      1e-4,
    );
  }
  const spoilt = [...directions, new Array<number>(size).fill(Infinity)];
  for (const shaper of [cosineWeighting(), geometricMedian(), normRejection({ factor: 2 })]) {
    for (const strategy of strategies)
      near(shapedSum(shaper, [spoilt], strategy), shapedSum(shaper, [directions]), 1e-4);
  }
});

test('sensitivities: the bound, twice it for replace-one, none without a guarantee', () => {
  const expected: [Shaper, number | null][] = [
    [flatClipping({ clipNorm: 4 }), 4],
    [flatClipping({ clipNorm: Infinity }), null],
    [perLayer(), 5],
    [automaticClipping({ clipNorm: 2 }), 2],
    [adaptiveClipping({ initialClipNorm: 0.5 }), 0.5],
    [normRejection({ maxNorm: 3 }), 3],
    [normRejection({ factor: 3 }), null],
    [trimmedMean({ trim: 0.1 }), null],
    [coordinateMedian(), null],
    [geometricMedian(), null],
    [cosineWeighting(), null],
  ];
  for (const [shaper, bound] of expected) {
    assert.is(sensitivityOf(shaper, 'add-or-remove-one'), bound, String(shaper));
    assert.is(sensitivityOf(shaper, 'zero-out-one'), bound);
    assert.is(sensitivityOf(shaper, 'replace-one'), bound === null ? null : 2 * bound);
    const labelled = /no guarantee/.test(String(shaper)) || String(shaper) === 'flatClipping(Infinity)';
    assert.is(labelled, bound === null, String(shaper));
  }
});

const stepOf = (options: Omit<PrivateStepOptions, 'params' | 'optimizer' | 'expectedBatchSize' | 'noise'>) =>
  privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    expectedBatchSize: 10,
    noise: seededNoise(1),
    ...options,
  });
const accumulate = (step: ReturnType<typeof stepOf>, rows: readonly Row[]) =>
  engine.scope(() => {
    const batch = batchOf(rows);
    batch.z.examples = batch.x.examples;
    step.accumulate(loss, batch);
  });
const one = (length: number) => [length, ...new Array<number>(size - 1).fill(0)];

test('clip norm and noise by schedule, step by step', () => {
  const step = stepOf({
    clipNorm: geometricSchedule({ from: 4, factor: 0.5, every: 2 }),
    noiseMultiplier: linearSchedule({ from: 0, to: 1, steps: 4 }),
  });
  const [stds, moved]: [number[], number[]] = [[], []];
  for (let t = 0; t < 6; t++) {
    stds.push(step.noiseStd);
    params.load(new Float32Array(size));
    accumulate(step, [one(100)]);
    if (t === 0) {
      step.finish();
      moved.push(-params.values()[0]! * 10);
    } else step.finish();
  }
  assert.equal(stds, [0, 1, 1, 1.5, 1, 1]);
  assert.ok(Math.abs(moved[0]! - 4) < 1e-5);
  throwsCode('SCHEDULE_INVALID', () => stepOf({ clipNorm: 1, noiseMultiplier: () => Number.NaN }));
  throwsCode('CLIP_NORM_INVALID', () => stepOf({ clipNorm: () => 0, noiseMultiplier: 0 }));
  throwsCode('SCHEDULE_INVALID', () => linearSchedule({ from: 1, to: -1, steps: 3 }));
  step.free();
});

test('the adaptive clip norm follows the quantile, and its count is paid for', () => {
  const shaper = adaptiveClipping({ initialClipNorm: 1, quantile: 0.5, learningRate: 0.2, countNoise: 2 });
  const step = stepOf({ shaper, noiseMultiplier: 1 });
  // 1/σ² = 1/z² + 1/(2σ_b)²
  const z = step.noiseStd / shaper.clipNorm;
  assert.ok(Math.abs(1 / z ** 2 + 1 / (2 * 2) ** 2 - 1) < 1e-12);
  throwsCode('NOISE_INVALID', () => stepOf({ shaper, noiseMultiplier: 4 }));
  throwsCode('NOISE_INVALID', () => stepOf({ shaper, noiseStd: 4 }));
  step.free();

  // Without noise: C·exp(−η(share below − γ)), in pieces too.
  const exact = adaptiveClipping({ initialClipNorm: 1, quantile: 0.5, learningRate: 0.2 });
  const bare = stepOf({ shaper: exact, noiseMultiplier: 0 });
  const rows = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 2, 3, 4].map(one);
  accumulate(bare, rows.slice(0, 4));
  accumulate(bare, rows.slice(4));
  bare.finish();
  assert.ok(Math.abs(exact.clipNorm - Math.exp(-0.2 * (0.7 - 0.5))) < 1e-6, `${exact.clipNorm}`);
  for (let t = 0; t < 200; t++) {
    accumulate(bare, rows);
    bare.finish();
  }
  assert.ok(exact.clipNorm > 0.49 && exact.clipNorm < 0.62, `${exact.clipNorm}`);
  const copy = adaptiveClipping();
  copy.loadState!(exact.state!());
  assert.is(copy.clipNorm, exact.clipNorm);
  bare.free();

  // With noise the share's error is N(0, (σ_b/L)²): the log of C moves by η of it.
  const moves = Array.from({ length: 400 }, (_, t) => {
    const rule = adaptiveClipping({ initialClipNorm: 1, learningRate: 1, countNoise: 5 });
    const noisy = stepOf({ shaper: rule, noiseMultiplier: 1 });
    noisy.step = t;
    noisy.finish();
    noisy.free();
    return Math.log(rule.clipNorm) * -10;
  });
  const spread = Math.sqrt(moves.reduce((s, m) => s + m * m, 0) / moves.length);
  assert.ok(Math.abs(spread / 5 - 1) < 5 / Math.sqrt(2 * moves.length), `${spread}`);
});

test('rules that need the whole batch refuse pieces by name, and every bad setting is refused', () => {
  for (const shaper of [
    trimmedMean({ trim: 0.1 }),
    coordinateMedian(),
    geometricMedian(),
    cosineWeighting(),
    normRejection({ factor: 2 }),
  ]) {
    const step = stepOf({ shaper, noiseMultiplier: 0 });
    assert.ok(shaper.wholeBatch);
    accumulate(step, [one(1), one(2)]);
    const message = throwsCode('SHAPER_NEEDS_WHOLE_BATCH', () => accumulate(step, [one(1)]));
    assert.match(message, shaper.name);
    throwsCode('STEP_FAILED', () => step.finish());
    step.discard();
    accumulate(step, [one(1), one(2)]);
    step.finish();
    throwsCode('NOISE_INVALID', () => stepOf({ shaper, noiseMultiplier: 1 }));
    stepOf({ shaper, noiseStd: 1 }).free();
    step.free();
  }
  throwsCode('SHAPER_INVALID', () => stepOf({ noiseMultiplier: 1 }));
  throwsCode('SHAPER_INVALID', () => stepOf({ clipNorm: 1, shaper: coordinateMedian(), noiseMultiplier: 0 }));
  throwsCode('CLIP_NORM_INVALID', () => flatClipping({ clipNorm: 0 }));
  throwsCode('CLIP_NORM_INVALID', () => automaticClipping({ clipNorm: -1 }));
  throwsCode('SHAPER_INVALID', () => automaticClipping({ clipNorm: Infinity }));
  throwsCode('SHAPER_INVALID', () => automaticClipping({ gamma: -1 }));
  throwsCode('SHAPER_INVALID', () => adaptiveClipping({ quantile: 1.5 }));
  throwsCode('SHAPER_INVALID', () => adaptiveClipping({ countNoise: 0 }));
  throwsCode('SHAPER_INVALID', () => trimmedMean({ trim: 0.5 }));
  throwsCode('SHAPER_INVALID', () => geometricMedian({ iterations: 0 }));
  throwsCode('SHAPER_INVALID', () => cosineWeighting({ smoothing: 0 }));
  throwsCode('SHAPER_INVALID', () => normRejection({}));
  throwsCode('SHAPER_INVALID', () => normRejection({ factor: 0 }));
  throwsCode('SHAPER_INVALID', () => perLayerClipping({ params }));
  throwsCode('CLIP_NORM_INVALID', () => perLayerClipping({ params, clipNorm: -1 }));
  assert.match(
    throwsCode('SHAPER_INVALID', () => perLayerClipping({ params, clipNorms: { a: 1 } })),
    "layer 'b'",
  );
  assert.match(
    throwsCode('SHAPER_INVALID', () => perLayerClipping({ params, clipNorms: { a: 1, b: 1, c: 1 } })),
    "layer 'c'",
  );
});

test.run();
