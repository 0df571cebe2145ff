// Checkpoints that were damaged, or belong to others, are refused and change nothing.
import { adaptiveClipping, type PrivacyPhase } from 'gradshape/dp';
import {
  adam,
  dense,
  type Optimizer,
  readSafetensors,
  relu,
  type Safetensors,
  sequential,
  sgd,
  tanh,
  writeSafetensors,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crc32 } from '../dist/dp/checksum.js';
import { throwsCode } from './engine-helpers.js';
import { type Arguments, type Changes, delta, engine, model, training } from './training-helpers.js';

interface Metadata {
  vectors: string[];
  counters: Record<string, number>;
  state: { accountant: { phases: PrivacyPhase[] } } & Record<string, unknown>;
  [name: string]: unknown;
}

function edited(bytes: Uint8Array, change: (metadata: Metadata, file: Safetensors) => unknown): Uint8Array {
  const file = readSafetensors(bytes);
  const tensors = new Map(file.tensors);
  const metadata = JSON.parse(file.metadata.private!) as Metadata;
  change(metadata, { ...file, tensors });
  const text = JSON.stringify(metadata);
  // Its checksum is right again: what else is checked has to find the change.
  const parts = [...tensors].flatMap(([name, { values }]) => [name, new Uint8Array(values.buffer)]);
  const checksum = crc32([text, ...parts])
    .toString(16)
    .padStart(8, '0');
  return writeSafetensors({ metadata: { ...file.metadata, private: text, checksum }, tensors });
}

const resumable: Changes = { noiseMultiplier: 1.1 };
const make = (changes: Changes = {}) =>
  training({
    ...{
      shaper: adaptiveClipping({ initialClipNorm: 0.5, countNoise: 2 }),
      optimizer: adam({ learningRate: 0.05 }),
    },
    ...{ ...resumable, ...changes },
  });

/** Loading must be refused, and leave everything as it was: the training goes on as one that never saw the file. */
function refuses(code: string, bytes: Uint8Array, changes: Changes = {}): string {
  const optimizer: Optimizer = changes.optimizer ?? adam({ learningRate: 0.05 });
  const run = make({ ...changes, optimizer });
  const state = () => ({
    values: run.params.values(),
    optimizer: JSON.stringify(optimizer.state()),
    shaper: JSON.stringify(run.plan.shaper.state?.()),
    released: run.released,
    step: run.step,
    statement: JSON.stringify(run.statement(delta)),
  });
  const before = state();
  const message = throwsCode(code, () => run.load(bytes));
  assert.equal(state(), before);
  run.next();
  assert.is(run.step, 1);
  return message;
}

test('a damaged checkpoint is refused and changes nothing', () => {
  for (const seed of [undefined, 3]) {
    const changes: Changes = seed === undefined ? {} : { seed };
    const run = make(changes);
    while (run.step < 7) run.next();
    const bytes = run.save();
    const damaged = (code: string, change: Arguments<typeof edited>[1]) =>
      refuses(code, edited(bytes, change), changes);
    const state = (name: string, value: unknown) =>
      damaged('CHECKPOINT_INVALID', (m) => {
        m.state[name] = value;
      });
    for (const value of [-1, 2.5, '7', null]) assert.match(state('step', value), "'step'");
    state('accountant', { ...run.plan.accountantAfter(7).toJSON(), version: 2 });
    state('accountant', null);
    state('shaper', null);
    state('shaper', { clipNorm: '1' });
    state('runs', 'none');
    state('runs', [{ run: 'other', step: 3 }]);
    state('runs', [
      { run: 'one', step: 9 },
      { run: 'other', step: 7 },
    ]);
    if (seed === undefined) state('runs', []);
    state('others', { phases: [{ mechanism: 'laplace' }], seeded: false, replaced: false, updates: 0 });
    state('others', undefined);
    state('others', { phases: [], seeded: false, replaced: false, updates: -1 });
    state('publicSeed', 'x');
    const account = (change: (phases: PrivacyPhase[]) => unknown) =>
      assert.match(
        damaged('CHECKPOINT_INVALID', (m) => void change(m.state.accountant.phases)),
        /its account is|accountant/,
      );
    account((phases) => phases.pop());
    account((phases) => phases.push({ ...phases[0]! }));
    account((phases) => {
      phases[0]!.steps = 6;
    });
    account((phases) => {
      phases[0]!.noiseMultiplier = 2;
    });
    account((phases) => {
      (phases[0] as { samplingRate: number }).samplingRate = 0.1;
    });
    account((phases) => {
      (phases[0] as { noiseMultiplier: unknown }).noiseMultiplier = '1.1';
    });
    damaged('CHECKPOINT_INVALID', (m) => {
      m.counters.steps = Number.NaN;
    });
    damaged('OPTIMIZER_STATE_INVALID', (m) => {
      delete m.counters.steps;
    });
    damaged('CLIP_NORM_INVALID', (m) => {
      m.state.shaper = { clipNorm: -1 };
    });
    damaged(
      'CHECKPOINT_INVALID',
      (_, { tensors }) => void (tensors as Map<string, unknown>).delete('params'),
    );
    damaged('CHECKPOINT_INVALID', (_, { tensors }) => {
      (tensors as Map<string, unknown>).delete('optimizer.firstMoment');
    });
    damaged('CHECKPOINT_INVALID', (_, { tensors }) => {
      (tensors as Map<string, unknown>).set('more', { shape: [1], values: Float32Array.of(1) });
    });
    damaged('CHECKPOINT_INVALID', (_, { tensors }) => {
      (tensors as Map<string, unknown>).set('params', { shape: [3], values: new Float32Array(3) });
    });
    for (const name of ['params', 'optimizer.secondMoment']) {
      damaged('CHECKPOINT_INVALID', (_, { tensors }) => {
        tensors.get(name)!.values[5] = Number.NaN;
      });
    }
    refuses('CHECKPOINT_INVALID', bytes.subarray(0, 50), changes);
    assert.match(
      damaged('CHECKPOINT_VERSION', (m) => {
        m.state.version = 1;
      }),
      /format 1; expected 2/,
    );
    // Whole, it is taken up.
    const whole = make(changes);
    whole.load(bytes);
    assert.is(whole.step, 7);
    assert.equal(whole.released, run.released);
    assert.equal(whole.plan.shaper.state!(), run.plan.shaper.state!());
  }
});

