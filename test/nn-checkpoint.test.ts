// Checkpoints: the format, round trips, resumed runs, and damaged files.
import fc from 'fast-check';
import { createEngine } from 'gradshape/engine';
import {
  adam,
  dense,
  dropout,
  flatten,
  heNormal,
  loadModel,
  loadTraining,
  loadWeights,
  readSafetensors,
  relu,
  saveModel,
  saveTraining,
  sequential,
  sgd,
  type TrainingPosition,
  train,
  writeSafetensors,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = await createEngine();
const model = sequential(
  flatten(),
  dense(6, 8, { initializer: heNormal() }),
  relu(),
  dropout(0.25),
  dense(8, 3),
);
const count = 50;
const data = engine.dataset({
  x: Float32Array.from({ length: count * 6 }, (_, i) => Math.sin(i * i)),
  y: Int32Array.from({ length: count }, (_, i) => (i * i) % 3),
  shape: [2, 3],
});

/** Header and data of a file, by the format's own words. */
function parse(bytes: Uint8Array): {
  header: Record<string, Record<string, unknown>>;
  text: string;
  data: Uint8Array;
} {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + length));
  return { header: JSON.parse(text), text, data: bytes.subarray(8 + length) };
}

/** A file made by hand. */
function fileOf(header: unknown, dataBytes: number, text = JSON.stringify(header)): Uint8Array {
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

test('the file is what the format says: little-endian length, padded JSON, aligned data without gaps', () => {
  using params = model.init(engine, { seed: 1 });
  const bytes = saveModel(model, params);
  const { header, text, data: stored } = parse(bytes);
  assert.is(text[0], '{');
  assert.is(text.length % 8, 0);
  assert.match(text, /} *$/);
  const { __metadata__: metadata, ...tensors } = header;
  assert.equal(Object.keys(tensors), ['1.weight', '1.bias', '4.weight', '4.bias']);
  assert.equal(tensors['1.weight'], { dtype: 'F32', shape: [6, 8], data_offsets: [0, 192] });
  assert.equal(tensors['1.bias'], { dtype: 'F32', shape: [8], data_offsets: [192, 224] });
  assert.is(stored.length, params.size * 4);
  assert.equal(new Float32Array(stored.slice().buffer), params.values());
  assert.ok(Object.values(metadata!).every((value) => typeof value === 'string'));
  assert.equal(Object.keys(metadata!), ['format', 'model']);
  assert.is(metadata!.model, JSON.stringify(model));
});

const bitsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

test('any tensors come back', () => {
  fc.assert(
    fc.property(
      fc.dictionary(
        fc
          .string({ unit: 'grapheme', minLength: 1 })
          .filter((name) => name !== '__metadata__' && name !== '__proto__'),
        fc.float32Array({ maxLength: 12 }),
      ),
      fc.nat(7),
      (arrays, shift) => {
        const tensors = new Map(
          Object.entries(arrays).map(([name, values]) => [name, { shape: [values.length], values }]),
        );
        const bytes = writeSafetensors({ metadata: { a: 'ü' }, tensors });
        // Also from the middle of a larger buffer, as files are read.
        const moved = Buffer.alloc(bytes.length + shift).subarray(shift);
        moved.set(bytes);
        const read = readSafetensors(moved);
        assert.equal(read.metadata, { a: 'ü' });
        assert.is(read.tensors.size, tensors.size);
        for (const [name, { values }] of tensors)
          assert.equal(bitsOf(read.tensors.get(name)!.values), bitsOf(values));
      },
    ),
  );
});

test('a model comes back with its bits', () => {
  using params = model.init(engine, { seed: 1 });
  const loaded = loadModel(saveModel(model, params), engine);
  assert.equal(loaded.params.values(), params.values());
  assert.is(JSON.stringify(loaded.model), JSON.stringify(model));
  engine.scope(() => {
    const { x } = data.batch([0, 1, 2]);
    assert.equal(loaded.model.predict(loaded.params, x).values(), model.predict(params, x).values());
  });
  loaded.params.free();
});

