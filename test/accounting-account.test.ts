// What accountants take: phases with their steps, checkpoints, and numbers that are none; and how bounds are printed.
import fc from 'fast-check';
import {
  type Accountant,
  type AccountantState,
  accountantFromJSON,
  calibrateNoiseMultiplier,
  calibrateSteps,
  createAccountant,
  formatLowerBound,
  formatUpperBound,
  gaussianDelta,
  gaussianEpsilon,
  groupCertificate,
  type PrivacyEvent,
  type PrivacyPhase,
  pldAccountant,
  privacyPlan,
  privacyStatement,
  rdpAccountant,
} from 'gradshape/dp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const event: PrivacyEvent = { mechanism: 'poissonSampledGaussian', samplingRate: 0.01, noiseMultiplier: 1.1 };
const notCounts = [Number.NaN, -1, 0, 2.5, Infinity, '3', null, 2 ** 53] as number[];

test('a phase is counted with its steps, and with a count that many times', () => {
  const plan = privacyPlan({
    ...{ datasetSize: 60_000, batchSize: 600, epochs: 15, clipNorm: 1, noiseMultiplier: 1.1 },
  });
  const [phase] = plan.phases() as [PrivacyPhase];
  for (const make of [rdpAccountant, pldAccountant]) {
    const accountant = make();
    for (const each of plan.phases()) accountant.step(each);
    assert.equal(accountant.phases, plan.phases());
    assert.is(
      accountant.epsilon(1e-5).epsilon,
      plan.accountantAfter(1500, accountant.name).epsilon(1e-5).epsilon,
    );
  }
  assert.is(rdpAccountant().step(phase, 3).phases[0]!.steps, 4500);
  assert.is(rdpAccountant().step(phase).step(event, 5).step(event).phases[0]!.steps, 1506);
});

test('what comes with an event does not keep equal events apart', () => {
  const named = { ...event, name: 'first', steps: 2 } as PrivacyEvent;
  const reordered = Object.fromEntries(Object.entries(event).reverse()) as PrivacyEvent;
  const accountant = rdpAccountant().step(named).step(event).step(reordered, 4);
  assert.equal(accountant.phases, [{ ...event, steps: 7 }]);
});

test('the account can not be changed from outside', () => {
  const accountant = rdpAccountant().step(event, 10);
  const { phases } = accountant;
  (phases as PrivacyPhase[]).length = 0;
  assert.is(accountant.phases.length, 1);
  assert.throws(() => {
    accountant.phases[0]!.steps = 1;
  });
  const before = accountant.phases;
  accountant.step(event);
  assert.is(before[0]!.steps, 10);
  const given = { ...event };
  accountant.step(given);
  given.noiseMultiplier = 100;
  assert.is(accountant.phases[0]!.noiseMultiplier, 1.1);
});

test('a number of steps that is none is refused, wherever it is given, and nothing is added', () => {
  const accountant = rdpAccountant().step(event);
  for (const bad of notCounts) {
    throwsCode('STEPS_OUT_OF_RANGE', () => accountant.step(event, bad));
    throwsCode('STEPS_OUT_OF_RANGE', () => accountant.step({ ...event, steps: bad }));
    throwsCode('STEPS_OUT_OF_RANGE', () => createAccountant('pld', [{ ...event, steps: bad }]));
    throwsCode('STEPS_OUT_OF_RANGE', () =>
      groupCertificate([{ ...event, steps: bad }], { size: 2, delta: 1e-5 }),
    );
  }
  throwsCode('STEPS_OUT_OF_RANGE', () => createAccountant('pld', [event as PrivacyPhase]));
  throwsCode('STEPS_OUT_OF_RANGE', () =>
    rdpAccountant()
      .step(event, 2 ** 52)
      .step(event, 2 ** 52),
  );
  assert.equal(accountant.phases, [{ ...event, steps: 1 }]);
});

