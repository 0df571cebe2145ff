// Patches, watermarks, ranked flips and gradient poisons: what they change, how much of it, and that specs make them again.
import fc from 'fast-check';
import {
  attackNames,
  backGradientPoisons,
  craft,
  createEngineSync,
  flipLabels,
  flipRankedLabels,
  influencePoisons,
  type LabelledSet,
  type PoisonedSet,
  patchBackdoor,
  slabAttack,
  stampPatch,
  verifyPoison,
  watermarkCollision,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { codeOf, randomNumbers } from './attack-helpers.js';

const engine = createEngineSync();

/** Images of 4 × 5, two channels, as bytes; classes take turns. */
function imagesOf(count: number, classes: number): LabelledSet {
  const next = randomNumbers(count);
  return {
    x: Uint8Array.from({ length: count * 40 }, () => Math.floor(next() * 256)),
    y: Int32Array.from({ length: count }, (_, i) => i % classes),
    shape: [4, 5, 2],
    scale: 1 / 255,
  };
}

/** Two classes apart along the first pixel. */
function separable(count: number): LabelledSet {
  const next = randomNumbers(5);
  const y = Int32Array.from({ length: count }, (_, i) => i % 2);
  const x = Float32Array.from({ length: count * 6 }, (_, i) =>
    i % 6 === 0 ? 0.3 * next() + 0.7 * y[i / 6]! : next(),
  );
  return { x, y, shape: [6] };
}

const base = imagesOf(60, 3);
const pixel = (set: LabelledSet, image: number, row: number, column: number, channel: number): number =>
  set.x[((image * 4 + row) * 5 + column) * 2 + channel]! * (set.scale ?? 1);

test('a patch covers its square and nothing else', () => {
  const places = {
    'top-left': [0, 0],
    'top-right': [0, 3],
    'bottom-left': [2, 0],
    'bottom-right': [2, 3],
    centre: [1, 1],
  } as const;
  for (const [place, [top, left]] of Object.entries(places)) {
    const stamped = stampPatch(base, {
      size: 2,
      place: place as keyof typeof places,
      blend: 0.5,
      value: 0.8,
    });
    assert.equal(stamped.y, base.y);
    for (let row = 0; row < 4; row++) {
      for (let column = 0; column < 5; column++) {
        const inside = row >= top && row < top + 2 && column >= left && column < left + 2;
        const before = pixel(base, 7, row, column, 1);
        const expected = inside ? 0.5 * before + 0.4 : before;
        assert.ok(Math.abs(pixel(stamped, 7, row, column, 1) - expected) < 1e-6, `${place} ${row} ${column}`);
      }
    }
  }
});

test('a patch backdoor adds patched copies with the label; under cleanLabel of images that have it', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 20 }), fc.nat(99), fc.boolean(), (count, seed, cleanLabel) => {
      const poisoned = patchBackdoor(base, { count, seed, patch: { size: 2 }, label: 1, cleanLabel });
      verifyPoison(poisoned);
      assert.is(poisoned.poison.length, count);
      const [poisons] = poisoned.added;
      for (let i = 0; i < count; i++) {
        assert.is(poisons!.y[i], 1);
        assert.is(pixel(poisons!, i, 1, 1, 0), 1);
        const tail = (set: LabelledSet, k: number) =>
          Array.from(set.x.slice(k * 40 + 20, k * 40 + 40), (v) =>
            Math.round(v * (set.scale ?? 1) * 255),
          ).join();
        const source = Array.from({ length: 60 }, (_, k) => k).filter(
          (k) => tail(base, k) === tail(poisons!, i),
        );
        assert.is(source.length, 1);
        if (cleanLabel) assert.is(base.y[source[0]!], 1);
      }
    }),
    { seed: 1, numRuns: 30 },
  );
});

test('a watermark blends the pair and keeps the label of the base, or takes another', () => {
  const poisoned = watermarkCollision(base, {
    count: 4,
    seed: 2,
    base: 0,
    target: 2,
    alpha: 0.25,
    pairing: 'in-order',
  });
  const [poisons] = poisoned.added;
  for (let i = 0; i < 4; i++) {
    for (let j = 0; j < 40; j++) {
      const expected = (0.75 * base.x[3 * i * 40 + j]! + 0.25 * base.x[(3 * i + 2) * 40 + j]!) / 255;
      assert.ok(Math.abs(poisons!.x[i * 40 + j]! - expected) < 1e-6);
    }
    assert.is(poisons!.y[i], 0);
  }
  verifyPoison(poisoned);
  const dirty = watermarkCollision(base, { count: 4, seed: 2, base: 0, target: 2, alpha: 1, label: 1 });
  assert.equal(Array.from(dirty.added[0]!.y), [1, 1, 1, 1]);
});

