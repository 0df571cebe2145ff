// Plans and private trainings: what is drawn, what is counted, and that these agree; pieces, checkpoints, refusals.
import fc from 'fast-check';
import {
  adaptiveClipping,
  coordinateMedian,
  createAccountant,
  formatStatement,
  geometricSchedule,
  makePrivate,
  makePrivateWithEpsilon,
  type PrivacyPlanOptions,
  type PrivateTrainingOptions,
  poissonSampler,
  privacyPlan,
  privateStep,
  type Sampling,
  seededNoise,
  validateModel,
} from 'gradshape/dp';
import {
  createEngineSync,
  crossEntropy,
  div,
  mean,
  mul,
  type Parameters,
  type Tensor,
} from 'gradshape/engine';
import {
  adam,
  batchLoss,
  dense,
  dropout,
  evaluate,
  flatten,
  type Model,
  relu,
  sequential,
  sgd,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const count = 60;
const x = Float32Array.from({ length: count * 6 }, (_, i) => Math.sin(i * i));
const y = Int32Array.from({ length: count }, (_, i) => (Math.sin((i * 6) ** 2) > 0 ? 1 : 0));
const data = engine.dataset({ x, y, shape: [6] });
const model = sequential(dense(6, 8), relu(), dropout(0.2), dense(8, 2));
const samplings: Sampling[] = ['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'];

type Changes = Partial<PrivateTrainingOptions>;

function training(changes: Changes = {}) {
  const params = model.init(engine, { seed: 1 });
  return makePrivate({
    ...{ model, params, optimizer: adam({ learningRate: 0.05 }), data },
    ...{ batchSize: 12, epochs: 3, noiseMultiplier: 1.1, seed: 5 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

const settings: PrivacyPlanOptions = {
  ...{ datasetSize: 1000, batchSize: 100, epochs: 3, clipNorm: 1, noiseMultiplier: 1.2 },
};

test('each sampling has its event, relation and number of steps', () => {
  const noise = { noiseMultiplier: 1.2 };
  const expected = {
    poisson: [
      'add-or-remove-one',
      { mechanism: 'poissonSampledGaussian', samplingRate: 0.1, ...noise, steps: 30 },
    ],
    'fixed-size': [
      'replace-one',
      { mechanism: 'fixedSizeSampledGaussian', datasetSize: 1000, batchSize: 100, ...noise, steps: 30 },
    ],
    shuffled: ['zero-out-one', { mechanism: 'shuffledEpochGaussian', ...noise, steps: 3 }],
    'nominal-poisson': [
      'add-or-remove-one',
      { mechanism: 'nominalPoissonGaussian', samplingRate: 0.1, ...noise, steps: 30 },
    ],
  } as const;
  for (const sampling of samplings) {
    const plan = privacyPlan({ ...settings, sampling });
    const [relation, phase] = expected[sampling];
    assert.is(plan.relation, relation);
    assert.equal(plan.phases(), [phase]);
    assert.is(plan.steps, 30);
    assert.is(plan.epsilon(1e-5).epsilon, createAccountant('pld', [phase]).epsilon(1e-5).epsilon);
    assert.is(plan.epsilon(1e-5).kind, sampling === 'nominal-poisson' ? 'approximation' : 'bound');
    assert.is(plan.statement(1e-5).private, sampling !== 'nominal-poisson');
  }
  // Sizes that don't divide: whole epochs when shuffled, epochs in expectation when sampled.
  assert.is(privacyPlan({ ...settings, batchSize: 300 }).steps, 10);
  assert.is(privacyPlan({ ...settings, batchSize: 300, sampling: 'shuffled' }).steps, 12);
  assert.equal(privacyPlan({ ...settings, sampling: 'shuffled' }).phases(11)[0]!.steps, 2);
});

test('a schedule of noise is counted step by step, a shuffled epoch at its least noise', () => {
  const noiseMultiplier = geometricSchedule({ from: 2, factor: 0.5, every: 15 });
  const plan = privacyPlan({ ...settings, noiseMultiplier });
  assert.equal(
    plan.phases().map((p) => [p.noiseMultiplier, p.steps]),
    [
      [2, 15],
      [1, 15],
    ],
  );
  const shuffled = privacyPlan({ ...settings, noiseMultiplier, sampling: 'shuffled' });
  assert.equal(
    shuffled.phases().map((p) => [p.noiseMultiplier, p.steps]),
    [
      [2, 1],
      [1, 2],
    ],
  );
});

test('a training draws what its plan says, and counts what it drew', () => {
  for (const sampling of samplings) {
    using run = training({ sampling, diagnostics: true });
    const sizes = [...run.run()].map(({ batchSize }) => batchSize!);
    assert.is(run.step, run.plan.steps);
    assert.equal(run.released, run.plan.phases());
    if (sampling === 'poisson') assert.ok(new Set(sizes).size > 3, `${sizes}`);
    else assert.ok(sizes.every((size) => size === 12));
    throwsCode('PLAN_EXHAUSTED', () => run.next());
    assert.equal(run.released, run.plan.phases());
    assert.is(run.getEpsilon(1e-5).epsilon, run.plan.epsilon(1e-5).epsilon);
    for (const name of ['rdp', 'pld', 'gdp'] as const) {
      assert.is(
        run.getEpsilon(1e-5, name).epsilon,
        createAccountant(name, run.plan.phases()).epsilon(1e-5).epsilon,
      );
    }
    run.params.free();
  }
});

test('ε so far grows by epoch, and starts at 0', () => {
  using run = training();
  assert.is(run.getEpsilon(1e-5).epsilon, 0);
  let before = 0;
  for (let epoch = 0; epoch < 3; epoch++) {
    for (const report of run.run({ untilEpoch: epoch })) {
      assert.is(report.epoch, epoch);
      // Sizes and losses are not for everyone.
      assert.is(report.batchSize, null);
      assert.is(report.loss, null);
    }
    const { epsilon } = run.getEpsilon(1e-5);
    assert.ok(epsilon > before);
    before = epsilon;
  }
  run.params.free();
});

test('the step is Algorithm 1 on the sampler’s batches: the same bits by hand', () => {
  using run = training({ optimizer: sgd({ learningRate: 0.3 }), steps: 8, epochs: undefined as never });
  const params = model.init(engine, { seed: 1 });
  const sampler = poissonSampler({ engine, count, samplingRate: 12 / 60, seed: 5 });
  const step = privateStep({
    ...{ params, optimizer: sgd({ learningRate: 0.3 }), clipNorm: 1, noiseMultiplier: 1.1 },
    ...{ expectedBatchSize: 12, noise: seededNoise(5) },
  });
  for (let t = 0; t < 8; t++) {
    run.next();
    const { indices, groups } = sampler.lot(t);
    engine.scope(
      () => void step.accumulate(batchLoss(model), data.batch(indices, { seed: 5, step: t, groups })),
    );
    step.finish();
    assert.equal(run.params.values(), params.values());
  }
  step.free();
});

test('physical pieces give the same bits, dropout and empty batches included', () => {
  const bits = (changes: Changes) => {
    using run = training({ ...changes, batchSize: changes.batchSize ?? 20 });
    for (const _ of run.run()) {
      // to the end
    }
    const values = run.params.values();
    run.params.free();
    return values;
  };
  for (const sampling of samplings) {
    const whole = bits({ sampling });
    for (const maxPhysicalBatch of [1, 3, 7, 1000]) assert.equal(bits({ sampling, maxPhysicalBatch }), whole);
  }
  const adaptive = (maxPhysicalBatch?: number) =>
    bits({
      shaper: adaptiveClipping({ initialClipNorm: 0.5 }),
      ...(maxPhysicalBatch && { maxPhysicalBatch }),
    });
  assert.equal(adaptive(4), adaptive());
  // Mostly empty: noise is added, steps are counted.
  using run = training({ batchSize: 0.5, steps: 30, epochs: undefined as never, diagnostics: true });
  const before = run.params.values();
  const reports = [...run.run()];
  const empty = reports.filter(({ batchSize }) => batchSize === 0);
  assert.ok(empty.length > 5 && empty.length < 30, `${empty.length}`);
  assert.ok(empty.every(({ loss }) => loss === null));
  assert.ok(run.params.values().every((value, i) => value !== before[i]));
  assert.is(run.released[0]!.steps, 30);
});

test('killed anywhere and resumed, no step is lost or counted twice', () => {
  for (const sampling of samplings) {
    const make = () =>
      training({ sampling, shaper: adaptiveClipping({ initialClipNorm: 0.5, countNoise: 2 }) });
    using straight = make();
    for (const _ of straight.run()) {
      // to the end
    }
    fc.assert(
      fc.property(fc.nat(14), fc.nat(3), (saved, lost) => {
        using killed = make();
        for (let t = 0; t < saved; t++) killed.next();
        const bytes = killed.save();
        // Steps after the last save go down with the process.
        for (let t = 0; t < Math.min(lost, 15 - saved); t++) killed.next();
        using resumed = make();
        resumed.params.load(new Float32Array(resumed.params.size));
        resumed.load(bytes);
        assert.is(resumed.step, saved);
        assert.equal(resumed.released, resumed.plan.phases(saved));
        for (const _ of resumed.run()) {
          // to the end
        }
        assert.equal(resumed.params.values(), straight.params.values());
        assert.equal(resumed.released, straight.released);
        killed.params.free();
        resumed.params.free();
      }),
      { numRuns: 6 },
    );
  }
});

test('a longer plan goes on from a checkpoint with its account: the bits and the ε of one that was as long from the start', () => {
  for (const sampling of samplings) {
    using straight = training({ sampling, epochs: 5 });
    for (const _ of straight.run()) {
      // to the end
    }
    for (const done of [0, 7, 15]) {
      using short = training({ sampling });
      for (let t = 0; t < done; t++) short.next();
      using longer = training({ sampling, epochs: 5 });
      longer.load(short.save());
      assert.equal(longer.released, longer.plan.phases(done));
      for (const _ of longer.run()) {
        // to the end
      }
      assert.equal(longer.params.values(), straight.params.values());
      assert.equal(longer.released, straight.plan.phases());
      assert.is(longer.getEpsilon(1e-5).epsilon, straight.plan.epsilon(1e-5).epsilon);
    }
  }
  // With other noise from there on, each step is counted with its own; other noise before it would be another account.
  using short = training();
  for (let t = 0; t < 7; t++) short.next();
  const from = (at: number) => (step: number) => (step < at ? 1.1 : 2);
  using quieter = training({ noiseMultiplier: from(7), epochs: 5 });
  quieter.load(short.save());
  for (const _ of quieter.run()) {
    // to the end
  }
  assert.equal(
    quieter.released.map((phase) => [phase.noiseMultiplier, phase.steps]),
    [
      [1.1, 7],
      [2, 18],
    ],
  );
  using other = training({ noiseMultiplier: from(6), epochs: 5 });
  throwsCode('PLAN_MISMATCH', () => other.load(short.save()));
  using tooShort = training({ epochs: 1 });
  assert.match(
    throwsCode('PLAN_MISMATCH', () => tooShort.load(short.save())),
    /7 steps behind it, and this plan ends after 5/,
  );
});

test('a learning-rate schedule is followed by steps', () => {
  using scheduled = training({ optimizer: sgd({ learningRate: 0.3 }), schedule: (step) => 0.3 / (step + 1) });
  using plain = training({ optimizer: sgd({ learningRate: 0.3 }) });
  const moved = (run: typeof plain) => {
    const before = run.params.values();
    run.next();
    return run.params.values().map((value, i) => value - before[i]!);
  };
  assert.equal(moved(scheduled), moved(plain));
  plain.params.load(scheduled.params.values());
  const [half, whole] = [moved(scheduled), moved(plain)];
  assert.ok(half.every((value, i) => Math.abs(2 * value - whole[i]!) < 1e-6));
});

test('a secure training resumes with fresh noise and the same account; a shuffled epoch goes on where it stopped', () => {
  const secure: Changes = { seed: undefined as never, sampling: 'shuffled', diagnostics: true };
  using first = training(secure);
  for (let t = 0; t < 7; t++) first.next();
  const bytes = first.save();
  using again = training(secure);
  using other = training(secure);
  for (const resumed of [again, other]) {
    resumed.load(bytes);
    for (const _ of resumed.run()) {
      // to the end
    }
    assert.equal(resumed.released, first.plan.phases());
  }
  assert.not.equal(again.params.values(), other.params.values());
  const seedOf = (run: typeof first) =>
    /publicSeed[^0-9]*(\d+)/.exec(new TextDecoder('latin1').decode(run.save()))![1];
  assert.is(seedOf(again), seedOf(first));
  assert.is.not(seedOf(training(secure)), seedOf(first));
});

test('checkpoints of something else are refused, and change nothing', () => {
  using run = training();
  run.next();
  const bytes = run.save();
  const text = new TextDecoder('latin1').decode(bytes);
  assert.not.match(text, 'key');
  const fresh = (changes: Changes) => {
    const other = training(changes);
    const before = other.params.values();
    return { other, before };
  };
  for (const [code, changes] of [
    ['PLAN_MISMATCH', { noiseMultiplier: 1.2 }],
    ['PLAN_MISMATCH', { sampling: 'shuffled' }],
    ['PLAN_MISMATCH', { shaper: adaptiveClipping() }],
    ['PLAN_MISMATCH', { seed: undefined as never }],
    ['CHECKPOINT_MISMATCH', { optimizer: sgd({ learningRate: 0.05 }) }],
  ] as [string, Changes][]) {
    const { other, before } = fresh(changes);
    throwsCode(code, () => other.load(bytes));
    assert.equal(other.params.values(), before);
    assert.is(other.step, 0);
    other.params.free();
    other.free();
  }
  const { other } = fresh({});
  throwsCode('CHECKPOINT_INVALID', () => other.load(bytes.subarray(0, 50)));
  throwsCode('TRAINING_STARTED', () => run.load(bytes));
  other.free();
});

test('the noise for a target keeps within it, with what went before', () => {
  for (const sampling of ['poisson', 'fixed-size', 'shuffled'] as const) {
    const params = model.init(engine, { seed: 1 });
    const options = { model, params, optimizer: sgd({ learningRate: 0.1 }), data, clipNorm: 1, sampling };
    const target = { targetEpsilon: 3, targetDelta: 1e-5, accountant: 'rdp' } as const;
    using run = makePrivateWithEpsilon({ ...options, batchSize: 12, epochs: 3, ...target });
    for (const _ of run.run()) {
      // to the end
    }
    const { epsilon } = run.getEpsilon(1e-5);
    assert.ok(epsilon <= 3 && epsilon > 2.99, `${sampling}: ${epsilon}`);
    // A second training on the same data: its σ must leave room for the first one.
    throwsCode('TARGET_UNREACHABLE', () =>
      makePrivateWithEpsilon({
        ...{ ...options, batchSize: 12, epochs: 3, ...target },
        ...{ targetEpsilon: 2, previous: run.released },
      }),
    );
    using second = makePrivateWithEpsilon({
      ...{ ...options, batchSize: 12, epochs: 3, ...target },
      ...{ targetEpsilon: 5, previous: run.released },
    });
    for (const _ of second.run()) {
      // to the end
    }
    const both = second.getEpsilon(1e-5).epsilon;
    assert.ok(both <= 5 && both > 4.98, `${both}`);
    assert.ok(second.plan.epsilon(1e-5).epsilon > epsilon);
    params.free();
  }
});

test('who is called private: secure sources, finite ε, accounted as drawn', () => {
  const isPrivate = (changes: Changes) => {
    using run = training({ seed: undefined as never, ...changes });
    run.next();
    const statement = run.statement(1e-5);
    assert.ok(formatStatement(statement).includes('60'), 'the public size is named');
    return statement.private;
  };
  assert.is(isPrivate({}), true);
  assert.is(isPrivate({ sampling: 'fixed-size' }), true);
  assert.is(isPrivate({ sampling: 'shuffled' }), true);
  assert.is(isPrivate({ sampling: 'nominal-poisson' }), false);
  assert.is(isPrivate({ seed: 5 }), false);
  assert.is(isPrivate({ noiseMultiplier: 0 }), false);
  assert.is(isPrivate({ shaper: coordinateMedian(), noiseMultiplier: 0 }), false);
  using clipped = training({ noiseMultiplier: 0 });
  clipped.next();
  assert.is(clipped.getEpsilon(1e-5).epsilon, Infinity);
  throwsCode('NOISE_INVALID', () => training({ shaper: coordinateMedian() }));
});

test('secure trainings differ from each other, and learn', () => {
  const large = engine.dataset({
    x: Float32Array.from({ length: 2000 }, (_, i) => Math.sin(i * i) + (Math.floor(i / 2) % 2 ? 1.5 : -1.5)),
    y: Int32Array.from({ length: 1000 }, (_, i) => i % 2),
    shape: [2],
  });
  const plain = sequential(dense(2, 2));
  const results = [0, 1].map(() => {
    const params = plain.init(engine, { seed: 1 });
    using run = makePrivate({
      ...{ model: plain, params, optimizer: sgd({ learningRate: 1 }), data: large },
      ...{ batchSize: 100, epochs: 5, clipNorm: 1, noiseMultiplier: 1 },
    });
    for (const _ of run.run()) {
      // to the end
    }
    return { values: params.values(), accuracy: evaluate(plain, params, large).accuracy };
  });
  assert.not.equal(results[0]!.values, results[1]!.values);
  for (const { accuracy } of results) assert.ok(accuracy > 0.85, `${accuracy}`);
  large.free();
});

test('there is no way to feed a batch, or to go on after an error', () => {
  using run = training();
  const members = new Set<string>();
  for (let at: object = run; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) members.add(name);
  }
  assert.equal([...members].sort(), [
    ...['audit', 'constructor', 'free', 'getEpsilon', 'load', 'next', 'params', 'plan', 'released', 'run'],
    ...['save', 'statement', 'step', 'warnings'],
  ]);
  assert.throws(() => {
    (run as { step: number }).step = 0;
  });
  let broken = false;
  const failing: Model = {
    apply(params, input, options) {
      if (broken) throw new Error('out of luck');
      return model.apply(params, input, options);
    },
  };
  using unlucky = training({ model: failing });
  unlucky.next();
  broken = true;
  assert.throws(() => unlucky.next(), 'out of luck');
  broken = false;
  assert.is(unlucky.released[0]!.steps, 2);
  throwsCode('TRAINING_FAILED', () => unlucky.next());
});

test('models that can’t be trained privately are refused with a hint', () => {
  const check = (apply: (params: Parameters, input: Tensor) => Tensor) => {
    const params = model.init(engine, { seed: 1 });
    const issues = validateModel((p, b) => crossEntropy(apply(p, b.x), b.y), params, { shape: [6] });
    params.free();
    return issues;
  };
  assert.equal(
    check((p, input) => model.apply(p, input)),
    [],
  );
  const normalised = (p: Parameters, input: Tensor) =>
    model.apply(p, div(input, mean(input, { axes: [0], keepDims: true })));
  const [mixed] = check(normalised);
  assert.is(mixed!.severity, 'error');
  assert.is(mixed!.code, 'EXAMPLES_MIXED');
  assert.match(mixed!.hint, 'groupNorm');
  const message = throwsCode('MODEL_NOT_PRIVATE', () => training({ model: { apply: normalised } }));
  assert.match(message, 'groupNorm');
  const [tied] = check((p, input) => {
    const w = p.get('0.weight');
    return model.apply(p, mul(input, mean(w)));
  });
  assert.is(tied!.severity, 'warning');
  using slow = training({
    model: { apply: (p, input) => model.apply(p, mul(input, mean(p.get('0.weight')))) },
    ...{ batchSize: 4, epochs: 1 },
  });
  assert.is(slow.warnings.length, 1);
  slow.next();
  const params = model.init(engine, { seed: 1 });
  params.freeze();
  throwsCode('MODEL_NOT_PRIVATE', () => training({ params }));
  throwsCode('MODEL_NOT_PRIVATE', () => training({ model: sequential(flatten(), dense(5, 2)) }));
});

test('bad settings are refused with the range', () => {
  const plan = (changes: Partial<PrivacyPlanOptions>) => () => privacyPlan({ ...settings, ...changes });
  throwsCode('BATCH_SIZE_OUT_OF_RANGE', plan({ batchSize: 0 }));
  throwsCode('BATCH_SIZE_OUT_OF_RANGE', plan({ batchSize: 1001 }));
  throwsCode('BATCH_SIZE_OUT_OF_RANGE', plan({ batchSize: 1.5, sampling: 'fixed-size' }));
  throwsCode('DATASET_SIZE_OUT_OF_RANGE', plan({ datasetSize: 0 }));
  throwsCode('STEPS_OUT_OF_RANGE', plan({ epochs: 0 }));
  throwsCode('STEPS_OUT_OF_RANGE', plan({ steps: 5 }));
  throwsCode('STEPS_OUT_OF_RANGE', plan({ epochs: 1.5 }));
  throwsCode('NOISE_INVALID', plan({ noiseMultiplier: -1 }));
  throwsCode('NOISE_INVALID', plan({ noiseMultiplier: Infinity }));
  throwsCode('NOISE_INVALID', plan({ clipNorm: Infinity }));
  throwsCode('SAMPLING_UNKNOWN', plan({ sampling: 'uniform' as Sampling }));
  throwsCode('SEED_INVALID', plan({ seed: -1 }));
  throwsCode(
    'RELATION_MISMATCH',
    plan({ previous: privacyPlan({ ...settings, sampling: 'fixed-size' }).phases() }),
  );
  throwsCode('BATCH_SIZE_INVALID', () => training({ maxPhysicalBatch: 0 }));
  throwsCode('SHAPER_NEEDS_WHOLE_BATCH', () => {
    using run = training({ shaper: coordinateMedian(), noiseMultiplier: 0, maxPhysicalBatch: 2 });
    run.next();
  });
});

test.run();
