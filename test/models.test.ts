// Convolutional layers and the papers' networks: shapes, parameter counts, JSON, the three strategies on random networks,
// and a training run whose bits are pinned.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import {
  adam,
  avgPool2d,
  badNet,
  batchNorm,
  cifarCnn,
  cifarTanhCnn,
  conv2d,
  createEngineSync,
  crossEntropy,
  dense,
  dropout,
  fashionTanhCnn,
  flatten,
  gelu,
  globalAvgPool,
  groupNorm,
  type Layer,
  layerNorm,
  leakyRelu,
  lr,
  maxPool2d,
  mlp,
  modelFromJSON,
  modelNames,
  namedModel,
  nearestName,
  perExample,
  privateStep,
  projectedResidual,
  relu,
  residual,
  type Sequential,
  type Shape,
  seededNoise,
  sequential,
  sgd,
  sizeOf,
  tanh,
  trainEpoch,
  vanillaStep,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';
import { near, same as sameNumbers } from './kernel-harness.js';
import { numbers } from './numeric.js';

const engine = createEngineSync();
const same = { padding: 'same' } as const;

test('the papers’ parameter counts', () => {
  const counts: [Sequential, Shape, number][] = [
    [lr(784, 2), [28, 28, 1], 1570],
    [lr(100, 100), [100], 10100],
    [mlp(100, 100), [100], 117348],
    [mlp(784, 10), [28, 28, 1], 269322],
    [cifarCnn(), [32, 32, 3], 530090],
    [badNet(), [28, 28, 1], 1613258],
    [fashionTanhCnn(), [28, 28, 1], 26010],
    [cifarTanhCnn(), [32, 32, 3], 550570],
  ];
  for (const [model, shape, count] of counts) {
    assert.is(model.parameterCount, count);
    assert.is(model.outputShape(shape).length, 1);
  }
  // The sizes that papers give along the way.
  assert.match(cifarCnn().summary([32, 32, 3]), /flatten\(\) +\[8192\]/);
  assert.match(badNet().summary([28, 28, 1]), /flatten\(\) +\[6272\]/);
  assert.match(fashionTanhCnn().summary([28, 28, 1]), /flatten\(\) +\[512\]/);
});

test('networks by name fit themselves to the data; a mistyped name gets the nearest', () => {
  for (const name of modelNames) {
    assert.equal(namedModel(name, [28, 28, 1], 2).outputShape([28, 28, 1]), [2], name);
    assert.equal(namedModel(name, [32, 32, 3], 10).outputShape([32, 32, 3]), [10], name);
  }
  assert.equal(namedModel('mlp', [446], 30).outputShape([446]), [30]);
  assert.match(
    throwsCode('MODEL_UNKNOWN', () => namedModel('BadNett', [28, 28, 1], 10)),
    /did you mean 'badnet'\?/,
  );
  assert.match(
    throwsCode('MODEL_UNKNOWN', () => namedModel('transformer', [28, 28, 1], 10)),
    /'transformer'\. There are lr,/,
  );
  assert.match(
    throwsCode('SHAPE_MISMATCH', () => namedModel('badnet', [446], 30)),
    /'lr' or 'mlp'/,
  );
  assert.is(nearestName('toString', modelNames), undefined);
});

const everyLayer = sequential(
  conv2d(2, 4, 3, same),
  groupNorm(2, 4),
  relu(),
  residual(conv2d(4, 4, [3, 1], { padding: 'same', dilation: [2, 1] }), gelu(), dropout(0.25)),
  maxPool2d(2, { stride: 1 }),
  projectedResidual(
    conv2d(4, 6, 1, { stride: 2 }),
    conv2d(4, 6, 3, {
      stride: 2,
      padding: [
        [1, 1],
        [1, 1],
      ],
      groups: 2,
    }),
    tanh(),
  ),
  avgPool2d([2, 2], same),
  leakyRelu(0.125),
  conv2d(6, 6, 2, same),
  globalAvgPool(),
  layerNorm(6),
  flatten(),
  dense(6, 3),
);
const inputShape = [7, 6, 2];

test('a network with every layer comes back from its JSON, and says how it is written', () => {
  const copy = modelFromJSON(JSON.parse(JSON.stringify(everyLayer)));
  assert.equal(JSON.stringify(copy), JSON.stringify(everyLayer));
  assert.equal(String(copy), String(everyLayer));
  assert.equal(copy.parameters, everyLayer.parameters);
  assert.match(
    String(everyLayer),
    /projectedResidual\(conv2d\(4, 6, 1, \{ stride: 2 \}\), conv2d\(4, 6, 3, \{ stride: 2, padding: \[\[1,1\],\[1,1\]\], groups: 2 \}\), tanh\(\)\)/,
  );
  const names = everyLayer.parameters.map(({ name }) => name);
  for (const name of ['0.filter', '1.scale', '3.0.filter', '5.projection.bias', '10.offset']) {
    assert.ok(names.includes(name), name);
  }
  engine.scope(() => {
    const params = everyLayer.init(engine, { seed: 1 });
    const x = engine.tensor(numbers(1, 3 * sizeOf(inputShape)), [3, ...inputShape]);
    const a = everyLayer.predict(params, x).values();
    sameNumbers(copy.predict(params, x).values(), a);
    assert.equal(everyLayer.outputShape(inputShape), [3]);
    params.free();
  });
});

