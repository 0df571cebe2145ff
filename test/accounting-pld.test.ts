// The privacy-loss accountant: never below the truth (closed forms, and grids that bracket it), and within a percent of it.
import fc from 'fast-check';
import {
  accountantFromJSON,
  createAccountant,
  gaussianDelta,
  gaussianEpsilon,
  gdpAccountant,
  type PrivacyEvent,
  type PrivacyPhase,
  pldAccountant,
  rdpAccountant,
} from 'gradshape/dp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pldBound } from '../dist/dp/accounting/pld.js';

const poisson = (samplingRate: number, noiseMultiplier: number): PrivacyEvent => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate,
  noiseMultiplier,
});

/** Standard normal distribution function by Simpson's rule: independent of the library's. */
function phi(z: number): number {
  if (z < -9) return 0;
  if (z > 9) return 1;
  const n = 400;
  const step = (z + 9) / n;
  let sum = 0;
  for (let i = 0; i <= n; i++) {
    const x = -9 + i * step;
    sum += Math.exp((-x * x) / 2) * (i === 0 || i === n ? 1 : i % 2 === 1 ? 4 : 2);
  }
  return (sum * step) / 3 / Math.sqrt(2 * Math.PI);
}

/**
 * ε at δ of `2 ** doublings` steps by direct convolution of the loss's probabilities in cells of width h, all rounded down
 * (`low`: below the truth) or up (`high`: above it); the worse of both directions.
 */
function bracket(q: number, sigma: number, doublings: number, delta: number, h: number, reach: number) {
  const half = Math.round(reach / h);
  const logRatio = (loss: number): number => Math.log((Math.expm1(loss) + q) / q);
  const below = (loss: number, direction: string): number => {
    const rate = direction === 'remove' ? loss : -loss;
    if (Math.expm1(rate) + q <= 0) return direction === 'remove' ? 0 : 1;
    const x = sigma * sigma * logRatio(rate) + 0.5;
    return direction === 'remove' ? (1 - q) * phi(x / sigma) + q * phi((x - 1) / sigma) : 1 - phi(x / sigma);
  };
  const solve = (direction: string, up: number): number => {
    let p = new Float64Array(2 * half);
    for (let i = 0; i < 2 * half; i++)
      p[i] = below((i + 1 - half) * h, direction) - below((i - half) * h, direction);
    let first = -half + up; // loss of p[0], in cells
    for (let d = 0; d < doublings; d++) {
      const next = new Float64Array(2 * p.length - 1);
      for (let i = 0; i < p.length; i++) {
        if (p[i]! > 1e-13) for (let j = 0; j < p.length; j++) next[i + j]! += p[i]! * p[j]!;
      }
      p = next;
      first *= 2;
    }
    const deltaAt = (epsilon: number): number =>
      p.reduce((sum, mass, i) => sum + mass * Math.max(0, -Math.expm1(epsilon - (first + i) * h)), 0);
    let lo = 0;
    let hi = 100;
    for (let i = 0; i < 40; i++) {
      const middle = (lo + hi) / 2;
      if (deltaAt(middle) > delta) lo = middle;
      else hi = middle;
    }
    return hi;
  };
  return {
    low: Math.max(solve('remove', 0), solve('add', 0)),
    high: Math.max(solve('remove', 1), solve('add', 1)),
  };
}

