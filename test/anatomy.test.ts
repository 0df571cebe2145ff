// Gradient anatomy against per-example gradients in plain float64, by the paper's definition and by the sounder one.
import fc from 'fast-check';
import {
  adam,
  asExamples,
  coordinateMedian,
  createEngineSync,
  crossEntropy,
  dense,
  type EpochAnatomy,
  type GradientAnatomy,
  gradientAnatomy,
  type Parameters,
  perExample,
  privateStep,
  relu,
  type Signature,
  type Strategy,
  seededNoise,
  sequential,
  sgd,
  trainEpoch,
  vanillaStep,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { quantiles } from '../dist/nn/gradient-signature.js';
import { throwsCode } from './engine-helpers.js';
import { numbers } from './numeric.js';

const engine = createEngineSync();
const [inputs, hidden, classes] = [5, 4, 3];
const model = sequential(dense(inputs, hidden), relu(), dense(hidden, classes));
const count = 24;
const x = numbers(3, count * inputs, 1);
const y = Int32Array.from({ length: count }, (_, i) => (i * 7) % classes);
const set = { x: Float32Array.from(x), y, shape: [inputs] };
const data = engine.dataset(set);
const poison = [1, 4, 5, 11, 17];
const isPoison = (i: number) => poison.includes(i);

const near = (actual: number | null, expected: number | null, tolerance = 2e-4) =>
  assert.ok(
    actual === null || expected === null
      ? actual === expected
      : Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)),
    `${actual}, expected ${expected}`,
  );

/** One example's gradient, flat like the parameters: weight and bias of either layer. */
function gradientOf(w: Float32Array, i: number): number[] {
  const [b1, w2] = [inputs * hidden, inputs * hidden + hidden];
  const b2 = w2 + hidden * classes;
  const at = x.subarray(i * inputs, (i + 1) * inputs);
  const before = Array.from({ length: hidden }, (_, j) =>
    at.reduce((sum, value, k) => sum + value * w[k * hidden + j]!, w[b1 + j]!),
  );
  const h = before.map((value) => Math.max(0, value));
  const logits = Array.from({ length: classes }, (_, c) =>
    h.reduce((sum, value, j) => sum + value * w[w2 + j * classes + c]!, w[b2 + c]!),
  );
  const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
  const d = logits.map((z, c) => Math.exp(z) / total - (c === y[i] ? 1 : 0));
  const dh = before.map((value, j) =>
    value > 0 ? d.reduce((sum, dc, c) => sum + dc * w[w2 + j * classes + c]!, 0) : 0,
  );
  return [
    ...Array.from(at).flatMap((value) => dh.map((g) => value * g)),
    ...dh,
    ...h.flatMap((value) => d.map((g) => value * g)),
    ...d,
  ];
}

const sizes = { 0: [0, inputs * hidden + hidden], 2: [inputs * hidden + hidden, Number.POSITIVE_INFINITY] };
const kernel = [inputs * hidden + hidden, inputs * hidden + hidden + hidden * classes] as const;
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const norm = (a: readonly number[]) => Math.sqrt(dot(a, a));
const sum = (rows: readonly number[][]): number[] =>
  (rows[0] ?? []).map((_, i) => rows.reduce((total, row) => total + row[i]!, 0));
const times = (a: readonly number[], c: number) => a.map((v) => v * c);

/** What the signature of these examples' gradients must be. */
function expected(
  rows: readonly { i: number; g: readonly number[] }[],
  from = 0,
  to = Number.POSITIVE_INFINITY,
) {
  const of = (poisoned: boolean) =>
    rows.filter(({ i }) => isPoison(i) === poisoned).map(({ g }) => g.slice(from, to));
  const [clean, bad] = [of(false), of(true)];
  const mean = (group: number[][]) => times(sum(group), 1 / group.length);
  // The corrected squared norm is the mean of ⟨gᵢ, gⱼ⟩ over pairs, computed as such.
  const pairs = (group: number[][]) => {
    const products = group.flatMap((a, i) => group.filter((_, j) => j !== i).map((b) => dot(a, b)));
    const squared = products.reduce((total, p) => total + p, 0) / products.length;
    return squared > 0 ? Math.sqrt(squared) : null;
  };
  const [gc, gp] = [mean(clean), mean(bad)];
  return {
    clean: norm(gc),
    poison: norm(gp),
    ratio: norm(gp) / norm(gc),
    cosine: dot(gp, gc) / norm(gp) / norm(gc),
    corrected: { clean: pairs(clean), poison: pairs(bad) },
    residual: norm(sum([...clean, ...bad])) / (norm(sum(clean)) + norm(sum(bad))),
  };
}