test('layers that do not fit say which number is wrong', () => {
  const shape = (message: RegExp, model: Sequential, input: Shape) =>
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => model.outputShape(input)),
      message,
    );
  shape(/layer 0, conv2d\(3, 8, 3\).*1 channels; expected 3/, sequential(conv2d(3, 8, 3)), [28, 28, 1]);
  shape(/channels axis of 1/, sequential(conv2d(1, 8, 3)), [28, 28]);
  shape(/window is 5 pixels in height/, sequential(conv2d(1, 8, 5)), [4, 28, 1]);
  shape(/window is 3 pixels in width/, sequential(maxPool2d(3)), [4, 2, 1]);
  shape(/groupNorm\(2, 8\).*expected 8 channels/, sequential(groupNorm(2, 8)), [4, 4, 6]);
  shape(/layerNorm\(5\)/, sequential(layerNorm(5)), [4]);
  shape(/projectedResidual/, sequential(residual(conv2d(2, 4, 1))), [3, 3, 2]);
  for (const make of [
    () => conv2d(0, 4, 3),
    () => conv2d(2, 4, 1.5),
    () => conv2d(3, 4, 3, { groups: 2 }),
    () => maxPool2d(0),
    () => avgPool2d(2, { stride: 0 }),
    () => groupNorm(3, 8),
    () => groupNorm(2, 8, { epsilon: 0 }),
    () => layerNorm([]),
    () => leakyRelu(-1),
    () => residual(),
  ]) {
    throwsCode('LAYER_INVALID', make);
  }
  assert.match(
    throwsCode('BATCH_NORM_REFUSED', () => batchNorm(8)),
    /groupNorm\(groups, channels\)/,
  );
  throwsCode('BATCH_NORM_REFUSED', () =>
    modelFromJSON({ kind: 'sequential', layers: [{ kind: 'batchNorm' }] }),
  );
});

const whole = (min: number, max: number) => fc.integer({ min, max });

/** A layer that fits images of a shape, chosen by numbers. */
function layerFor(
  [height, width, channels]: readonly [number, number, number],
  [kind, a, b]: readonly number[],
): Layer {
  const kernel = [1 + (a! % Math.min(3, height)), 1 + (b! % Math.min(3, width))] as const;
  const out = channels * (1 + (a! % 2));
  const groups = b! % 3 === 0 ? channels : 1;
  const stride = 1 + (b! % 2);
  const kinds: (() => Layer)[] = [
    () => conv2d(channels, out, kernel, { stride, padding: a! % 3 === 0 ? 'valid' : 'same', groups }),
    () => maxPool2d(kernel, { stride, padding: 'same' }),
    () => avgPool2d(kernel),
    () => groupNorm(b! % 2 === 0 ? 1 : channels, channels),
    () => layerNorm(a! % 2 === 0 ? [channels] : [height, width, channels]),
    () => residual(conv2d(channels, channels, kernel, same), leakyRelu(0.25), dropout(0.25)),
    () =>
      projectedResidual(
        conv2d(channels, out, 1, { stride }),
        conv2d(channels, out, kernel, { stride, padding: 'same' }),
      ),
    () => [relu(), tanh(), gelu(), dropout(0.5)][a! % 4]!,
  ];
  return kinds[kind! % kinds.length]!();
}