test('no sampling: exactly the Gaussian of ratio √T/σ', () => {
  // δ from the definition, with a distribution function of our own.
  for (const [mu, epsilon] of [
    [1, 0.5],
    [1 / Math.sqrt(3), 0.2],
    [3, 4],
  ] as const) {
    const direct = phi(mu / 2 - epsilon / mu) - Math.exp(epsilon) * phi(-mu / 2 - epsilon / mu);
    assert.ok(Math.abs(gaussianDelta(mu, epsilon) / direct - 1) < 1e-8);
  }
  const guarantee = pldAccountant().step({ mechanism: 'gaussian', noiseMultiplier: 5 }, 1000).epsilon(1e-10);
  assert.is(guarantee.method, 'closed-form');
  assert.ok(Math.abs(guarantee.epsilon / gaussianEpsilon(Math.sqrt(1000) / 5, 1e-10) - 1) < 1e-12);
  // dp_accounting's test: three steps at σ = √3 have δ(1) = 0.126936.
  const third = pldAccountant()
    .step({ mechanism: 'gaussian', noiseMultiplier: Math.sqrt(3) }, 3)
    .delta(1);
  assert.ok(Math.abs(third.delta - 0.126936) < 1e-6);
});

test('the grid on unsampled Gaussians: above the closed form, by less than a thousandth', () => {
  for (const [sigma, count, delta] of [
    [1, 1, 1e-5],
    [2, 10, 1e-5],
    [5, 1000, 1e-10],
    [0.3, 3, 1e-6],
    [30, 100000, 1e-12],
    [10, 5, 1e-3],
  ] as const) {
    const exact = gaussianEpsilon(Math.sqrt(count) / sigma, delta);
    const grid = pldBound([{ sampling: 'poisson', q: 1, sigma, count }], {
      logDelta: Math.log(delta),
    })!.value;
    assert.ok(grid >= exact, `${grid} is below ${exact}`);
    assert.ok(grid <= exact * 1.001, `${grid} is far above ${exact}`);
    const back = pldBound([{ sampling: 'poisson', q: 1, sigma, count }], { epsilon: exact })!.value;
    assert.ok(back >= Math.log(delta) && back < Math.log(delta) + 0.05);
  }
});

test('published values', () => {
  const guarantee = pldAccountant().step(poisson(0.04, 1.5), 2250).epsilon(1e-5);
  assert.ok(Math.abs(guarantee.epsilon / 6.777395712150674 - 1) < 0.01, `${guarantee.epsilon}`);
  assert.is(guarantee.kind, 'bound');
  assert.is(guarantee.method, 'privacy-loss-distribution');
  assert.equal(guarantee.warnings, []);
  // dp_accounting's: three steps at q = 0.2, σ = 0.5 have δ(1) = 0.15594.
  const three = pldAccountant().step(poisson(0.2, 0.5), 3);
  assert.ok(Math.abs(three.delta(1).delta - 0.15594) < 1e-4);
  assert.ok(Math.abs(three.epsilon(0.15594).epsilon - 1) < 1e-3);
});

test('inside brackets from plain convolutions with fine grids (16 million points)', () => {
  for (const [q, sigma, steps, delta, low, high] of [
    [0.04, 1.5, 2250, 1e-5, 6.765967897, 6.771592895],
    [0.01, 1.1, 1500, 1e-5, 1.860063288, 1.861563291],
    [0.05, 2, 50, 1e-7, 1.048948231, 1.04899823],
    [0.5, 3, 200, 1e-6, 13.986916013, 13.987916013],
    [0.001, 0.7, 5000, 1e-6, 1.378041449, 1.383041347],
  ] as const) {
    const { epsilon } = pldAccountant().step(poisson(q, sigma), steps).epsilon(delta);
    assert.ok(epsilon >= low, `${epsilon} is below ${low}`);
    assert.ok(epsilon <= high * 1.001, `${epsilon} is above ${high}`);
  }
});

test('inside brackets from direct convolution here', () => {
  for (const [q, sigma, doublings, delta] of [
    [0.1, 1, 2, 1e-4],
    [0.3, 2, 2, 1e-3],
    [0.8, 3, 2, 1e-4],
  ] as const) {
    const { low, high } = bracket(q, sigma, doublings, delta, 0.002, 4);
    const { epsilon } = pldAccountant()
      .step(poisson(q, sigma), 2 ** doublings)
      .epsilon(delta);
    assert.ok(epsilon >= low && epsilon <= high, `${low} ≤ ${epsilon} ≤ ${high}`);
    assert.ok(high - low < 0.03 * high);
  }
});

