// One example more or less moves the sum before noise by at most C, for every data set (docs/arithmetic.md).
import fc from 'fast-check';
import {
  addNoise,
  automaticClipping,
  clipFactors,
  flatClipping,
  type PrivateStep,
  type PrivateStepOptions,
  poissonSampler,
  privateStep,
  seededNoise,
} from 'gradshape/dp';
import {
  type BatchLoss,
  createEngineSync,
  crossEntropy,
  groupSize,
  matmul,
  mul,
  Parameters,
  perExample,
  reshape,
  slice,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { groupsByPosition, groupsBySecret } from '../dist/dp/lot-groups.js';
import { Grouping } from '../dist/engine/grouping.js';
import { summed, tryCase, within } from './sensitivity-cases.js';

const engine = createEngineSync();
type Loss = BatchLoss<{ x: Tensor; y: Tensor }>;

test('the sum moves by at most C, with or without a member: generated cases, in exact arithmetic', () => {
  for (let seed = 0; seed < 700; seed++) {
    const { holds, what, moved } = tryCase({ seed: 900_000_000 + seed });
    assert.ok(holds, `${what}: moved by ${moved} bounds`);
  }
});

test('and in a lot of a million', () => {
  const { holds, what, moved } = tryCase({ seed: 7, size: 1_000_000 });
  assert.ok(holds, `${what}: moved by ${moved} bounds`);
});

test('within compares in exact arithmetic', () => {
  const at = (...values: number[]) => Float64Array.from(values);
  assert.ok(within(at(3, 0), at(0, 4), 5));
  assert.not(within(at(3, 0), at(0, 4), 5 - 2 ** -50));
  assert.not(within(at(1 + 2 ** -52), at(0), 1));
  assert.ok(within(at(2 ** -1074), at(0), 2 ** -1074));
  assert.not(within(at(2 ** 60 + 512), at(-1), 2 ** 60 + 512));
});

test('a lot that climbs to a power of two and comes down in ties: the member is 1 of 16,384', () => {
  const [count, climbing] = [16_384, 8275];
  const step = 1 - 0.0103 - 2e-6;
  const x = Float32Array.from({ length: count }, (_, i) => (i < climbing ? step : -(2 ** -11)));
  using data = engine.dataset({ x, y: new Int32Array(count), shape: [1] });
  using params = new Parameters(engine, [{ name: 'w', shape: [1, 1] }]);
  const loss: Loss = (p, b) => sum(matmul(b.x, p.get('w')), { axes: [1] });
  const everyone = Int32Array.from({ length: count }, (_, i) => i);
  for (const member of [0, 4000, climbing - 1]) {
    const sums = [everyone, everyone.filter((i) => i !== member)].map((indices) =>
      summed(params, flatClipping({ clipNorm: 1 }), 'ghost', loss, data, { indices }),
    ) as [Float64Array, Float64Array];
    assert.ok(within(...sums, 1), `${sums[0][0]! - sums[1][0]!}`);
  }
});

const ids = fc.array(fc.nat({ max: 5000 }), { maxLength: 2000 });

test('runs of a lot are the same in pieces, and one more example changes no group but its own and the first', () => {
  const groupsOf = (indices: readonly number[], cuts: readonly number[] = []): string[] => {
    const grouping = new Grouping();
    const groups: number[][] = [[]];
    const edges = [0, ...cuts.filter((cut) => cut < indices.length).sort((a, b) => a - b), indices.length];
    edges.slice(1).forEach((to, i) => {
      const piece = indices.slice(edges[i], to);
      const numbers = engine.scope(() => {
        const at = engine.tensor(piece, [piece.length], 'i32');
        return grouping.runs({ indices: at, random: null }, piece.length);
      });
      for (const { from, to: end, closes } of numbers) {
        if (closes) groups.push([]);
        groups.at(-1)!.push(...piece.slice(from, end));
      }
    });
    return groups.map((group) => group.join());
  };
  fc.assert(
    fc.property(ids, fc.array(fc.nat({ max: 2000 }), { maxLength: 5 }), fc.nat(), (unsorted, cuts, at) => {
      const lot = [...new Set(unsorted)].sort((a, b) => a - b);
      const whole = groupsOf(lot);
      assert.equal(groupsOf(lot, cuts), whole);
      assert.ok(whole.every((group) => group.split(',').length <= groupSize));
      if (lot.length === 0) return;
      const without = groupsOf(lot.filter((_, i) => i !== at % lot.length));
      const changed = whole.filter((group) => !without.includes(group)).length;
      const gone = without.filter((group) => !whole.includes(group)).length;
      assert.ok(changed <= 2 && gone <= 2, `${changed} and ${gone} groups differ`);
    }),
  );
});

test('groups by secret words: at most 320 in one, side by side, and a member changes its own cell alone, even if indices move', () => {
  const word = (i: number): number => Math.imul(i + 1, 2654435761) >>> 0;
  const crowded = (i: number): number => (i % 3 === 0 ? word(i) : (word(i) >>> 9) + 77_000_000);
  for (const words of [word, crowded]) {
    const people = Array.from({ length: 3000 }, (_, i) => i);
    // A group is known by who is in it: people have names that stay when indices move.
    const groupsOf = (names: readonly number[]): string[] => {
      const { indices, groups } = groupsBySecret(
        Int32Array.from(names, (_, i) => i),
        2500,
        (
          (i) => () =>
            words(names[i++]!)
        )(0),
      );
      const found: number[][] = [];
      groups.forEach((group, i) => {
        if (i === 0 || group !== groups[i - 1]) found.push([]);
        found.at(-1)!.push(names[indices[i]!]!);
      });
      assert.is(new Set(groups).size, found.length);
      assert.ok(found.every((group) => group.length <= groupSize));
      assert.equal(
        found.flat().sort((a, b) => a - b),
        names,
      );
      return found.map((group) => group.join());
    };
    const whole = groupsOf(people);
    for (const member of [0, 1500, 2999]) {
      const without = groupsOf(people.filter((name) => name !== member));
      const differ = whole.filter((group) => !without.includes(group)).join();
      const before = without.filter((group) => !whole.includes(group)).join();
      const people1 = new Set(differ.split(','));
      // The same people, but for the member.
      people1.delete(String(member));
      assert.equal(new Set(before.split(',').filter((name) => name !== '')), people1);
      assert.ok(people1.size <= groupSize, `${people1.size} examples are summed in other groups`);
    }
  }
  const { groups } = groupsByPosition(Int32Array.from({ length: 1000 }, (_, i) => 7 * i));
  assert.is(groups.filter((group) => group === 0).length, groupSize);
});

test('a sampler’s lot holds the examples that it draws', () => {
  const sampler = poissonSampler({ engine, count: 5000, samplingRate: 0.5, seed: 3 });
  const { indices, groups } = sampler.lot(2);
  assert.equal(
    [...indices].sort((a, b) => a - b),
    [...sampler.draw(2)],
  );
  assert.ok(new Set(groups).size >= 8);
  assert.equal(sampler.lot(2), { indices, groups });
});

test('norms over positions bound what is added, and equal the formed gradient’s where nothing cancels', () => {
  const [T, d, k] = [5, 9, 11];
  using params = new Parameters(engine, [{ name: 'w', shape: [d, k] }]);
  const loss: Loss = (p, { x }) => sum(mul(matmul(x, p.get('w')), 0.5), { axes: [1, 2] });
  const rows = Float32Array.from({ length: 3 * T * d }, (_, i) => Math.sin(i * i + 1));
  for (let j = 0; j < d; j++) {
    for (let t = 0; t < 4; t++) rows[2 * T * d + t * d + j] = (t % 2 === 0 ? 1 : -1) * 1e9;
    rows[2 * T * d + 4 * d + j] = 1;
  }
  using data = engine.dataset({ x: rows, y: [0, 0, 0], shape: [T, d] });
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    const ghost = perExample(loss, params, batch);
    const formed = perExample(loss, params, batch, { strategy: 'materialize' });
    const [norms, exact] = [ghost.norms().values(), formed.norms().values()];
    for (const i of [0, 1]) assert.ok(Math.abs(norms[i]! / exact[i]! - 1) < 1e-5);
    assert.ok(norms[2]! >= exact[2]!);
    const [added] = ghost.weightedSums([[0, 0, 1]]);
    assert.ok(Math.sqrt(engine.kernels.squaredNorm(added!.address, d * k)) <= norms[2]!);
  });
});