test('ghost, materialize and loop agree on random convolutional networks', () => {
  let convolutions = 0;
  fc.assert(
    fc.property(
      fc.tuple(whole(2, 6), whole(2, 6), whole(1, 3)),
      fc.array(fc.tuple(whole(0, 7), whole(0, 99), whole(0, 99)), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      whole(1, 1e6),
      (shape, choices, pooled, seed) => {
        const layers: Layer[] = [];
        let at: Shape = shape;
        for (const choice of choices) {
          layers.push(layerFor(at as [number, number, number], choice));
          at = layers.at(-1)!.outputShape(at);
        }
        layers.push(pooled ? globalAvgPool() : flatten(), dense(pooled ? at[2]! : sizeOf(at), 3));
        const model = sequential(...layers);
        const count = 4;
        const data = engine.dataset({
          x: Float32Array.from(numbers(seed, count * sizeOf(shape))),
          y: Int32Array.from({ length: count }, (_, i) => i % 3),
          shape: [...shape],
        });
        using params = model.init(engine, { seed });
        engine.scope(() => {
          const batch = data.batch([3, 1, 0, 2], { seed, step: 5 });
          const run = (strategy: 'ghost' | 'materialize' | 'loop') =>
            perExample((p, b: typeof batch) => crossEntropy(model.apply(p, b.x), b.y), params, batch, {
              strategy,
            });
          const [ghost, materialized, looped] = [run('ghost'), run('materialize'), run('loop')];
          for (const g of [ghost, materialized]) assert.is(g.fallback, null);
          const norms = looped.norms().values();
          const largest = Math.max(...norms, 1e-3);
          const what = String(model);
          sameNumbers(ghost.losses.values(), looped.losses.values(), what);
          near(materialized.array().values(), looped.array().values(), 1e-5, 2e-5 * largest, what);
          near(ghost.norms().values(), norms, 1e-4, 1e-4 * largest, what);
          const weights = [1, 0, -0.5, 2];
          const sum = (g: typeof ghost) => g.weightedSums([weights])[0]!.values();
          near(sum(ghost), sum(looped), 1e-5, 4e-5 * largest, what);
          const direction = engine.tensor(numbers(seed + 1, params.size));
          const scale = largest * Math.sqrt(params.size);
          near(ghost.dots(direction).values(), looped.dots(direction).values(), 1e-5, 2e-5 * scale, what);
        });
        if (String(model).includes('conv2d')) convolutions++;
        data.free();
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(convolutions > 75, String(convolutions));
});

test('an example that overflows leaves no trace in a private step', () => {
  const model = sequential(
    conv2d(2, 4, 3, same),
    groupNorm(2, 4),
    relu(),
    residual(conv2d(4, 4, 3, same), layerNorm(4)),
    maxPool2d(2),
    flatten(),
    dense(24, 3),
  );
  const size = 24 * 2;
  const values = Float32Array.from(numbers(8, 4 * size));
  // Example 2: squares overflow float32, so that its activations become infinite and its gradient NaN.
  values.fill(3e38, 2 * size, 3 * size);
  const data = engine.dataset({ x: values, y: Int32Array.of(0, 1, 2, 0), shape: [4, 6, 2] });
  for (const strategy of ['ghost', 'materialize', 'loop'] as const) {
    const after = [
      [0, 1, 2, 3],
      [0, 1, 3],
    ].map((indices) => {
      using params = model.init(engine, { seed: 1 });
      params.get('0.filter').view().fill(2);
      const step = privateStep({
        params,
        optimizer: sgd({ learningRate: 0.1 }),
        ...{ clipNorm: 1, noiseMultiplier: 0, expectedBatchSize: 3, strategy },
      });
      engine.scope(() => {
        step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch(indices));
      });
      step.finish();
      step.free();
      return params.values();
    });
    assert.ok(after[0]!.every(Number.isFinite), strategy);
    sameNumbers(after[0]!, after[1]!, strategy);
  }
  data.free();
});

test('a ReLU after a convolution is fused into it without changing a bit', () => {
  engine.scope(() => {
    const fused = sequential(conv2d(2, 5, 3, same), relu(), flatten(), dense(60, 3));
    // A dropout that drops nothing stands between them.
    const apart = sequential(conv2d(2, 5, 3, same), dropout(0), relu(), flatten(), dense(60, 3));
    const x = engine.tensor(numbers(1, 2 * 24), [2, 3, 4, 2]);
    const [a, b] = [fused.init(engine, { seed: 1 }), apart.init(engine, { seed: 1 })];
    sameNumbers(fused.predict(a, x).values(), apart.predict(b, x).values());
    a.free();
    b.free();
  });
});

test('a training run through every layer ends in pinned bits: private steps, then AdamW', () => {
  const count = 24;
  const data = engine.dataset({
    x: Float32Array.from(numbers(5, count * sizeOf(inputShape))),
    y: Int32Array.from({ length: count }, (_, i) => i % 3),
    shape: inputShape,
  });
  using params = everyLayer.init(engine, { seed: 3 });
  const options = { model: everyLayer, params, data, batchSize: 8, seed: 4 };
  const privately = privateStep({
    params,
    optimizer: sgd({ learningRate: 0.1, momentum: 0.9, nesterov: true }),
    clipNorm: 1,
    noiseMultiplier: 0.5,
    expectedBatchSize: 8,
    noise: seededNoise(6),
  });
  const plainly = vanillaStep({
    params,
    optimizer: adam({ learningRate: 0.01, weightDecay: 0.1, decoupled: true }),
  });
  trainEpoch({ ...options, step: privately }, 0);
  const { loss } = trainEpoch({ ...options, step: plainly }, 1);
  assert.ok(loss > 0.3 && loss < 3, String(loss));
  const digest = createHash('sha256').update(params.values()).digest('hex');
  assert.is(digest, 'f8566083b2ca89c1ed511a0410ccac28eb6bea08af25560cb425f06a92e8f706');
  privately.free();
  plainly.free();
  data.free();
});

test.run();