test('ranked flips take the examples whose flip costs most, or least', () => {
  const set = separable(40);
  const distance = ({ added }: PoisonedSet): number => {
    const { x, y } = added[0]!;
    return Array.from(y).reduce((sum, _, i) => sum + Math.abs(x[i * 6]! - 0.5), 0) / y.length;
  };
  const options = { engine, count: 8, seed: 1, epochs: 60, learningRate: 0.1 };
  const hard = flipRankedLabels(set, options);
  const easy = flipRankedLabels(set, { ...options, order: 'lowest' });
  assert.ok(distance(hard) > distance(easy), `${distance(hard)} and ${distance(easy)}`);
  verifyPoison(hard);
  assert.equal(flipRankedLabels(set, { ...options, mode: 'in-place' }).added, []);
});

for (const crafter of [influencePoisons, backGradientPoisons]) {
  test(`${crafter.name}: poisons in the box that raise the clean loss step by step`, async () => {
    const set = separable(60);
    const losses: number[] = [];
    const poisoned = await crafter(set, {
      engine,
      ratio: 0.2,
      seed: 4,
      points: 3,
      iterations: 6,
      trainingSteps: 30,
      learningRate: 0.5,
      onProgress: ({ objective }) => {
        losses.push(objective);
      },
    });
    verifyPoison(poisoned);
    assert.is(poisoned.poison.length, 12);
    assert.is(losses.length, 7);
    assert.ok(losses.at(-1)! > losses[0]! * 1.02, losses.join(' '));
    const rows = Array.from({ length: 12 }, (_, i) => poisoned.added[0]!.x.slice(i * 6, i * 6 + 6).join());
    assert.ok(new Set(rows).size <= 3);
  });
}

/** Logistic regression in float64: gradient descent from 0 on mean clean loss + poisons + decay; its clean loss then. */
function cleanLossAfter(
  clean: { x: number[][]; y: number[] },
  poisons: { x: number[][]; y: number[]; weight: number },
  { steps, rate, decay }: { steps: number; rate: number; decay: number },
): number {
  const [features, classes] = [clean.x[0]!.length, 2];
  const theta = new Float64Array((features + 1) * classes);
  const probabilities = (x: number[]): number[] => {
    const scores = [0, 1].map((k) =>
      x.reduce((s, v, j) => s + v * theta[j * 2 + k]!, theta[features * 2 + k]!),
    );
    const all = scores.map((score) => Math.exp(score - Math.max(...scores)));
    return all.map((value) => value / (all[0]! + all[1]!));
  };
  const n = clean.y.length;
  const examples = [
    ...clean.x.map((x, i) => ({ x, y: clean.y[i]!, weight: 1 / n })),
    ...poisons.x.map((x, i) => ({ x, y: poisons.y[i]!, weight: poisons.weight })),
  ];
  for (let step = 0; step < steps; step++) {
    const gradient = theta.map((value) => decay * value);
    for (const { x, y, weight } of examples) {
      probabilities(x).forEach((p, k) => {
        const push = weight * (p - (k === y ? 1 : 0));
        x.forEach((v, j) => {
          gradient[j * 2 + k]! += push * v;
        });
        gradient[features * 2 + k]! += push;
      });
    }
    gradient.forEach((value, i) => {
      theta[i]! -= rate * value;
    });
  }
  return clean.x.reduce((sum, x, i) => sum - Math.log(probabilities(x)[clean.y[i]!]!) / n, 0);
}

// Influence functions speak of the trained optimum, so the model is trained to it.
for (const [crafter, trainingSteps] of [
  [backGradientPoisons, 20],
  [influencePoisons, 300],
] as const) {
  test(`${crafter.name}: objective and first move, as finite differences in float64 have them`, async () => {
    const set = separable(30);
    const rows = (x: ArrayLike<number>) =>
      Array.from({ length: x.length / 6 }, (_, i) => Array.from(x).slice(i * 6, i * 6 + 6));
    const clean = { x: rows(set.x), y: Array.from(set.y) };
    const training = { trainingSteps, learningRate: 0.6, decay: 0.1, points: 2 };
    const found: { objective: number; state: { x: readonly number[]; best: readonly number[] } }[] = [];
    const poisoned = await crafter(set, {
      engine,
      count: 6,
      seed: 2,
      iterations: 1,
      box: false,
      stepSize: 0.05,
      ...training,
      onProgress: (progress) => {
        found.push(progress);
      },
    });
    const { objective, state } = found[0]!;
    const y = Array.from(poisoned.added[0]!.y).slice(0, 2);
    const steps = { steps: trainingSteps, rate: 0.6, decay: 0.1 };
    const loss = (x: readonly number[]) =>
      cleanLossAfter(clean, { x: rows(x), y, weight: 6 / 30 / 2 }, steps);
    assert.ok(Math.abs(objective - loss(state.best)) < 1e-5, `${objective}, expected ${loss(state.best)}`);
    const gradient = state.best.map((_, i) => {
      const at = (shift: number) => loss(state.best.map((v, j) => (i === j ? v + shift : v)));
      return (at(1e-4) - at(-1e-4)) / 2e-4;
    });
    const largest = Math.max(...gradient.map(Math.abs));
    gradient.forEach((value, i) => {
      const move = (state.x[i]! - state.best[i]!) / 0.05;
      assert.ok(Math.abs(move - value / largest) < 0.01, `${i}: ${move}, expected ${value / largest}`);
    });
  });
}