function checkSignature(actual: Signature, wanted: ReturnType<typeof expected>): void {
  near(actual.norms.clean, wanted.clean);
  near(actual.norms.poison, wanted.poison);
  near(actual.ratio, wanted.ratio);
  near(actual.cosine, wanted.cosine);
  near(actual.residual, wanted.residual);
  near(actual.corrected.norms.clean, wanted.corrected.clean);
  near(actual.corrected.norms.poison, wanted.corrected.poison);
}

/** A batch through the anatomy, by a strategy of choice and with weights, as a step would. */
function pass(
  anatomy: GradientAnatomy,
  params: Parameters,
  pieces: number[][],
  strategy: Strategy,
  clip?: number,
) {
  const total = engine.allocateBlock([params.size], 'f32', 'test');
  const before = params.values();
  const rows = pieces.flat().map((i) => {
    const g = gradientOf(before, i);
    return { i, g, shaped: times(g, clip === undefined ? 1 : Math.min(1, clip / norm(g))) };
  });
  engine.scope(() => {
    for (const piece of pieces) {
      const g = perExample((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, data.batch(piece), {
        strategy,
      });
      const weights =
        clip === undefined
          ? null
          : engine.tensor(piece.map((i) => Math.min(1, clip / norm(gradientOf(before, i)))));
      g.weightedSums([weights ?? new Float32Array(piece.length).fill(1)], [total]);
      anatomy.piece(g, weights);
    }
    anatomy.summed(total);
    anatomy.noised(total, 0);
  });
  total.free();
  return rows;
}

const strategies = ['ghost', 'materialize', 'loop'] as const;
for (const strategy of strategies) {
  test(`${strategy}: a step's signatures are those of float64 gradients, whole and by layer`, () => {
    using params = model.init(engine, { seed: 5 });
    const anatomy = gradientAnatomy({ params, poison });
    const rows = pass(
      anatomy,
      params,
      [
        [0, 1, 2, 4],
        [5, 6, 7, 8, 9],
      ],
      strategy,
    );
    const { counts, whole, layers, shareClipped, signalToNoise, exampleNorms } = anatomy.lastStep!;
    assert.equal(counts, { clean: 6, poison: 3 });
    checkSignature(whole.shaped, expected(rows));
    assert.is(whole.raw, whole.shaped, 'nothing was shaped');
    assert.equal(Object.keys(layers), ['0', '2']);
    for (const name of ['0', '2'] as const) {
      checkSignature(layers[name]!.shaped, expected(rows, sizes[name][0], sizes[name][1]));
    }
    assert.equal(shareClipped, { clean: 0, poison: 0 });
    assert.is(signalToNoise, null);
    const norms = rows.filter(({ i }) => isPoison(i)).map(({ g }) => norm(g));
    near(exampleNorms.poison!.max, Math.max(...norms));
    near(exampleNorms.poison!.median, norms.sort((a, b) => a - b)[1]!);
    anatomy.free();
  });

  test(`${strategy}: clipped gradients and, when asked for, those before`, () => {
    using params = model.init(engine, { seed: 6 });
    const anatomy = gradientAnatomy({ params, poison, unshaped: true });
    const clip = 0.9;
    const rows = pass(
      anatomy,
      params,
      [
        [0, 1, 2, 4],
        [5, 6, 7, 8, 9],
      ],
      strategy,
      clip,
    );
    const { whole, shareClipped } = anatomy.lastStep!;
    checkSignature(whole.shaped, expected(rows.map(({ i, shaped }) => ({ i, g: shaped }))));
    checkSignature(whole.raw!, expected(rows));
    const clean = rows.filter(({ i }) => !isPoison(i));
    near(shareClipped.clean, clean.filter(({ g }) => norm(g) > clip).length / clean.length);
    anatomy.free();
  });
}

test("an epoch by the paper's definition: unweighted means of the batches' group means, output kernel alone", () => {
  using params = model.init(engine, { seed: 7 });
  const anatomy = gradientAnatomy({ params, poison });
  // Batches of different size; one without a poison, one of poisons alone.
  const batches = [
    [0, 1, 2],
    [3, 6, 7, 8],
    [4, 5],
    [11, 12, 13, 14, 15],
  ];
  const means = { clean: [] as number[][], poison: [] as number[][] };
  const all: { i: number; g: number[] }[] = [];
  for (const batch of batches) {
    const rows = pass(anatomy, params, [batch], 'ghost');
    for (const group of ['clean', 'poison'] as const) {
      const members = rows
        .filter(({ i }) => isPoison(i) === (group === 'poison'))
        .map(({ g }) => g.slice(...kernel));
      if (members.length > 0) means[group].push(times(sum(members), 1 / members.length));
    }
    all.push(...rows);
    sgd({ learningRate: 0.1 }).update(params, params.engine.block(sum(rows.map(({ g }) => g))), batch.length);
  }
  const { paper, whole, steps, stationary, counts, perStep } = anatomy.endEpoch();
  const clean = times(sum(means.clean), 1 / 3);
  const bad = times(sum(means.poison), 1 / 3);
  assert.equal(paper.batches, { clean: 3, poison: 3 });
  assert.is(steps, 4);
  near(paper.norms.clean, norm(clean));
  near(paper.norms.poison, norm(bad));
  near(paper.ratio, norm(bad) / norm(clean));
  near(paper.cosine, dot(bad, clean) / norm(bad) / norm(clean));
  near(paper.sums.norms.clean, 3 * norm(clean));
  near(paper.sums.ratio, norm(bad) / norm(clean));
  assert.equal(counts, { clean: 10, poison: 4 });
  assert.equal(stationary, { ratio: 2.5, cosine: -1 });
  checkSignature(whole.shaped, expected(all));
  const ofBatch = (batch: number[]) => expected(all.filter(({ i }) => batch.includes(i)));
  near(perStep.ratio, (ofBatch(batches[0]!).ratio + ofBatch(batches[3]!).ratio) / 2);

  // An epoch without a poison keeps the poisons' mean; its sums have none.
  pass(anatomy, params, [[0, 2, 3]], 'ghost');
  const next = anatomy.endEpoch();
  assert.is(next.paper.norms.poison, paper.norms.poison);
  assert.is(next.paper.sums.norms.poison, null);
  assert.is(next.whole.shaped.ratio, null);
  assert.is(next.stationary.ratio, null);
  anatomy.free();
});

test("noise: the paper's group means carry the step's own noise over the group's size", () => {
  using params = model.init(engine, { seed: 8 });
  using plain = model.init(engine, { seed: 8 });
  const watch = (p: Parameters, std: number): EpochAnatomy => {
    const observer = gradientAnatomy({ params: p, poison, output: '2.weight' });
    const step = privateStep({
      params: p,
      optimizer: sgd({ learningRate: 1 }),
      clipNorm: 0.5,
      noiseStd: std,
      expectedBatchSize: 4,
      noise: seededNoise(1),
      observer,
    });
    trainEpoch({ model, params: p, data, step, batches: () => [[0, 1, 2, 3]], seed: 1 }, 0);
    if (std > 0) near(observer.lastStep!.signalToNoise!.poison, 0.5 / (3 * Math.sqrt(p.size)), 1e-3);
    const epoch = observer.endEpoch();
    observer.free();
    step.free();
    return epoch;
  };
  const noisy = watch(params, 3);
  const quiet = watch(plain, 0);
  // θ₊ = θ − (Σ + noise)/4: the noise is what the two runs differ by.
  const [a, b] = [plain.values(), params.values()];
  const noise = Array.from(a, (v, i) => (v - b[i]!) * 4).slice(...kernel);
  const initial = model.init(engine, { seed: 8 });
  const grads = [0, 1, 2, 3].map((i) => {
    const g = gradientOf(initial.values(), i);
    return times(g, Math.min(1, 0.5 / norm(g))).slice(...kernel);
  });
  near(noisy.paper.norms.poison, norm(sum([grads[1]!, noise])), 1e-3);
  near(noisy.paper.norms.clean, norm(times(sum([grads[0]!, grads[2]!, grads[3]!, noise]), 1 / 3)), 1e-3);
  near(quiet.paper.norms.poison, norm(grads[1]!), 1e-3);
  assert.is(quiet.signalToNoise, null);
  assert.is(noisy.whole.raw, null, 'not asked for');
  initial.free();
});

test('the groups’ sums add up to the whole gradient, whatever the poisons', () => {
  using params = model.init(engine, { seed: 9 });
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(count - 1), { maxLength: count }),
      fc.uniqueArray(fc.nat(count - 1), { minLength: 1, maxLength: count }),
      (marked, batch) => {
        const anatomy = gradientAnatomy({ params, poison: marked });
        const rows = pass(anatomy, params, [batch], 'ghost');
        const { counts, whole } = anatomy.lastStep!;
        assert.is(counts.clean + counts.poison, batch.length);
        const { norms, cosine, residual } = whole.shaped;
        const clean = (norms.clean ?? 0) * counts.clean;
        const bad = (norms.poison ?? 0) * counts.poison;
        const together = Math.sqrt(Math.max(0, clean * clean + bad * bad + 2 * clean * bad * (cosine ?? 0)));
        near(together, norm(sum(rows.map(({ g }) => g))), 1e-3);
        if (residual !== null) assert.ok(residual >= 0 && residual <= 1 + 1e-6);
        anatomy.free();
      },
    ),
    { numRuns: 60 },
  );
});