test('positions that cancel at the ends of float32: what is added is what was measured', () => {
  const [T, inner, outer] = [2, 5, 9];
  using params = new Parameters(engine, [{ name: 'w', shape: [inner, outer] }]);
  const loss: Loss = (p, { x }) => {
    const sides = [slice(x, [0, 0], [-1, T * inner]), slice(x, [0, T * inner], [-1, T * outer])] as const;
    const out = matmul(reshape(sides[0], [x.shape[0]!, T, inner]), p.get('w'));
    return sum(mul(out, reshape(sides[1], [x.shape[0]!, T, outer])), { axes: [1, 2] });
  };
  // The right sides of the two positions lie on either side of the smallest normal number, or of the largest one, times a weight.
  for (const [left, right] of [
    [3e38, 2 ** -126],
    [1e37, 2 ** -126],
    [1e36, 2 ** -125],
    [1e-30, 3e38],
    [1, 3e38],
  ] as const) {
    const row = [left, -left].flatMap((a) => new Array<number>(inner).fill(a));
    const tails = [right * (1 + 2e-4), right * (1 - 2e-4)].flatMap((b) => new Array<number>(outer).fill(b));
    using set = engine.dataset({
      x: Float32Array.from([...row, ...tails]),
      y: [0],
      shape: [T * (inner + outer)],
    });
    for (const clipNorm of [1, 1e-3, 1e-20]) {
      for (const rule of [flatClipping({ clipNorm }), automaticClipping({ clipNorm, gamma: 0 })]) {
        const added = summed(params, rule, 'ghost', loss, set, { indices: Int32Array.of(0) });
        assert.ok(within(added, new Float64Array(added.length), clipNorm), `${left}, ${right}, ${clipNorm}`);
      }
    }
  }
});

