// Group and layer normalisation, GELU and leaky ReLU against float64; their per-example gradients by three strategies.
import fc from 'fast-check';
import {
  asExamples,
  createEngineSync,
  gelu,
  groupNorm,
  layerNorm,
  leakyRelu,
  mean,
  mul,
  Parameters,
  perExample,
  type Shape,
  sizeOf,
  square,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';
import { near, same } from './kernel-harness.js';
import { checkAgainst, numbers, operand } from './numeric.js';

const engine = createEngineSync();
const epsilon = 1e-5;

/** x [outer, positions, groups, depth], normalised over positions and depth; scale and offset [groups · depth]. */
function normalized(
  blocks: readonly [number, number, number, number],
  x: Float64Array,
  scale: Float64Array,
  offset: Float64Array,
): Float64Array {
  const [outer, positions, groups, depth] = blocks;
  const channels = groups * depth;
  const out = new Float64Array(x.length);
  for (let o = 0; o < outer; o++)
    for (let g = 0; g < groups; g++) {
      const at: number[] = [];
      for (let t = 0; t < positions; t++)
        for (let d = 0; d < depth; d++) at.push((o * positions + t) * channels + g * depth + d);
      const average = at.reduce((total, i) => total + x[i]!, 0) / at.length;
      const variance = at.reduce((total, i) => total + (x[i]! - average) ** 2, 0) / at.length;
      for (const i of at) {
        const c = i % channels;
        out[i] = ((x[i]! - average) / Math.sqrt(variance + epsilon)) * scale[c]! + offset[c]!;
      }
    }
  return out;
}

const whole = (min: number, max: number) => fc.integer({ min, max });

test('group norm: values, gradients to x, scale and offset, and again', () => {
  fc.assert(
    fc.property(
      whole(1, 3),
      whole(1, 3),
      whole(1, 3),
      whole(1, 3),
      whole(2, 6),
      whole(1, 1e6),
      (b, h, w, g, d, seed) => {
        const c = g * d;
        checkAgainst(
          engine,
          (x, scale, offset) => groupNorm(x!, scale!, offset!, g),
          (x, scale, offset) => normalized([b, h * w, g, d], x!, scale!, offset!),
          [operand(seed, [b, h, w, c]), operand(seed + 1, [c]), operand(seed + 2, [c])],
          { tolerance: 1e-4, step: 1e-4 },
        );
      },
    ),
    { numRuns: 25 },
  );
});

test('layer norm over one or several last axes', () => {
  fc.assert(
    fc.property(
      whole(1, 3),
      whole(1, 3),
      whole(2, 7),
      fc.boolean(),
      whole(1, 1e6),
      (b, t, n, several, seed) => {
        const features: Shape = several ? [t, n] : [n];
        const size = sizeOf(features);
        checkAgainst(
          engine,
          (x, scale, offset) => layerNorm(x!, scale!, offset!),
          (x, scale, offset) => normalized([(b * t * n) / size, 1, 1, size], x!, scale!, offset!),
          [operand(seed, [b, t, n]), operand(seed + 1, features), operand(seed + 2, features)],
          { tolerance: 2e-4, step: 1e-4 },
        );
      },
    ),
    { numRuns: 25 },
  );
});

test('a large mean costs no more digits than the numbers have', () => {
  engine.scope(() => {
    const values = numbers(1, 64).map((v) => Math.fround(1000 + v));
    const [ones, zeros] = [engine.full([64], 1), engine.full([64], 0)];
    const out = layerNorm(engine.tensor(values, [1, 64]), ones, zeros).values();
    const expected = normalized([1, 1, 1, 64], values, new Float64Array(64).fill(1), new Float64Array(64));
    near(out, expected, 0, 2e-4);
    // A constant row has variance 0: it becomes the offset.
    near(layerNorm(engine.full([1, 64], 3), ones, ones).values(), new Float64Array(64).fill(1), 1e-6);
  });
});

test('what does not fit says which number is wrong', () => {
  engine.scope(() => {
    const [x, six, five] = [engine.full([2, 4, 6], 0), engine.full([6], 1), engine.full([5], 1)];
    assert.match(
      throwsCode('GROUPS_INVALID', () => groupNorm(x, six, six, 4)),
      /6 channels.*4 groups/,
    );
    throwsCode('SHAPE_MISMATCH', () => groupNorm(x, five, five, 1));
    throwsCode('SHAPE_MISMATCH', () => groupNorm(x, six, five, 1));
    throwsCode('SHAPE_MISMATCH', () => layerNorm(x, five, five));
    // Scale must not span the batch.
    const all = engine.full([2, 4, 6], 1);
    throwsCode('SHAPE_MISMATCH', () => layerNorm(x, all, all));
    throwsCode('EPSILON_INVALID', () => layerNorm(x, six, six, { epsilon: 0 }));
  });
});

type Norm = (x: Tensor, scale: Tensor, offset: Tensor) => Tensor;

test('per-example gradients of scale and offset: ghost = materialize = loop', () => {
  const norms: Record<string, [Norm, Shape]> = {
    'group norm': [(x, scale, offset) => groupNorm(x, scale, offset, 2), [6]],
    'layer norm': [(x, scale, offset) => layerNorm(x, scale, offset), [6]],
    'layer norm over the image': [(x, scale, offset) => layerNorm(x, scale, offset), [3, 2, 6]],
  };
  for (const [name, [norm, shape]] of Object.entries(norms)) {
    engine.scope(() => {
      const params = new Parameters(engine, [
        { name: 'scale', shape },
        { name: 'offset', shape },
      ]);
      params.load(numbers(2, params.size));
      const batch = { x: asExamples(engine.tensor(numbers(3, 5 * 36), [5, 3, 2, 6])) };
      const loss = (p: Parameters, b: typeof batch): Tensor =>
        sum(square(norm(b.x, p.get('scale'), p.get('offset'))), { axes: [1, 2, 3] });
      const [ghost, materialized, looped] = (['ghost', 'materialize', 'loop'] as const).map((strategy) => {
        const g = perExample(loss, params, batch, { strategy });
        assert.is(g.fallback, null, name);
        return g;
      });
      const expected = looped!.array().values();
      near(materialized!.array().values(), expected, 1e-5, 1e-5, name);
      near(ghost!.array().values(), expected, 1e-5, 1e-5, name);
      near(ghost!.norms().values(), looped!.norms().values(), 1e-5, 1e-6, name);
      const weights = [0.5, 0, 2, 1, -1];
      near(
        ghost!.weightedSums([weights])[0]!.values(),
        looped!.weightedSums([weights])[0]!.values(),
        1e-5,
        1e-5,
        name,
      );
      params.free();
    });
  }
});

test('an example alone has the bits it has in a batch', () => {
  engine.scope(() => {
    const [scale, offset] = [engine.tensor(numbers(1, 6)), engine.tensor(numbers(2, 6))];
    const values = numbers(3, 4 * 30);
    const all = groupNorm(engine.tensor(values, [4, 5, 6]), scale, offset, 3).values();
    const alone = groupNorm(engine.tensor(values.subarray(60, 90), [1, 5, 6]), scale, offset, 3).values();
    same(all.subarray(60, 90), alone);
  });
});

test('normalising over the batch is refused where examples must stay apart, with the way out', () => {
  engine.scope(() => {
    const params = new Parameters(engine, [{ name: 'w', shape: [3] }]);
    const batch = { x: asExamples(engine.full([4, 3], 1)) };
    const message = throwsCode('EXAMPLES_MIXED', () =>
      perExample(
        (p, b: typeof batch) => sum(mul(mean(b.x, { axes: 0, keepDims: true }), p.get('w')), { axes: 1 }),
        params,
        batch,
      ),
    );
    assert.match(message, /groupNorm/);
    params.free();
  });
});

/** erfc by its continued fraction and its series, in float64. */
function erfc(x: number): number {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x;
    let total = x;
    for (let n = 1; n < 200; n++) {
      term *= (-x * x) / n;
      total += term / (2 * n + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * total;
  }
  let fraction = x;
  for (let k = 200; k >= 1; k--) fraction = x + k / 2 / fraction;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * fraction);
}

const exactGelu = (x: number): number => x * 0.5 * erfc(-x / Math.SQRT2);

test('GELU is the exact form, to a few units of the last place in both tails', () => {
  engine.scope(() => {
    const points = Float64Array.from({ length: 4001 }, (_, i) => Math.fround((i - 2000) / 200));
    const out = gelu(engine.tensor(points)).values();
    points.forEach((x, i) => {
      // What −x²/2 loses in float32 grows with it.
      const tolerance = 6e-7 * Math.max(1, (x * x) / 4);
      assert.ok(
        Math.abs(out[i]! - exactGelu(x)) <= tolerance * Math.abs(exactGelu(x)) + 1e-30,
        `gelu(${x}) = ${out[i]}`,
      );
    });
    const ends = gelu(engine.tensor([-0, 0, Infinity, -40, Number.NaN])).values();
    same(ends, [0, 0, Infinity, 0, Number.NaN]);
  });
  checkAgainst(engine, gelu, (x) => x!.map(exactGelu), [operand(4, [3, 5], 4)], { step: 1e-3 });
});

test('leaky ReLU', () => {
  const slope = 0.125;
  checkAgainst(
    engine,
    (x) => leakyRelu(x, slope),
    (x) => x!.map((v) => (v < 0 ? slope * v : v)),
    [operand(6, [3, 5], 4)],
  );
  engine.scope(() => {
    same(leakyRelu(engine.tensor([-2, 0, 3, Number.NaN])).values(), [
      Math.fround(-2 * Math.fround(0.01)),
      0,
      3,
      Number.NaN,
    ]);
    throwsCode('RANGE_INVALID', () => leakyRelu(engine.tensor([1]), Number.NaN));
  });
});

test.run();
