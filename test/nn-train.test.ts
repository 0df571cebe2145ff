// Batches, the vanilla step and the training loop.
import fc from 'fast-check';
import {
  type Batch,
  createEngine,
  crossEntropy,
  type Dataset,
  GradshapeError,
  mean,
  mul,
  sum,
} from 'gradshape/engine';
import {
  adam,
  batchLoss,
  dense,
  dropout,
  type EpochReport,
  evaluate,
  exponentialDecay,
  type Model,
  relu,
  type StepReport,
  sequential,
  sequentialBatches,
  sgd,
  shuffledBatches,
  type TrainOptions,
  train,
  trainEpoch,
  vanillaStep,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = await createEngine();

/** Two classes on the two sides of a line, `count` points. */
function separable(count: number): Dataset {
  const x = new Float32Array(count * 2);
  const y = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    y[i] = i % 2;
    x[2 * i] = Math.sin(i * 12.9898);
    x[2 * i + 1] = x[2 * i]! + (y[i] ? 0.5 : -0.5) * (1 + Math.abs(Math.sin(i * 78.233)));
  }
  return engine.dataset({ x, y, shape: [2] });
}

const data = separable(200);
const model = sequential(dense(2, 8), relu(), dense(8, 2));

async function rejectsCode(code: string, run: AsyncIterable<unknown>): Promise<string> {
  try {
    for await (const _ of run);
  } catch (error) {
    assert.instance(error, GradshapeError);
    assert.is((error as GradshapeError).code, code, (error as Error).message);
    return (error as Error).message;
  }
  return assert.unreachable(`expected ${code}, and nothing was thrown`) as never;
}

/** The parameters at the end, and each step. */
async function runOf(
  options: Partial<TrainOptions>,
  net = model,
): Promise<{ values: Float32Array; steps: StepReport[] }> {
  using params = net.init(engine, { seed: 1 });
  using optimizer = adam({ learningRate: 0.05 });
  const steps: StepReport[] = [];
  for await (const step of train({
    model: net,
    params,
    data,
    optimizer,
    batchSize: 32,
    epochs: 5,
    seed: 1,
    ...options,
  })) {
    steps.push(step);
  }
  return { values: params.values(), steps };
}

test('an epoch holds each example once, in batches of the size', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 200 }),
      fc.nat(2 ** 40),
      fc.nat(50),
      (count, size, seed, epoch) => {
        const batchSize = Math.min(size, count);
        const kept = shuffledBatches({ count, batchSize, seed, epoch });
        assert.equal(
          kept.flatMap((indices) => [...indices]).sort((a, b) => a - b),
          Array.from({ length: count }, (_, i) => i),
        );
        assert.ok(kept.slice(0, -1).every((indices) => indices.length === batchSize));
        const dropped = shuffledBatches({ count, batchSize, seed, epoch, lastBatch: 'drop' });
        assert.equal(dropped, kept.slice(0, Math.floor(count / batchSize)));
        assert.equal(shuffledBatches({ count, batchSize, seed, epoch }), kept);
      },
    ),
  );
  assert.equal(
    sequentialBatches({ count: 5, batchSize: 2 }).map((indices) => [...indices]),
    [[0, 1], [2, 3], [4]],
  );
});

test('seeds and epochs have orders of their own, and every place is as likely', () => {
  const order = (seed: number, epoch: number) => shuffledBatches({ count: 8, batchSize: 8, seed, epoch })[0]!;
  const trials = 4000;
  const counts = new Array<number>(64).fill(0);
  for (let i = 0; i < trials; i++) {
    order(i % 63, Math.floor(i / 63)).forEach((example, place) => {
      counts[place * 8 + example]!++;
    });
  }
  const expected = trials / 8;
  const chiSquared = counts.reduce((total, n) => total + (n - expected) ** 2 / expected, 0);
  // 49 degrees of freedom; the covariance's factor 8/7 included, above 110 by chance once in a million
  assert.ok(chiSquared * (7 / 8) < 110, String(chiSquared));
});

