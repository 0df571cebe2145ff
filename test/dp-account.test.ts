// The account follows the data: several trainings, forks, checkpoints that were damaged or belong to others, and dropout's keys.
import fc from 'fast-check';
import {
  adaptiveClipping,
  createAccountant,
  formatStatement,
  makePrivate,
  type PrivacyPhase,
  type PrivateTraining,
  type PrivateTrainingOptions,
  privateStep,
} from 'gradshape/dp';
import { createEngineSync, type Dataset, type Parameters, perExample } from 'gradshape/engine';
import {
  adam,
  batchLoss,
  dense,
  dropout,
  type Optimizer,
  readSafetensors,
  relu,
  type Safetensors,
  sequential,
  sgd,
  tanh,
  train,
  writeSafetensors,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { crc32 } from '../dist/dp/checksum.js';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const count = 60;
const set = {
  x: Float32Array.from({ length: count * 4 }, (_, i) => Math.sin(i * i)),
  y: Int32Array.from({ length: count }, (_, i) => i % 2),
  shape: [4],
};
const newData = (): Dataset => engine.dataset(set);
const model = sequential(dense(4, 3), relu(), dropout(0.5), dense(3, 2));
const newParams = (): Parameters => model.init(engine, { seed: 1 });

type Changes = Partial<PrivateTrainingOptions>;
type Arguments<T extends (...args: never[]) => unknown> = T extends (...args: infer P) => unknown ? P : never;

function training(changes: Changes): PrivateTraining {
  return makePrivate({
    ...{ model, params: newParams(), data: newData(), optimizer: sgd({ learningRate: 0.1 }) },
    ...{ batchSize: 12, steps: 20, noiseMultiplier: 1 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

function trained(changes: Changes, steps = Infinity): PrivateTraining {
  const run = training(changes);
  while (run.step < Math.min(steps, run.plan.steps)) run.next();
  return run;
}

const delta = 1e-5;
const epsilonOf = (phases: readonly PrivacyPhase[], name: 'rdp' | 'pld' = 'pld'): number =>
  createAccountant(name, phases).epsilon(delta).epsilon;
const poisson = (steps: number, noiseMultiplier = 1): PrivacyPhase => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate: 12 / 60,
  noiseMultiplier,
  steps,
});

test('trainings of the same parameters are counted together, whatever data set object they were given', () => {
  const data = newData();
  for (const second of [data, newData()]) {
    const params = newParams();
    const first = trained({ params, data });
    const own = first.statement(delta);
    assert.is(own.epsilon, epsilonOf([poisson(20)]));
    assert.equal(own.phases, [poisson(20)]);
    const again = trained({ params, data: second, noiseMultiplier: 2 }, 7);
    for (const run of [first, again]) {
      const both = run.statement(delta);
      assert.is(both.private, true);
      assert.is(both.epsilon, epsilonOf([poisson(20), poisson(7, 2)]));
      assert.match(formatStatement(both, 1e6), 'are in the weights, too, and are counted in ε');
    }
    // The training's own account is another question.
    assert.is(again.getEpsilon(delta).epsilon, epsilonOf([poisson(7, 2)]));
    assert.equal(again.released, [poisson(7, 2)]);
  }
});

test('other weights in place begin anew, and the data remember', () => {
  const [params, data] = [newParams(), newData()];
  const fresh = params.values();
  trained({ params, data });
  params.load(fresh);
  const second = trained({ params, data }, 5);
  const statement = second.statement(delta);
  assert.is(statement.epsilon, epsilonOf([poisson(5)]));
  assert.equal(statement.sameData, { steps: 20, epsilon: epsilonOf([poisson(25)], 'rdp') });
  // Loaded in the middle of a training: what it did before may be in what was loaded.
  params.load(fresh);
  second.next();
  const third = trained({ params, data }, 2);
  assert.is(third.statement(delta).epsilon, epsilonOf([poisson(8)]));
});

test('what was released from the same data into other weights is named, with the ε of all together', () => {
  const data = newData();
  const first = trained({ data });
  assert.is(first.statement(delta).sameData, undefined);
  const second = trained({ data, noiseMultiplier: 1.5 }, 9);
  const [one, two] = [first.statement(delta), second.statement(delta)];
  const together = epsilonOf([poisson(20), poisson(9, 1.5)], 'rdp');
  assert.equal(one.sameData, { steps: 9, epsilon: together });
  assert.equal(two.sameData, { steps: 20, epsilon: together });
  assert.is(two.private, true);
  assert.is(two.epsilon, epsilonOf([poisson(9, 1.5)]));
  const said = formatStatement(two, 1e6);
  assert.match(said, /From the same data, this process released 20 steps more, by other trainings/);
  assert.ok(Number(/of all these trainings, ε = ([\d.]+)/.exec(said)![1]) >= together);
  // A set composed on this one holds its examples; one of its own does not.
  const added = { ...set, x: set.x.subarray(0, 8), y: set.y.subarray(0, 2) };
  const composed = trained({ data: engine.dataset({ base: data, added: [added] }) }, 1).statement(delta);
  assert.is(composed.sameData!.steps, 29);
  assert.is(trained({}, 1).statement(delta).sameData, undefined);
});

test('a training’s previous is counted once', () => {
  for (const again of [undefined, newParams()]) {
    const data = newData();
    const first = trained({ data, ...(again && { params: again }) });
    for (const copy of [
      (phases: readonly PrivacyPhase[]) => phases,
      (phases: readonly PrivacyPhase[]) => [...phases],
    ]) {
      const params = again ?? newParams();
      if (again !== undefined) params.load(params.values());
      const second = trained({ data: newData(), previous: copy(first.released), params }, 5);
      const statement = second.statement(delta);
      assert.is(statement.epsilon, epsilonOf([poisson(25)]));
      assert.is(statement.epsilon, second.getEpsilon(delta).epsilon);
      assert.is(statement.sameData, undefined);
    }
  }
  const data = newData();
  const first = trained({ data }, 10);
  const { released } = first;
  const second = trained({ data, previous: released });
  assert.is(second.statement(delta).sameData, undefined);
  assert.is(second.statement(delta).epsilon, epsilonOf([poisson(30)]));
  // The first goes on: that is news.
  first.next();
  assert.is(second.statement(delta).sameData!.steps, 1);
  // A third counts both by the second's account, which holds the first's as it was then.
  const third = trained({ data, previous: second.released }, 1);
  assert.is(third.getEpsilon(delta).epsilon, epsilonOf([poisson(31)]));
  assert.is(third.statement(delta).sameData!.steps, 1);
  // Handed on before a step was made.
  const idle = training({ data, previous: second.released });
  const fourth = trained({ data, previous: idle.released }, 1);
  assert.is(fourth.statement(delta).sameData!.steps, 2);
  // From another process: beside what was made here.
  const foreign = trained({ data, previous: [poisson(100)] }, 1);
  assert.is(foreign.getEpsilon(delta).epsilon, epsilonOf([poisson(101)]));
  assert.is(foreign.statement(delta).sameData!.steps, 33);
});

test('what no relation counts together is no private model', () => {
  const [params, data] = [newParams(), newData()];
  trained({ params, data });
  const fixed = trained({ params, data, sampling: 'fixed-size' }).statement(delta);
  assert.is(fixed.private, false);
  assert.is(fixed.epsilon, Infinity);
  assert.match(fixed.says[0]!, 'different neighbouring relations');
  const other = trained({ data, sampling: 'fixed-size' }).statement(delta);
  assert.is(other.private, true);
  assert.equal(other.sameData, { steps: 40, epsilon: null });
  assert.match(
    formatStatement(other, 1e6),
    'Nothing is promised against somebody who sees what came of all these trainings: they are accounted under different',
  );
});

test('weights that seeded noise went into are not private; seeded noise on the same data is named', () => {
  const [params, data] = [newParams(), newData()];
  trained({ params, data, seed: 1 }, 1);
  const statement = trained({ params, data }).statement(delta);
  assert.is(statement.private, false);
  assert.is(statement.noiseOrigin, 'seeded');
  const other = trained({ data }).statement(delta);
  assert.is(other.private, true);
  assert.match(formatStatement(other, 1e6), 'with seeded noise, this process also trained on the same data');
  assert.is(other.sameData!.steps, 20);
  assert.is(trained({ data, seed: 2 }, 1).statement(delta).sameData!.steps, 41);
  // Not even through a checkpoint.
  const saved = trained({ params, data }, 5).save();
  const loaded = training({ data });
  loaded.load(saved);
  assert.is(loaded.statement(delta).private, false);
  // Weights without noise: ε = ∞.
  const silent = newParams();
  trained({ params: silent, data, noiseMultiplier: 0 }, 1);
  assert.is(trained({ params: silent, data }).statement(delta).epsilon, Infinity);
});

test('updates of the weights that no account knows of are named', async () => {
  const [params, data] = [newParams(), newData()];
  for await (const _ of train({
    model,
    params,
    data,
    optimizer: sgd({ learningRate: 0.1 }),
    batchSize: 20,
    epochs: 1,
    seed: 1,
  }));
  const run = trained({ params, data }, 4);
  const says = (of: PrivateTraining) => formatStatement(of.statement(delta), 1e6);
  assert.match(
    says(run),
    'also updated 3 times by something that keeps no account, such as ordinary training',
  );
  const byHand = privateStep({
    ...{ params, optimizer: sgd({ learningRate: 0.1 }), clipNorm: 1, noiseStd: 0, expectedBatchSize: 1 },
  });
  byHand.finish();
  byHand.free();
  assert.match(says(run), 'also updated 4 times');
  const resumed = training({ data });
  resumed.load(run.save());
  resumed.next();
  assert.match(says(resumed), 'also updated 4 times');
  params.load(newParams().values());
  assert.not.match(says(run), 'also updated');
  assert.match(says(run), /^Not private: after this training's first step its weights were replaced/);
  const clean = trained({ data }, 4);
  assert.not.match(says(clean), 'also updated');
});

test('forks of a checkpoint are named, and all that was made here is counted together', () => {
  const data = newData();
  const first = trained({ data }, 10);
  const saved = first.save();
  const forks = [1, 2, 3].map((times) => {
    const fork = training({ data });
    fork.load(saved);
    while (fork.step < 15) fork.next();
    const statement = fork.statement(delta);
    assert.is(statement.epsilon, epsilonOf([poisson(15)]));
    assert.is(statement.private, true);
    assert.is(statement.sameData?.steps ?? 0, 5 * (times - 1));
    const [named] = statement.notCovered.filter((text) =>
      /went on from the same checkpoint, the one after step 10/.test(text),
    );
    assert.match(named!, 'thrown away');
    assert.is(named!.includes(`took it up ${times} times`), times > 1);
    return fork;
  });
  // Each from 10 to 15, and the first from 10 on.
  first.next();
  const all = forks[0]!.statement(delta).sameData!;
  assert.equal(all, { steps: 11, epsilon: epsilonOf([poisson(26)], 'rdp') });
  // A fork's checkpoint carries on its own line.
  const grandchild = training({ data });
  grandchild.load(forks[0]!.save());
  grandchild.next();
  assert.is(grandchild.statement(delta).sameData!.steps, 11);
  // On a copy of the data, as in another process: the steps behind the checkpoint are counted once.
  const elsewhere = newData();
  for (const steps of [0, 1]) {
    const fork = training({ data: elsewhere });
    fork.load(saved);
    assert.is(fork.statement(delta).sameData?.steps ?? 0, steps);
    fork.next();
  }
  assert.ok(!first.statement(delta).notCovered.some((text) => text.includes('forks')));
});

test('a fork within a shuffled epoch counts the epoch again', () => {
  const data = newData();
  const first = trained({ data, sampling: 'shuffled' }, 7);
  const saved = first.save();
  const fork = training({ data, sampling: 'shuffled' });
  fork.load(saved);
  while (fork.step < 10) fork.next();
  assert.is(fork.released[0]!.steps, 2);
  assert.is(fork.statement(delta).sameData!.steps, 1);
});

test('a checkpoint carries what other trainings left in its weights', () => {
  const [params, data] = [newParams(), newData()];
  const first = trained({ params, data }, 10);
  trained({ params, data, noiseMultiplier: 2 }, 4);
  const loaded = training({ data: newData() });
  loaded.load(first.save());
  const { epsilon } = loaded.statement(delta);
  assert.ok(Math.abs(epsilon - epsilonOf([poisson(10), poisson(4, 2)])) < 1e-9);
  assert.equal(loaded.released, [poisson(10)]);
});

test('whatever trainings are made of one data set, each statement counts or names every step, and none twice', () => {
  const operation = fc.record({
    kind: fc.constantFrom(
      'new',
      'same weights',
      'previous',
      'old previous',
      'fork',
      'save',
      'step',
      'step',
      'step',
      'replace',
    ),
    which: fc.nat(9),
    steps: fc.integer({ min: 1, max: 3 }),
  });
  const stepsIn = (phases: readonly PrivacyPhase[]) => phases.reduce((sum, { steps }) => sum + steps, 0);
  fc.assert(
    fc.property(fc.array(operation, { minLength: 2, maxLength: 14 }), (operations) => {
      const data = newData();
      const runs = [training({ data })];
      const previous: (readonly PrivacyPhase[])[] = [];
      const saved: { bytes: Uint8Array; past: readonly PrivacyPhase[] }[] = [];
      /** What a training was given as its previous. */
      const pasts = new Map<PrivateTraining, readonly PrivacyPhase[]>();
      const add = (changes: Changes) => {
        const run = training({ data, ...changes });
        pasts.set(run, changes.previous ?? []);
        runs.push(run);
        return run;
      };
      /** Steps made in all, and into each set of weights since they were put there. */
      let made = 0;
      const inWeights = new Map<Parameters, number>();
      for (const { kind, which, steps } of operations) {
        const run = runs[which % runs.length]!;
        const { params } = run;
        if (kind === 'new') add({});
        if (kind === 'same weights') add({ params });
        if (kind === 'previous') {
          previous.push(run.released);
          add({ previous: run.released });
        }
        if (kind === 'old previous' && previous.length > 0)
          add({ previous: [...previous[which % previous.length]!] });
        if (kind === 'save') saved.push({ bytes: run.save(), past: pasts.get(run) ?? [] });
        if (kind === 'replace') {
          params.load(newParams().values());
          inWeights.set(params, 0);
        }
        if (kind === 'fork' && saved.length > 0) {
          const { bytes, past } = saved[which % saved.length]!;
          const fork = add({ steps: 60, previous: past });
          fork.load(bytes);
          inWeights.set(fork.params, fork.step);
        }
        for (let i = 0; kind === 'step' && i < steps && run.step < run.plan.steps; i++) {
          run.next();
          made++;
          inWeights.set(params, (inWeights.get(params) ?? 0) + 1);
        }
      }
      for (const run of runs) {
        const { phases, sameData } = run.statement(delta);
        assert.ok(stepsIn(phases) >= (inWeights.get(run.params) ?? 0), 'in the weights');
        assert.ok(stepsIn(phases) >= stepsIn(run.released), 'in the account');
        assert.is(stepsIn(phases) + (sameData?.steps ?? 0), Math.max(made, stepsIn(phases)), 'of the data');
      }
    }),
    { numRuns: 60 },
  );
});

test('thousands of trainings on one data set, each with its statement', () => {
  const data = newData();
  const params = newParams();
  const optimizer = sgd({ learningRate: 0.1 });
  const fresh = params.values();
  let last = training({ params, data, optimizer, steps: 1 });
  for (let i = 0; i < 1200; i++) {
    params.load(fresh);
    last.free();
    last = trained({ params, data, optimizer, steps: 1 });
    if (i % 300 === 299) assert.is(last.statement(delta).sameData!.steps, i);
  }
  assert.is(last.statement(delta).sameData!.epsilon, epsilonOf([poisson(1200)], 'rdp'));
});

// Checkpoints

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
  const before = {
    values: run.params.values(),
    optimizer: JSON.stringify(optimizer.state()),
    shaper: JSON.stringify(run.plan.shaper.state?.()),
    released: run.released,
    step: run.step,
    statement: JSON.stringify(run.statement(delta)),
  };
  const message = throwsCode(code, () => run.load(bytes));
  const after = {
    values: run.params.values(),
    optimizer: JSON.stringify(optimizer.state()),
    shaper: JSON.stringify(run.plan.shaper.state?.()),
    released: run.released,
    step: run.step,
    statement: JSON.stringify(run.statement(delta)),
  };
  assert.equal(after, before);
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

// Dropout

/** The clipped sum over all examples at the first step, with the masks of a seed. */
function sumWith(data: Dataset, params: Parameters, seed: number): Float32Array {
  return engine.scope(() => {
    const all = Int32Array.from({ length: count }, (_, i) => i);
    const g = perExample(batchLoss(model), params, data.batch(all, { seed, step: 0 }));
    return g.weightedSums([null])[0]!.values() as Float32Array;
  });
}

test('nobody can make dropout’s masks again from a checkpoint; a seeded run makes its own again', () => {
  const data = newData();
  const whole: Changes = { data, batchSize: count, noiseMultiplier: 0, clipNorm: Infinity, steps: 2 };
  const step = (changes: Changes) => {
    const run = training({ ...whole, optimizer: sgd({ learningRate: 1 }), ...changes });
    const before = run.params.values();
    run.next();
    const after = run.params.values();
    return { run, moved: before.map((value, i) => (value - after[i]!) * count) };
  };
  const differs = (a: Float32Array, b: Float32Array) => a.some((value, i) => Math.abs(value - b[i]!) > 1e-3);
  for (const sampling of ['poisson', 'fixed-size', 'shuffled'] as const) {
    const { run, moved } = step({ sampling });
    const { state } = JSON.parse(readSafetensors(run.save()).metadata.private!);
    // Every number in the file, and the seeds that are easily guessed.
    const numbers = JSON.stringify(state).match(/\d+/g)!.map(Number).filter(Number.isSafeInteger);
    assert.is(state.publicSeed === null, sampling !== 'shuffled');
    for (const seed of [...numbers, 0, 1, 2]) {
      assert.ok(
        differs(moved, sumWith(data, newParams(), seed)),
        `${sampling}: seed ${seed} gives the masks`,
      );
    }
    assert.ok(differs(moved, step({ sampling }).moved), 'new masks in each training');
    const seeded = step({ sampling, seed: 7 }).moved;
    assert.not(differs(seeded, sumWith(data, newParams(), 7)));
  }
});

test('masks are new at each secure step, also after a resume; pieces of a batch are of one step', () => {
  const data = newData();
  const params = newParams();
  const still: Changes = {
    data,
    batchSize: count,
    noiseMultiplier: 0,
    clipNorm: Infinity,
    sampling: 'shuffled',
  };
  const run = training({ ...still, params, optimizer: sgd({ learningRate: 0 }), diagnostics: true });
  const losses = [run.next().loss, run.next().loss];
  const resumed = training({ ...still, optimizer: sgd({ learningRate: 0 }), diagnostics: true });
  resumed.load(run.save());
  losses.push(resumed.next().loss, run.next().loss);
  assert.is(new Set(losses).size, 4);
});

test.run();