test('a plan answers for whole steps within it, and for no others', () => {
  for (const sampling of ['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'] as const) {
    const plan = privacyPlan({
      ...{ datasetSize: 1000, batchSize: 300, epochs: 3, clipNorm: 1, noiseMultiplier: 1, sampling },
    });
    for (const bad of [Number.NaN, -1, 2.5, plan.steps + 1, Infinity, '3', null] as number[]) {
      for (const ask of [
        () => plan.epsilon(1e-5, bad),
        () => plan.statement(1e-5, bad),
        () => plan.accountantAfter(bad),
        () => plan.phases(bad),
        () => plan.fingerprint(bad),
        () => plan.releasedBy(bad),
        () => plan.countedNoise(bad),
        () => plan.epochOf(bad),
      ]) {
        throwsCode('STEPS_OUT_OF_RANGE', ask);
      }
    }
    throwsCode('STEPS_OUT_OF_RANGE', () => plan.releasedBy(plan.steps));
    assert.match(
      throwsCode('STEPS_OUT_OF_RANGE', () => plan.phases(2.5)),
      /^plan\.phases: 2\.5 is no whole number/,
    );
    assert.match(
      throwsCode('STEPS_OUT_OF_RANGE', () => plan.epsilon(1e-5, '3' as never)),
      "plan.epsilon: '3' is",
    );
    for (const bad of [Number.NaN, -1, 2.5, Infinity, '3'] as number[])
      throwsCode('STEPS_OUT_OF_RANGE', () => plan.stepsAfter(bad));
    assert.is(plan.epsilon(1e-5, 0).epsilon, 0);
    assert.is(plan.epsilon(1e-5, plan.steps).epsilon, plan.epsilon(1e-5).epsilon);
  }
});

test('numbers in text are no numbers', () => {
  const accountant = rdpAccountant().step(event, 100);
  const text = '1e-5' as unknown as number;
  throwsCode('DELTA_OUT_OF_RANGE', () => accountant.epsilon(text));
  throwsCode('DELTA_OUT_OF_RANGE', () => privacyStatement(accountant, { delta: text }));
  throwsCode('DELTA_OUT_OF_RANGE', () => groupCertificate(accountant.phases, { size: 2, delta: text }));
  throwsCode('EPSILON_OUT_OF_RANGE', () => accountant.delta('1' as never));
  throwsCode('NOISE_MULTIPLIER_OUT_OF_RANGE', () =>
    accountant.step({ ...event, noiseMultiplier: '1' as never }),
  );
  throwsCode('SAMPLING_RATE_OUT_OF_RANGE', () => accountant.step({ ...event, samplingRate: '0.1' } as never));
  const phases = (sigma: number): PrivacyPhase[] => [{ ...event, noiseMultiplier: sigma, steps: 10 }];
  throwsCode('EPSILON_OUT_OF_RANGE', () =>
    calibrateNoiseMultiplier({ targetEpsilon: '3' as never, targetDelta: 1e-5 }, phases),
  );
  throwsCode('DELTA_OUT_OF_RANGE', () =>
    calibrateSteps({ targetEpsilon: 3, targetDelta: text }, () => phases(1)),
  );
  for (const mu of [-1, Number.NaN, '1'] as number[]) {
    throwsCode('RATIO_OUT_OF_RANGE', () => gaussianEpsilon(mu, 1e-5));
    throwsCode('RATIO_OUT_OF_RANGE', () => gaussianDelta(mu, 1));
  }
  for (const bad of [0, 1, 2, -1, Number.NaN, text])
    throwsCode('DELTA_OUT_OF_RANGE', () => gaussianEpsilon(1, bad));
  for (const bad of [-1, Number.NaN, text]) throwsCode('EPSILON_OUT_OF_RANGE', () => gaussianDelta(1, bad));
  throwsCode('ORDERS_OUT_OF_RANGE', () => rdpAccountant({ orders: ['2'] as never }));
  throwsCode('ORDERS_OUT_OF_RANGE', () => rdpAccountant({ orders: 2 as never }));
  throwsCode('BATCH_SIZE_OUT_OF_RANGE', () =>
    privacyPlan({
      ...{ datasetSize: 1000, batchSize: '100' as never, epochs: 3, clipNorm: 1, noiseMultiplier: 1 },
    }),
  );
});