test('one step: the hockey-stick divergence itself, adding and removing', () => {
  for (const [q, sigma, epsilon] of [
    [0.01, 1, 0.2],
    [0.3, 0.7, 1.2],
    [0.9, 0.5, 3],
  ] as const) {
    let remove = 0;
    let add = 0;
    const step = sigma / 5000;
    for (let x = -12 * sigma; x < 1 + 12 * sigma; x += step) {
      const base = Math.exp((-x * x) / (2 * sigma * sigma));
      const mixture = (1 - q) * base + q * Math.exp((-(x - 1) * (x - 1)) / (2 * sigma * sigma));
      remove += Math.max(0, mixture - Math.exp(epsilon) * base);
      add += Math.max(0, base - Math.exp(epsilon) * mixture);
    }
    const exact = (Math.max(remove, add) * step) / (sigma * Math.sqrt(2 * Math.PI));
    const { delta } = pldAccountant().step(poisson(q, sigma)).delta(epsilon);
    assert.ok(delta >= exact * (1 - 1e-6) && delta < exact * 1.01, `${delta} for ${exact}`);
  }
});

/**
 * δ(ε) of removing an example, without any grid of losses: the inverse Laplace transform
 * (1/π)·∫ Re[E[exp(s·loss)]^steps·exp(−s·ε)/(s·(s + 1))] du along s = 3 + iu.
 */
function deltaByTransform(q: number, sigma: number, steps: number, epsilon: number, reach: number): number {
  const nodes = 1200;
  const width = (1 + 18 * sigma) / nodes;
  const losses: number[] = [];
  const masses: number[] = [];
  for (let i = 0; i <= nodes; i++) {
    const z = -9 * sigma + i * width;
    const loss = Math.log1p(q * Math.expm1((2 * z - 1) / (2 * sigma * sigma)));
    losses.push(loss);
    masses.push((Math.exp(loss - (z * z) / (2 * sigma * sigma)) * width) / (sigma * Math.sqrt(2 * Math.PI)));
  }
  const c = 3;
  const points = Math.ceil(reach / 0.75); // coarser, and δ(ε − 2π·points/reach) would be seen too
  let sum = 0;
  for (let k = 0; k < points; k++) {
    const u = ((k + 0.5) * reach) / points;
    let re = 0; // E[exp(s·loss)] − 1
    let im = 0;
    for (let i = 0; i <= nodes; i++) {
      const half = Math.sin((u * losses[i]!) / 2);
      const growth = Math.expm1(c * losses[i]!);
      re += masses[i]! * (growth * Math.cos(u * losses[i]!) - 2 * half * half);
      im += masses[i]! * (1 + growth) * Math.sin(u * losses[i]!);
    }
    const size = Math.exp((steps / 2) * Math.log1p(2 * re + re * re + im * im) - c * epsilon);
    const angle = steps * Math.atan2(im, 1 + re) - u * epsilon;
    const [a, b] = [c * (c + 1) - u * u, (2 * c + 1) * u]; // s·(s + 1)
    sum += (size * (Math.cos(angle) * a + Math.sin(angle) * b)) / (a * a + b * b);
  }
  return (sum * reach) / points / Math.PI;
}

test('the transform: right on an unsampled Gaussian', () => {
  const exact = gaussianDelta(Math.sqrt(9) / 3, 1.5);
  assert.ok(Math.abs(deltaByTransform(1, 3, 9, 1.5, 60) / exact - 1) < 1e-3);
});