test('every attack makes the same bits again from its spec', async () => {
  const set = separable(40);
  const images = imagesOf(30, 2);
  const small = { engine, seed: 3, points: 2, iterations: 2, trainingSteps: 5 };
  const made: Record<string, [LabelledSet, PoisonedSet]> = {
    'label-flip': [set, flipLabels(set, { ratio: 0.2, seed: 3 })],
    'ranked-label-flip': [set, flipRankedLabels(set, { engine, ratio: 0.2, seed: 3 })],
    watermark: [images, watermarkCollision(images, { ratio: 0.1, seed: 3, base: 0, target: 1, alpha: 0.4 })],
    'patch-backdoor': [images, patchBackdoor(images, { ratio: 0.1, seed: 3, patch: { size: 1 }, label: 0 })],
    slab: [set, await slabAttack(set, { ratio: 0.2, seed: 3, iterations: 3 })],
    influence: [set, await influencePoisons(set, { ...small, ratio: 0.1 })],
    'back-gradient': [set, await backGradientPoisons(set, { ...small, ratio: 0.1 })],
  };
  assert.equal(Object.keys(made).sort(), [...attackNames].sort());
  for (const [name, [source, poisoned]] of Object.entries(made)) {
    const spec = JSON.parse(JSON.stringify(poisoned.spec));
    const again = await craft(source, spec, { engine });
    assert.is(poisoned.spec.attack, name);
    assert.equal(again.spec, poisoned.spec, name);
    assert.equal(again.y, poisoned.y, name);
    assert.equal(again.poison, poisoned.poison, name);
    assert.equal(again.added[0]!.x, poisoned.added[0]!.x, name);
  }
  assert.is(await codeOf(() => craft(set, { attack: 'telepathy', seed: 1, count: 1 })), 'ATTACK_UNKNOWN');
  for (const attack of ['influence', 'back-gradient', 'ranked-label-flip']) {
    assert.is(await codeOf(() => craft(set, { attack, seed: 1, count: 1 })), 'OPTION_INVALID', attack);
  }
});

test('bad options are named errors', async () => {
  const patch = (options: object) =>
    codeOf(() => patchBackdoor(base, { count: 2, seed: 1, patch: { size: 2 }, label: 1, ...options }));
  assert.is(patch({ count: 61 }), 'BUDGET_INVALID');
  assert.is(patch({ count: 21, cleanLabel: true }), 'BUDGET_INVALID');
  assert.is(patch({ label: 9 }), 'LABEL_OUT_OF_RANGE');
  assert.is(patch({ patch: { size: 5 } }), 'PATCH_INVALID');
  assert.is(patch({ patch: { size: 1, blend: 1.5 } }), 'PATCH_INVALID');
  assert.is(patch({ patch: { size: 1, place: 'middle' } }), 'PATCH_INVALID');
  assert.is(
    codeOf(() => stampPatch(separable(4), { size: 1 })),
    'SHAPE_MISMATCH',
  );
  const mark = (options: object) =>
    codeOf(() => watermarkCollision(base, { count: 2, seed: 1, base: 0, target: 1, alpha: 0.5, ...options }));
  assert.is(mark({ alpha: 1.1 }), 'ALPHA_INVALID');
  assert.is(mark({ alpha: Number.NaN }), 'ALPHA_INVALID');
  assert.is(mark({ target: 7 }), 'LABEL_OUT_OF_RANGE');
  assert.is(mark({ pairing: 'none' }), 'MODE_UNKNOWN');
  assert.is(mark({ count: 21 }), 'BUDGET_INVALID');
  const gradient = (options: object) =>
    codeOf(() => influencePoisons(separable(10), { engine, count: 2, seed: 1, ...options }));
  assert.is(await gradient({ points: 3 }), 'OPTION_INVALID');
  assert.is(await gradient({ examples: 11 }), 'OPTION_INVALID');
  assert.is(await gradient({ stepSize: 0 }), 'OPTION_INVALID');
  assert.is(await gradient({ ratio: 0.5 }), 'BUDGET_INVALID');
  assert.is(
    codeOf(() => flipRankedLabels(base, { engine, count: 1, seed: 1, order: 'any' as never })),
    'MODE_UNKNOWN',
  );
});

test.run();