test("another tool's file gives the weights of equal names", () => {
  using params = sequential(dense(2, 1)).init(engine, { seed: 1 });
  const header = {
    '0.bias': { dtype: 'F32', shape: [1], data_offsets: [0, 4] },
    '0.weight': { dtype: 'F32', shape: [2, 1], data_offsets: [4, 12] },
  };
  const bytes = fileOf(header, 12);
  const numbers = new DataView(bytes.buffer, bytes.length - 12);
  [7, 1.5, -2].forEach((value, i) => {
    numbers.setFloat32(4 * i, value, true);
  });
  loadWeights(params, bytes);
  assert.equal([...params.values()], [1.5, -2, 7]);
  throwsCode('CHECKPOINT_INVALID', () => loadModel(bytes, engine));
});

for (const [name, make] of [
  ['Adam', () => adam({ learningRate: 0.02 })],
  ['SGD with momentum', () => sgd({ learningRate: 0.05, momentum: 0.9 })],
] as const) {
  test(`a run resumed in the middle of an epoch goes on to the same bits: ${name}`, async () => {
    const options = { model, data, batchSize: 8, epochs: 4, seed: 7, validation: data } as const;
    const straight: [number, number][] = [];
    using params = model.init(engine, { seed: 3 });
    using optimizer = make();
    for await (const { step, loss } of train({
      ...options,
      params,
      optimizer,
      onEpoch: (report) => void straight.push([-1 - report.epoch, report.loss]),
    })) {
      straight.push([step, loss]);
    }

    // Stopped at several places, the last batch of an epoch among them; each time into another engine.
    const pieces: [number, number][] = [];
    const first = model.init(engine, { seed: 3 });
    let bytes: Uint8Array | null = null;
    for (const last of [2, 6, 16, 100]) {
      const here = await createEngine();
      const state = bytes === null ? null : loadTraining(bytes, here);
      const run = {
        params: state?.params ?? first,
        optimizer: state?.optimizer ?? make(),
      };
      const source = state === null ? data : here.dataset({ ...host, shape: [2, 3] });
      const start: { start?: TrainingPosition } = state === null ? {} : { start: state.position };
      for await (const { step, loss, position } of train({
        ...options,
        ...run,
        ...start,
        data: source,
        validation: source,
        onEpoch: (report) => void pieces.push([-1 - report.epoch, report.loss]),
      })) {
        pieces.push([step, loss]);
        if (step !== last) continue;
        bytes = saveTraining({ model, ...run, seed: 7, position });
        break;
      }
      if (last === 100) assert.equal(run.params.values(), params.values());
    }
    first.free();
    assert.equal(pieces, straight);
  });
}

const host = {
  x: Float32Array.from({ length: count * 6 }, (_, i) => Math.sin(i * i)),
  y: Int32Array.from({ length: count }, (_, i) => (i * i) % 3),
};

test('saveTraining keeps moments, counters and frozen names; its weights load as a model', async () => {
  using params = model.init(engine, { seed: 3 });
  params.freeze(['1.weight']);
  using optimizer = adam({ learningRate: 0.02, weightDecay: 0.1, decoupled: true });
  let bytes = new Uint8Array();
  for await (const { position } of train({
    model,
    params,
    data,
    optimizer,
    batchSize: 25,
    epochs: 2,
    seed: 7,
  })) {
    bytes = saveTraining({ model, params, optimizer, seed: 7, position });
  }
  const { header } = parse(bytes);
  assert.equal(header['optimizer.firstMoment']!.shape, [params.size]);
  assert.equal(Object.keys(header.__metadata__!), ['format', 'model', 'training']);
  const state = loadTraining(bytes, engine);
  assert.is(state.seed, 7);
  assert.is(state.position.step, 4);
  assert.equal(state.optimizer.toJSON(), optimizer.toJSON());
  assert.equal(state.optimizer.state(), optimizer.state());
  assert.equal(
    state.params.trainableEntries.map((entry) => entry.name),
    ['1.bias', '4.weight', '4.bias'],
  );
  const loaded = loadModel(bytes, engine);
  assert.equal(loaded.params.values(), params.values());
  for (const owner of [state.optimizer, state.params, loaded.params]) owner.free();
});

