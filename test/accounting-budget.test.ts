// Calibration, validation, statements, group certificates and the statistics of audits.
import fc from 'fast-check';
import {
  type AccountantName,
  attackSuccessBound,
  type Calibration,
  calibrateNoiseMultiplier,
  calibrateSamplingRate,
  calibrateSteps,
  clopperPearson,
  createAccountant,
  epsilonLowerBound,
  formatStatement,
  gaussianEpsilon,
  groupCertificate,
  oneRunEpsilonLowerBound,
  oneRunPValue,
  type PrivacyEvent,
  type PrivacyPhase,
  pldAccountant,
  privacyStatement,
  rdpAccountant,
} from 'gradshape/dp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { normalCdf, normalQuantile } from '../dist/dp/accounting/special-functions.js';

const poisson = (samplingRate: number, noiseMultiplier: number): PrivacyEvent => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate,
  noiseMultiplier,
});
const phases = (q: number, sigma: number, steps: number): PrivacyPhase[] => [{ ...poisson(q, sigma), steps }];

function close(actual: number, expected: number, relative: number): void {
  assert.ok(Math.abs(actual / expected - 1) <= relative, `${actual} should be ${expected}`);
}

function throwsCode(code: string, action: () => unknown, says?: string): void {
  try {
    action();
  } catch (error) {
    assert.is((error as { code?: string }).code, code, String(error));
    if (says) assert.match((error as Error).message, says);
    return;
  }
  assert.unreachable(`expected ${code}`);
}

test("the noise for ε = 8, δ = 1e-5, q = 0.04: Opacus' values", () => {
  for (const [accountant, steps, sigma] of [
    ['rdp', 2250, 1.416],
    ['pld', 2250, 1.34765625],
    ['gdp', 2250, 1.3232421875],
    ['rdp', 2000, 1.3562],
    ['pld', 2000, 1.2915],
  ] as const) {
    const found = calibrateNoiseMultiplier({ targetEpsilon: 8, targetDelta: 1e-5, accountant }, (noise) =>
      phases(0.04, noise, steps),
    );
    close(found.value, sigma, 2e-3); // Opacus stops within 0.01 of ε
    assert.ok(found.guarantee.epsilon <= 8);
  }
});

test('calibration never overshoots, and 0.1 % more would', () => {
  const setting = fc.record({
    q: fc.double({ min: 1e-3, max: 0.5, noNaN: true }),
    sigma: fc.double({ min: 0.6, max: 4, noNaN: true }),
    steps: fc.integer({ min: 10, max: 5000 }),
    targetEpsilon: fc.double({ min: 0.3, max: 20, noNaN: true }),
    accountant: fc.constantFrom<AccountantName>('rdp', 'rdp', 'rdp', 'pld', 'gdp'),
  });
  const property = fc.property(setting, ({ q, sigma, steps, targetEpsilon, accountant }) => {
    const target = { targetEpsilon, targetDelta: 1e-5, accountant };
    const epsilon = (p: PrivacyPhase[]): number => createAccountant(accountant, p).epsilon(1e-5).epsilon;
    const keeps = (found: Calibration, p: (value: number) => PrivacyPhase[], beyond: number): void => {
      assert.is(epsilon(p(found.value)), found.guarantee.epsilon);
      assert.ok(found.guarantee.epsilon <= targetEpsilon);
      if (beyond <= 1 || found.value < 1)
        assert.ok(epsilon(p(found.value * beyond)) > targetEpsilon * 0.9995);
    };
    const bySigma = (value: number): PrivacyPhase[] => phases(q, value, steps);
    keeps(calibrateNoiseMultiplier(target, bySigma), bySigma, 0.999);
    const byRate = (value: number): PrivacyPhase[] => phases(Math.min(1, value), sigma, steps);
    keeps(calibrateSamplingRate(target, byRate), byRate, 1.001);
    const bySteps = (value: number): PrivacyPhase[] => phases(q, sigma, value);
    if (epsilon(bySteps(1)) > targetEpsilon) {
      throwsCode('TARGET_UNREACHABLE', () => calibrateSteps(target, bySteps), 'Reachable');
      return;
    }
    if (epsilon(bySteps(30000)) < targetEpsilon) return; // quicker so
    const found = calibrateSteps(target, bySteps);
    assert.ok(Number.isInteger(found.value) && epsilon(bySteps(found.value)) <= targetEpsilon);
    assert.ok(epsilon(bySteps(found.value + 1)) > targetEpsilon);
  });
  fc.assert(property, { numRuns: 8 });
});