test('the noise on a sum of several groups is the noise of one, on the exact sum', () => {
  const count = 1000;
  using set = engine.dataset({
    x: Float32Array.from({ length: count }, (_, i) => Math.sin(i)),
    y: new Int32Array(count),
    shape: [1],
  });
  using params = new Parameters(engine, [{ name: 'w', shape: [1, 1] }]);
  const loss: Loss = (p, b) => sum(matmul(b.x, p.get('w')), { axes: [1] });
  for (const noiseMultiplier of [0, 1]) {
    params.load([0]);
    const step = stepOf(params, { noiseMultiplier, clipNorm: 2, expectedBatchSize: 1 });
    engine.scope(
      () => void step.accumulate(loss, set.batch(Int32Array.from({ length: count }, (_, i) => i))),
    );
    step.finish();
    const sumOfAll = Array.from({ length: count }, (_, i) => Math.fround(Math.sin(i))).reduce(
      (a, b) => a + b,
      0,
    );
    const noise = engine.scope(() =>
      noiseMultiplier === 0 ? 0 : addNoise(engine.full([1], 0), { std: 2, noise: seededNoise(5) }).item(),
    );
    assert.ok(Math.abs(params.values()[0]! + sumOfAll + noise) < 1e-5);
    step.free();
  }
});

test('a factor that would be denormal, or too large, adds nothing rather than something else', () => {
  using params = new Parameters(engine, [{ name: 'w', shape: [784, 2] }]);
  const loss: Loss = (p, b) => crossEntropy(matmul(b.x, p.get('w')), b.y);
  for (const big of [3e38, 1e37, 1e36]) {
    using set = engine.dataset({ x: new Float32Array(784).fill(big), y: [1], shape: [784] });
    for (const clipNorm of [1, 0.1, 1e-4]) {
      const added = engine.scope(() => {
        const g = perExample(loss, params, set.batch([0]));
        const [only] = g.weightedSums([clipFactors(g.norms(), { clipNorm })]);
        return Float64Array.from(only!.values());
      });
      const norm = Math.sqrt(added.reduce((total, v) => total + v * v, 0));
      assert.ok(norm <= clipNorm, `${norm} at ${clipNorm}`);
    }
  }
});

/** Some of a step's options; undefined leaves one out. */
type Settings = { [K in keyof PrivateStepOptions]?: PrivateStepOptions[K] | undefined };

function stepOf(params: Parameters, options: Settings = {}): PrivateStep {
  return privateStep({
    params,
    optimizer: sgd({ learningRate: 1 }),
    ...(options.shaper === undefined && { clipNorm: 1 }),
    noiseMultiplier: 1,
    expectedBatchSize: 4,
    noise: seededNoise(5),
    ...options,
  } as PrivateStepOptions);
}

test.run();
