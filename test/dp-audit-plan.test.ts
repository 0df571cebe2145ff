// Audits of plans: what is promised of all steps, by every sampling and rule. Seeds are fixed.
import {
  adaptiveClipping,
  auditPlan,
  automaticClipping,
  createAccountant,
  flatClipping,
  makePrivate,
  normRejection,
  type PrivacyPlanOptions,
  type PrivateTrainingOptions,
  perLayerClipping,
  privacyPlan,
} from 'gradshape/dp';
import { createEngineSync } from 'gradshape/engine';
import { dense, sequential, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { close, throwsCode } from './engine-helpers.js';
import { lying } from './lying-rule.js';

const engine = createEngineSync();
const optimizer = () => sgd({ learningRate: 1 });

const planOptions: PrivacyPlanOptions = {
  ...{ datasetSize: 1000, batchSize: 200, epochs: 2, clipNorm: 1, noiseMultiplier: 1 },
};
const auditOf = (options: Partial<PrivacyPlanOptions>, confidence = 0.9999) =>
  auditPlan(privacyPlan({ ...planOptions, ...options } as PrivacyPlanOptions), {
    ...{ engine, strategy: 'materialize', confidence },
  });

test('plans: all samplings hold; what they promise is for all steps', () => {
  for (const sampling of ['poisson', 'fixed-size', 'shuffled'] as const) {
    const audit = auditOf({ sampling });
    assert.is(audit.verdict, 'holds', `${sampling}: ${audit.says}`);
    const plan = privacyPlan({ ...planOptions, sampling });
    close(audit.allowedEpsilon, plan.epsilon(1e-5).epsilon, 1e-12);
    assert.ok(audit.epsilonLowerBound > 0.2 * audit.allowedEpsilon, `${sampling}: ${audit.says}`);
    assert.ok(audit.epsilonLowerBound < audit.ceiling);
  }
  assert.is(auditOf({ batchSize: 1000, seed: 5 }).verdict, 'holds');
  assert.is(auditOf({ noiseMultiplier: (step) => 2 - step / 10 }).verdict, 'holds');
  // Counted as if nobody knew the order, which is public.
  const nominal = auditOf({ sampling: 'nominal-poisson' }, 0.95);
  assert.is(nominal.verdict, 'violated');
  assert.match(nominal.says, /draws that others can know/);
  // Too few examples for so little noise, and nothing promised.
  const few = auditOf({ datasetSize: 4, batchSize: 2, noiseMultiplier: 0.1 });
  assert.is(few.verdict, 'undecided');
  assert.match(
    few.says,
    /no more than the [0-9.]+ that is promised, but this audit was too small to find every fault/,
  );
  const nothing = auditOf({ noiseMultiplier: 0 });
  assert.is(nothing.verdict, 'undecided');
  assert.is(nothing.allowedEpsilon, Infinity);
});

test('plans: of all sizes of bounds, and rules that leave large gradients out', () => {
  const { clipNorm: _, ...rest } = planOptions;
  for (const shaper of [
    ...[1e-6, 1e6].map((clipNorm) => flatClipping({ clipNorm })),
    ...[normRejection({ maxNorm: 5 }), automaticClipping({ clipNorm: 1 })],
  ]) {
    const audit = auditPlan(privacyPlan({ ...rest, shaper }), {
      ...{ engine, strategy: 'materialize', confidence: 0.9999 },
    });
    assert.is(audit.verdict, 'holds', audit.says);
    // Half of the canaries are left out by this one, so that little is proved.
    if (shaper.name === 'normRejection') continue;
    assert.ok(audit.epsilonLowerBound > 0.1 * audit.allowedEpsilon, `${shaper}: ${audit.says}`);
    const bound = shaper.bound(0)! / 4;
    const liar = privacyPlan({ ...rest, shaper: lying(shaper, bound) });
    const found = auditPlan(liar, { engine, strategy: 'materialize' });
    assert.is(found.verdict, 'violated', `${shaper}: ${found.says}`);
  }
});

test('plans: a rule that does not keep its bound is caught', () => {
  const { clipNorm: _, ...rest } = planOptions;
  const plan = privacyPlan({ ...rest, shaper: lying(flatClipping({ clipNorm: 2 }), 1) });
  const audit = auditPlan(plan, { engine, strategy: 'materialize' });
  assert.is(audit.verdict, 'violated');
  // With half the noise that it says, the plan gives this ε, which the bound is near to.
  const truth = createAccountant('pld', privacyPlan({ ...planOptions, noiseMultiplier: 0.5 }).phases());
  const { epsilon } = truth.epsilon(1e-5);
  assert.ok(audit.epsilonLowerBound > audit.allowedEpsilon && audit.epsilonLowerBound < 1.05 * epsilon);
});

test('plans: an audit leaves a rule as it was', () => {
  const shaper = adaptiveClipping({ initialClipNorm: 3 });
  const { clipNorm: _, ...rest } = planOptions;
  const audit = auditPlan(privacyPlan({ ...rest, shaper }), {
    engine,
    confidence: 0.9999,
    strategy: 'materialize',
  });
  assert.is(audit.verdict, 'holds', audit.says);
  assert.is(shaper.clipNorm, 3);
  const layered = perLayerClipping({
    params: sequential(dense(4, 2)).init(engine, { seed: 1 }),
    clipNorm: 1,
  });
  throwsCode('AUDIT_INVALID', () => auditPlan(privacyPlan({ ...rest, shaper: layered }), { engine }));
  throwsCode('DELTA_OUT_OF_RANGE', () => auditPlan(privacyPlan(planOptions), { engine, delta: 0 }));
  throwsCode('FRACTION_OUT_OF_RANGE', () => auditPlan(privacyPlan(planOptions), { engine, confidence: 1 }));
});

test('makePrivate audits its plan when asked to, and says so in the statement', () => {
  const model = sequential(dense(2, 2));
  const n = 400;
  const data = engine.dataset({
    x: Float32Array.from({ length: 2 * n }, (_, i) => Math.sin(i)),
    y: Int32Array.from({ length: n }, (_, i) => i % 2),
    shape: [2],
  });
  const train = (options: Partial<PrivateTrainingOptions>) => {
    const params = model.init(engine, { seed: 1 });
    const training = makePrivate({
      ...{ model, params, optimizer: optimizer(), data, batchSize: 100, epochs: 2, strategy: 'materialize' },
      ...{ noiseMultiplier: 1, ...(options.shaper === undefined && { clipNorm: 1 }), ...options },
    } as PrivateTrainingOptions);
    for (const _ of training.run({ untilEpoch: 0 })) {
      // one epoch
    }
    return training;
  };
  const training = train({ audit: true });
  const { audit } = training;
  const statement = training.statement(1e-5);
  const soFar = audit!.at(1e-5, 4);
  assert.is(statement.says.at(-1), soFar.says);
  close(soFar.allowedEpsilon, statement.epsilon, 1e-9);
  assert.is(audit!.steps, 8);
  assert.ok(audit!.epsilonLowerBound > soFar.epsilonLowerBound);
  assert.is(audit!.at(1e-5), audit);
  throwsCode('DELTA_OUT_OF_RANGE', () => audit!.at(0));
  assert.is(train({}).audit, null);
  // A seeded training repeats itself, audited or not: the audit uses nothing of it.
  const [plain, audited] = [train({ seed: 1 }), train({ seed: 1, audit: true })];
  assert.equal(audited.params.values(), plain.params.values());
  assert.is(audited.audit!.epsilonLowerBound > 0, true);
  throwsCode('TRAIN_OPTIONS_INVALID', () => train({ audit: 'no' as never }));
  // A rule that lies: what is stated is not private.
  const liar = train({ audit: true, shaper: lying(flatClipping({ clipNorm: 3 }), 1) });
  assert.is(liar.audit!.verdict, 'violated');
  assert.is(liar.statement(1e-5).private, false);
  assert.match(liar.statement(1e-5).says.at(-1)!, /not as private as it says/);
  data.free();
});

test.run();
