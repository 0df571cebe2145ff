// Filters: each finds the outliers it is made for, with scores as an oracle in float64 has them.
import {
  activationClusteringFilter,
  createEngineSync,
  type Filtered,
  flipLabels,
  lossFilter,
  nearestNeighbourFilter,
  type Rows,
  removedShares,
  roniFilter,
  rowsOf,
  selectRows,
  slabFilter,
  spectralFilter,
  sphereFilter,
  svdFilter,
} from 'gradshape';
import { kmeans } from 'ml-kmeans';
import { PCA } from 'ml-pca';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { codeOf, randomNumbers } from './attack-helpers.js';

const engine = createEngineSync();
const size = 8;
const perClass = 60;
const outliers = [3, 40, 77, 101];

/** Two clouds around ±1 on the first axis; the outliers are moved as `move` says. */
function planted(move: (x: Float32Array, at: number) => void): Rows {
  const next = randomNumbers(11);
  const y = Int32Array.from({ length: 2 * perClass }, (_, i) => i % 2);
  const x = Float32Array.from({ length: y.length * size }, (_, i) => {
    const label = y[Math.floor(i / size)]!;
    return (i % size === 0 ? 2 * label - 1 : 0) + 0.4 * (next() - 0.5);
  });
  for (const i of outliers) move(x, i * size);
  return { x, y, size };
}

const aside = planted((x, at) => {
  x[at + 5]! += 3;
});
const keep = 1 - 3 / perClass;

function findsOutliers(rows: Rows, { scores, kept }: Filtered): void {
  assert.is(scores.length, rows.y.length);
  for (const i of outliers) assert.not(kept.includes(i), `kept ${i}`);
  assert.ok(kept.every((i, k) => k === 0 || i > kept[k - 1]!));
  assert.is(kept.length, 114); // 3 of 60 in each class
}

test('sphere: distances from the class’s mean', () => {
  const filtered = sphereFilter(aside, { keep });
  findsOutliers(aside, filtered);
  const row = (i: number) => Array.from(aside.x.subarray(i * size, (i + 1) * size));
  const own = Array.from({ length: perClass }, (_, k) => row(2 * k));
  const mean = own[0]!.map((_, j) => own.reduce((s, r) => s + r[j]!, 0) / perClass);
  for (const i of [0, 6, 40]) {
    const distance = Math.hypot(...row(i).map((v, j) => v - mean[j]!));
    assert.ok(Math.abs(filtered.scores[i]! - distance) < 1e-9);
  }
});

test('slab: along the line between the means, and for two classes only', () => {
  const rows = planted((x, at) => {
    x[at]! *= -2;
  });
  findsOutliers(rows, slabFilter(rows, { keep }));
  // What stands aside is not seen by it.
  const missed = slabFilter(aside, { keep }).kept;
  assert.ok(outliers.some((i) => missed.includes(i)));
  const three = { ...aside, y: Int32Array.from(aside.y, (_, i) => i % 3) };
  assert.is(
    codeOf(() => slabFilter(three)),
    'CLASSES_NOT_TWO',
  );
});

test('SVD: what the leading direction does not explain', () => {
  const filtered = svdFilter(engine, aside, { keep, rank: 1 });
  findsOutliers(aside, filtered);
  // The first axis is nearly the leading direction, so the score is nearly the squared rest.
  const rest = Array.from(aside.x.subarray(3 * size + 1, 4 * size)).reduce((s, v) => s + v * v, 0);
  assert.ok(Math.abs(filtered.scores[3]! - rest) < 0.3 * rest);
});

test('k-NN: the distance to the k-th nearest of the class; copies of one point hide each other', () => {
  const filtered = nearestNeighbourFilter(engine, aside, { keep, neighbours: 4 });
  findsOutliers(aside, filtered);
  const row = (i: number) => aside.x.subarray(i * size, (i + 1) * size);
  for (const i of [0, 3, 50]) {
    const distances = Array.from({ length: 2 * perClass }, (_, j) => j)
      .filter((j) => j !== i && aside.y[j] === aside.y[i])
      .map((j) => Math.hypot(...row(i).map((v, k) => v - row(j)[k]!)))
      .sort((a, b) => a - b);
    assert.ok(Math.abs(filtered.scores[i]! - distances[3]!) < 1e-3);
  }
  const same = planted((x, at) => {
    x.fill(5, at, at + size);
  });
  const copies = nearestNeighbourFilter(engine, same, { keep, neighbours: 1 });
  assert.ok([3, 77, 101].every((i) => copies.scores[i]! < 0.02));
});