test('wrong batches are named errors', () => {
  throwsCode('DATA_EMPTY', () => sequentialBatches({ count: 0, batchSize: 1 }));
  throwsCode('DATA_EMPTY', () => shuffledBatches({ count: 1.5, batchSize: 1, seed: 1 }));
  throwsCode('BATCH_SIZE_INVALID', () => shuffledBatches({ count: 5, batchSize: 0, seed: 1 }));
  throwsCode('BATCH_SIZE_INVALID', () => shuffledBatches({ count: 5, batchSize: 2.5, seed: 1 }));
  assert.match(
    throwsCode('BATCH_SIZE_INVALID', () => shuffledBatches({ count: 5, batchSize: 6, seed: 1 })),
    'batchSize is 6, but there are 5 examples',
  );
  throwsCode('BATCH_SIZE_INVALID', () =>
    sequentialBatches({ count: 5, batchSize: 2, lastBatch: 'pad' as never }),
  );
  throwsCode('SEED_INVALID', () => shuffledBatches({ count: 5, batchSize: 2, seed: 0.5 }));
  throwsCode('EPOCH_INVALID', () => shuffledBatches({ count: 5, batchSize: 2, seed: 1, epoch: -1 }));
});

test('the vanilla step takes the mean over the drawn examples, in one piece or several', () => {
  const values = [[[0, 1, 2, 3, 4]], [[0, 1], [2], [3, 4]]].map((pieces) => {
    using params = model.init(engine, { seed: 1 });
    using optimizer = sgd({ learningRate: 0.1 });
    const step = vanillaStep({ params, optimizer });
    const before = params.values();
    for (const indices of pieces) {
      engine.scope(() => {
        step.accumulate(batchLoss(model), data.batch(indices));
      });
    }
    step.finish();
    assert.is(step.step, 1);
    step.free();
    return params.values().map((value, i) => value - before[i]!);
  });
  values[0]!.forEach((value, i) => {
    assert.ok(Math.abs(value - values[1]![i]!) < 1e-7);
  });
  // One logistic unit by hand: p − learningRate · mean over the examples of (softmax − onehot)ᵀx.
  const linear = sequential(dense(2, 2));
  using params = linear.init(engine, { seed: 2 });
  using optimizer = sgd({ learningRate: 0.5 });
  const w = [...params.values()];
  const expected = [...w];
  const indices = [3, 10, 11];
  engine.scope(() => {
    const { x, y } = data.batch(indices);
    const labels = y.values();
    const rows = x.values();
    indices.forEach((_, i) => {
      const row = [rows[2 * i]!, rows[2 * i + 1]!, 1];
      const logits = [0, 1].map((k) => row[0]! * w[k]! + row[1]! * w[2 + k]! + w[4 + k]!);
      const total = Math.exp(logits[0]!) + Math.exp(logits[1]!);
      for (const k of [0, 1]) {
        const d = Math.exp(logits[k]!) / total - (labels[i] === k ? 1 : 0);
        row.forEach((value, j) => {
          expected[2 * j + k]! -= (0.5 / 3) * d * value;
        });
      }
    });
    const step = vanillaStep({ params, optimizer });
    step.accumulate(batchLoss(linear), data.batch(indices));
    step.finish();
    step.free();
  });
  params.values().forEach((value, i) => {
    assert.ok(Math.abs(value - expected[i]!) < 1e-6, `${value} ${expected[i]}`);
  });
});

test('the vanilla step refuses averages and empty batches', () => {
  using params = model.init(engine, { seed: 1 });
  const step = vanillaStep({ params, optimizer: sgd({ learningRate: 0.1 }) });
  throwsCode('BATCH_EMPTY', () => step.finish());
  engine.scope(() => {
    const batch = data.batch([0, 1]);
    throwsCode('LOSS_SHAPE', () =>
      step.accumulate((p, b: Batch) => mean(crossEntropy(model.apply(p, b.x), b.y)), batch),
    );
    throwsCode('LOSS_SHAPE', () => step.accumulate((p, b: Batch) => sum(model.apply(p, b.x)), batch));
  });
  step.free();
});

