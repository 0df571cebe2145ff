// What a statement must not say: private, of weights or noise for which nothing was proved.
import {
  createAccountant,
  flatClipping,
  makePrivate,
  makePrivateWithEpsilon,
  type PrivateTraining,
  type PrivateTrainingOptions,
  privacyStatement,
  privateStep,
} from 'gradshape/dp';
import { createEngineSync, type Parameters } from 'gradshape/engine';
import { dense, sequential, sgd, train } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';
import { lying } from './lying-rule.js';

const engine = createEngineSync();
const count = 400;
const newData = (n = count) =>
  engine.dataset({
    x: Float32Array.from({ length: n * 2 }, (_, i) => Math.sin(i * i)),
    y: Int32Array.from({ length: n }, (_, i) => i % 2),
    shape: [2],
  });
const model = sequential(dense(2, 2));
const newParams = () => model.init(engine, { seed: 1 });
const delta = 1e-5;

function training(changes: Partial<PrivateTrainingOptions> = {}): PrivateTraining {
  return makePrivate({
    ...{ model, params: newParams(), data: newData(), optimizer: sgd({ learningRate: 0.1 }) },
    ...{ batchSize: 100, epochs: 2, noiseMultiplier: 1 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

/** That the statement promises nothing, and says so first. */
function isNotPrivate(run: PrivateTraining, why: RegExp, at = delta): void {
  const { says, private: promised } = run.statement(at);
  assert.is(promised, false);
  assert.match(says[0]!, why);
  assert.not.match(says.join('\n'), /^The training is/m);
}

test('a training that an audit refuted is not private, from before its first step on, nor after a resume', () => {
  const shaper = () => lying(flatClipping({ clipNorm: 3 }), 1);
  const run = training({ audit: true, shaper: shaper() });
  isNotPrivate(run, /^Not private: an audit refuted it/);
  run.next();
  isNotPrivate(run, /^Not private: an audit refuted it/);
  isNotPrivate(run, /^Not private: an audit refuted it/, 1e-9);
  const resumed = training({ shaper: shaper() });
  resumed.load(run.save());
  isNotPrivate(resumed, /^Not private: an audit refuted it/);
  resumed.next();
  const again = training({ shaper: shaper() });
  again.load(resumed.save());
  isNotPrivate(again, /^Not private: an audit refuted it/);
  const sound = training({ audit: true });
  assert.is(sound.statement(delta).private, true);
});

const ordinary = async (params: Parameters, data = newData()): Promise<void> => {
  const optimizer = sgd({ learningRate: 0.1 });
  for await (const _ of train({ model, params, data, optimizer, batchSize: 400, epochs: 1, seed: 1 }));
};
const byHand = async (params: Parameters): Promise<void> => {
  const step = privateStep({
    ...{ params, optimizer: sgd({ learningRate: 0.1 }), clipNorm: 1, noiseStd: 0, expectedBatchSize: 1 },
  });
  step.finish();
  step.free();
};

test('weights that something without an account updated, before or after private steps, are not private', async () => {
  for (const other of [ordinary, byHand]) {
    const why = /^Not private: these weights were also updated once by something that keeps no account/;
    const params = newParams();
    await other(params);
    const before = training({ params });
    isNotPrivate(before, why);
    before.next();
    isNotPrivate(before, why);
    const resumed = training();
    resumed.load(before.save());
    isNotPrivate(resumed, why);
    const after = training();
    after.next();
    assert.is(after.statement(delta).private, true);
    await other(after.params);
    isNotPrivate(after, why);
    // Washed by loading the weights onto themselves: what they learnt is still in them.
    const replaced = /^Not private: after this training's first step its weights were replaced/;
    after.params.load(after.params.values());
    isNotPrivate(after, replaced);
    const saved = training();
    saved.load(after.save());
    saved.next();
    isNotPrivate(saved, replaced);
    // Of public data, loaded before the first step: as fresh weights are.
    const [pretrained, own] = [newParams(), newParams()];
    await other(pretrained);
    const fine = training({ params: own });
    own.load(pretrained.values());
    fine.next();
    assert.is(fine.statement(delta).private, true);
  }
});

test('together with a nominal training on the same data nothing is promised', () => {
  const data = newData();
  const run = training({ data });
  run.next();
  training({ data, sampling: 'nominal-poisson' }).next();
  const statement = run.statement(delta);
  assert.equal(statement.sameData, { steps: 1, epsilon: null });
  assert.match(
    statement.says.join('\n'),
    'Nothing is promised against somebody who sees what came of all these trainings',
  );
  assert.is(statement.private, true);
  // In the same weights, nothing is promised at all.
  training({ params: run.params, sampling: 'nominal-poisson' }).next();
  isNotPrivate(run, /^No guarantee/);
});

test('what counts a seeded training as its previous is not private, nor is what counts that, nor after a resume', () => {
  const why = /^Not private: what is counted as `previous` was released with seeded noise/;
  const data = newData();
  const seeded = training({ data, seed: 1 });
  seeded.next();
  for (const on of [data, newData()]) {
    const next = training({ data: on, previous: [...seeded.released] });
    isNotPrivate(next, why);
    assert.is(next.plan.statement(delta).private, false);
    next.next();
    isNotPrivate(next, why);
    const last = training({ data: on, previous: next.released });
    last.next();
    isNotPrivate(last, why);
    const resumed = training({ data: on, previous: next.released });
    resumed.load(last.save());
    isNotPrivate(resumed, why);
    // The same weights in another training's hands, and the data.
    const same = training({ params: next.params });
    same.next();
    assert.is(same.statement(delta).private, false);
    const sibling = training({ data: on });
    sibling.next();
    assert.match(
      sibling.statement(delta).says.join('\n'),
      'No ε above holds against this: with seeded noise',
    );
  }
  // A copy can't say so.
  const copied = training({ previous: seeded.released.map((phase) => ({ ...phase })) });
  copied.next();
  assert.is(copied.statement(delta).private, true);
});

test('what is secret is said of each sampling: the order of shuffled epochs is public', () => {
  for (const [sampling, open] of [
    ['poisson', false],
    ['fixed-size', false],
    ['shuffled', true],
    ['nominal-poisson', true],
  ] as const) {
    const run = training({ sampling });
    run.next();
    const says = run.statement(delta).says.join('\n');
    assert.match(says, 'Noise, dropout and the drawing of sampled batches come from');
    assert.is(
      says.includes('The order of shuffled epochs is public, and its seed is in the checkpoints'),
      open,
    );
  }
});

test('a δ of one in the number of examples, or an ε above 100, is not private, and said to promise nothing', () => {
  const run = training();
  run.next();
  assert.is(run.statement(1 / 401).private, true);
  const empty =
    /^Not private: the training is \(ε = .*\)-differentially private, which promises nothing of use/;
  for (const at of [1 / 400, 0.01, 0.5, 0.999]) {
    const { says, private: promised } = run.statement(at);
    assert.is(promised, false);
    assert.match(says[0]!, empty);
    assert.match(says[1]!, /^δ = [\d.e-]+ is no less than one in 400 examples/);
    assert.is(run.plan.statement(at).private, false);
  }
  // A seeded one is warned, too.
  const seeded = training({ seed: 1 });
  seeded.next();
  assert.match(seeded.statement(0.5).says.join('\n'), 'δ = 0.5 is no less than one in 400 examples');
  const loud = training({ noiseMultiplier: 0.01 });
  loud.next();
  const { says, private: promised, epsilon } = loud.statement(delta);
  assert.ok(epsilon > 100 && epsilon < Infinity);
  assert.is(promised, false);
  assert.match(says[0]!, empty);
  assert.match(says[1]!, /^An ε above 100 promises nothing of use/);
  // Where nobody says how many examples there are, or the phases do.
  const gaussian = createAccountant('rdp', [{ mechanism: 'gaussian', noiseMultiplier: 5, steps: 1 }]);
  const isPrivate = (at: number, size?: number) =>
    privacyStatement(gaussian, { delta: at, noiseOrigin: 'secure', ...(size && { datasetSize: size }) })
      .private;
  assert.equal(
    [isPrivate(1e-3), isPrivate(0.01), isPrivate(0.5), isPrivate(1e-3, 999), isPrivate(1e-3, 1000)],
    [true, false, false, true, false],
  );
  const drawn = training({ sampling: 'fixed-size' }).plan.accountantAfter();
  assert.is(privacyStatement(drawn, { delta: 1 / 400, noiseOrigin: 'secure' }).private, false);
  assert.throws(() => privacyStatement(gaussian, { delta, datasetSize: 2.5 }), /datasetSize must be/);
});

test('a seeded training that is refuted, too, does not say what secure noise would have made of it', () => {
  const params = newParams();
  const run = training({ params, seed: 1 });
  run.next();
  params.load(params.values());
  isNotPrivate(run, /^Not private: after this training's first step its weights were replaced/);
  assert.not.match(run.statement(delta).says.join('\n'), 'With secure noise it would be');
});

test('a target that was kept by an approximation is said to be', () => {
  const options = { model, params: newParams(), data: newData(), optimizer: sgd({ learningRate: 0.1 }) };
  const target = { batchSize: 40, epochs: 2, clipNorm: 1, targetEpsilon: 2, targetDelta: delta } as const;
  const by = (accountant: 'gdp' | 'pld') => {
    const run = makePrivateWithEpsilon({ ...options, ...target, accountant });
    const plan = run.plan.statement(delta);
    return {
      plan,
      said: plan.says.some((line) => line.includes('an approximation that the true ε may exceed')),
    };
  };
  assert.is(by('pld').said, false);
  const { plan, said } = by('gdp');
  assert.is(said, true);
  assert.ok(plan.epsilon > 2, 'the statement has the bound');
});

test('a checkpoint of another plan is refused with what differs', () => {
  const run = training();
  run.next();
  const load = (changes: Partial<PrivateTrainingOptions>) =>
    throwsCode('PLAN_MISMATCH', () => training(changes).load(run.save()));
  const message = load({ batchSize: 50, clipNorm: 2 });
  assert.match(
    message,
    'batchSize was 100, and is 50; shaper was "flatClipping(1)", and is "flatClipping(2)"; phases was [{',
  );
  assert.not.match(message, 'sampling was');
  assert.match(load({ seed: 1 }), 'origin was "secure", and is "seeded"');
});

test.run();
