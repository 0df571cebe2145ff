// Random label flipping: how many, which, to what label; and that the engine reads the poisoned set so.
import fc from 'fast-check';
import { flipLabels } from 'gradshape/attacks';
import { createEngineSync, type LabelledSet } from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();

/** Example i is [3i, 3i + 1, 3i + 2]. */
function set(count: number, classes: number, floats = false): LabelledSet {
  const x = Array.from({ length: 3 * count }, (_, i) => i % 251);
  return {
    x: floats ? Float32Array.from(x) : Uint8Array.from(x),
    y: Uint8Array.from({ length: count }, (_, i) => (i * 7 + (i >> 2)) % classes),
    shape: [3],
    scale: 0.5,
  };
}

const someSet = fc
  .record({
    count: fc.integer({ min: 1, max: 60 }),
    classes: fc.integer({ min: 2, max: 5 }),
    floats: fc.boolean(),
  })
  .map(({ count, classes, floats }) => ({ base: set(count, classes, floats), classes }));

const property = (body: (g: { base: LabelledSet; classes: number }, seed: number, ratio: number) => void) =>
  fc.assert(fc.property(someSet, fc.nat(1000), fc.double({ min: 0, max: 1, noNaN: true }), body), {
    seed: 3,
    numRuns: 120,
  });

test('added copies: the budget, another label each, the pixels of who was copied', () => {
  property(({ base, classes }, seed, ratio) => {
    const n = base.y.length;
    const poisoned = flipLabels(base, { ratio, seed, classes });
    const count = Math.round(ratio * n);
    assert.is(poisoned.poison.length, count);
    assert.equal(
      [...poisoned.poison],
      Array.from({ length: count }, (_, i) => n + i),
    );
    assert.equal([...poisoned.y.slice(0, n)], [...(base.y as Uint8Array)], 'the base is as it was');
    assert.is(poisoned.y.length, n + count);
    assert.is(poisoned.added.length, count === 0 ? 0 : 1);
    const copies = poisoned.added[0];
    const copied = new Set<number>();
    for (let p = 0; p < count; p++) {
      const row = copies!.x.subarray(3 * p, 3 * p + 3);
      const from = Array.from({ length: n }, (_, i) => i).find((i) => base.x[3 * i] === row[0])!;
      copied.add(from);
      assert.equal([...row], [...base.x.subarray(3 * from, 3 * from + 3)]);
      const label = poisoned.y[n + p]!;
      assert.ok(label !== base.y[from] && label >= 0 && label < classes);
      assert.is(copies!.y[p], label);
    }
    assert.is(copied.size, count, 'nobody twice');
    if (copies) assert.is(copies.x.constructor, base.x.constructor);
  });
});

test('in place: as many labels differ as were poisoned, at the named indices', () => {
  property(({ base, classes }, seed, ratio) => {
    const before = [...(base.y as Uint8Array)];
    const poisoned = flipLabels(base, { ratio, seed, classes, mode: 'in-place' });
    const changed = before.flatMap((label, i) => (poisoned.y[i] === label ? [] : [i]));
    assert.equal(changed, [...poisoned.poison]);
    assert.is(changed.length, Math.round(ratio * before.length));
    assert.is(poisoned.y.length, before.length);
    assert.equal(poisoned.added, []);
    assert.equal([...(base.y as Uint8Array)], before, 'the base itself stays');
  });
});

test('two classes: the opposite label', () => {
  const base = set(50, 2);
  for (const mode of ['add', 'in-place'] as const) {
    const { y, poison } = flipLabels(base, { count: 50, seed: 1, mode });
    const labels = mode === 'add' ? [...y.slice(50)].sort() : [...y];
    const opposite = [...(base.y as Uint8Array)].map((label) => 1 - label);
    assert.equal(labels, mode === 'add' ? opposite.sort() : opposite);
    assert.is(poison.length, 50);
  }
});

test('a larger budget of the same seed contains the smaller one, labels and all', () => {
  const base = set(60, 4);
  const of = (count: number, mode: 'add' | 'in-place', seed = 5) => flipLabels(base, { count, seed, mode });
  const large = of(40, 'add');
  for (const count of [0, 1, 13, 39]) {
    const small = of(count, 'add');
    assert.equal(small.y, large.y.slice(0, 60 + count));
    assert.equal([...(small.added[0]?.x ?? [])], [...large.added[0]!.x.subarray(0, 3 * count)]);
    const [few, many] = [of(count, 'in-place'), of(40, 'in-place')];
    for (const i of few.poison) assert.is(many.y[i], few.y[i]);
    assert.ok([...few.poison].every((i) => many.poison.includes(i)));
  }
  assert.equal(of(20, 'add'), of(20, 'add'));
  assert.not.equal(of(20, 'add').y, of(20, 'add', 6).y);
  assert.is(of(12, 'add').spec.count, 12);
});