test('watching leaves the training’s bits as they were, private or not', () => {
  for (const clip of [null, 0.7]) {
    const train = (watched: boolean) => {
      using params = model.init(engine, { seed: 10 });
      const observer = watched ? gradientAnatomy({ params, poison, unshaped: true }) : undefined;
      const common = { params, optimizer: adam({ learningRate: 0.01 }), ...(observer && { observer }) };
      const step =
        clip === null
          ? vanillaStep(common)
          : privateStep({
              ...common,
              clipNorm: clip,
              noiseStd: 0.1,
              noise: seededNoise(2),
              expectedBatchSize: 5,
            });
      for (let epoch = 0; epoch < 3; epoch++) {
        trainEpoch({ model, params, data, step, batchSize: 5, seed: 1 }, epoch);
        observer?.endEpoch();
      }
      step.free();
      observer?.free();
      return params.values();
    };
    assert.equal(train(true), train(false));
  }
});

test('at a stationary point the ratio is N_c/N_p and the cosine −1, whatever the poisons', () => {
  // One parameter vector, trained to the optimum on the full batch.
  using params = model.init(engine, { seed: 11 });
  const observer = gradientAnatomy({ params, poison });
  const step = vanillaStep({ params, optimizer: adam({ learningRate: 0.02 }), observer });
  let epoch: EpochAnatomy | undefined;
  for (let i = 0; i < 4000; i++) {
    trainEpoch({ model, params, data, step, batchSize: count, seed: 1 }, i);
    epoch = observer.endEpoch();
    if ((epoch.whole.shaped.residual ?? 1) < 0.01) break;
  }
  near(epoch!.whole.shaped.cosine, -1, 1e-2);
  near(epoch!.whole.shaped.ratio! / epoch!.stationary.ratio!, 1, 3e-2);
  step.free();
  observer.free();
});

