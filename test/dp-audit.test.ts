// Audits of our own DP-SGD: one that keeps its promise passes; one with half the noise, or that leaves one example unclipped, is
// caught. Seeds are fixed. What was promised is the Gaussian mechanism's own closed form.
import {
  auditCanaries,
  auditMembership,
  auditPoisoning,
  clipFactors,
  flatClipping,
  gaussianEpsilon,
  makePrivate,
  type PrivateStepOptions,
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

const canaryAudit = (noiseMultiplier: number, steps: number, seed: number) =>
  auditCanaries({
    ...{ engine, canaries: 40_000, guesses: 1600, steps, seed },
    makeStep: (params) =>
      privateStep({
        ...{ params, optimizer: optimizer(), clipNorm: 0.5, noiseMultiplier, expectedBatchSize: 10 },
        noise: seededNoise(seed),
      }),
  });

test('one-run canaries: the promised noise passes, half of it is caught', () => {
  for (const [sigma, steps] of [
    [1, 1],
    [2, 4],
  ] as const) {
    const promised = gaussianEpsilon(Math.sqrt(steps) / sigma, 1e-5);
    for (const seed of [1, 2]) {
      const honest = canaryAudit(sigma, steps, seed);
      assert.ok(honest.epsilonLowerBound <= promised, `${honest.epsilonLowerBound} of ${promised}`);
      // The audit has teeth: the bound is no formality.
      assert.ok(honest.epsilonLowerBound > 0.3 * promised, `${honest.epsilonLowerBound} of ${promised}`);
      const halved = canaryAudit(sigma / 2, steps, seed);
      assert.ok(halved.epsilonLowerBound > promised, `${halved.epsilonLowerBound} of ${promised}`);
    }
  }
});

test('one-run canaries: a clip norm that is not kept is caught', () => {
  const promised = gaussianEpsilon(1, 1e-5);
  const { epsilonLowerBound } = auditCanaries({
    ...{ engine, canaries: 22_500, guesses: 900, seed: 1 },
    makeStep: (params) =>
      privateStep({
        ...{
          params,
          optimizer: optimizer(),
          noiseMultiplier: 1,
          expectedBatchSize: 10,
          noise: seededNoise(1),
        },
        // Says 1, clips to 3.
        shaper: { ...flatClipping({ clipNorm: 3 }), bound: () => 1 },
      }),
  });
  assert.ok(epsilonLowerBound > promised, `${epsilonLowerBound} of ${promised}`);
});

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
    return factors;
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

test('bad settings are refused', () => {
  const makeStep = () => assert.unreachable() as never;
  throwsCode('AUDIT_INVALID', () => auditCanaries({ engine, makeStep, canaries: 99, seed: 1 }));
  throwsCode('AUDIT_INVALID', () =>
    auditCanaries({ engine, makeStep, canaries: 100, guesses: 101, seed: 1 }),
  );
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 1, attack: () => 0 }));
  throwsCode('AUDIT_INVALID', () => auditPoisoning({ runs: 10, poisons: 0, attack: () => 0 }));
  throwsCode('AUDIT_INVALID', () => auditMembership({ runs: 10, attack: () => Number.NaN }));
  // An attack that guesses proves nothing.
  const coin = auditMembership({ runs: 500, attack: ({ run }) => Math.sin(run * run) });
  assert.is(coin.epsilonLowerBound, 0);
});

test.run();