test('the search for the number of steps ends where one more would overstep, however many they are', () => {
  const phases = (steps: number): PrivacyPhase[] => [{ mechanism: 'gaussian', noiseMultiplier: 1e5, steps }];
  const { value, guarantee } = calibrateSteps({ targetEpsilon: 1, targetDelta: 1e-5 }, phases);
  assert.is(value, 718514046);
  assert.ok(guarantee.epsilon <= 1 && createAccountant('pld', phases(value + 1)).epsilon(1e-5).epsilon > 1);
  const quiet = (steps: number): PrivacyPhase[] => [{ mechanism: 'gaussian', noiseMultiplier: 1e12, steps }];
  assert.is(calibrateSteps({ targetEpsilon: 1, targetDelta: 1e-5 }, quiet).value, Number.MAX_SAFE_INTEGER);
});

test('an account that is damaged in a file is refused by name', () => {
  const state = rdpAccountant().step(event, 10).toJSON();
  const read = (change: (state: AccountantState) => unknown): (() => Accountant) => {
    const copy = JSON.parse(JSON.stringify(state)) as AccountantState;
    const changed = change(copy);
    return () => accountantFromJSON((changed === undefined ? copy : changed) as AccountantState);
  };
  assert.equal(read(() => {})().phases, state.phases);
  throwsCode(
    'ACCOUNTANT_STATE_INVALID',
    read(() => null),
  );
  throwsCode(
    'ACCOUNTANT_STATE_INVALID',
    read((s) => ({ ...s, phases: {} })),
  );
  throwsCode(
    'ACCOUNTANT_STATE_INVALID',
    read((s) => ({ ...s, version: 2 })),
  );
  throwsCode(
    'ACCOUNTANT_UNKNOWN',
    read((s) => ({ ...s, accountant: 'prv' })),
  );
  throwsCode(
    'STEPS_OUT_OF_RANGE',
    read((s) => ({ ...s, phases: [event] })),
  );
  throwsCode(
    'STEPS_OUT_OF_RANGE',
    read((s) => ({ ...s, phases: [null] })),
  );
  throwsCode(
    'MECHANISM_UNKNOWN',
    read((s) => ({ ...s, phases: [{ steps: 1 }] })),
  );
  throwsCode(
    'NOISE_MULTIPLIER_OUT_OF_RANGE',
    read((s) => ({ ...s, phases: [{ ...s.phases[0], noiseMultiplier: null }] })),
  );
  throwsCode('PHASES_INVALID', () => createAccountant('rdp', 5 as never));
  throwsCode('PHASES_INVALID', () => groupCertificate(null as never, { size: 2, delta: 1e-5 }));
});

const printed = (text: string): number => Number(text.replace('∞', 'Infinity'));
const magnitudes = fc.oneof(
  fc.double({ min: 0, noNaN: true }),
  fc.double({ min: 1e-3, max: 1e3, noNaN: true }),
  // Just above and just below four digits.
  fc
    .tuple(
      fc.integer({ min: 1000, max: 9999 }),
      fc.integer({ min: -330, max: 300 }),
      fc.integer({ min: -2, max: 2 }),
    )
    .map(([digits, exponent, ulps]) => {
      let value = Number(`${digits}e${exponent}`);
      const bits = new DataView(new ArrayBuffer(8));
      bits.setFloat64(0, value);
      bits.setBigInt64(0, bits.getBigInt64(0) + BigInt(ulps));
      value = bits.getFloat64(0);
      return Number.isNaN(value) || value < 0 ? 0 : value;
    }),
  fc.constantFrom(
    5e-324,
    1.5e-323,
    2.2250738585072014e-308,
    Number.MAX_VALUE,
    Infinity,
    0,
    1,
    9.9995,
    0.00099995,
  ),
);

