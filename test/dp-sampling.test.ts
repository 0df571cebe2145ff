// Samplers against the laws they must follow. Seeds are fixed, so nothing here can flake; the bounds are ones that a right
// sampler under a random key misses with a probability below 1e-6. One test draws from the real source, within the same bounds.
import fc from 'fast-check';
import { fixedSizeSampler, poissonSampler, shuffledSampler } from 'gradshape/dp';
import { createEngineSync } from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();

/** Five standard deviations of a count: one in 1.7 million. */
function within(count: number, trials: number, p: number, what: string): void {
  const allowed = 5 * Math.sqrt(trials * p * (1 - p)) + 1e-9;
  assert.ok(
    Math.abs(count - trials * p) <= allowed,
    `${what}: ${count} of ${trials}, expected ${trials * p}`,
  );
}

for (const source of ['seeded', 'secure'] as const) {
  const seed = source === 'seeded' ? { seed: 7 } : {};
  test(`Poisson (${source}): each example with probability q, alone, in pairs, and over steps`, () => {
    const [count, steps] = [50, 4000];
    for (const samplingRate of [0.02, 0.3, 0.97]) {
      const sampler = poissonSampler({ engine, count, samplingRate, ...seed });
      assert.is(sampler.source, source);
      const one = new Array<number>(count).fill(0);
      let [pairs, overSteps, total, squares] = [0, 0, 0, 0];
      let before = new Set<number>();
      for (let step = 0; step < steps; step++) {
        const drawn = sampler.draw(step);
        const now = new Set(drawn);
        for (const i of drawn) {
          one[i]!++;
          if (now.has(i + 1)) pairs++;
          if (before.has(i)) overSteps++;
        }
        total += drawn.length;
        squares += drawn.length ** 2;
        before = now;
      }
      one.forEach((times, i) => {
        within(times, steps, samplingRate, `example ${i}`);
      });
      within(total, steps * count, samplingRate, 'all');
      // Pairs share examples, hence three times the spread of independent ones at most.
      const q2 = samplingRate * samplingRate;
      const spread = 5 * Math.sqrt(3 * steps * count * q2);
      assert.ok(Math.abs(pairs - steps * (count - 1) * q2) < spread, `pairs ${pairs}`);
      assert.ok(Math.abs(overSteps - (steps - 1) * count * q2) < spread, `steps ${overSteps}`);
      // Sizes vary as a binomial's: not a fixed size in disguise.
      const mean = total / steps;
      const variance = squares / steps - mean * mean;
      const expected = count * samplingRate * (1 - samplingRate);
      assert.ok(Math.abs(variance / expected - 1) < 5 * Math.sqrt(3 / steps), `variance ${variance}`);
    }
  });

  test(`fixed size (${source}): always as many, all different, every subset as likely`, () => {
    const [count, batchSize, steps] = [6, 3, 20_000];
    const sampler = fixedSizeSampler({ engine, count, batchSize, ...seed });
    assert.is(sampler.source, source);
    const subsets = new Map<string, number>();
    for (let step = 0; step < steps; step++) {
      const drawn = [...sampler.draw(step)];
      assert.is(new Set(drawn).size, batchSize);
      assert.ok(drawn.every((i) => i >= 0 && i < count));
      const key = drawn.sort().join();
      subsets.set(key, (subsets.get(key) ?? 0) + 1);
    }
    assert.is(subsets.size, 20);
    for (const [subset, times] of subsets) within(times, steps, 1 / 20, subset);
  });
}

test('small rates, rate 1, and empty batches', () => {
  const rare = poissonSampler({ engine, count: 100_000, samplingRate: 1e-5, seed: 3 });
  let [total, empty] = [0, 0];
  for (let step = 0; step < 300; step++) {
    const { length } = rare.draw(step);
    total += length;
    if (length === 0) empty++;
  }
  within(total, 300 * 100_000, 1e-5, 'drawn');
  within(empty, 300, Math.exp(-1), 'empty batches');
  assert.is(poissonSampler({ engine, count: 1000, samplingRate: 1 }).draw(0).length, 1000);
  assert.is(fixedSizeSampler({ engine, count: 9, batchSize: 9 }).draw(0).length, 9);
});

test('seeded draws are functions of seed and step; secure ones never repeat', () => {
  const make = (seed?: number) =>
    poissonSampler({ engine, count: 400, samplingRate: 0.5, ...(seed !== undefined && { seed }) });
  const shared = (a: Int32Array, b: Int32Array) => a.filter((i) => b.includes(i)).length;
  assert.equal(make(1).draw(5), make(1).draw(5));
  for (const [a, b] of [
    [make(1).draw(5), make(1).draw(6)],
    [make(1).draw(5), make(1).draw(5 + 2 ** 32)],
    [make(1).draw(5), make(2).draw(5)],
    [make().draw(5), make().draw(5)],
  ] as const) {
    within(shared(a, b), 400, 0.25, 'examples in both');
  }
  const secure = fixedSizeSampler({ engine, count: 1000, batchSize: 100 });
  assert.not.equal(secure.draw(0), secure.draw(0));
});

test('shuffled epochs hold each example once, and can be resumed anywhere', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.nat(), fc.nat(1000), (count, size, seed) => {
      const batchSize = 1 + (size % count);
      const perEpoch = Math.ceil(count / batchSize);
      const sampler = shuffledSampler({ count, batchSize, seed });
      const drawn = Array.from({ length: 2 * perEpoch }, (_, step) => [...sampler.draw(step)]);
      for (const epoch of [drawn.slice(0, perEpoch), drawn.slice(perEpoch)]) {
        assert.equal(
          epoch.flat().sort((a, b) => a - b),
          Array.from({ length: count }, (_, i) => i),
        );
      }
      const resumed = shuffledSampler({ count, batchSize, seed });
      assert.equal([...resumed.draw(2 * perEpoch - 1)], drawn.at(-1));
      assert.equal([...resumed.draw(0)], drawn[0]);
    }),
  );
});

test('bad settings are refused with the range', () => {
  for (const samplingRate of [0, -1, 1.01, Number.NaN]) {
    const message = throwsCode('SAMPLING_RATE_OUT_OF_RANGE', () =>
      poissonSampler({ engine, count: 5, samplingRate }),
    );
    assert.match(message, '(0, 1]');
  }
  for (const batchSize of [0, 6, 1.5]) {
    throwsCode('BATCH_SIZE_OUT_OF_RANGE', () => fixedSizeSampler({ engine, count: 5, batchSize }));
  }
  throwsCode('DATASET_SIZE_OUT_OF_RANGE', () => poissonSampler({ engine, count: 0, samplingRate: 0.5 }));
  throwsCode('SEED_INVALID', () => poissonSampler({ engine, count: 5, samplingRate: 0.5, seed: -1 }));
  throwsCode('BATCH_SIZE_INVALID', () => shuffledSampler({ count: 5, batchSize: 6, seed: 1 }));
});

test.run();
