// The Rényi accountant against Opacus', dp_accounting's and the paper's numbers, and against direct sums.
import fc from 'fast-check';
import {
  AUTHORS_ORDERS,
  accountantFromJSON,
  type PrivacyEvent,
  type RdpOptions,
  rdpAccountant,
} from 'gradshape/dp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { componentsOf } from '../dist/dp/accounting/events.js';
import { momentsOf } from '../dist/dp/accounting/rdp.js';
import { normalCdf } from '../dist/dp/accounting/special-functions.js';

const poisson = (samplingRate: number, noiseMultiplier: number): PrivacyEvent => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate,
  noiseMultiplier,
});

function epsilon(event: PrivacyEvent, steps: number, delta: number, options: RdpOptions = {}): number {
  return rdpAccountant(options).step(event, steps).epsilon(delta).epsilon;
}

function close(actual: number, expected: number, relative: number, what = ''): void {
  assert.ok(Math.abs(actual / expected - 1) <= relative, `${what} ${actual} should be ${expected}`);
}

const OPACUS_ORDERS = [
  ...Array.from({ length: 99 }, (_, i) => 1 + (i + 1) / 10),
  ...Array.from({ length: 52 }, (_, i) => 12 + i),
];

const rdp = (event: PrivacyEvent, steps: number, order: number): number =>
  momentsOf(componentsOf([{ ...event, steps }])).at(order - 1) / (order - 1);

test("the authors' epsilons, to every printed digit (classic conversion, their orders)", () => {
  for (const [q, sigma, steps, printed] of [
    [0.01, 0.1, 100, '1044.497'],
    [0.01, 0.1, 200, '1973.8648'],
    [0.01, 0.25, 100, '53.4405'],
    [0.01, 0.25, 1200, '157.0624'],
    [0.01, 0.025, 100, '83049.4421'],
    [0.01, 0.025, 300, '248918.0676'],
    [0.01, 0.0025, 1400, '123129195.5084'],
    [100 / 10003, 0.1, 100, '1044.2972058092'],
    [0.01, 0.1, 1100, '10338.1745'],
    [0.01, 0.025, 1700, '1409998.4468'],
  ] as const) {
    const options: RdpOptions = { conversion: 'classic', orders: AUTHORS_ORDERS };
    const value = epsilon(poisson(q, sigma), steps, 1e-5, options);
    assert.is(value.toFixed(printed.split('.')[1]!.length), printed);
  }
});

test('their best order sits on the edge of their grid, and that is said; a free search does better', () => {
  const options: RdpOptions = { conversion: 'classic', orders: AUTHORS_ORDERS };
  const edge = rdpAccountant(options).step(poisson(0.01, 0.1), 200).epsilon(1e-5);
  assert.is(edge.order, 1.1);
  assert.is(edge.warnings.length, 1);
  const free = rdpAccountant({ conversion: 'classic' }).step(poisson(0.01, 0.1), 200).epsilon(1e-5);
  assert.is(free.warnings.length, 0);
  assert.ok(free.epsilon < 560 && free.order! < 1.05);
});

test("Opacus' golden value", () => {
  const value = epsilon(poisson(0.04, 1.5), 2250, 1e-5, { orders: OPACUS_ORDERS });
  close(value, 7.32911117143, 1e-10);
  const free = epsilon(poisson(0.04, 1.5), 2250, 1e-5);
  assert.ok(free <= value && free > 0.999 * value);
});

test("dp_accounting's golden divergences", () => {
  for (const [order, value] of [
    [5, 2.18075656e-3],
    [50, 2.38460375e-2],
    [100, 167.416308],
  ] as const) {
    close(rdp(poisson(0.01, 2.5), 50, order), value, 1e-6);
  }
  assert.is(momentsOf(componentsOf([{ ...poisson(0.01, 2.5), steps: 50 }])).at(Infinity), Infinity);
  // At fractional orders dp_accounting's 6.70579741e-4 and 1.08548710e-3 bound it from above: see the next test.
  close(rdp(poisson(0.01, 2.5), 50, 1.5), 6.5007089718804e-4, 1e-10);
  close(rdp(poisson(0.01, 2.5), 50, 2.5), 1.08541805691812e-3, 1e-10);
});

