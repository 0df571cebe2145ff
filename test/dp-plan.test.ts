// Plans: schedules that take protection away are refused, steps are counted as they are made, and epochs end where they should.
import fc from 'fast-check';
import {
  adaptiveClipping,
  createAccountant,
  geometricSchedule,
  linearSchedule,
  makePrivate,
  makePrivateWithEpsilon,
  type PrivacyPlanOptions,
  type PrivateTrainingOptions,
  privacyPlan,
  type Scheduled,
  type Shaper,
} from 'gradshape/dp';
import { createEngineSync } from 'gradshape/engine';
import { dense, sequential, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const data = engine.dataset({
  x: Float32Array.from({ length: 80 }, (_, i) => Math.sin(i)),
  y: Int32Array.from({ length: 40 }, (_, i) => i % 2),
  shape: [2],
});
const model = sequential(dense(2, 2));
const settings: PrivacyPlanOptions = {
  ...{ datasetSize: 40, batchSize: 10, steps: 8, clipNorm: 1, noiseMultiplier: 1.2 },
};
const samplings = ['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'] as const;

function training(changes: Partial<PrivateTrainingOptions>) {
  const params = model.init(engine, { seed: 1 });
  return makePrivate({
    ...{ model, params, data, optimizer: sgd({ learningRate: 0.1 }) },
    ...{ batchSize: 10, steps: 8, noiseMultiplier: 1.2 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

const from =
  (at: number, later: unknown, first = 1) =>
  (step: number) =>
    (step < at ? first : later) as number;

/** A rule of the user's own, which clips to the bounds that it is given. */
const rule = (bound: (step: number) => number | null): Shaper => ({
  ...{ name: 'own', wholeBatch: false, bound },
  accumulate: () => undefined,
  toString: () => 'own()',
});

test('a schedule that takes noise or bound away at some step is refused when the plan is made, with step and value', () => {
  const cases: [Partial<PrivacyPlanOptions>, string, RegExp][] = [
    [{ clipNorm: from(5, Infinity) }, 'CLIP_NORM_INVALID', /∞.* at step 5/],
    [{ clipNorm: from(7, Infinity) }, 'CLIP_NORM_INVALID', /at step 7/],
    [{ clipNorm: (step) => 1 / (1 - step) }, 'CLIP_NORM_INVALID', /at step 1/],
    [
      { clipNorm: geometricSchedule({ from: 1, factor: 1e60, every: 1 }) },
      'CLIP_NORM_INVALID',
      /1e\+60 at step 1.* float32/,
    ],
    [
      { clipNorm: geometricSchedule({ from: 1, factor: 1e-60, every: 1 }) },
      'CLIP_NORM_INVALID',
      /at step 1.* float32/,
    ],
    [{ clipNorm: from(3, Number.NaN) }, 'SCHEDULE_INVALID', /NaN at step 3/],
    [{ clipNorm: from(3, -1) }, 'SCHEDULE_INVALID', /-1 at step 3/],
    [{ clipNorm: from(3, '1') }, 'SCHEDULE_INVALID', /at step 3/],
    [{ clipNorm: from(3, undefined) }, 'SCHEDULE_INVALID', /undefined at step 3/],
    [{ clipNorm: from(3, 0) }, 'CLIP_NORM_INVALID', /at step 3: clipNorm is 0/],
    [{ clipNorm: from(3, 1e35) }, 'CLIP_NORM_INVALID', /1e\+35 at step 3.* from 1e-30 to 1e\+30/],
    [{ clipNorm: from(3, 1e-35) }, 'CLIP_NORM_INVALID', /1e-35 at step 3.* from 1e-30 to 1e\+30/],
    [{ clipNorm: 1e-35 }, 'CLIP_NORM_INVALID', /1e-35 at step 0/],
    [{ clipNorm: 1e20, noiseMultiplier: 1e11 }, 'NOISE_INVALID', /from 1e-30 to 1e\+30/],
    [{ noiseMultiplier: from(4, 0) }, 'NOISE_INVALID', /0 at step 4/],
    [{ noiseMultiplier: from(7, 0) }, 'NOISE_INVALID', /0 at step 7/],
    [{ noiseMultiplier: from(4, Infinity) }, 'NOISE_INVALID', /Infinity at step 4/],
    [{ noiseMultiplier: from(4, Number.NaN) }, 'SCHEDULE_INVALID', /NaN at step 4/],
    [{ noiseMultiplier: from(4, -0.5) }, 'SCHEDULE_INVALID', /-0.5 at step 4/],
    [{ noiseMultiplier: from(4, '2') }, 'SCHEDULE_INVALID', /at step 4/],
    [{ noiseMultiplier: from(4, 1n) }, 'SCHEDULE_INVALID', /at step 4/],
    [{ noiseMultiplier: linearSchedule({ from: 2, to: 0, steps: 7 }) }, 'NOISE_INVALID', /0 at step 7/],
    [
      { noiseMultiplier: '1' as never },
      'SCHEDULE_INVALID',
      /noiseMultiplier is '1'; expected a number, or a function/,
    ],
    [{ noiseMultiplier: from(4, 1e39) }, 'NOISE_INVALID', /at step 4.* float32/],
    [{ shaper: rule(from(6, null)) }, 'CLIP_NORM_INVALID', /nothing .*at step 6/],
    [{ shaper: rule(from(6, Infinity)) }, 'CLIP_NORM_INVALID', /Infinity at step 6/],
    [{ shaper: rule(from(6, Number.NaN)) }, 'CLIP_NORM_INVALID', /NaN at step 6/],
    [{ shaper: rule(from(6, 0)) }, 'CLIP_NORM_INVALID', /0 at step 6/],
    [{ shaper: rule(() => null) }, 'NOISE_INVALID', /no noise gives a guarantee/],
    [
      { shaper: { ...rule(() => 1), gradientNoise: () => 0 } },
      'NOISE_INVALID',
      /puts 0 on the gradient at step 0/,
    ],
    [
      { shaper: adaptiveClipping({ countNoise: 0.7 }), noiseMultiplier: from(3, 2) },
      'NOISE_INVALID',
      /the count's noise is 0.7/,
    ],
  ];
  for (const sampling of samplings) {
    for (const [changes, code, says] of cases) {
      const { clipNorm, ...rest } = settings;
      const options = {
        ...rest,
        ...(changes.shaper === undefined && { clipNorm: clipNorm! }),
        ...changes,
        sampling,
      };
      assert.match(
        throwsCode(code, () => privacyPlan(options)),
        says,
      );
      throwsCode(code, () => training({ ...changes, sampling }));
    }
  }
  const { noiseMultiplier, ...open } = settings;
  throwsCode('CLIP_NORM_INVALID', () =>
    makePrivateWithEpsilon({
      ...{ model, params: model.init(engine, { seed: 1 }), data, optimizer: sgd({ learningRate: 0.1 }) },
      ...{ ...open, clipNorm: from(5, Infinity), targetEpsilon: 3, targetDelta: 1e-5 },
    }),
  );
});

test('beyond the plan a schedule may say what it likes; without noise it may clip as it likes', () => {
  assert.is(privacyPlan({ ...settings, noiseMultiplier: from(8, 0) }).phases()[0]!.steps, 8);
  assert.is(
    privacyPlan({ ...settings, steps: 7, sampling: 'shuffled', noiseMultiplier: from(7, 0) }).steps,
    7,
  );
  const silent = privacyPlan({ ...settings, noiseMultiplier: 0, clipNorm: from(4, Infinity) });
  assert.is(silent.epsilon(1e-5).epsilon, Infinity);
  assert.is(silent.statement(1e-5).private, false);
  // Noise that comes late leaves the first steps without.
  const late = privacyPlan({ ...settings, noiseMultiplier: from(3, 1, 0) });
  assert.is(late.statement(1e-5).private, false);
  throwsCode('CLIP_NORM_INVALID', () =>
    privacyPlan({ ...settings, noiseMultiplier: from(3, 1, 0), clipNorm: from(5, Infinity) }),
  );
});

test('no statement on a training whose noise or bound goes away calls it private', () => {
  const values = fc.constantFrom<unknown>(
    0,
    1,
    2,
    0.5,
    Infinity,
    Number.NaN,
    -1,
    undefined,
    '1',
    1e-60,
    1e60,
  );
  const schedule = fc.array(values, { minLength: 8, maxLength: 8 });
  fc.assert(
    fc.property(schedule, schedule, fc.constantFrom(...samplings), (sigmas, norms, sampling) => {
      let run: ReturnType<typeof training>;
      const noiseMultiplier = (step: number) => sigmas[step] as number;
      const clipNorm = (step: number) => norms[step] as number;
      try {
        run = training({ noiseMultiplier, clipNorm, sampling });
        for (const _ of run.run());
      } catch (error) {
        assert.match(String((error as { code?: string }).code), /^(NOISE|CLIP_NORM|SCHEDULE)_INVALID$/);
        return;
      }
      if (!run.statement(1e-5).private) return;
      assert.ok(
        [...sigmas, ...norms].every((value) => typeof value === 'number' && value > 0 && value < Infinity),
      );
    }),
    { numRuns: 300 },
  );
});

test('each step reports its own noise and bound, and none is counted with more than it has', () => {
  const noiseMultiplier = linearSchedule({ from: 2, to: 1, steps: 7 });
  const clipNorm = geometricSchedule({ from: 4, factor: 0.5, every: 3 });
  for (const sampling of samplings) {
    using run = training({ noiseMultiplier, clipNorm, sampling });
    for (const { step, noiseMultiplier: sigma, bound, noiseStd } of run.run()) {
      assert.is(bound, clipNorm(step));
      assert.is(noiseStd, clipNorm(step) * noiseMultiplier(step));
      assert.ok(Math.abs(sigma / noiseMultiplier(step) - 1) < 1e-15);
      assert.ok(run.plan.countedNoise(step) <= sigma * (1 + 1e-15));
    }
    const own = Array.from({ length: 8 }, (_, step) => noiseMultiplier(step));
    const counted = sampling === 'shuffled' ? [own[3], own[7]] : own;
    assert.equal(
      run.released.map((phase) => phase.noiseMultiplier),
      counted,
    );
  }
});

test('a schedule that answers otherwise when it is asked again gets no step with less noise than is counted', () => {
  const fickle = (say: (asked: number, step: number) => number): Scheduled => {
    let asked = 0;
    return (step) => say(asked++, step);
  };
  // The plan asks 8 times; then each step asks.
  const cases: [Partial<PrivateTrainingOptions>, number, code?: string][] = [
    [{ noiseMultiplier: fickle((asked) => (asked < 8 ? 2 : 1.9999)) }, 0],
    [{ noiseMultiplier: fickle((asked, step) => (asked < 8 || step < 5 ? 2 : 0)) }, 5],
    [{ noiseMultiplier: fickle((asked, step) => (asked < 9 || step < 5 ? 2 : 0)), sampling: 'shuffled' }, 5],
    [{ clipNorm: fickle((asked, step) => (asked < 10 || step < 3 ? 1 : Infinity)) }, 3, 'CLIP_NORM_INVALID'],
  ];
  for (const [changes, until, code = 'NOISE_INVALID'] of cases) {
    using run = training(changes);
    const made: number[] = [];
    assert.match(
      throwsCode(code, () => {
        for (const { step } of run.run()) made.push(step);
      }),
      `step ${until}`,
    );
    assert.is(made.length, until);
    assert.is(run.step, until);
    assert.equal(run.released, run.plan.phases(until), 'a step that was not made is not counted');
    const weights = run.params.values();
    throwsCode(code, () => run.next());
    assert.equal(run.params.values(), weights);
  }
  // More noise than is counted is none of the account's business.
  using louder = training({ noiseMultiplier: fickle((asked) => (asked < 8 ? 1 : 3)) });
  for (const _ of louder.run());
  assert.is(
    louder.getEpsilon(1e-5).epsilon,
    privacyPlan({ ...settings, noiseMultiplier: 1 }).epsilon(1e-5).epsilon,
  );
  assert.equal(louder.released, louder.plan.phases());
});

test('a shuffled epoch is counted with the least of the steps that the plan has in it', () => {
  const dips = (at: number) => (step: number) => (step === at ? 0.7 : 2);
  const plan = (at: number, steps = 8) =>
    privacyPlan({ ...settings, steps, sampling: 'shuffled', noiseMultiplier: dips(at) })
      .phases()
      .map(({ noiseMultiplier, steps: epochs }) => [noiseMultiplier, epochs]);
  assert.equal(plan(2), [
    [0.7, 1],
    [2, 1],
  ]);
  assert.equal(plan(7), [
    [2, 1],
    [0.7, 1],
  ]);
  assert.equal(plan(7, 7), [[2, 2]]);
});

test('phases, runs of a schedule and the steps one by one say the same', () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(0.8, 1, 1.5), { minLength: 1, maxLength: 30 }),
      fc.constantFrom(...samplings),
      fc.integer({ min: 1, max: 12 }),
      (sigmas, sampling, batchSize) => {
        const plan = privacyPlan({
          ...{ datasetSize: 12, batchSize, steps: sigmas.length, sampling, clipNorm: 1 },
          noiseMultiplier: (step) => sigmas[step]!,
        });
        for (let done = 0; done <= sigmas.length; done++) {
          const accountant = createAccountant('rdp');
          for (let step = 0; step < done; step++) {
            const event = plan.releasedBy(step);
            if (event !== null) accountant.step(event);
            assert.ok(plan.countedNoise(step) <= sigmas[step]!);
          }
          assert.equal(plan.phases(done), accountant.phases);
        }
      },
    ),
  );
});

test('epochs in expectation end where so many passes are done, shuffled ones with their last batch', () => {
  const sizes = { datasetSize: 1000, batchSize: 300, clipNorm: 1, noiseMultiplier: 1 };
  for (const sampling of samplings) {
    const shuffled = sampling === 'shuffled' || sampling === 'nominal-poisson';
    const plan = privacyPlan({ ...sizes, epochs: 30, sampling });
    assert.is(plan.steps, shuffled ? 120 : 100);
    assert.is(plan.epochs, 30);
    assert.is(plan.stepsPerEpoch, 4);
    assert.equal(
      [0, 1, 2, 3, 30, 31].map(plan.stepsAfter),
      shuffled ? [0, 4, 8, 12, 120, 120] : [0, 4, 7, 10, 100, 100],
    );
    const short = privacyPlan({ ...sizes, epochs: 3, sampling });
    const phase = short.phases()[0]!;
    assert.is(phase.steps, { poisson: 10, 'fixed-size': 10, shuffled: 3, 'nominal-poisson': 12 }[sampling]);
  }
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5000 }),
      fc.oneof(fc.integer({ min: 1, max: 5000 }), fc.double({ min: 1e-3, max: 5000, noNaN: true })),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(...samplings),
      (datasetSize, size, epochs, sampling) => {
        const batchSize = Math.min(sampling === 'poisson' ? size : Math.ceil(size), datasetSize);
        const plan = privacyPlan({ ...sizes, datasetSize, batchSize, epochs, sampling });
        assert.is(plan.epochs, epochs);
        assert.is(plan.stepsAfter(epochs), plan.steps);
        for (let epoch = 0; epoch < epochs; epoch++) {
          const [first, end] = [plan.stepsAfter(epoch), plan.stepsAfter(epoch + 1)];
          assert.ok(end > first && end - first <= plan.stepsPerEpoch);
          assert.is(plan.epochOf(first), epoch);
          assert.is(plan.epochOf(end - 1), epoch);
        }
      },
    ),
  );
  throwsCode('STEPS_OUT_OF_RANGE', () => privacyPlan({ ...sizes, batchSize: 1e-300, epochs: 1 }));
});

