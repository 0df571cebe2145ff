// Randomness belongs to a seed, a stream, a step and an example: it does not depend on how a batch comes.
import fc from 'fast-check';
import {
  choose,
  createEngineSync,
  denseLayer,
  dropout,
  Parameters,
  perExample,
  permutation,
  publicGenerator,
  type Stream,
  sliceBatch,
  square,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const engine = createEngineSync();
const width = 37;
const count = 24;
const data = engine.dataset({
  x: new Float32Array(count * width).fill(1),
  y: new Uint8Array(count),
  shape: [width],
});

/** The dropped rows of a batch, one string a row. */
const rowsOf = (t: Tensor): string[] => {
  const values = t.values();
  return Array.from({ length: t.shape[0]! }, (_, i) => values.subarray(i * width, (i + 1) * width).join());
};
const masks = (indices: number[], seed: number, step: number, layer = 0, rate = 0.5): string[] =>
  engine.scope(() => rowsOf(dropout(data.batch(indices, { seed, step }).x, rate, layer)));

test('a mask is the example’s, whatever the batch’s order, size and pieces', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(count - 1), { minLength: 1, maxLength: 30 }),
      fc.nat(),
      fc.nat(1000),
      fc.nat(30),
      (indices, seed, step, cut) => {
        const whole = masks(indices, seed, step);
        const alone = new Map(indices.map((i) => [i, masks([i], seed, step)[0]]));
        assert.equal(
          whole,
          indices.map((i) => alone.get(i)),
        );
        engine.scope(() => {
          const batch = data.batch(indices, { seed, step });
          const at = Math.min(cut, indices.length);
          const pieces = [sliceBatch(batch, 0, at), sliceBatch(batch, at, indices.length)];
          assert.equal(
            pieces.flatMap(({ x }) => rowsOf(dropout(x, 0.5))),
            whole,
          );
        });
      },
    ),
    { seed: 1, numRuns: 60 },
  );
});

test('masks differ by seed, step, layer and example', () => {
  const all = [
    ...masks([0, 1, 2], 1, 0),
    ...masks([0], 2, 0),
    ...masks([0], 2 ** 32 + 1, 0),
    ...masks([0], 1, 1),
    ...masks([0], 1, 2 ** 31),
    ...masks([0], 1, 0, 1),
  ];
  assert.is(new Set(all).size, all.length);
});

test('the rate is kept, and what stays is scaled by 1/(1 − rate)', () => {
  for (const rate of [0.1, 0.5, 0.9]) {
    let dropped = 0;
    const total = 40 * count * width;
    for (let step = 0; step < 40; step++) {
      engine.scope(() => {
        const { x } = data.batch(
          Array.from({ length: count }, (_, i) => i),
          { seed: 7, step },
        );
        for (const value of dropout(x, rate).values()) {
          if (value === 0) dropped++;
          else assert.ok(Math.abs(value * (1 - rate) - 1) < 1e-6);
        }
      });
    }
    // 35,520 draws with a fixed seed: five standard deviations.
    assert.ok(
      Math.abs(dropped / total - rate) < 5 * Math.sqrt((rate * (1 - rate)) / total),
      `${rate}: ${dropped / total}`,
    );
  }
  engine.scope(() => {
    const { x } = data.batch([0]);
    assert.is(dropout(x, 0), x, 'a rate of 0 needs no randomness');
  });
});

test('loop and ghost see the same dropout, also across pieces', () => {
  using params = new Parameters(engine, [
    { name: 'w', shape: [width, 5] },
    { name: 'b', shape: [5] },
  ]);
  params.load(Float32Array.from({ length: params.size }, (_, i) => Math.sin(i)));
  const loss = (p: Parameters, { x }: { x: Tensor }) =>
    sum(square(dropout(denseLayer(dropout(x, 0.3, 0), p.get('w'), p.get('b')), 0.5, 1)), { axes: 1 });
  engine.scope(() => {
    const batch = data.batch([5, 3, 3, 20], { seed: 3, step: 4 });
    const norms = (['loop', 'ghost', 'materialize'] as const).map((strategy) => [
      ...perExample(loss, params, batch, { strategy }).norms().values(),
    ]);
    norms[0]!.forEach((norm, i) => {
      for (const other of norms) assert.ok(Math.abs(other[i]! / norm - 1) < 1e-6);
    });
    assert.is(norms[0]![1], norms[0]![2], 'one example twice has one mask');
  });
});

const draws = (seed: number, stream: Stream, step = 0): number[] => {
  const generator = publicGenerator(seed, stream, step);
  return Array.from({ length: 8 }, () => uniformInt(generator, 0, 999_999));
};

test('streams, seeds and steps are independent of each other', () => {
  const streams: Stream[] = ['data', 'poison', 'init', 'order', 'dropout', 'noise', 'sampler'];
  const all = [
    ...streams.map((stream) => draws(1, stream)),
    ...[0, 2, 3, 2 ** 32, 2 ** 32 + 1, 2 ** 52].map((seed) => draws(seed, 'data')),
    ...[1, 2, 2 ** 20].map((step) => draws(1, 'data', step)),
  ];
  assert.is(new Set(all.map(String)).size, all.length);
  assert.is(new Set(all.map(([first]) => first)).size, all.length, 'from the first draw on');
  assert.equal(draws(1, 'order'), draws(1, 'order'));
});

test('public draws are pinned: a trial’s spec means the same in every version', () => {
  // These are our own draws: a change of them is a change of every experiment.
  assert.equal(draws(1, 'order').slice(0, 4), [253991, 388768, 988102, 907725]);
  assert.equal(draws(1, 'poison').slice(0, 4), [632676, 327820, 991941, 618267]);
  assert.equal(draws(123456789012, 'data', 7).slice(0, 4), [135931, 730794, 662809, 553510]);
  assert.equal([...permutation(8, publicGenerator(1, 'order'))], [3, 5, 6, 1, 0, 4, 2, 7]);
});

test('permutations hold each index once, evenly; choose is their beginning', () => {
  const places = new Uint32Array(6 * 6);
  for (let seed = 0; seed < 3000; seed++) {
    const order = permutation(6, publicGenerator(seed, 'order'));
    assert.equal([...order].sort(), [0, 1, 2, 3, 4, 5]);
    order.forEach((i, place) => {
      places[6 * place + i]!++;
    });
  }
  // 3000 fixed seeds: five standard deviations about 500.
  assert.ok(
    places.every((n) => Math.abs(n - 500) < 5 * Math.sqrt(3000 * (5 / 36))),
    String(places),
  );
  const of = () => publicGenerator(4, 'poison');
  assert.equal(choose(3, 10, of()), permutation(10, of()).slice(0, 3));
  assert.equal([...permutation(0, of()), ...permutation(1, of())], [0]);
});

test.run();
