// Audits of whole runs, by membership and by poisoning: what keeps its promise passes, what is broken is caught. Seeds are fixed.
import {
  auditCanaries,
  auditMembership,
  auditPlan,
  auditPoisoning,
  type CanaryAuditOptions,
  clipFactors,
  flatClipping,
  gaussianEpsilon,
  makePrivate,
  type PrivacyEvent,
  type PrivateStepOptions,
  poissonSampler,
  privacyPlan,
  privateStep,
  type Shaper,
  seededNoise,
} from 'gradshape/dp';
import { createEngineSync, crossEntropy, type Parameters, type Tensor } from 'gradshape/engine';
import { dense, sequential, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const optimizer = () => sgd({ learningRate: 1 });
const gaussian = (noiseMultiplier: number): PrivacyEvent => ({ mechanism: 'gaussian', noiseMultiplier });

// Ten examples and a target with a feature of its own.
const features = 4;
const model = sequential(dense(features, 2));
const target = 10;
const set = (targets: number) => {
  const rows = Array.from({ length: 10 }, (_, i) => [Math.sin(i), Math.cos(i), Math.sin(3 * i), 0]);
  const all = [...rows, ...Array.from({ length: targets }, () => [0, 0, 0, 40])];
  return engine.dataset({
    x: Float32Array.from(all.flat()),
    y: Int32Array.from(all, (_, i) => (i >= target ? 1 : i % 2)),
    shape: [features],
  });
};
const loss = (p: Parameters, b: { x: Tensor; y: Tensor }) => crossEntropy(model.apply(p, b.x), b.y);
const params = model.init(engine, { seed: 1 });
const start = new Float32Array(params.size);

/** One step on all data; how far it went along the target's gradient. */
function attack(step: ReturnType<typeof privateStep>, sets: ReturnType<typeof set>[]) {
  return ({ included, run }: { included: boolean; run: number }): number => {
    params.load(start);
    step.step = run;
    engine.scope(() => {
      const data = sets[included ? 1 : 0]!;
      step.accumulate(loss, data.batch(Array.from({ length: data.count }, (_, i) => i)));
    });
    step.finish();
    const weight = params.get('0.weight').values();
    return weight[3 * 2 + 1]! - weight[3 * 2]!;
  };
}

const stepWith = (options: Partial<PrivateStepOptions>) =>
  privateStep({
    ...{ params, optimizer: optimizer(), expectedBatchSize: 10, noise: seededNoise(7) },
    ...(options.shaper === undefined && { clipNorm: 1 }),
    noiseMultiplier: 2,
    ...options,
  });

/** Flat clipping that forgets one example. */
const forgetful: Shaper = {
  ...flatClipping({ clipNorm: 1 }),
  accumulate(g, sum) {
    const factors = clipFactors(g.norms(), { clipNorm: 1 });
    if (g.batch > target) factors.view()[target] = 1;
    g.weightedSums([factors], [sum]);
    return undefined; // or the step would see it
  },
};

const delta = 0.05;

test('membership: correct passes; half the noise, or one example unclipped, is caught', () => {
  const sets = [set(0), set(1)];
  const audit = (options: Partial<PrivateStepOptions>) => {
    const step = stepWith(options);
    const result = auditMembership({ runs: 3000, delta, attack: attack(step, sets) });
    step.free();
    return result.epsilonLowerBound;
  };
  const promised = gaussianEpsilon(1 / 2, delta);
  const correct = audit({});
  assert.ok(correct <= promised && correct > 0.3 * promised, `${correct} of ${promised}`);
  const halved = audit({ noiseMultiplier: 1 });
  assert.ok(halved > promised, `${halved} of ${promised}`);
  const unclipped = audit({ shaper: forgetful });
  assert.ok(unclipped > 3 * promised, `${unclipped} of ${promised}`);
  for (const data of sets) data.free();
});

test('poisoning: correct passes; half the noise, or one poison unclipped, is caught', () => {
  const poisons = 4;
  const sets = [set(0), set(poisons)];
  const audit = (options: Partial<PrivateStepOptions>) => {
    const step = stepWith({ noiseMultiplier: 4, ...options });
    const result = auditPoisoning({ runs: 2000, poisons, delta: 0.01, attack: attack(step, sets) });
    step.free();
    return result.epsilonLowerBound;
  };
  const promised = gaussianEpsilon(1 / 4, 0.01);
  const correct = audit({});
  assert.ok(correct <= promised && correct > 0, `${correct} of ${promised}`);
  const halved = audit({ noiseMultiplier: 2 });
  assert.ok(halved > promised, `${halved} of ${promised}`);
  const unclipped = audit({ shaper: forgetful });
  assert.ok(unclipped > promised, `${unclipped} of ${promised}`);
  for (const data of sets) data.free();
});

test('membership of a whole training: sampler, noise and accountant of makePrivate', () => {
  const sets = [set(0), set(1)];
  let promised = 0;
  const audit = (spoil: number) =>
    auditMembership({
      ...{ runs: 1000, delta },
      attack({ included, run }) {
        params.load(start);
        const data = sets[included ? 1 : 0]!;
        // The size of the data is public: both worlds divide by 5 and sample at about a half.
        using training = makePrivate({
          ...{ model, params, optimizer: optimizer(), data, batchSize: data.count / 2, steps: 2 },
          ...{ clipNorm: 1, noiseMultiplier: spoil, seed: run },
        });
        for (const _ of training.run()) {
          // to the end
        }
        if (spoil === 1) promised ||= training.plan.epsilon(delta).epsilon;
        const weight = params.get('0.weight').values();
        return weight[3 * 2 + 1]! - weight[3 * 2]!;
      },
    }).epsilonLowerBound;
  const correct = audit(1);
  assert.ok(correct <= promised && correct > 0.2 * promised, `${correct} of ${promised}`);
  const spoilt = audit(0.3);
  assert.ok(spoilt > promised, `${spoilt} of ${promised}`);
  for (const data of sets) data.free();
});

test('runs: an audit says what perfect attacks would have proved', () => {
  const perfect = auditMembership({ runs: 200, attack: ({ included }) => (included ? 1 : 0) });
  assert.is(perfect.epsilonLowerBound, perfect.ceiling);
  assert.is(perfect.verdict, null);
  const attack = ({ run }: { run: number }) => Math.sin(run * run);
  assert.is(auditMembership({ runs: 200, attack, allowedEpsilon: 1 }).verdict, 'holds');
  assert.is(auditMembership({ runs: 200, attack, allowedEpsilon: 4 }).verdict, 'undecided');
  assert.is(auditMembership({ runs: 2, attack, allowedEpsilon: 1 }).verdict, 'undecided');
  const included = ({ included }: { included: boolean }) => (included ? 1 : 0);
  assert.is(
    auditPoisoning({ runs: 200, poisons: 2, attack: included, allowedEpsilon: 1 }).verdict,
    'violated',
  );
  assert.is(
    auditPoisoning({ runs: 200, poisons: 8, attack: included, allowedEpsilon: 1 }).verdict,
    'undecided',
  );
});

test('bad settings are refused, before anything is trained', () => {
  const makeStep = () => assert.unreachable() as never;
  const audit = (options: Partial<CanaryAuditOptions>) => () =>
    auditCanaries({ engine, makeStep, seed: 1, ...options });
  const sampler = (count: number) => poissonSampler({ engine, count, samplingRate: 0.1 });
  throwsCode('AUDIT_INVALID', audit({ canaries: 99 }));
  throwsCode('AUDIT_INVALID', audit({ canaries: 100, guesses: 101 }));
  throwsCode('AUDIT_INVALID', audit({ steps: 0 }));
  throwsCode('AUDIT_INVALID', audit({ steps: 1.5 }));
  throwsCode('AUDIT_INVALID', audit({ sampler }));
  throwsCode(
    'AUDIT_INVALID',
    audit({ claim: { mechanism: 'poissonSampledGaussian', samplingRate: 0.1, noiseMultiplier: 1 } }),
  );
  throwsCode('NOISE_MULTIPLIER_OUT_OF_RANGE', audit({ claim: gaussian(-1) }));
  throwsCode('EPSILON_OUT_OF_RANGE', audit({ allowedEpsilon: Number.NaN }));
  throwsCode('EPSILON_OUT_OF_RANGE', audit({ allowedEpsilon: '3' as never }));
  throwsCode('DELTA_OUT_OF_RANGE', audit({ delta: '1e-5' as never }));
  for (const given of [undefined, null, 3, {}] as never[]) {
    throwsCode('AUDIT_INVALID', () => auditCanaries(given));
    throwsCode('AUDIT_INVALID', () => auditPlan(given, { engine }));
    throwsCode('AUDIT_INVALID', () =>
      auditPlan(
        privacyPlan({ datasetSize: 1000, batchSize: 200, epochs: 2, clipNorm: 1, noiseMultiplier: 1 }),
        given,
      ),
    );
    throwsCode('AUDIT_INVALID', () => auditMembership(given));
    throwsCode('AUDIT_INVALID', () => auditPoisoning(given));
    throwsCode('AUDIT_INVALID', audit({ makeStep: given }));
  }
  for (const wrong of [{ allowedEpsilon: '3' }, { delta: '1e-5' }] as never[]) {
    assert.throws(() => auditMembership({ runs: 10, attack: () => 0, ...(wrong as object) }), /given: '/);
  }
  throwsCode('DELTA_OUT_OF_RANGE', audit({ delta: 0 }));
  throwsCode('FRACTION_OUT_OF_RANGE', audit({ confidence: 1 }));
  throwsCode('SEED_INVALID', audit({ seed: 0.5 }));
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 1, attack: () => 0 }));
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 10, attack: 1 as never }));
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 10, attack: (async () => 1) as never }));
  throwsCode('AUDIT_INVALID', () => auditPoisoning({ runs: 10, poisons: 0, attack: () => 0 }));
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 10, attack: () => Number.NaN }));
  throwsCode('DELTA_OUT_OF_RANGE', () => auditMembership({ runs: 10, delta: 1, attack: makeStep }));
  throwsCode('FRACTION_OUT_OF_RANGE', () => auditMembership({ runs: 10, confidence: 0, attack: makeStep }));
  throwsCode('EPSILON_OUT_OF_RANGE', () =>
    auditMembership({ runs: 10, allowedEpsilon: -1, attack: makeStep }),
  );
  // An attack that guesses proves nothing.
  const coin = auditMembership({ runs: 500, attack: ({ run }) => Math.sin(run * run) });
  assert.is(coin.epsilonLowerBound, 0);
});

test.run();