test('sampling rates of 1e-6 and up to a million steps: above the truth, by less than a percent', () => {
  for (const [q, sigma, steps, delta, reach] of [
    [1e-6, 0.5, 1e6, 1e-3, 9000],
    [1e-6, 0.5, 1e6, 1e-5, 9000],
  ] as const) {
    const { epsilon, method, warnings } = pldAccountant().step(poisson(q, sigma), steps).epsilon(delta);
    assert.is(method, 'privacy-loss-distribution');
    assert.equal(warnings, []);
    const above = deltaByTransform(q, sigma, steps, epsilon, reach);
    const below = deltaByTransform(q, sigma, steps, 0.99 * epsilon, reach);
    assert.ok(above <= delta && below > delta, `q ${q}, δ ${delta}: ${above} at ε, ${below} at 0.99·ε`);
  }
});

test('goldens at tiny sampling rates: above the truth in ε and δ, by less than a percent', () => {
  // One step: the hockey-stick divergence with 40 digits (mpmath's erfc), solved for ε. A million: log δ at a given ε by the
  // inverse Laplace transform on the saddle's line, a code that is within 1e-13 of the closed form on unsampled Gaussians.
  for (const [q, sigma, delta, truth] of [
    [1e-6, 0.8, 1e-12, 0.0005500280185559269],
    [1e-6, 1, 1e-12, 0.0001314875752286774],
    [1e-5, 0.8, 1e-12, 0.009739232264520179],
    [1e-6, 0.5, 1e-12, 0.05798850639800143],
    [1e-6, 0.3, 1e-12, 6.966654943710917],
    [1e-5, 10, 1e-12, 5.637353402837551e-6],
  ] as const) {
    const { epsilon } = pldAccountant().step(poisson(q, sigma), 1).epsilon(delta);
    assert.ok(epsilon >= truth * (1 - 1e-12) && epsilon < (1 + 1e-6) * truth, `${epsilon} for ${truth}`);
    const atTruth = pldAccountant().step(poisson(q, sigma), 1).delta(truth).delta;
    assert.ok(atTruth >= delta * (1 - 1e-12) && atTruth < (1 + 1e-6) * delta, `${atTruth} for ${delta}`);
  }
  // log δ of removing at this ε, σ = 0.5, a million steps of q = 1e-6.
  const accountant = pldAccountant().step(poisson(1e-6, 0.5), 1e6);
  const log = Math.log(accountant.delta(1.9758220591249276).delta);
  assert.ok(log >= -27.6338270763 && log < -27.6238, `${log}`);
});

test('δ above the total variation: ε is 0', () => {
  for (const [q, sigma, steps, delta] of [
    [1e-6, 0.1, 100, 1e-3],
    [1e-6, 1e-8, 1, 1e-5],
  ] as const) {
    const accountant = pldAccountant().step(poisson(q, sigma), steps);
    assert.is(accountant.epsilon(delta).epsilon, 0);
    const atZero = accountant.delta(0).delta;
    assert.ok(atZero <= steps * q * (1 + 1e-9) && atZero > 0.99 * steps * q, `${atZero}`);
  }
});

test('a δ near 1 is a bound too: ε far below the bulk of the losses', () => {
  for (const [sigma, count, epsilon] of [
    [1, 400, 0],
    [1, 400, 50],
    [2, 100, 1],
  ] as const) {
    const exact = Math.log(gaussianDelta(Math.sqrt(count) / sigma, epsilon));
    const grid = pldBound([{ sampling: 'poisson', q: 1, sigma, count }], { epsilon })!.value;
    assert.ok(grid >= exact - 1e-15 && grid < exact + 0.01, `${grid} for ${exact}`);
  }
});