test('training separates what can be separated, and reports each step', async () => {
  using params = model.init(engine, { seed: 1 });
  using optimizer = adam({ learningRate: 0.05 });
  const epochs: EpochReport[] = [];
  const steps: StepReport[] = [];
  for await (const step of train({
    model,
    params,
    data,
    optimizer,
    batchSize: 32,
    epochs: 30,
    seed: 1,
    validation: data,
    onEpoch: (report) => void epochs.push(report),
  })) {
    steps.push(step);
  }
  assert.is(evaluate(model, params, data).accuracy, 1);
  assert.is(steps.length, 30 * 7);
  assert.equal(
    steps.slice(0, 8).map(({ step, epoch, batch, batchSize }) => [step, epoch, batch, batchSize]),
    [
      [0, 0, 0, 32],
      [1, 0, 1, 32],
      [2, 0, 2, 32],
      [3, 0, 3, 32],
      [4, 0, 4, 32],
      [5, 0, 5, 32],
      [6, 0, 6, 8],
      [7, 1, 0, 32],
    ],
  );
  assert.ok(steps.every(({ examplesPerSecond }) => examplesPerSecond > 0));
  assert.is(epochs.length, 30);
  const first = steps.slice(0, 7).reduce((total, { loss, batchSize }) => total + loss * batchSize, 0) / 200;
  assert.ok(Math.abs(epochs[0]!.loss - first) < 1e-12);
  assert.is(epochs[29]!.validation!.accuracy, 1);
  assert.is(epochs[29]!.steps, 210);
  assert.ok(epochs[29]!.loss < epochs[0]!.loss / 3);
});

test('equal seeds give equal bits; other seeds other bits; trainEpoch the same as train', async () => {
  const net = sequential(dense(2, 8), relu(), dropout(0.3), dense(8, 2));
  const schedule = exponentialDecay({ learningRate: 0.05, factor: 0.99 });
  const [a, b, c, d] = [
    await runOf({ schedule }, net),
    await runOf({ schedule }, net),
    await runOf({ schedule, seed: 2 }, net),
    await runOf({}, net),
  ];
  assert.equal(a.values, b.values);
  assert.not.equal(a.values, c.values);
  assert.not.equal(a.values, d.values);
  using params = net.init(engine, { seed: 1 });
  using optimizer = adam({ learningRate: 0.05 });
  const step = vanillaStep({ params, optimizer });
  const options = { model: net, params, data, step, schedule, batchSize: 32, seed: 1 };
  for (let epoch = 0; epoch < 5; epoch++) {
    const report = trainEpoch(options, epoch);
    const steps = a.steps.filter((s) => s.epoch === epoch);
    assert.is(report.steps, 7);
    assert.is(report.examples, 200);
    const loss = steps.reduce((total, s) => total + s.loss * s.batchSize, 0) / 200;
    assert.ok(Math.abs(report.loss - loss) < 1e-12);
  }
  step.free();
  assert.equal(params.values(), a.values);
});

test('batches of another sampler, and dropped last batches', async () => {
  const { steps } = await runOf({ epochs: 2, lastBatch: 'drop' });
  assert.is(steps.length, 12);
  const own = await runOf({
    epochs: 2,
    batches: (epoch) => (epoch === 0 ? [[1, 2], [3]] : [[4, 5, 6]]),
  });
  assert.equal(
    own.steps.map(({ epoch, batchSize }) => [epoch, batchSize]),
    [
      [0, 2],
      [0, 1],
      [1, 3],
    ],
  );
});

test('an abort ends training between two steps, without an error', async () => {
  const controller = new AbortController();
  using params = model.init(engine, { seed: 1 });
  using optimizer = sgd({ learningRate: 0.1 });
  const inUse = engine.memory.bytesInUse;
  let steps = 0;
  let epochs = 0;
  const options = { model, params, data, optimizer, batchSize: 32, seed: 1, signal: controller.signal };
  for await (const { step } of train({ ...options, epochs: 100, onEpoch: () => void epochs++ })) {
    steps++;
    if (step === 10) controller.abort();
  }
  assert.is(steps, 11);
  assert.is(epochs, 1);
  assert.is(engine.memory.bytesInUse, inUse, 'the gradient is freed');
  for await (const _ of train({ ...options, epochs: 1 })) assert.unreachable('aborted before the first step');
});

test('the event loop has its turn: a timer aborts', async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 30);
  const started = performance.now();
  const { steps } = await runOf({ epochs: 1e6, signal: controller.signal });
  assert.ok(steps.length > 10 && performance.now() - started < 5000);
});

test('leaving the loop frees what training took', async () => {
  using params = model.init(engine, { seed: 1 });
  using optimizer = sgd({ learningRate: 0.1 });
  const inUse = engine.memory.bytesInUse;
  for await (const _ of train({ model, params, data, optimizer, batchSize: 32, epochs: 9, seed: 1 })) break;
  assert.is(engine.memory.bytesInUse, inUse);
});

