// Layers, sequential models, initialisers, metrics and evaluation, against float64 JavaScript and closed forms.
import fc from 'fast-check';
import {
  type Batch,
  createEngine,
  crossEntropy,
  perExample,
  relu as reluOp,
  type Tensor,
} from 'gradshape/engine';
import {
  accuracy,
  confusionMatrix,
  constant,
  countCorrect,
  dense,
  dropout,
  evaluate,
  flatten,
  glorotNormal,
  glorotUniform,
  heNormal,
  heUniform,
  type Initializer,
  type Layer,
  modelFromJSON,
  predictions,
  relu,
  type Sequential,
  sequential,
  sigmoid,
  tanh,
  zeros,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = await createEngine();

const mlp = (): Sequential => sequential(flatten(), dense(12, 5), relu(), dropout(0.5), dense(5, 3));

/** x · W + b, then the activation, in float64. */
function denseOracle(
  x: number[][],
  w: ArrayLike<number>,
  b: ArrayLike<number>,
  f: (z: number) => number,
): number[][] {
  const outputs = b.length;
  return x.map((row) =>
    Array.from({ length: outputs }, (_, j) =>
      f(row.reduce((sum, value, i) => sum + value * w[i * outputs + j]!, b[j]!)),
    ),
  );
}

test('a model computes what float64 does, with every activation', () => {
  const activations = {
    relu: [relu(), (z: number) => Math.max(z, 0)],
    tanh: [tanh(), Math.tanh],
    sigmoid: [sigmoid(), (z: number) => 1 / (1 + Math.exp(-z))],
  } as const;
  for (const [layer, f] of Object.values(activations)) {
    const model = sequential(
      flatten(),
      dense(6, 4, { biasInitializer: constant(0.1) }),
      layer,
      dense(4, 3, { initializer: heNormal() }),
    );
    const params = model.init(engine, { seed: 3 });
    const rows = Array.from({ length: 5 }, (_, i) =>
      Array.from({ length: 6 }, (_, j) => Math.sin(7 * i + j)),
    );
    const get = (name: string) => params.get(name).values();
    const hidden = denseOracle(rows, get('1.weight'), get('1.bias'), f);
    const expected = denseOracle(hidden, get('3.weight'), get('3.bias'), (z) => z).flat();
    const actual = engine.scope(() => model.predict(params, engine.tensor(rows.flat(), [5, 2, 3])).values());
    expected.forEach((value, i) => {
      assert.ok(Math.abs(actual[i]! - value) < 1e-5, `${actual[i]} ${value}`);
    });
    params.free();
  }
});

test('a dense layer and its relu are one operation, with the same numbers as two', () => {
  const model = sequential(dense(4, 3), relu());
  const params = model.init(engine, { seed: 1 });
  engine.scope(() => {
    const x = engine.tensor(
      Array.from({ length: 20 }, (_, i) => Math.cos(i)),
      [5, 4],
    );
    const apart = reluOp(sequential(dense(4, 3)).apply(params, x));
    assert.equal(model.apply(params, x).values(), apart.values());
  });
  params.free();
});

test('activations and dropout are operations when given a tensor', () => {
  engine.scope(() => {
    const x = engine.tensor([-1, 0, 2]);
    assert.equal([...relu(x).values()], [0, 0, 2]);
    assert.ok(Math.abs(tanh(x).values()[2]! - Math.tanh(2)) < 1e-6);
    assert.is(sigmoid(x).values()[1], 0.5);
    assert.equal([...dropout(x, 0).values()], [-1, 0, 2]);
  });
});

test('parameters are named by place; one block; counted', () => {
  const model = mlp();
  assert.equal(
    model.parameters.map(({ name, shape }) => [name, shape]),
    [
      ['1.weight', [12, 5]],
      ['1.bias', [5]],
      ['4.weight', [5, 3]],
      ['4.bias', [3]],
    ],
  );
  assert.is(model.parameterCount, 12 * 5 + 5 + 5 * 3 + 3);
  const params = model.init(engine, { seed: 1 });
  assert.is(params.size, model.parameterCount);
  assert.is(params.get('4.weight').address, params.flat.address + 65 * 4);
  params.free();
});

test('dropout drops in training only, each layer in its own way', () => {
  const model = sequential(dropout(0.5), dropout(0.5));
  const params = sequential(dense(1, 1)).init(engine, { seed: 0 });
  const data = engine.dataset({ x: new Float32Array(4000).fill(1), y: [0, 0], shape: [2000] });
  engine.scope(() => {
    const { x } = data.batch([0, 1], { seed: 5, step: 2 });
    assert.equal(model.predict(params, x).values(), x.values());
    const kept = [...model.apply(params, x).values()];
    assert.ok(kept.every((value) => value === 0 || value === 4));
    const share = kept.filter((value) => value === 4).length / 4000;
    // 5 standard deviations: a share outside happens by chance once in 2 million keys
    assert.ok(Math.abs(share - 0.25) < 5 * Math.sqrt((0.25 * 0.75) / 4000), String(share));
  });
  data.free();
  params.free();
});

test('a model is its JSON', () => {
  const model = sequential(
    flatten(),
    dense(12, 5, { initializer: heUniform(), biasInitializer: constant(0.5) }),
    relu(),
    dropout(0.25),
    dense(5, 4),
    tanh(),
    dense(4, 3),
    sigmoid(),
  );
  const copy = modelFromJSON(JSON.parse(JSON.stringify(model)));
  assert.equal(JSON.stringify(copy), JSON.stringify(model));
  assert.is(String(copy), String(model));
  assert.is(
    String(model),
    'sequential(flatten(), dense(12, 5), relu(), dropout(0.25), dense(5, 4), tanh(), dense(4, 3), sigmoid())',
  );
  const [a, b] = [model, copy].map((m) => m.init(engine, { seed: 9 }));
  assert.equal(a!.values(), b!.values());
  a!.free();
  b!.free();
  throwsCode('MODEL_INVALID', () => modelFromJSON(null));
  throwsCode('MODEL_INVALID', () => modelFromJSON({ kind: 'sequential', layers: [{ kind: 'toString' }] }));
  const alone = (kind: string) => () => modelFromJSON({ kind: 'sequential', layers: [{ kind }] });
  for (const kind of ['dense', 'dropout', 'conv2d', 'groupNorm']) throwsCode('LAYER_INVALID', alone(kind));
  for (const kind of ['maxPool2d', 'residual', 'layerNorm']) throwsCode('MODEL_INVALID', alone(kind));
  throwsCode('LAYER_INVALID', () => sequential([dense(2, 2)] as unknown as Layer));
  throwsCode('LAYER_INVALID', () => sequential(dense(2, 2), undefined as unknown as Layer));
});

test('the summary', () => {
  assert.is(
    mlp().summary([2, 6]),
    [
      '   layer         output  parameters',
      '   input         [2, 6]            ',
      '0  flatten()     [12]             0',
      '1  dense(12, 5)  [5]             65',
      '2  relu()        [5]              0',
      '3  dropout(0.5)  [5]              0',
      '4  dense(5, 3)   [3]             18',
      '   total                         83',
    ].join('\n'),
  );
  assert.equal(mlp().outputShape([2, 6]), [3]);
});

test('wrong shapes and numbers are named errors that tell the fix', () => {
  const model = sequential(dense(784, 10));
  const params = model.init(engine, { seed: 1 });
  engine.scope(() => {
    const message = throwsCode('SHAPE_MISMATCH', () => model.apply(params, engine.full([2, 28, 28, 1], 0)));
    assert.match(message, 'layer 0, dense(784, 10): an example has shape [28, 28, 1]');
    assert.match(message, 'flatten() is missing');
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => model.apply(params, engine.full([784], 0))),
      'batch axis missing',
    );
  });
  assert.match(
    throwsCode('SHAPE_MISMATCH', () => sequential(dense(4, 5), dense(6, 2)).summary([4])),
    'layer 1, dense(6, 2): an example has shape [5]; expected 6 numbers',
  );
  throwsCode('LAYER_INVALID', () => sequential());
  throwsCode('LAYER_INVALID', () => dense(0, 1));
  throwsCode('LAYER_INVALID', () => dense(2, 1.5));
  throwsCode('LAYER_INVALID', () => dropout(1));
  throwsCode('LAYER_INVALID', () => dropout(Number.NaN));
  throwsCode('INITIALIZER_INVALID', () => constant(Number.NaN));
  throwsCode('INITIALIZER_INVALID', () =>
    sequential(dense(1, 1, { initializer: { kind: 'ones' } as unknown as Initializer })).init(engine, {
      seed: 1,
    }),
  );
  throwsCode('SEED_INVALID', () => model.init(engine, { seed: -1 }));
  throwsCode('PARAMETER_UNKNOWN', () =>
    engine.scope(() => sequential(relu(), dense(784, 10)).predict(params, engine.full([1, 784], 0))),
  );
  params.free();
});

