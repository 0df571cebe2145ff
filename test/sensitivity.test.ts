// One example more or less moves the sum before noise by at most C, for every data set (docs/arithmetic.md); and what a step that
// failed, or a loss that can't be trusted, must not do.
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
  type Shaper,
  seededNoise,
} from 'gradshape/dp';
import {
  asExamples,
  type BatchLoss,
  createEngineSync,
  crossEntropy,
  denseLayer,
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
import { adam, type Optimizer, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { groupsByPosition, groupsBySecret } from '../dist/dp/lot-groups.js';
import { Grouping } from '../dist/engine/grouping.js';
import { throwsCode } from './engine-helpers.js';
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

const [d, c] = [4, 3];
const logistic: Loss = (p, b) => crossEntropy(denseLayer(b.x, p.get('w'), p.get('b')), b.y);
const data = engine.dataset({
  x: Float32Array.from({ length: 10 * d }, (_, i) => Math.sin(i * i + 1) * 2),
  y: Int32Array.from({ length: 10 }, (_, i) => i % c),
  shape: [d],
});

function regression(): Parameters {
  const params = new Parameters(engine, [
    { name: 'w', shape: [d, c] },
    { name: 'b', shape: [c] },
  ]);
  params.load(Float32Array.from({ length: params.size }, (_, i) => Math.cos(3 * i) / 2));
  return params;
}

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

const give = (step: PrivateStep, indices: number[], loss: Loss = logistic): void =>
  engine.scope(() => void step.accumulate(loss, data.batch(indices)));

test('after an error in a piece the step goes on only when it was discarded, and nothing counts twice', () => {
  using failing = regression();
  using straight = regression();
  const [step, other] = [stepOf(failing), stepOf(straight)];
  const broken: Loss = () => {
    throw new Error('no memory');
  };
  give(step, [0, 1]);
  assert.throws(() => give(step, [2], broken), 'no memory');
  assert.match(
    throwsCode('STEP_FAILED', () => give(step, [2])),
    'discard()',
  );
  throwsCode('STEP_FAILED', () => step.finish());
  step.discard();
  for (const one of [step, other]) {
    give(one, [0, 1]);
    give(one, [2]);
    one.finish();
  }
  assert.equal(failing.values(), straight.values());
  assert.is(step.step, 1);
  step.free();
  other.free();
});

test('an example is given once in a lot, in whatever piece', () => {
  using params = regression();
  const step = stepOf(params);
  assert.match(
    throwsCode('EXAMPLE_REPEATED', () => give(step, [3, 4, 3])),
    'example 3',
  );
  step.discard();
  give(step, [3, 4]);
  throwsCode('EXAMPLE_REPEATED', () => give(step, [5, 4]));
  step.discard();
  for (let lot = 0; lot < 600; lot++) {
    give(step, [3, 4, 9]);
    step.finish();
  }
  step.free();
});

test('a finish that throws has noised at most once, and the next one goes on from the same noisy sum', () => {
  using twice = regression();
  using once = regression();
  const sums: number[][] = [];
  const observer = { piece() {}, summed: (s: Tensor) => void sums.push([...s.values()]), noised() {} };
  const failing = sgd({ learningRate: 1 });
  const { update } = failing;
  let fails = true;
  failing.update = (...args) => {
    if (fails) throw new Error('no memory');
    update.apply(failing, args);
  };
  const [step, other] = [stepOf(twice, { observer, optimizer: failing }), stepOf(once)];
  for (const one of [step, other]) give(one, [0, 1, 2]);
  throwsCode('LEARNING_RATE_INVALID', () => step.finish({ learningRate: Number.NaN }));
  assert.is(sums.length, 0, 'what the update would refuse is refused before the noise');
  assert.throws(() => step.finish(), 'no memory');
  throwsCode('STEP_FAILED', () => give(step, [4]));
  assert.match(
    throwsCode('STEP_FAILED', () => step.discard()),
    'finish() once more',
  );
  fails = false;
  assert.is(step.step, 0);
  for (const one of [step, other]) one.finish();
  assert.equal(twice.values(), once.values());
  assert.is(sums.length, 1);
  step.free();
  other.free();
});

test('a finish that throws before its noise can be made again, and sums nothing twice', () => {
  const count = 1000;
  using set = engine.dataset({ x: new Float32Array(count).fill(0.5), y: new Int32Array(count), shape: [1] });
  using params = new Parameters(engine, [{ name: 'w', shape: [1, 1] }]);
  const linear: Loss = (p, b) => sum(matmul(b.x, p.get('w')), { axes: [1] });
  let fails = true;
  const observer = {
    piece() {},
    summed() {
      if (fails) throw new Error('no disk');
    },
    noised() {},
  };
  const step = stepOf(params, { observer, noiseMultiplier: 0, expectedBatchSize: 1 });
  const add = (indices: ArrayLike<number>): void =>
    engine.scope(() => void step.accumulate(linear, set.batch(indices)));
  add(Int32Array.from({ length: count }, (_, i) => i));
  for (let attempt = 0; attempt < 3; attempt++) assert.throws(() => step.finish(), 'no disk');
  throwsCode('STEP_FAILED', () => add([0]));
  fails = false;
  step.finish();
  assert.is(params.values()[0], -count / 2);
  assert.is(step.step, 1);
  step.free();
});

test('a parameter that is unfrozen in the middle of a step gets no sum without noise', () => {
  using params = regression();
  params.freeze(['b']);
  const step = stepOf(params);
  give(step, [0, 1]);
  params.unfreeze(['b']);
  throwsCode('STEP_FAILED', () => step.finish());
  throwsCode('STEP_FAILED', () => give(step, [2]));
  step.discard();
  give(step, [0, 1]);
  step.finish();
  step.free();
});

test('examples that share a base, and the same batch by hand, are given once', () => {
  using params = regression();
  using more = engine.dataset({ base: data, added: [] });
  const step = stepOf(params);
  give(step, [0, 1]);
  throwsCode('EXAMPLE_REPEATED', () => engine.scope(() => void step.accumulate(logistic, more.batch([0]))));
  step.discard();
  throwsCode('EXAMPLE_REPEATED', () =>
    engine.scope(() => {
      const x = asExamples(engine.full([2, d], 0.5));
      const batch = { x, y: asExamples(engine.tensor([0, 1], [2], 'i32'), x) };
      step.accumulate(logistic, batch);
      step.accumulate(logistic, batch);
    }),
  );
  step.free();
});

test('groups that are none, or too large, are refused', () => {
  using params = regression();
  engine.scope(() => {
    for (const groups of [new Int32Array(1), [0, 0], new Int32Array([0, -1]), 3, 'x'] as Int32Array[]) {
      throwsCode('GROUPS_INVALID', () => data.batch([0, 1], { groups }));
    }
  });
  const count = 321;
  using set = engine.dataset({
    x: new Float32Array(count * d).fill(0.5),
    y: new Int32Array(count),
    shape: [d],
  });
  const step = stepOf(params);
  const everyone = Int32Array.from({ length: count }, (_, i) => i);
  throwsCode('GROUPS_INVALID', () =>
    engine.scope(
      () => void step.accumulate(logistic, set.batch(everyone, { groups: new Int32Array(count) })),
    ),
  );
  step.free();
});

test('steps are whole numbers', () => {
  using params = regression();
  const step = stepOf(params);
  for (const bad of [-1, 2.5, Infinity, Number.NaN, '3'] as number[]) {
    step.step = bad;
    throwsCode('STEP_INVALID', () => give(step, [0]));
    step.discard();
  }
  step.step = 3;
  give(step, [0]);
  step.free();
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

test('five lines of a user’s own rule, and a gradient that overflows: nothing is spoilt', () => {
  const own: Shaper = {
    name: 'own',
    wholeBatch: false,
    bound: () => 1,
    accumulate(g, into, { tightening }) {
      const weights = g
        .norms()
        .values()
        .map((norm) => tightening / Math.max(norm, 1));
      g.weightedSums([Float32Array.from(weights)], [into]);
      return undefined;
    },
    toString: () => 'own',
  };
  const wild = Float32Array.from({ length: 4 * d }, (_, i) => (i < d ? (i % 2 === 0 ? 3e38 : -3e38) : i / 9));
  using set = engine.dataset({ x: wild, y: [0, 1, 2, 0], shape: [d] });
  for (const strategy of ['ghost', 'materialize', 'loop'] as const) {
    using both = regression();
    using without = regression();
    for (const [params, indices] of [
      [both, [0, 1, 2]],
      [without, [1, 2]],
    ] as const) {
      params.load(params.values().map((w) => 4 * w));
      const step = stepOf(params, { shaper: own, strategy });
      engine.scope(() => void step.accumulate(logistic, set.batch(indices)));
      step.finish();
      step.free();
    }
    assert.ok(both.values().every(Number.isFinite));
    assert.equal(both.values(), without.values());
  }
});

test('weights that are not finite are refused by name', () => {
  using params = regression();
  engine.scope(() => {
    const g = perExample(logistic, params, data.batch([0, 1]));
    assert.match(
      throwsCode('WEIGHTS_NOT_FINITE', () => g.weightedSums([[1, Number.NaN]])),
      'example 1',
    );
  });
});

test('a loss that is another the second time is refused where its gradients are made twice', () => {
  using params = regression();
  let calls = 0;
  const moody: Loss = (p, b) => mul(logistic(p, b), ++calls > 2 ? 1e6 : 1);
  const step = stepOf(params, { strategy: 'loop' });
  throwsCode('LOSS_NOT_REPEATABLE', () => give(step, [0, 1], moody));
  step.free();
});

test('a schedule that would switch protection off is refused at that step', () => {
  const after = (first: number, then: number) => (step: number) => (step < 2 ? first : then);
  const cases: [Settings, string][] = [
    [{ clipNorm: after(1, Infinity) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, 1e38) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, 0) }, 'CLIP_NORM_INVALID'],
    [{ clipNorm: after(1, Number.NaN) }, 'SCHEDULE_INVALID'],
    [{ noiseMultiplier: after(1, 0) }, 'NOISE_INVALID'],
    [{ noiseMultiplier: after(1, Infinity) }, 'NOISE_INVALID'],
    [{ noiseMultiplier: after(1, Number.NaN) }, 'SCHEDULE_INVALID'],
    [{ noiseMultiplier: undefined, noiseStd: 1, clipNorm: after(1, Infinity) }, 'CLIP_NORM_INVALID'],
    [
      { shaper: { ...flatClipping({ clipNorm: 1 }), bound: (step) => (step < 2 ? 1 : null) } },
      'CLIP_NORM_INVALID',
    ],
  ];
  for (const [options, code] of cases) {
    using params = regression();
    const step = stepOf(params, options);
    for (let s = 0; s < 2; s++) {
      give(step, [s]);
      assert.is(step.release().bound, 1);
      step.finish();
    }
    const before = params.values();
    throwsCode(code, () => give(step, [3]));
    throwsCode(code, () => step.release());
    assert.equal(params.values(), before);
    step.free();
  }
});

test('a schedule is asked once a step: what the step clips to, noises with and reports is the same', () => {
  using params = regression();
  let asked = 0;
  const step = stepOf(params, { clipNorm: () => 1 + asked++ });
  const made = asked;
  const { bound, noiseStd, noiseMultiplier } = step.release();
  give(step, [0]);
  give(step, [1]);
  assert.equal(step.release(), { ...step.release(), bound, noiseStd, noiseMultiplier });
  const later = asked;
  step.finish();
  assert.ok(later - made <= 4, `${later - made} times`);
  assert.ok(step.release().bound! > bound!);
  step.free();
});

test('a schedule that answers otherwise the second time clips by its first answer', () => {
  using params = regression();
  let asked = 0;
  const sums: number[] = [];
  const observer = {
    piece() {},
    summed: (s: Tensor) => void sums.push(Math.sqrt(engine.kernels.squaredNorm(s.address, s.size))),
    noised() {},
  };
  const step = stepOf(params, { clipNorm: () => (asked++ === 0 ? 1e-3 : 1e6), observer });
  asked = 0;
  give(step, [0]);
  give(step, [1]);
  step.finish();
  assert.ok(sums[0]! <= 2e-3, `${sums[0]}`);
  step.free();
});

test('a rule that does not keep its own bound is refused', () => {
  using params = regression();
  const own: Shaper = {
    name: 'own',
    wholeBatch: false,
    bound: () => 1e-3,
    accumulate(g, into) {
      const weights = new Float32Array(g.batch).fill(1);
      g.weightedSums([weights], [into]);
      return weights;
    },
    toString: () => 'own',
  };
  const step = stepOf(params, { shaper: own });
  assert.match(
    throwsCode('SHAPER_INVALID', () => give(step, [0])),
    /weight 1, .*by 0.001/,
  );
  throwsCode('STEP_FAILED', () => step.finish());
  step.free();
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

test('updates with other optimizers after discard start from a clean sum', () => {
  const make = (): [Parameters, Optimizer] => [regression(), adam({ learningRate: 0.1 })];
  const [[first, one], [second, two]] = [make(), make()];
  const [a, b] = [stepOf(first, { optimizer: one }), stepOf(second, { optimizer: two })];
  give(a, [0, 1, 2]);
  a.discard();
  for (const step of [a, b]) {
    give(step, [5, 6]);
    step.finish();
  }
  assert.equal(first.values(), second.values());
  for (const thing of [a, b, first, second]) thing.free();
});

test.run();
