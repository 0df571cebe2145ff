// The account follows the data: several trainings of the same weights or data, and forks of checkpoints.
import fc from 'fast-check';
import { formatStatement, type PrivacyPhase, type PrivateTraining, privateStep } from 'gradshape/dp';
import type { Parameters } from 'gradshape/engine';
import { sgd, train } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Changes,
  delta,
  engine,
  epsilonOf,
  model,
  newData,
  newParams,
  poisson,
  set,
  trained,
  training,
} from './training-helpers.js';

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

test.run();