test('examples and wrong labels are chosen evenly', () => {
  const base = { ...set(40, 4), y: new Uint8Array(40) };
  const times = new Uint32Array(40);
  const labels = new Uint32Array(4);
  for (let seed = 0; seed < 1000; seed++) {
    const { poison, y } = flipLabels(base, { count: 10, seed, classes: 4, mode: 'in-place' });
    for (const i of poison) {
      times[i]!++;
      labels[y[i]!]!++;
    }
  }
  // 10,000 draws with fixed seeds: five standard deviations about 250 and 3333.
  assert.ok(
    times.every((n) => Math.abs(n - 250) < 5 * Math.sqrt(250 * 0.75)),
    String(times),
  );
  assert.is(labels[0], 0);
  assert.ok(
    labels.slice(1).every((n) => Math.abs(n - 10_000 / 3) < 5 * Math.sqrt(10_000 * (2 / 9))),
    String(labels),
  );
});

test('the engine reads base and poisons, on a base of its own or a shared one', () => {
  for (const floats of [false, true]) {
    const base = set(20, 2, floats);
    const poisoned = flipLabels(base, { ratio: 0.4, seed: 2 });
    using shared = engine.dataset(base);
    using alone = engine.dataset(poisoned);
    const used = engine.memory.bytesInUse;
    using onTop = engine.dataset({ ...poisoned, base: shared });
    assert.ok(engine.memory.bytesInUse - used < 1024, 'the base is not copied');
    for (const data of [alone, onTop]) {
      assert.is(data.count, 28);
      assert.equal(data.y, poisoned.y);
      engine.scope(() => {
        const indices = [27, 3, 20, 19, 24];
        const batch = data.batch(indices);
        const rows = indices.flatMap((i) => {
          const source = i < 20 ? base.x : poisoned.added[0]!.x;
          const at = 3 * (i < 20 ? i : i - 20);
          return [...source.subarray(at, at + 3)].map((value) => value * 0.5);
        });
        assert.equal([...batch.x.values()], rows);
        assert.equal(
          [...batch.y.values()],
          indices.map((i) => poisoned.y[i]),
        );
      });
    }
    const inPlace = flipLabels(base, { ratio: 0.4, seed: 2, mode: 'in-place' });
    using relabelled = engine.dataset({ ...inPlace, base: shared });
    assert.equal(relabelled.y, inPlace.y);
    assert.equal([...shared.y], [...(base.y as Uint8Array)]);
    engine.scope(() => {
      assert.equal(
        [...relabelled.batch([5]).x.values()],
        [...base.x.subarray(15, 18)].map((v) => v * 0.5),
      );
    });
  }
});

test('errors', () => {
  const base = set(10, 3);
  const flip = (options: object) => () => flipLabels(base, { seed: 1, count: 1, ...options } as never);
  for (const count of [-1, 1.5, 11, Number.NaN]) {
    assert.match(
      throwsCode('BUDGET_INVALID', flip({ count })),
      new RegExp(`count is ${count}.*from 0 to 10`),
    );
  }
  for (const ratio of [-0.1, 1.06, Number.NaN]) {
    assert.match(
      throwsCode('BUDGET_INVALID', flip({ count: undefined, ratio })),
      new RegExp(`ratio is ${ratio}`),
    );
  }
  throwsCode('BUDGET_INVALID', flip({ ratio: 0.1 }));
  throwsCode('BUDGET_INVALID', flip({ count: undefined }));
  for (const classes of [2, 1, 3.5, Number.NaN]) {
    assert.match(throwsCode('LABEL_OUT_OF_RANGE', flip({ classes })), /largest label is 2/);
  }
  assert.match(throwsCode('MODE_UNKNOWN', flip({ mode: 'swap' })), /'swap'.*'add' or 'in-place'/);
  throwsCode('SEED_INVALID', flip({ seed: -1 }));
  // A base with a label that is none is not made well by truncating it.
  for (const y of [
    [0, 0.5],
    [0, -1],
    [0, Number.NaN],
  ]) {
    throwsCode('LABEL_OUT_OF_RANGE', () => {
      engine.dataset(flipLabels({ x: Uint8Array.of(1, 2), y, shape: [1] }, { count: 1, seed: 1 }));
    });
  }
});

test.run();