test('predict refuses to be part of a gradient', () => {
  const model = sequential(dense(2, 2));
  const params = model.init(engine, { seed: 1 });
  const data = engine.dataset({ x: new Float32Array([1, 2]), y: [0], shape: [2] });
  throwsCode('PREDICT_IN_GRADIENT', () =>
    engine.scope(() => {
      perExample((p, b: Batch) => crossEntropy(model.predict(p, b.x), b.y), params, data.batch([0]));
    }),
  );
  data.free();
  params.free();
});

/** The weights of dense(300, 200) under an initialiser. */
function weights(initializer: Initializer, seed = 11): Float32Array {
  const params = sequential(dense(300, 200, { initializer })).init(engine, { seed });
  const values = params.get('0.weight').values() as Float32Array;
  params.free();
  return values;
}

const meanOf = (values: ArrayLike<number>, f: (x: number) => number): number =>
  Array.from(values).reduce((sum, x) => sum + f(x), 0) / values.length;

test("initialisers have their papers' limits and moments", () => {
  const n = 300 * 200;
  for (const [initializer, variance, limit] of [
    [glorotUniform(), 2 / 500, Math.sqrt(6 / 500)],
    [heUniform(), 2 / 300, Math.sqrt(6 / 300)],
    [glorotNormal(), 2 / 500, Number.POSITIVE_INFINITY],
    [heNormal(), 2 / 300, Number.POSITIVE_INFINITY],
  ] as const) {
    const values = weights(initializer);
    const uniform = limit < 1;
    if (uniform) {
      const largest = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      assert.ok(largest <= limit * (1 + 1e-6) && largest > 0.999 * limit, `${largest} ${limit}`);
    }
    // 5 standard errors; x² has variance 4/5 of (uniform) or 2 times (normal) the squared variance
    const { kind } = initializer;
    assert.ok(Math.abs(meanOf(values, (x) => x)) < 5 * Math.sqrt(variance / n), kind);
    const spread = variance * Math.sqrt((uniform ? 0.8 : 2) / n);
    assert.ok(Math.abs(meanOf(values, (x) => x * x) - variance) < 5 * spread, kind);
    const fourth = (uniform ? 9 / 5 : 3) * variance * variance;
    assert.ok(Math.abs(meanOf(values, (x) => x ** 4) / fourth - 1) < 0.05, kind);
  }
  assert.ok(weights(zeros()).every((x) => x === 0));
  assert.ok(weights(constant(0.25)).every((x) => x === 0.25));
});