test('a budget that another phase already spent is unreachable, and the error says the range', () => {
  const target = { targetEpsilon: 1, targetDelta: 1e-5, accountant: 'rdp' as const };
  const spent: PrivacyPhase = { ...poisson(0.1, 0.8), steps: 500 };
  const all = (sigma: number): PrivacyPhase[] => [spent, { ...poisson(0.01, sigma), steps: 10 }];
  throwsCode(
    'TARGET_UNREACHABLE',
    () => calibrateNoiseMultiplier(target, all),
    'Reachable with these settings: ε ≥',
  );
  throwsCode('EPSILON_OUT_OF_RANGE', () => calibrateNoiseMultiplier({ ...target, targetEpsilon: 0 }, all));
  throwsCode('DELTA_OUT_OF_RANGE', () => calibrateNoiseMultiplier({ ...target, targetDelta: 1 }, all));
});

test('bad input: named errors that say the range', () => {
  const accountant = rdpAccountant().step(poisson(0.1, 1));
  for (const delta of [0, 1, -1, 2, Number.NaN])
    throwsCode('DELTA_OUT_OF_RANGE', () => accountant.epsilon(delta), '0 and 1');
  for (const epsilon of [-1, Number.NaN])
    throwsCode('EPSILON_OUT_OF_RANGE', () => accountant.delta(epsilon), '≥ 0');
  for (const q of [0, -0.1, 1.1, Number.NaN]) {
    throwsCode('SAMPLING_RATE_OUT_OF_RANGE', () => rdpAccountant().step(poisson(q, 1)), '(0, 1]');
  }
  for (const sigma of [-1, Number.NaN, Infinity]) {
    throwsCode('NOISE_MULTIPLIER_OUT_OF_RANGE', () => pldAccountant().step(poisson(0.1, sigma)), '≥ 0');
  }
  for (const steps of [0, -1, 1.5, Number.NaN]) {
    throwsCode('STEPS_OUT_OF_RANGE', () => accountant.step(poisson(0.1, 1), steps), '≥ 1');
  }
  const fixed = { mechanism: 'fixedSizeSampledGaussian', noiseMultiplier: 1 } as const;
  throwsCode(
    'BATCH_SIZE_OUT_OF_RANGE',
    () => rdpAccountant().step({ ...fixed, datasetSize: 5, batchSize: 6 }),
    '5',
  );
  throwsCode('DATASET_SIZE_OUT_OF_RANGE', () =>
    rdpAccountant().step({ ...fixed, datasetSize: 0, batchSize: 1 }),
  );
  throwsCode('RELATION_MISMATCH', () => accountant.step({ ...fixed, datasetSize: 50, batchSize: 6 }));
  assert.is(accountant.phases.length, 1, 'a refused step leaves nothing behind');
  throwsCode(
    'MECHANISM_UNKNOWN',
    () => accountant.step({ mechanism: 'laplace' } as never),
    'poissonSampledGaussian',
  );
  throwsCode('ACCOUNTANT_UNKNOWN', () => createAccountant('prv' as never));
  throwsCode('ORDERS_OUT_OF_RANGE', () => rdpAccountant({ orders: [1, 2] }));
  throwsCode('CONVERSION_UNKNOWN', () => rdpAccountant({ conversion: 'new' as never }));
});

test('Clopper–Pearson intervals against published values', () => {
  for (const [x, n, confidence, lower, upper] of [
    [10, 100, 0.95, 0.04900468922148596, 0.17622259774002266],
    [0, 20, 0.95, 0, 0.1684334709830853],
    [20, 20, 0.95, 0.8315665290169147, 1],
    [7, 20, 0.9, 0.1773109175744491, 0.5580345113154888],
    [81, 263, 0.95, 0.25273674558527126, 0.36762192260135135], // Newcombe 1998: 0.2527 to 0.3676
  ] as const) {
    const interval = clopperPearson(x, n, confidence);
    assert.ok(Math.abs(interval.lower - lower) < 1e-11 && Math.abs(interval.upper - upper) < 1e-11);
  }
  throwsCode('COUNT_OUT_OF_RANGE', () => clopperPearson(3, 2));
  throwsCode('FRACTION_OUT_OF_RANGE', () => clopperPearson(1, 2, 1));
});