test("dp_accounting's fractional orders: the alternating series, with its terms in absolute value", () => {
  const [q, sigma, steps] = [0.01, 2.5, 50];
  const z0 = 0.5 - sigma * sigma * Math.log(q / (1 - q));
  /** Mironov, Talwar and Zhang 2019, section 3.3: the expansions in i on both sides of z₀, with signs or without. */
  const series = (alpha: number, signed: boolean): number => {
    let sum = 0;
    let binomial = 1;
    for (let i = 0; i < 60; i++) {
      const j = alpha - i;
      const coefficient = signed ? binomial : Math.abs(binomial);
      const left = q ** i * (1 - q) ** j * Math.exp((i * (i - 1)) / (2 * sigma * sigma));
      const right = q ** j * (1 - q) ** i * Math.exp((j * (j - 1)) / (2 * sigma * sigma));
      sum += coefficient * (left * normalCdf((z0 - i) / sigma) + right * normalCdf((j - z0) / sigma));
      binomial *= (alpha - i) / (i + 1);
    }
    return (steps * Math.log(sum)) / (alpha - 1);
  };
  /** The divergence's own integral, by the trapezoid rule. */
  const quadrature = (alpha: number): number => {
    const step = 0.01;
    let excess = 0; // E_Q[(P/Q)^α − 1]
    for (let z = -60; z <= 60; z += step) {
      const logRatio = Math.log1p(q * Math.expm1((2 * z - 1) / (2 * sigma * sigma)));
      excess += Math.expm1(alpha * logRatio) * Math.exp((-z * z) / (2 * sigma * sigma));
    }
    return (steps * Math.log1p((excess * step) / (sigma * Math.sqrt(2 * Math.PI)))) / (alpha - 1);
  };
  for (const [order, golden] of [
    [1.5, 6.70579741e-4],
    [2.5, 1.0854871e-3],
  ] as const) {
    assert.is(series(order, false).toPrecision(9), golden.toPrecision(9));
    close(series(order, true), quadrature(order), 1e-9);
    close(rdp(poisson(q, sigma), steps, order), quadrature(order), 1e-9);
  }
});

test('one unsampled Gaussian: closed form, and (1, 1e-6) exactly at σ = 4.530877117', () => {
  close(rdp({ mechanism: 'gaussian', noiseMultiplier: 2.7 }, 3, 3.3), (3 * 3.3) / (2 * 2.7 * 2.7), 1e-14);
  const event: PrivacyEvent = { mechanism: 'gaussian', noiseMultiplier: 4.530877117 };
  close(epsilon(event, 1, 1e-6), 1, 1e-6);
  close(rdpAccountant().step(event).delta(1).delta, 1e-6, 1e-4);
  assert.is(epsilon(poisson(1, 2), 7, 1e-5), epsilon({ mechanism: 'gaussian', noiseMultiplier: 2 }, 7, 1e-5));
});

test('whole orders equal a float64 sum over the outcome', () => {
  const property = fc.property(
    fc.double({ min: 0.001, max: 0.999, noNaN: true }),
    fc.double({ min: 0.5, max: 8, noNaN: true }),
    fc.integer({ min: 2, max: 12 }),
    (q, sigma, order) => {
      const step = sigma / 200;
      let sum = 0;
      for (let z = -12 * sigma; z < order + 12 * sigma; z += step) {
        const logRatio = Math.log(1 - q + q * Math.exp((2 * z - 1) / (2 * sigma * sigma)));
        sum += Math.exp(order * logRatio - (z * z) / (2 * sigma * sigma));
      }
      const direct = Math.log((sum * step) / (sigma * Math.sqrt(2 * Math.PI))) / (order - 1);
      const ours = rdp(poisson(q, sigma), 1, order);
      assert.ok(Math.abs(ours - direct) < 1e-9 * Math.max(direct, 1e-3), `${ours} and ${direct}`);
    },
  );
  fc.assert(property, { numRuns: 60 });
});

test('fixed-size batches: Wang et al. 2019, theorem 27, evaluated with 200 digits', () => {
  const event = (noiseMultiplier: number): PrivacyEvent => ({
    mechanism: 'fixedSizeSampledGaussian',
    datasetSize: 1000,
    batchSize: 10,
    noiseMultiplier, // over the clip norm: half of it over the sensitivity of replace-one
  });
  for (const [order, atTwo, atTwenty] of [
    [2, 1.1360371352886801e-4, 1.0012505410665437e-6],
    [3, 1.7128897979488496e-4, 1.502311025013185e-6],
    [8, 4.6841626107201988e-4, 4.0119429558249561e-6],
    [20, 1.2380061836222053e-3, 1.0064149357990499e-5],
    [64, 3.3327488917076839, 3.2591973853996071e-5],
    [200, 20.375171406949456, 1.0504338562378283e-4],
  ] as const) {
    close(rdp(event(4), 1, order), atTwo, 1e-10);
    close(rdp(event(40), 1, order), atTwenty, 1e-10);
  }
  const guarantee = rdpAccountant().step(event(4), 100).epsilon(1e-5);
  assert.is(guarantee.relation, 'replace-one');
  assert.ok(guarantee.epsilon > epsilon(poisson(0.01, 4), 100, 1e-5), 'never the Poisson formula');
});

test('a whole data set a step is one Gaussian, with twice the sensitivity under replace-one', () => {
  const event: PrivacyEvent = {
    mechanism: 'fixedSizeSampledGaussian',
    datasetSize: 50,
    batchSize: 50,
    noiseMultiplier: 6,
  };
  const gaussian: PrivacyEvent = { mechanism: 'gaussian', noiseMultiplier: 3 };
  assert.is(epsilon(event, 4, 1e-5), epsilon(gaussian, 4, 1e-5));
});