test('spectral signatures: squared lengths along the class’s top direction', () => {
  const filtered = spectralFilter(engine, aside, { keep });
  findsOutliers(aside, filtered);
  // The planted shift of 3 is the top direction of both classes.
  assert.ok(Math.abs(Math.sqrt(filtered.scores[3]!) - 3) < 0.5);
});

/** The leading right singular vectors, by a full decomposition in float64. */
function singularVectors(rows: number[][], count: number): number[][] {
  const vectors = new PCA(rows, { center: false }).getEigenvectors();
  return Array.from({ length: count }, (_, k) => vectors.getColumn(k));
}

const inner = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((s, v, j) => s + v * b[j]!, 0);

/** Ten directions whose spreads differ by 3 % from one to the next, so that iterations settle slowly. */
function nearlyRound(): Rows {
  const next = randomNumbers(23);
  const y = Int32Array.from({ length: 300 }, (_, i) => i % 2);
  const x = Float32Array.from({ length: 3000 }, (_, i) => (next() - 0.5) * 0.97 ** (i % 10) + 0.3);
  return { x, y, size: 10 };
}

test('spectral signatures and SVD: scores as a full singular value decomposition has them, also of close values', () => {
  const rows = nearlyRound();
  const all = Array.from(rows.y, (_, i) => Array.from(rows.x.subarray(i * 10, i * 10 + 10)));
  const { scores } = spectralFilter(engine, rows);
  for (const label of [0, 1]) {
    const own = all.flatMap((_, i) => (rows.y[i] === label ? [i] : []));
    const mean = all[0]!.map((_, j) => own.reduce((s, i) => s + all[i]![j]! / own.length, 0));
    const centred = own.map((i) => all[i]!.map((v, j) => v - mean[j]!));
    const [top] = singularVectors(centred, 1);
    own.forEach((i, k) => {
      const expected = inner(centred[k]!, top!) ** 2;
      assert.ok(Math.abs(scores[i]! - expected) < 1e-5, `${i}: ${scores[i]}, expected ${expected}`);
    });
  }
  const explained = singularVectors(all, 3);
  svdFilter(engine, rows, { rank: 3 }).scores.forEach((score, i) => {
    const expected = inner(all[i]!, all[i]!) - explained.reduce((s, v) => s + inner(all[i]!, v) ** 2, 0);
    assert.ok(Math.abs(score - expected) < 1e-5, `${i}: ${score}, expected ${expected}`);
  });
});

test('activation clustering: scores as 2-means on all features has them', () => {
  // As many dimensions as features: the reduction is a rotation, which distances don't see.
  const { scores } = activationClusteringFilter(engine, aside, { keep, dimensions: size });
  const row = (i: number) => Array.from(aside.x.subarray(i * size, (i + 1) * size));
  for (const label of [0, 1]) {
    const own = Array.from(aside.y).flatMap((y, i) => (y === label ? [i] : []));
    const { clusters } = kmeans(own.map(row), 2, { initialization: 'kmeans++', seed: 1 });
    const sizes = [0, 1].map((k) => clusters.filter((cluster) => cluster === k).length);
    const small = sizes[0]! < sizes[1]! ? 0 : 1;
    const centre = [0, 1].map((k) => {
      const members = own.filter((_, i) => clusters[i] === k);
      return row(0).map((_, j) => members.reduce((s, i) => s + row(i)[j]! / members.length, 0));
    });
    const squared = (i: number, k: number) => row(i).reduce((s, v, j) => s + (v - centre[k]![j]!) ** 2, 0);
    for (const i of own) {
      assert.ok(Math.abs(scores[i]! - (squared(i, 1 - small) - squared(i, small))) < 1e-3);
    }
  }
});

test('activation clustering: the smaller of two clusters', () => {
  findsOutliers(aside, activationClusteringFilter(engine, aside, { keep, dimensions: 3 }));
});