test("an attack's counts bound ε from below", () => {
  const perfect = epsilonLowerBound({
    positives: 1000,
    truePositives: 1000,
    negatives: 1000,
    falsePositives: 0,
  });
  const ends = clopperPearson(1000, 1000, 0.95);
  close(perfect, Math.log(ends.lower / (1 - ends.lower)), 1e-9);
  const chance = epsilonLowerBound({
    positives: 1000,
    truePositives: 500,
    negatives: 1000,
    falsePositives: 500,
  });
  assert.is(chance, 0);
  // Only the negatives are recognised: the bound comes from the other inequality.
  const negative = epsilonLowerBound({
    positives: 1000,
    truePositives: 1000,
    negatives: 1000,
    falsePositives: 600,
  });
  assert.ok(negative > 4);
  const group = epsilonLowerBound(
    { positives: 1000, truePositives: 900, negatives: 1000, falsePositives: 50 },
    { groupSize: 4 },
  );
  close(
    group * 4,
    epsilonLowerBound({ positives: 1000, truePositives: 900, negatives: 1000, falsePositives: 50 }),
    1e-9,
  );
});

test('one-run audit: the p-value and the bound of Steinke, Nasr and Jagielski 2023', () => {
  for (const [canaries, guesses, correct, epsilon, delta, p] of [
    [1000, 100, 100, 3, 1e-5, 0.010411268784327625],
    [1000, 1000, 760, 1, 1e-5, 0.020734811210727008],
    [500, 200, 150, 0.5, 1e-4, 0.002749311862372929],
    [10000, 1000, 600, 0.3, 0, 0.05420718855127691],
  ] as const) {
    close(oneRunPValue({ canaries, guesses, correct }, epsilon, delta), p, 1e-9);
  }
  for (const [canaries, guesses, correct, delta, bound] of [
    [1000, 100, 100, 1e-5, 3.4653763478110453],
    [1000, 1000, 760, 1e-5, 1.02874439505925],
    [500, 200, 150, 1e-4, 0.8141427908404675],
  ] as const) {
    close(oneRunEpsilonLowerBound({ canaries, guesses, correct }, { delta }), bound, 1e-9);
  }
  assert.is(oneRunEpsilonLowerBound({ canaries: 1000, guesses: 100, correct: 50 }, { delta: 1e-5 }), 0);
});

test('groups: exact without sampling, sound and smaller than plain group privacy with it', () => {
  const gaussian: PrivacyPhase[] = [{ mechanism: 'gaussian', noiseMultiplier: 10, steps: 4 }];
  const certificate = groupCertificate(gaussian, { size: 3, delta: 1e-5 });
  assert.is(certificate.method, 'gaussian');
  close(certificate.epsilon, gaussianEpsilon(0.6, 1e-5), 1e-9);
  const plain = certificate.bounds.find(({ method }) => method === 'group-privacy')!.epsilon;
  assert.ok(plain > certificate.epsilon);

  // One Poisson-sampled step: k examples make a binomial mixture, whose divergence is integrated directly here.
  for (const [q, sigma, size, delta] of [
    [0.1, 1, 3, 1e-3],
    [0.05, 2, 10, 1e-4],
  ] as const) {
    const { bounds, epsilon } = groupCertificate(phases(q, sigma, 1), { size, delta });
    const exactDelta = (sign: number): number => {
      let sum = 0;
      for (let x = -12 * sigma; x < size + 12 * sigma; x += 1e-3) {
        let mixture = 0;
        let weight = (1 - q) ** size;
        for (let j = 0; j <= size; j++) {
          mixture += weight * Math.exp((-(x - j) * (x - j)) / (2 * sigma * sigma));
          weight *= ((size - j) / (j + 1)) * (q / (1 - q));
        }
        const base = Math.exp((-x * x) / (2 * sigma * sigma));
        const difference = sign > 0 ? mixture - Math.exp(epsilon) * base : base - Math.exp(epsilon) * mixture;
        sum += Math.max(0, difference);
      }
      return (sum * 1e-3) / (sigma * Math.sqrt(2 * Math.PI));
    };
    assert.ok(exactDelta(1) <= delta && exactDelta(-1) <= delta, 'the certificate holds');
    assert.ok(bounds.length === 2 && epsilon === Math.min(...bounds.map((bound) => bound.epsilon)));
  }
  let previous = 0;
  for (const size of [1, 2, 4, 8]) {
    const { epsilon } = groupCertificate(phases(0.01, 1.1, 1500), { size, delta: 1e-5 });
    assert.ok(epsilon > previous);
    previous = epsilon;
  }
  assert.is(groupCertificate(phases(0.01, 0, 5), { size: 3, delta: 1e-5 }).epsilon, Infinity);
  throwsCode('GROUP_SIZE_OUT_OF_RANGE', () => groupCertificate(gaussian, { size: 0, delta: 1e-5 }));
});