test('whatever byte of a checkpoint is changed, it is refused and changes nothing', () => {
  assert.is(crc32(['1234', Uint8Array.of(53, 54, 55, 56, 57)]), 0xcbf43926); // the check value of CRC-32
  for (const sampling of ['poisson', 'shuffled'] as const) {
    const changes: Changes = { sampling, optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }) };
    const run = training(changes);
    for (let i = 0; i < 7; i++) run.next();
    const bytes = run.save();
    const loader = training({ ...changes, optimizer: sgd({ learningRate: 0.1, momentum: 0.9 }) });
    const before = loader.params.values();
    for (let at = 0; at < bytes.length; at++) {
      for (const bit of [0, 3, 6, 7]) {
        const damaged = bytes.slice();
        damaged[at]! ^= 1 << bit;
        throwsCode('CHECKPOINT_INVALID', () => loader.load(damaged));
      }
    }
    assert.equal(loader.params.values(), before);
    assert.is(loader.step, 0);
    for (const bad of [undefined, 'bytes', null, bytes.buffer])
      throwsCode('CHECKPOINT_INVALID', () => loader.load(bad as never));
    // What others add to the metadata is theirs.
    const { metadata, tensors } = readSafetensors(bytes);
    loader.load(writeSafetensors({ metadata: { ...metadata, note: 'mine' }, tensors }));
    assert.equal(loader.params.values(), run.params.values());
  }
});

test('an account in another order is not the plan’s', () => {
  const noiseMultiplier = (step: number) => (step < 3 ? 1 : 2);
  const run = make({ noiseMultiplier, shaper: adaptiveClipping({ countNoise: 3 }) });
  while (run.step < 7) run.next();
  const bytes = edited(run.save(), ({ state }) => void state.accountant.phases.reverse());
  refuses('CHECKPOINT_INVALID', bytes, { noiseMultiplier, shaper: adaptiveClipping({ countNoise: 3 }) });
});

test('a checkpoint of other parameters, another model, another frozen set or seed is refused by name', () => {
  const one = sequential(dense(4, 1), tanh(), dense(1, 4), tanh(), dense(4, 2));
  const others = {
    shapes: sequential(dense(4, 3), relu(), dense(3, 1), relu(), dense(1, 2)),
    layers: sequential(dense(4, 1), relu(), dense(1, 4), tanh(), dense(4, 2)),
  };
  const init = (of: typeof one): Changes => ({ model: of, params: of.init(engine, { seed: 1 }) });
  const run = make(init(one));
  run.next();
  const bytes = run.save();
  assert.match(
    refuses('CHECKPOINT_MISMATCH', bytes, init(others.shapes)),
    /0\.weight \[4, 1\].*0\.weight \[4, 3\]/,
  );
  assert.match(refuses('CHECKPOINT_MISMATCH', bytes, init(others.layers)), /the model was .*tanh.*relu/);
  const frozen = init(one);
  frozen.params!.freeze(['0.weight']);
  assert.match(refuses('CHECKPOINT_MISMATCH', bytes, frozen), /frozen were \[\], and are \["0.weight"\]/);
  const thawed = make(frozen);
  thawed.next();
  assert.match(
    refuses('CHECKPOINT_MISMATCH', thawed.save(), init(one)),
    /frozen were \["0.weight"\], and are \[\]/,
  );
  assert.match(
    refuses('CHECKPOINT_MISMATCH', bytes, { ...init(one), optimizer: adam({ learningRate: 0.1 }) }),
    /the optimizer was/,
  );
  const seeded = make({ ...init(one), seed: 1 });
  seeded.next();
  assert.match(
    refuses('CHECKPOINT_MISMATCH', seeded.save(), { ...init(one), seed: 2 }),
    'the seed was 1, and is 2',
  );
  // A model of the user's own has no description: its parameters are compared.
  const own = { apply: one.apply.bind(one) };
  const free = make({ ...init(one), model: own });
  free.next();
  const again = make({ ...init(one), model: own });
  again.load(free.save());
  assert.is(again.step, 1);
  refuses('CHECKPOINT_MISMATCH', bytes, { ...init(one), model: own });
});

test('a training that failed or began writes and loads nothing', () => {
  let broken = false;
  const failing = {
    apply: (...args: Arguments<typeof model.apply>) => {
      if (broken) throw new Error('out of luck');
      return model.apply(...args);
    },
  };
  const run = training({ model: failing });
  const fresh = run.save();
  broken = true;
  assert.throws(() => run.next(), 'out of luck');
  throwsCode('TRAINING_FAILED', () => run.save());
  throwsCode('TRAINING_STARTED', () => run.load(fresh));
});

test.run();