test("initial bits are a function of the seed and the parameter's place", () => {
  assert.equal(weights(glorotUniform(), 1), weights(glorotUniform(), 1));
  assert.not.equal(weights(glorotUniform(), 1), weights(glorotUniform(), 2));
  const init = (...sizes: [number, number, number]): number[] => {
    const [a, b, c] = sizes;
    const params = sequential(dense(a, b), dense(b, c)).init(engine, { seed: 4 });
    const values = [...params.get('1.weight').values()];
    params.free();
    return values;
  };
  assert.equal(init(7, 5, 3), init(2, 5, 3));
  const params = sequential(dense(5, 5), dense(5, 5)).init(engine, { seed: 4 });
  assert.not.equal(params.get('0.weight').values(), params.get('1.weight').values());
  params.free();
});

/** A block of ChaCha8's keystream (Bernstein 2008), from the words of the key and the last row. */
function chacha8(key: number[], last: number[]): number[] {
  const start = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, ...key, ...last];
  const x = Uint32Array.from(start);
  const half = (a: number, b: number, d: number, bits: number): void => {
    x[a]! += x[b]!;
    const word = x[d]! ^ x[a]!;
    x[d] = (word << bits) | (word >>> (32 - bits));
  };
  const quarter = (a: number, b: number, c: number, d: number): void => {
    half(a, b, d, 16);
    half(c, d, b, 12);
    half(a, b, d, 8);
    half(c, d, b, 7);
  };
  for (let round = 0; round < 8; round += 2) {
    for (let i = 0; i < 4; i++) quarter(i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
  }
  return start.map((word, i) => (x[i]! + word) >>> 0);
}