test("attack success: no tighter than the Gaussian's exact trade-off, and nothing without noise", () => {
  const gaussian: PrivacyPhase[] = [{ mechanism: 'gaussian', noiseMultiplier: 10, steps: 4 }];
  for (const [size, baseline] of [
    [1, 0.05],
    [3, 0.2],
    [5, 0.5],
  ] as const) {
    const { upper, lower } = attackSuccessBound(gaussian, { size, baseline });
    const exactUpper = normalCdf(normalQuantile(baseline) + 0.2 * size);
    const exactLower = normalCdf(normalQuantile(baseline) - 0.2 * size);
    assert.ok(upper >= exactUpper && upper < exactUpper + 0.35, `${upper} for ${exactUpper}`);
    assert.ok(lower <= exactLower && lower >= 0);
  }
  assert.is(attackSuccessBound(phases(0.1, 0, 1), { size: 1, baseline: 0.1 }).upper, 1);
});

test('the statement says what holds, and only then calls it private', () => {
  const accountant = pldAccountant().step(poisson(0.01, 1.1), 1500);
  const statement = privacyStatement(accountant, { delta: 1e-5, noiseOrigin: 'secure' });
  assert.is(statement.private, true);
  assert.is(statement.guarantees.length, 3);
  assert.is(statement.epsilon, accountant.epsilon(1e-5).epsilon);
  const text = formatStatement(statement, 80);
  assert.match(text, '(ε = 1.862, δ = 1e-5)-differentially private');
  assert.match(text, 'adding or removing one');
  assert.match(text, 'Not covered');
  assert.ok(text.split('\n').every((line) => line.length <= 80));
  assert.equal(JSON.parse(JSON.stringify(statement)).phases, statement.phases);

  const seeded = privacyStatement(accountant, { delta: 1e-5, noiseOrigin: 'seeded' });
  assert.is(seeded.private, false);
  assert.match(seeded.says[0]!, 'Not private');
  // Where noise and sampling came from is not presumed.
  const unknown = privacyStatement(accountant, { delta: 1e-5 });
  assert.is(unknown.private, false);
  assert.is(unknown.noiseOrigin, 'unknown');
  assert.match(unknown.says[0]!, 'Not known to be private');
  assert.match(unknown.says[0]!, "noiseOrigin: 'secure'");
  assert.not.match(formatStatement(unknown), 'cryptographic random numbers');
  throwsCode(
    'NOISE_ORIGIN_UNKNOWN',
    () => privacyStatement(accountant, { delta: 1e-5, noiseOrigin: 'sekure' as never }),
    "'secure'",
  );
  const nominal = rdpAccountant().step({
    mechanism: 'nominalPoissonGaussian',
    samplingRate: 0.01,
    noiseMultiplier: 1,
  });
  assert.is(privacyStatement(nominal, { delta: 1e-5, noiseOrigin: 'secure' }).private, false);
  assert.match(privacyStatement(nominal, { delta: 1e-5, noiseOrigin: 'secure' }).says[0]!, 'No guarantee');
  const silent = privacyStatement(rdpAccountant().step(poisson(0.01, 0)), {
    delta: 1e-5,
    noiseOrigin: 'secure',
  });
  assert.is(silent.private, false);
  assert.match(silent.says[0]!, 'ε = ∞');
  const shuffled = rdpAccountant().step({ mechanism: 'shuffledEpochGaussian', noiseMultiplier: 4 }, 5);
  assert.match(
    privacyStatement(shuffled, { delta: 1e-5 }).says.join('\n'),
    'no amplification by sampling is claimed, noise multiplier',
  );
});

test.run();