test('quantiles are R’s type 7, whatever the order and however many are equal', () => {
  const q = quantiles(Float64Array.of(3, 1, 2, 10))!;
  assert.equal([q.min, q.median, q.max, q.mean], [1, 2.5, 10, 4]);
  near(q.q25, 1.75, 1e-12);
  near(q.q95, 8.95, 1e-12);
  assert.is(quantiles(new Float64Array()), null);
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.nat(5), fc.double({ min: 0, max: 9, noNaN: true })), { minLength: 1 }),
      (values) => {
        const given = Float64Array.from(values);
        const sorted = given.slice().sort();
        const at = (share: number) => {
          const place = share * (sorted.length - 1);
          const [low, high] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!];
          return low + (place - Math.floor(place)) * (high - low);
        };
        const { mean, ...ranked } = quantiles(given)!;
        assert.equal(Object.values(ranked), [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1].map(at));
        near(mean, values.reduce((sum, value) => sum + value, 0) / values.length, 1e-12);
        assert.equal(given, Float64Array.from(values), 'the numbers given stay as they are');
      },
    ),
  );
});

test('what cannot be taken apart is a named error', () => {
  using params = model.init(engine, { seed: 1 });
  throwsCode('INDEX_OUT_OF_RANGE', () => gradientAnatomy({ params, poison: [1, -2] }));
  throwsCode('INDEX_OUT_OF_RANGE', () => gradientAnatomy({ params, poison: [1.5] }));
  const observer = gradientAnatomy({ params, poison });
  const step = privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    shaper: coordinateMedian(),
    noiseStd: 0,
    expectedBatchSize: 2,
    observer,
  });
  throwsCode('SHAPER_UNOBSERVABLE', () =>
    trainEpoch({ model, params, data, step, batchSize: 4, seed: 1 }, 0),
  );
  const apart = asExamples(engine.block(set.x, [count, inputs]));
  const labels = asExamples(engine.block(y, [count], 'i32'), apart);
  const vanilla = vanillaStep({ params, optimizer: sgd({ learningRate: 1 }), observer });
  throwsCode('EXAMPLES_UNKNOWN', () =>
    engine.scope(
      () => void vanilla.accumulate((p, b) => crossEntropy(model.apply(p, b.x), labels), { x: apart }),
    ),
  );
  throwsCode('PARAMETER_UNKNOWN', () => gradientAnatomy({ params, poison, output: '3.weight' }));
  const anatomy = gradientAnatomy({ params, poison });
  throwsCode('BATCH_EMPTY', () => anatomy.endEpoch());
  const bytes = engine.memory.bytesInUse;
  anatomy.free();
  assert.ok(engine.memory.bytesInUse < bytes);
});

test.run();