test('a seed means the same model for good: uniforms are ChaCha8 by seed, stream and parameter', () => {
  const seed = 2 ** 40 + 5;
  const limit = Math.sqrt(6 / 8);
  const params = sequential(dense(4, 4), dense(4, 4)).init(engine, { seed });
  ['0.weight', '1.weight'].forEach((name, layer) => {
    // The init stream is number 3; biases are parameters 1 and 3.
    const words = chacha8([5, 256, 3, 0, 0, 0, 0, 0], [0, 2 * layer, 0, 0]);
    const values = params.get(name).values();
    words.forEach((word, i) => {
      const expected = Math.fround(2 * limit) * ((word >>> 8) / 2 ** 24) - limit;
      assert.ok(Math.abs(values[i]! - expected) < 1e-6, `${name} ${i}: ${values[i]} ${expected}`);
    });
  });
  params.free();
});

test('metrics: correct, accuracy, confusion', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.tuple(fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 3, maxLength: 3 }), fc.nat(2)),
        {
          minLength: 1,
          maxLength: 40,
        },
      ),
      (rows) => {
        const predicted = rows.map(([logits]) => logits.indexOf(Math.max(...logits)));
        const labels = rows.map(([, label]) => label);
        const correct = predicted.filter((p, i) => p === labels[i]).length;
        const matrix = confusionMatrix(predicted, labels, 3);
        assert.is(
          matrix.reduce((sum, row, i) => sum + row[i]!, 0),
          correct,
        );
        assert.is(
          matrix.flat().reduce((sum, n) => sum + n, 0),
          rows.length,
        );
        engine.scope(() => {
          const logits = engine.tensor(
            rows.flatMap(([row]) => row),
            [rows.length, 3],
          );
          const y = engine.tensor(labels, [rows.length], 'i32');
          assert.is(countCorrect(logits, y), correct);
          assert.is(accuracy(logits, y), correct / rows.length);
        });
      },
    ),
  );
  assert.equal(confusionMatrix([0, 1, 1], [0, 0, 1], 2), [
    [1, 1],
    [0, 1],
  ]);
  throwsCode('LABEL_OUT_OF_RANGE', () => confusionMatrix([0], [2], 2));
  throwsCode('LABEL_OUT_OF_RANGE', () => confusionMatrix([2], [0], 2));
  throwsCode('SHAPE_MISMATCH', () => confusionMatrix([0, 1], [0], 2));
  engine.scope(() => {
    throwsCode('SHAPE_MISMATCH', () =>
      countCorrect(engine.full([2, 2], 0), engine.tensor([0], [1], 'i32') as Tensor),
    );
  });
});

test('evaluate and predictions are the same in pieces of any size', () => {
  const count = 53;
  const model = sequential(dense(4, 3), dropout(0.5));
  const params = model.init(engine, { seed: 8 });
  const x = Float32Array.from({ length: count * 4 }, (_, i) => Math.sin(i * i));
  const y = Int32Array.from({ length: count }, (_, i) => (i * 7) % 3);
  const data = engine.dataset({ x, y, shape: [4] });
  const w = params.get('0.weight').values();
  const logits = denseOracle(
    Array.from({ length: count }, (_, i) => [...x.subarray(4 * i, 4 * i + 4)]),
    w,
    [0, 0, 0],
    (z) => z,
  );
  const classes = logits.map((row) => row.indexOf(Math.max(...row)));
  const loss = (row: number[], label: number): number =>
    Math.log(row.reduce((sum, z) => sum + Math.exp(z), 0)) - row[label]!;
  const expected = logits.reduce((sum, row, i) => sum + loss(row, y[i]!), 0) / count;
  const correct = classes.filter((c, i) => c === y[i]).length;
  for (const batchSize of [1, 7, 53, 1000]) {
    const result = evaluate(model, params, data, { batchSize });
    assert.is(result.correct, correct);
    assert.is(result.count, count);
    assert.is(result.accuracy, correct / count);
    assert.ok(Math.abs(result.loss - expected) < 1e-6, `${result.loss} ${expected}`);
    assert.equal([...predictions(model, params, data, { batchSize })], classes);
  }
  assert.equal([...predictions(model, params, data, { indices: [5, 3] })], [classes[5], classes[3]]);
  assert.is(evaluate(model, params, data, { indices: [5, 3] }).count, 2);
  throwsCode('DATA_EMPTY', () => evaluate(model, params, data, { indices: [] }));
  throwsCode('BATCH_SIZE_INVALID', () => evaluate(model, params, data, { batchSize: 0 }));
  throwsCode('INDEX_OUT_OF_RANGE', () => evaluate(model, params, data, { indices: [53] }));
  data.free();
  params.free();
});

test.run();