test('shuffled epochs: one Gaussian an epoch, no amplification', () => {
  const epochs = rdpAccountant().step({ mechanism: 'shuffledEpochGaussian', noiseMultiplier: 2 }, 15);
  const guarantee = epochs.epsilon(1e-5);
  close(
    guarantee.epsilon,
    epsilon({ mechanism: 'gaussian', noiseMultiplier: 2 / Math.sqrt(15) }, 1, 1e-5),
    1e-9,
  );
  assert.is(guarantee.relation, 'zero-out-one');
  assert.is(guarantee.kind, 'bound');
});

test('nominal Poisson: the same number as Poisson, and no bound', () => {
  const event: PrivacyEvent = {
    mechanism: 'nominalPoissonGaussian',
    samplingRate: 0.01,
    noiseMultiplier: 0.25,
  };
  const guarantee = rdpAccountant().step(event, 100).epsilon(1e-5);
  assert.is(guarantee.epsilon, epsilon(poisson(0.01, 0.25), 100, 1e-5));
  assert.is(guarantee.kind, 'approximation');
  assert.match(guarantee.warnings[0]!, 'nominal');
});

test('extremes stay finite, quick and above zero', () => {
  for (const [q, sigma, steps, delta] of [
    [1e-6, 1, 1e6, 1e-12],
    [1e-6, 0.5, 1, 1e-12],
    [0.01, 1e-8, 1000, 1e-5],
    [1, 1e-8, 1e6, 1e-12],
    [0.5, 300, 1e6, 1e-12],
    [0.99, 0.01, 10, 1e-3],
    [1e-3, 300, 1000, 1e-9],
  ] as const) {
    const accountant = rdpAccountant().step(poisson(q, sigma), steps);
    const { epsilon, warnings } = accountant.epsilon(delta);
    assert.ok(epsilon > 0 && epsilon < Infinity, `q ${q}, σ ${sigma}: ${epsilon}`);
    assert.equal(warnings, []);
    const back = accountant.delta(epsilon).delta;
    assert.ok(Math.abs(back / delta - 1) < 1e-3, `δ back: ${back} for ${delta}`);
  }
});

test('no noise: ε = ∞, never NaN; no steps: ε = 0', () => {
  for (const event of [poisson(0.01, 0), poisson(1, 0)]) {
    assert.is(epsilon(event, 3, 1e-5), Infinity);
    assert.is(rdpAccountant().step(event).delta(2).delta, 1);
  }
  assert.is(rdpAccountant().epsilon(1e-5).epsilon, 0);
  assert.is(rdpAccountant().delta(0).delta, 0);
});

test('ε falls with σ and δ, and grows with q and steps', () => {
  const setting = fc.record({
    q: fc.double({ min: 1e-4, max: 0.5, noNaN: true }),
    sigma: fc.double({ min: 0.3, max: 10, noNaN: true }),
    steps: fc.integer({ min: 1, max: 20000 }),
    logDelta: fc.double({ min: -12, max: -2, noNaN: true }),
    more: fc.double({ min: 1.05, max: 3, noNaN: true }),
  });
  const property = fc.property(setting, ({ q, sigma, steps, logDelta, more }) => {
    const delta = 10 ** logDelta;
    const base = epsilon(poisson(q, sigma), steps, delta);
    const slack = 1 + 1e-4; // the search for the best order stops at a tolerance
    assert.ok(epsilon(poisson(q, sigma * more), steps, delta) <= base * slack);
    assert.ok(epsilon(poisson(q, sigma), steps, Math.min(0.9, delta * more)) <= base * slack);
    assert.ok(epsilon(poisson(Math.min(1, q * more), sigma), steps, delta) * slack >= base);
    assert.ok(epsilon(poisson(q, sigma), Math.ceil(steps * more), delta) * slack >= base);
    assert.ok(epsilon(poisson(q, sigma), steps, delta, { conversion: 'classic' }) * slack >= base);
    const fixed = epsilon(poisson(q, sigma), steps, delta, { orders: OPACUS_ORDERS });
    assert.ok(base <= fixed * slack, 'a free search is at least as good as a grid');
  });
  fc.assert(property, { numRuns: 60 });
});

test('phases compose, in any pieces, and survive a checkpoint', () => {
  const a = rdpAccountant();
  for (let i = 0; i < 500; i++) a.step(poisson(0.01, 1.1));
  a.step(poisson(0.02, 0.9), 30);
  assert.is(a.phases.length, 2);
  const b = accountantFromJSON(JSON.parse(JSON.stringify(a.toJSON())));
  assert.is(b.epsilon(1e-5).epsilon, a.epsilon(1e-5).epsilon);
  for (const accountant of [a, b]) accountant.step(poisson(0.02, 0.9), 20);
  assert.is(b.epsilon(1e-5).epsilon, a.epsilon(1e-5).epsilon);
  const whole = rdpAccountant().step(poisson(0.02, 0.9), 50).step(poisson(0.01, 1.1), 500);
  close(whole.epsilon(1e-5).epsilon, a.epsilon(1e-5).epsilon, 1e-12);
  const options: RdpOptions = { conversion: 'classic', orders: [1.5, 2, 8] };
  const custom = rdpAccountant(options).step(poisson(0.01, 1));
  assert.equal(accountantFromJSON(custom.toJSON()).toJSON(), custom.toJSON());
});

test.run();