test('early stopping waits for so many epochs without improvement', async () => {
  const epochs: EpochReport[] = [];
  const onEpoch = (report: EpochReport): void => void epochs.push(report);
  // A learning rate of 0 never improves: one epoch sets the mark, three wait.
  await runOf({
    epochs: 50,
    schedule: () => 0,
    validation: data,
    onEpoch,
    earlyStop: { patience: 3 },
  });
  assert.equal(
    epochs.map(({ stopped }) => stopped),
    [false, false, false, true],
  );
  epochs.length = 0;
  await runOf({
    epochs: 8,
    validation: data,
    onEpoch,
    earlyStop: { patience: 2, metric: 'accuracy', minDelta: 0.9 },
  });
  assert.is(epochs.length, 3);
});

test('a validation loss that is not finite sets no mark', async () => {
  using params = model.init(engine, { seed: 1 });
  using optimizer = sgd({ learningRate: 0.1 });
  let evaluated = 0;
  const broken: Model = {
    apply(p, x, options) {
      const logits = model.apply(p, x, options);
      return options?.training === false && evaluated === 0 ? mul(logits, Number.NaN) : logits;
    },
  };
  const stopped: boolean[] = [];
  let best: number | null = null;
  const run = train({
    ...{ model: broken, params, data, optimizer, validation: data, batchSize: 32, epochs: 3, seed: 1 },
    earlyStop: { patience: 2 },
    onEpoch: (report) => {
      evaluated++;
      stopped.push(report.stopped);
    },
  });
  for await (const { position } of run) best = position.best;
  assert.equal(stopped, [false, false, false]);
  assert.ok(best !== null && Number.isFinite(best));
});

test('a gradient that is not finite is a named error that leaves the parameters', async () => {
  using params = model.init(engine, { seed: 1 });
  const overflowing = params.values().map((value) => value * 1e30);
  params.load(overflowing);
  using optimizer = sgd({ learningRate: 0.1 });
  const options = { model, params, data, optimizer, batchSize: 32, epochs: 1, seed: 1 };
  const message = await rejectsCode('NON_FINITE_GRADIENT', train(options));
  assert.match(message, /^step 0: the gradient of '\d\.(weight|bias)' holds /);
  assert.match(message, 'smaller learning rate');
  assert.equal(params.values(), overflowing);
});

test('wrong options are named errors', async () => {
  using params = model.init(engine, { seed: 1 });
  const optimizer = sgd({ learningRate: 0.1 });
  const options = { model, params, data, optimizer, batchSize: 32, epochs: 1, seed: 1 };
  const { optimizer: _, ...without } = options;
  const { batchSize: __, ...sizeless } = options;
  await rejectsCode('TRAIN_OPTIONS_INVALID', train(without));
  const step = vanillaStep({ params, optimizer });
  await rejectsCode('TRAIN_OPTIONS_INVALID', train({ ...options, step }));
  step.free();
  await rejectsCode('EPOCH_INVALID', train({ ...options, epochs: 0 }));
  await rejectsCode('BATCH_SIZE_INVALID', train(sizeless));
  await rejectsCode('BATCH_SIZE_INVALID', train({ ...options, batchSize: 201 }));
  await rejectsCode('SEED_INVALID', train({ ...options, seed: -1 }));
  await rejectsCode('TRAIN_OPTIONS_INVALID', train({ ...options, earlyStop: { patience: 1 } }));
  await rejectsCode(
    'TRAIN_OPTIONS_INVALID',
    train({ ...options, validation: data, earlyStop: { patience: 0 } }),
  );
});

test('memory is flat over 2,000 steps after the first 10', async () => {
  using params = model.init(engine, { seed: 1 });
  using optimizer = adam({ learningRate: 0.001 });
  let bytes = 0;
  let steps = 0;
  for await (const { step } of train({
    model,
    params,
    data,
    optimizer,
    batchSize: 20,
    epochs: 201,
    seed: 1,
  })) {
    if (step === 9) bytes = engine.memory.bytes;
    steps++;
  }
  assert.is(steps, 2010);
  assert.is(engine.memory.bytes, bytes);
});

test.run();