test('loss: the highest', () => {
  const y = [0, 0, 0, 0, 1, 1, 1, 1];
  const { kept } = lossFilter(y, [1, 9, 2, 3, 5, 4, 8, 6], { keep: 0.75 });
  assert.equal(Array.from(kept), [0, 2, 3, 4, 5, 7]);
  assert.is(
    codeOf(() => lossFilter(y, [1])),
    'SHAPE_MISMATCH',
  );
});

test('RONI: flipped labels have a negative impact on trusted data', () => {
  const clean = planted(() => {});
  const trusted = { x: clean.x.slice(0, 40 * size), y: Array.from(clean.y).slice(0, 40), shape: [size] };
  const y = Int32Array.from(clean.y);
  for (const i of outliers) y[i] = 1 - y[i]!;
  const rows = { ...clean, y };
  const { scores } = roniFilter(engine, rows, { keep, trusted, seed: 1, group: 1, epochs: 200 });
  const highest = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]!);
  assert.equal(
    highest.slice(0, 4).sort((a, b) => a - b),
    outliers,
  );
  const again = roniFilter(engine, rows, { keep, trusted, seed: 1, group: 1, epochs: 200 });
  assert.equal(again.scores, scores);
});

test('RONI: trusted examples may be sorted by class, and must be two at least', () => {
  const clean = planted(() => {});
  const order = [0, 1].flatMap((label) => Array.from(clean.y).flatMap((y, i) => (y === label ? [i] : [])));
  const trusted = { ...selectRows(clean, order.slice(40, 80)), shape: [size] };
  assert.equal(new Set(Array.from(trusted.y.subarray(0, 20))).size, 1);
  const y = Int32Array.from(clean.y);
  for (const i of outliers) y[i] = 1 - y[i]!;
  const { scores } = roniFilter(engine, { ...clean, y }, { trusted, seed: 1, group: 1, epochs: 200 });
  const highest = Array.from(scores.keys()).sort((a, b) => scores[b]! - scores[a]!);
  assert.equal(
    highest.slice(0, 4).sort((a, b) => a - b),
    outliers,
  );
  const one = { x: new Float32Array(size), y: [0], shape: [size] };
  assert.is(
    codeOf(() => roniFilter(engine, clean, { trusted: one, seed: 1 })),
    'FILTER_INVALID',
  );
  const narrow = { x: new Float32Array(4), y: [0, 1], shape: [2] };
  assert.is(
    codeOf(() => roniFilter(engine, clean, { trusted: narrow, seed: 1 })),
    'SHAPE_MISMATCH',
  );
});

test('shares removed, and the rows of a poisoned set', () => {
  const shares = removedShares(
    { poison: Int32Array.of(3, 4), y: Int32Array.of(0, 0, 0, 1, 1) },
    { kept: Int32Array.of(0, 2, 4) },
  );
  assert.ok(Math.abs(shares.clean! - 1 / 3) < 1e-12);
  assert.is(shares.poison, 0.5);
  assert.is(
    removedShares({ poison: new Int32Array(0), y: Int32Array.of(0) }, { kept: Int32Array.of(0) }).poison,
    null,
  );
  const base = { x: Uint8Array.of(0, 255, 51, 102), y: [0, 1], shape: [2], scale: 1 / 255 };
  const rows = rowsOf(flipLabels(base, { count: 2, seed: 1 }));
  assert.equal(
    Array.from(rows.x.slice(0, 4), (v) => Math.round(v * 255)),
    [0, 255, 51, 102],
  );
  assert.is(rows.x.length, 8);
  const some = selectRows(rows, [1, 0]);
  assert.equal(
    Array.from(some.x, (v) => Math.round(v * 255)),
    [51, 102, 0, 255],
  );
  assert.equal(Array.from(some.y), [1, 0]);
});

test('bad options are named errors', () => {
  assert.is(
    codeOf(() => sphereFilter(aside, { keep: 1.2 })),
    'FILTER_INVALID',
  );
  assert.is(
    codeOf(() => svdFilter(engine, aside, { rank: 0 })),
    'FILTER_INVALID',
  );
  assert.is(
    codeOf(() => nearestNeighbourFilter(engine, aside, { neighbours: 1.5 })),
    'FILTER_INVALID',
  );
  assert.is(
    codeOf(() => activationClusteringFilter(engine, aside, { dimensions: -1 })),
    'FILTER_INVALID',
  );
});

test.run();