test('a training’s epochs are the plan’s', () => {
  for (const sampling of samplings) {
    using run = training({ batchSize: 12, steps: undefined as never, epochs: 6, sampling });
    const { plan } = run;
    for (let epoch = 0; epoch < 6; epoch++) {
      for (const report of run.run({ untilEpoch: epoch })) assert.is(report.epoch, epoch);
      assert.is(run.step, plan.stepsAfter(epoch + 1));
    }
    assert.is(run.step, plan.steps);
  }
  using run = training({});
  for (const bad of [Number.NaN, 0.5, -2])
    throwsCode('STEPS_OUT_OF_RANGE', () => [...run.run({ untilEpoch: bad })]);
  assert.is(run.step, 0);
});

test('what a training was made with can’t be changed afterwards', () => {
  const options = { noiseMultiplier: 1.2, clipNorm: 1, seed: 3 };
  using run = training(options);
  assert.throws(() => {
    (run.plan as { steps: number }).steps = 1000;
  });
  const phases = run.plan.phases();
  const previous = [{ ...phases[0]! }];
  using second = training({ previous });
  previous[0]!.noiseMultiplier = 1000;
  previous.length = 0;
  assert.is(second.getEpsilon(1e-5).epsilon, run.plan.epsilon(1e-5).epsilon);
});