test('a printed upper bound is never below the bound, a lower one never above it, and both are near', () => {
  fc.assert(
    fc.property(magnitudes, fc.integer({ min: 1, max: 15 }), (value, digits) => {
      const [up, down] = [printed(formatUpperBound(value, digits)), printed(formatLowerBound(value, digits))];
      assert.ok(up >= value && down <= value, `${down} ≤ ${value} ≤ ${up}`);
      assert.ok(down >= 0);
      if (value < 1e-300 || value > 1e300) return;
      const unit = 10 ** (1 - digits) * 1.0000001 * value;
      assert.ok(up - value <= unit && value - down <= unit, `${down} ≤ ${value} ≤ ${up}, ${digits} digits`);
    }),
    { numRuns: 5000 },
  );
  for (const [value, up, down] of [
    [1.23401, '1.235', '1.234'],
    [1.5, '1.5', '1.5'],
    [9.9999, '10', '9.999'],
    [1e-5, '1e-5', '1e-5'],
    [1.66649e-5, '1.667e-5', '1.666e-5'],
    [12345, '12350', '12340'],
    [Infinity, '∞', '∞'],
    [Number.MAX_VALUE, '∞', '1.797e+308'],
    [0, '0', '0'],
  ] as const) {
    assert.is(formatUpperBound(value), up);
    assert.is(formatLowerBound(value), down);
  }
  for (const digits of [0, 16, 2.5, Number.NaN])
    throwsCode('DIGITS_OUT_OF_RANGE', () => formatUpperBound(1, digits));
});

test('a statement prints no ε, δ or rate below its own, and no σ above', () => {
  const number = '([\\d.]+(?:e[-+]\\d+)?|∞)';
  fc.assert(
    fc.property(
      fc.record({
        samplingRate: fc.double({ min: 1e-4, max: 0.99, noNaN: true }),
        noiseMultiplier: fc.double({ min: 0.3, max: 30, noNaN: true }),
        steps: fc.integer({ min: 1, max: 3000 }),
        delta: fc.double({ min: 1e-12, max: 0.1, noNaN: true }),
      }),
      ({ samplingRate, noiseMultiplier, steps, delta }) => {
        const accountant = rdpAccountant().step({ mechanism: 'gaussian', noiseMultiplier }, steps);
        for (const origin of ['secure', 'seeded', 'unknown'] as const) {
          const { epsilon, guarantees, says } = privacyStatement(accountant, { delta, noiseOrigin: origin });
          const [, e, d] = new RegExp(`ε = ${number}, δ = ${number}`).exec(says[0]!)!;
          assert.ok(printed(e!) >= epsilon && printed(d!) >= delta, `${says[0]} for ${epsilon}, ${delta}`);
          const lines = says.filter((line) => /^(RDP|PLD|GDP):/.test(line));
          lines.forEach((line, i) => {
            assert.ok(printed(new RegExp(`ε = ${number}`).exec(line)![1]!) >= guarantees[i]!.epsilon);
          });
        }
        const sampled = rdpAccountant().step({
          mechanism: 'poissonSampledGaussian',
          samplingRate,
          noiseMultiplier,
        });
        const line = privacyStatement(sampled, { delta: 0.5 }).says.find((text) =>
          text.startsWith('Training:'),
        )!;
        const [, q, sigma] = new RegExp(`probability ${number}, noise multiplier ${number}\\.`).exec(line)!;
        assert.ok(printed(q!) >= samplingRate && printed(sigma!) <= noiseMultiplier, line);
      },
    ),
    { numRuns: 60 },
  );
});

test.run();