test('damaged files are named errors, and take no memory', () => {
  using params = model.init(engine, { seed: 1 });
  const bytes = saveModel(model, params);
  const inUse = engine.memory.bytesInUse;
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), (length) => {
      throwsCode('CHECKPOINT_INVALID', () => loadModel(bytes.subarray(0, length), engine));
    }),
  );
  const longer = new Uint8Array(bytes.length + 4);
  longer.set(bytes);
  throwsCode('CHECKPOINT_INVALID', () => loadModel(longer, engine));
  const huge = bytes.slice();
  huge[7] = 255;
  throwsCode('CHECKPOINT_INVALID', () => loadModel(huge, engine));
  const entry = (over: object) => ({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...over } });
  const code = 'CHECKPOINT_INVALID';
  throwsCode(code, () => readSafetensors(fileOf(null, 0, 'not JSON')));
  throwsCode(code, () => readSafetensors(fileOf([], 0)));
  throwsCode(code, () => readSafetensors(fileOf(null, 0)));
  throwsCode(code, () => readSafetensors(fileOf({ a: null }, 0)));
  throwsCode(code, () => readSafetensors(fileOf(entry({ shape: [3] }), 8)));
  throwsCode(code, () => readSafetensors(fileOf(entry({ shape: [-2] }), 8)));
  throwsCode(code, () => readSafetensors(fileOf(entry({ data_offsets: [4, 12] }), 12)));
  throwsCode(code, () => readSafetensors(fileOf(entry({ data_offsets: [0, 8, 8] }), 8)));
  throwsCode(code, () => readSafetensors(fileOf({ ...entry({}), __metadata__: { a: 1 } }, 8)));
  throwsCode('DTYPE_MISMATCH', () => readSafetensors(fileOf(entry({ dtype: 'F16' }), 8)));
  throwsCode(code, () => loadTraining(bytes, engine));
  assert.is(engine.memory.bytesInUse, inUse);
});

test('a training state with anything damaged or left out is a named error', () => {
  using params = model.init(engine, { seed: 1 });
  using optimizer = adam({ learningRate: 0.01 });
  const position = { step: 2, epoch: 1, batch: 0, lossSum: 0, examples: 0, best: null, waited: 0 };
  const file = readSafetensors(saveTraining({ model, params, optimizer, seed: 1, position }));
  const state = JSON.parse(file.metadata.training!);
  const load = (training: unknown) => () =>
    loadTraining(
      writeSafetensors({ ...file, metadata: { ...file.metadata, training: JSON.stringify(training) } }),
      engine,
    );
  const inUse = engine.memory.bytesInUse;
  for (const damaged of [null, 5, [], {}]) throwsCode('CHECKPOINT_INVALID', load(damaged));
  for (const part of ['counters', 'frozen', 'seed', 'position']) {
    for (const value of [undefined, null, 'x', -1]) {
      const message = throwsCode('CHECKPOINT_INVALID', load({ ...state, [part]: value }));
      assert.match(message, `'${part}'`);
    }
  }
  for (const count of ['step', 'epoch', 'batch', 'examples', 'waited']) {
    for (const value of [undefined, null, -1, 0.5]) {
      throwsCode('CHECKPOINT_INVALID', load({ ...state, position: { ...position, [count]: value } }));
    }
  }
  throwsCode('OPTIMIZER_STATE_INVALID', load({ ...state, counters: {} }));
  assert.is(engine.memory.bytesInUse, inUse);
  const whole = load(state)();
  assert.equal(whole.position, position);
  whole.params.free();
  whole.optimizer.free();
});

test('files of another model are named errors', () => {
  using params = model.init(engine, { seed: 1 });
  using wider = sequential(flatten(), dense(6, 9)).init(engine, { seed: 1 });
  using shorter = sequential(flatten(), dense(6, 8)).init(engine, { seed: 1 });
  const bytes = saveModel(model, params);
  const before = shorter.values();
  assert.match(
    throwsCode('CHECKPOINT_MISMATCH', () => loadWeights(wider, bytes)),
    "the file has a tensor '4.weight'",
  );
  throwsCode('CHECKPOINT_MISMATCH', () => loadWeights(shorter, bytes));
  const narrow = saveModel(sequential(flatten(), dense(6, 8)), shorter);
  assert.match(
    throwsCode('CHECKPOINT_MISMATCH', () => loadWeights(wider, narrow)),
    "'1.weight' has shape [6, 8] in the file, and [6, 9] in the model",
  );
  assert.match(
    throwsCode('CHECKPOINT_MISMATCH', () => loadWeights(params, narrow)),
    "the file lacks '4.weight'",
  );
  assert.equal(shorter.values(), before);
});

test.run();