test('a learning rate that can’t be had stops a step before it is counted', () => {
  using run = training({
    schedule: (step) => {
      if (step === 2) throw new Error('no rate');
      return 0.1;
    },
  });
  for (let step = 0; step < 2; step++) run.next();
  for (let i = 0; i < 2; i++) assert.throws(() => run.next(), 'no rate');
  assert.is(run.released[0]!.steps, 2);
});

test('things of the wrong kind are named', () => {
  const make = makePrivate as unknown as (options?: object) => unknown;
  const target = makePrivateWithEpsilon as unknown as typeof make;
  const params = model.init(engine, { seed: 1 });
  const good = { model, params, data, optimizer: sgd({ learningRate: 0.1 }) };
  for (const bad of [
    undefined,
    {},
    { ...good, model: {} },
    { ...good, params: null },
    { ...good, data: [1] },
  ]) {
    throwsCode('TRAIN_OPTIONS_INVALID', () => make(bad));
    throwsCode('TRAIN_OPTIONS_INVALID', () => target(bad));
  }
  assert.match(
    throwsCode('TRAIN_OPTIONS_INVALID', () => make({ ...good, optimizer: 'sgd' })),
    "optimizer is 'sgd'",
  );
  const elsewhere = model.init(createEngineSync(), { seed: 1 });
  throwsCode('ENGINE_MISMATCH', () =>
    make({ ...good, params: elsewhere, ...{ batchSize: 10, steps: 8, clipNorm: 1, noiseMultiplier: 1 } }),
  );
});

test.run();