test('between the truth and the Rényi bound, and monotone', () => {
  const setting = fc.record({
    q: fc.double({ min: 1e-3, max: 0.9, noNaN: true }),
    sigma: fc.double({ min: 0.4, max: 8, noNaN: true }),
    steps: fc.integer({ min: 1, max: 3000 }),
    logDelta: fc.double({ min: -12, max: -3, noNaN: true }),
    more: fc.double({ min: 1.1, max: 2, noNaN: true }),
  });
  const epsilon = (event: PrivacyEvent, steps: number, delta: number): number =>
    pldAccountant().step(event, steps).epsilon(delta).epsilon;
  const property = fc.property(setting, ({ q, sigma, steps, logDelta, more }) => {
    const delta = 10 ** logDelta;
    const base = epsilon(poisson(q, sigma), steps, delta);
    const renyi = rdpAccountant().step(poisson(q, sigma), steps).epsilon(delta).epsilon;
    // One step at a small rate has ε near 0 where the Rényi bound is 2.5.
    assert.ok(base <= renyi && base > 0.2 * renyi - 1, `${base} and ${renyi}`);
    const slack = 1.003; // grids differ from query to query
    assert.ok(epsilon(poisson(q, sigma * more), steps, delta) <= base * slack);
    assert.ok(epsilon(poisson(q, sigma), steps, delta * more) <= base * slack);
    assert.ok(epsilon(poisson(Math.min(1, q * more), sigma), steps, delta) * slack >= base);
    assert.ok(epsilon(poisson(q, sigma), Math.ceil(steps * more), delta) * slack >= base);
  });
  fc.assert(property, { numRuns: 8 });
});

test('ε and δ queries undo each other', () => {
  for (const [q, sigma, steps, delta] of [
    [0.01, 1.1, 1500, 1e-5],
    [0.04, 1.5, 2250, 1e-12],
    [0.2, 3, 100, 0.01],
  ] as const) {
    const accountant = pldAccountant().step(poisson(q, sigma), steps);
    const { epsilon } = accountant.epsilon(delta);
    assert.ok(Math.abs(accountant.delta(epsilon).delta / delta - 1) < 0.02);
  }
});

test('extremes: a finite bound, never above the Rényi bound', () => {
  for (const [q, sigma, steps, delta] of [
    [0.01, 0.0025, 1400, 1e-5],
    [0.01, 0.1, 200, 1e-5],
    [0.01, 1e-8, 1000, 1e-5],
    [0.99, 0.01, 10, 1e-3],
    [1e-6, 30, 1, 1e-12],
    [1e-6, 0.5, 1, 1e-12],
    [0.01, 1, 1000000, 1e-12],
    [0.01, 1, 1000, 0.5],
  ] as const) {
    const { epsilon } = pldAccountant().step(poisson(q, sigma), steps).epsilon(delta);
    const renyi = rdpAccountant().step(poisson(q, sigma), steps).epsilon(delta).epsilon;
    assert.ok(
      epsilon >= 0 && epsilon < Infinity && epsilon <= renyi,
      `q ${q}, σ ${sigma}: ${epsilon} and ${renyi}`,
    );
  }
});

test('next to no noise: an example counts as often as it is drawn, so ε is a quantile of the binomial', () => {
  // P[Binomial(1000, 0.01) ≥ 26] = 1.56e-5 and P[… ≥ 27] = 5.6e-6: at δ = 1e-5 the loss of 26 draws is reached.
  for (const sigma of [1e-3, 1e-5, 1e-8]) {
    const oneDraw = 1 / (2 * sigma * sigma);
    const pld = pldAccountant().step(poisson(0.01, sigma), 1000).epsilon(1e-5).epsilon / oneDraw;
    const rdp = rdpAccountant().step(poisson(0.01, sigma), 1000).epsilon(1e-5).epsilon / oneDraw;
    assert.ok(pld > 25.99 && pld < 26.1, `${pld} draws`);
    assert.ok(rdp > pld && rdp < 29, `${rdp} draws`);
  }
});

test('where no grid reaches, the Rényi bound is returned and that is said', () => {
  const guarantee = pldAccountant().step(poisson(0.999, 0.001), 100).epsilon(1e-5);
  assert.is(guarantee.method, 'renyi');
  assert.match(guarantee.warnings[0]!, 'this is the Rényi bound');
});

test('phases compose: two halves are the whole, and a Gaussian phase adds up', () => {
  const whole = pldAccountant().step(poisson(0.02, 1.2), 800).epsilon(1e-6).epsilon;
  const halves: PrivacyPhase[] = [
    { ...poisson(0.02, 1.2), steps: 300 },
    { ...poisson(0.02, 1.2), steps: 500 },
  ];
  assert.is(createAccountant('pld', halves).epsilon(1e-6).epsilon, whole);
  // Nearly equal phases don't merge, but must give nearly the same.
  const apart: PrivacyPhase[] = [
    { ...poisson(0.02, 1.2), steps: 300 },
    { ...poisson(0.02, 1.2000001), steps: 500 },
  ];
  assert.ok(Math.abs(createAccountant('pld', apart).epsilon(1e-6).epsilon / whole - 1) < 1e-3);
  const more = pldAccountant()
    .step(poisson(0.02, 1.2), 800)
    .step({ mechanism: 'gaussian', noiseMultiplier: 2 });
  const { epsilon } = more.epsilon(1e-6);
  assert.ok(epsilon > whole && epsilon > gaussianEpsilon(0.5, 1e-6));
  assert.is(accountantFromJSON(JSON.parse(JSON.stringify(more.toJSON()))).epsilon(1e-6).epsilon, epsilon);
});

test('fixed-size batches: amplification of the exact profile for one step, and above Poisson', () => {
  // Balle, Barthe and Gaboardi 2018, theorem 9: δ'(log(1 + q(e^ε − 1))) = q·δ(ε), with sensitivity 2C.
  const q = 0.05;
  for (const epsilon of [0.5, 1, 2]) {
    const amplified = Math.log1p(q * Math.expm1(epsilon));
    const accountant = pldAccountant().step({
      mechanism: 'fixedSizeSampledGaussian',
      datasetSize: 1000,
      batchSize: 50,
      noiseMultiplier: 2,
    });
    const exact = q * gaussianDelta(1, epsilon);
    const { delta, relation } = accountant.delta(amplified);
    assert.ok(delta >= exact * (1 - 1e-9) && delta < exact * 1.01, `${delta} for ${exact}`);
    assert.is(relation, 'replace-one');
  }
  const fixed: PrivacyEvent = {
    mechanism: 'fixedSizeSampledGaussian',
    datasetSize: 60000,
    batchSize: 600,
    noiseMultiplier: 2.2,
  };
  const pld = pldAccountant().step(fixed, 1500).epsilon(1e-5).epsilon;
  assert.ok(pld < rdpAccountant().step(fixed, 1500).epsilon(1e-5).epsilon);
  assert.ok(pld > pldAccountant().step(poisson(0.01, 1.1), 1500).epsilon(1e-5).epsilon);
});

test('Gaussian DP: published values, marked an approximation', () => {
  const guarantee = gdpAccountant().step(poisson(0.04, 1.5), 2250).epsilon(1e-5);
  assert.ok(guarantee.epsilon > 6.59 && guarantee.epsilon < 6.605);
  assert.is(guarantee.kind, 'approximation');
  assert.is(guarantee.warnings.length, 1);
  const gaussian: PrivacyEvent = { mechanism: 'gaussian', noiseMultiplier: 2 };
  const exact = pldAccountant().step(gaussian, 9).epsilon(1e-5).epsilon;
  assert.ok(Math.abs(gdpAccountant().step(gaussian, 9).epsilon(1e-5).epsilon / exact - 1) < 1e-12);
});

test('no noise: ε = ∞, δ = 1', () => {
  const accountant = pldAccountant().step(poisson(0.1, 1)).step(poisson(0.1, 0));
  assert.is(accountant.epsilon(1e-5).epsilon, Infinity);
  assert.is(accountant.delta(5).delta, 1);
  assert.is(gdpAccountant().step(poisson(0.1, 0)).epsilon(1e-5).epsilon, Infinity);
});

test.run();
