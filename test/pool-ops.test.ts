// Pooling, and what joins and cuts tensors, against naive float64 loops; gradients by central differences.
import fc from 'fast-check';
import {
  asExamples,
  avgPool2d,
  concat,
  createEngineSync,
  globalAvgPool,
  gradients,
  maxPool2d,
  mul,
  type Padding,
  Parameters,
  pad,
  perExample,
  type Shape,
  sizeOf,
  slice,
  square,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';
import { same } from './kernel-harness.js';
import { checkAgainst, distinct, operand } from './numeric.js';

const engine = createEngineSync();

interface Case {
  readonly shape: readonly [number, number, number, number];
  readonly window: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: Padding;
}

/** [output, before] along one axis, from the definitions. */
function place(
  size: number,
  window: number,
  stride: number,
  padding: Padding,
  axis: number,
): [number, number] {
  if (padding === 'valid') return [Math.floor((size - window) / stride) + 1, 0];
  if (padding === 'same') {
    const output = Math.ceil(size / stride);
    return [output, Math.floor(Math.max((output - 1) * stride + window - size, 0) / 2)];
  }
  const [before, after] = typeof padding === 'number' ? [padding, padding] : padding[axis]!;
  return [Math.floor((size + before + after - window) / stride) + 1, before];
}

/** Visits the values in each window; `reduce` makes one of them. */
function pooled(x: Float64Array, c: Case, reduce: (values: number[]) => number): number[] {
  const [batch, height, width, channels] = c.shape;
  const [rows, top] = place(height, c.window[0], c.stride[0], c.padding, 0);
  const [columns, left] = place(width, c.window[1], c.stride[1], c.padding, 1);
  const out: number[] = [];
  for (let b = 0; b < batch; b++)
    for (let oy = 0; oy < rows; oy++)
      for (let ox = 0; ox < columns; ox++)
        for (let channel = 0; channel < channels; channel++) {
          const values: number[] = [];
          for (let ky = 0; ky < c.window[0]; ky++)
            for (let kx = 0; kx < c.window[1]; kx++) {
              const y = oy * c.stride[0] - top + ky;
              const xx = ox * c.stride[1] - left + kx;
              if (y < 0 || y >= height || xx < 0 || xx >= width) continue;
              values.push(x[((b * height + y) * width + xx) * channels + channel]!);
            }
          out.push(reduce(values));
        }
  return out;
}

const largest = (values: number[]): number => Math.max(...values);
const average = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

const whole = (min: number, max: number) => fc.integer({ min, max });
const cases: fc.Arbitrary<Case> = fc
  .record({
    shape: fc.tuple(whole(1, 2), whole(1, 6), whole(1, 6), whole(1, 6)),
    window: fc.tuple(whole(1, 3), whole(1, 3)),
    stride: fc.tuple(whole(1, 3), whole(1, 3)),
    padding: fc.constantFrom<('same' | 'valid' | 'number' | 'sides')[]>('same', 'valid', 'number', 'sides'),
    sides: fc.tuple(whole(0, 2), whole(0, 2), whole(0, 2), whole(0, 2)),
  })
  .map(({ padding, sides, ...rest }) => {
    const [y, x] = rest.window;
    const [top, bottom, left, right] = sides;
    const smallest = Math.min(y, x) - 1;
    const both = [
      [Math.min(top, y - 1), Math.min(bottom, y - 1)],
      [Math.min(left, x - 1), Math.min(right, x - 1)],
    ] as const;
    return {
      ...rest,
      padding: padding === 'number' ? Math.min(top, smallest) : padding === 'sides' ? both : padding,
    };
  })
  .filter(({ shape, window, padding }) => {
    if (padding === 'same') return true;
    const before = (axis: 0 | 1) =>
      typeof padding === 'number'
        ? 2 * padding
        : padding === 'valid'
          ? 0
          : padding[axis][0] + padding[axis][1];
    return shape[1] + before(0) >= window[0] && shape[2] + before(1) >= window[1];
  });

test('max pooling: values and gradients of any window, stride and padding', () => {
  fc.assert(
    fc.property(cases, whole(1, 1e6), (c, seed) => {
      checkAgainst(
        engine,
        (x) => maxPool2d(x, c.window, c),
        (x) => pooled(x!, c, largest),
        [distinct(seed, c.shape)],
        { step: 1e-5 },
      );
    }),
    { numRuns: 60 },
  );
});

test('average pooling: values and gradients; padding is not counted', () => {
  fc.assert(
    fc.property(cases, whole(1, 1e6), (c, seed) => {
      checkAgainst(
        engine,
        (x) => avgPool2d(x, c.window, c),
        (x) => pooled(x!, c, average),
        [operand(seed, c.shape)],
      );
    }),
    { numRuns: 60 },
  );
});

test('global average pooling', () => {
  checkAgainst(
    engine,
    globalAvgPool,
    (x) => pooled(x!, { shape: [2, 3, 4, 5], window: [3, 4], stride: [1, 1], padding: 'valid' }, average),
    [operand(3, [2, 3, 4, 5])],
  );
});

test('of equal numbers the first gets the whole gradient; a NaN is not hidden', () => {
  engine.scope(() => {
    const x = engine.tensor([5, 5, 5, 5, 1, 2, 2, 0], [1, 2, 4, 1]);
    const {
      gradients: [dx],
    } = gradients((t) => mul(maxPool2d(t, 2), 3), [x]);
    same(dx!.values(), [3, 0, 3, 0, 0, 0, 0, 0]);
    const bad = maxPool2d(engine.tensor([1, Number.NaN, 2, 3], [1, 2, 2, 1]), 2);
    assert.ok(Number.isNaN(bad.item()));
  });
});

test('an image is pooled to the same bits alone and in a batch', () => {
  engine.scope(() => {
    const x = engine.tensor(operand(5, [3, 7, 6, 5]).values, [3, 7, 6, 5]);
    const options = { stride: 2, padding: 'same' } as const;
    for (const pool of [maxPool2d, avgPool2d]) {
      const all = pool(x, 3, options).values();
      const alone = pool(slice(x, [1, 0, 0, 0], [1, -1, -1, -1]), 3, options).values();
      same(all.subarray(alone.length, 2 * alone.length), alone);
    }
  });
});

test('what does not fit says which number is wrong', () => {
  engine.scope(() => {
    const x = engine.full([1, 4, 5, 2], 0);
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => maxPool2d(x, 5)),
      /window is 5 pixels in height.*have 4/,
    );
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => avgPool2d(x, [2, 6])),
      /window is 6 pixels in width.*have 5/,
    );
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => maxPool2d(engine.full([4, 5, 2], 0), 2)),
      /batch or the channels axis/,
    );
    assert.match(
      throwsCode('WINDOW_INVALID', () => maxPool2d(x, 2, { stride: 0 })),
      /vertical stride is 0/,
    );
    assert.match(
      throwsCode('WINDOW_INVALID', () => maxPool2d(x, [2, 1.5])),
      /horizontal window is 1.5/,
    );
    assert.match(
      throwsCode('WINDOW_INVALID', () => maxPool2d(x, 2, { padding: 2 })),
      /padding is 2 and the window 2/,
    );
    throwsCode('WINDOW_INVALID', () => maxPool2d(x, 2, { padding: 'full' as 'same' }));
    throwsCode('SHAPE_MISMATCH', () => globalAvgPool(engine.full([4, 5], 0)));
  });
});

/** The box of a row-major array. */
function box(x: Float64Array, shape: Shape, begin: readonly number[], size: readonly number[]): number[] {
  const out: number[] = [];
  const visit = (axis: number, at: number): void => {
    if (axis === shape.length) {
      out.push(x[at]!);
      return;
    }
    for (let i = 0; i < size[axis]!; i++) visit(axis + 1, at * shape[axis]! + begin[axis]! + i);
  };
  visit(0, 0);
  return out;
}

const boxes = fc
  .array(fc.record({ before: whole(0, 2), n: whole(1, 4), after: whole(0, 2) }), {
    minLength: 1,
    maxLength: 4,
  })
  .map((axes) => ({
    begin: axes.map(({ before }) => before),
    size: axes.map(({ n }) => n),
    shape: axes.map(({ before, n, after }) => before + n + after),
    paddings: axes.map(({ before, after }) => [before, after] as const),
  }));

test('slice, and pad as what undoes it: values and gradients', () => {
  fc.assert(
    fc.property(boxes, whole(1, 1e6), ({ begin, size, shape, paddings }, seed) => {
      checkAgainst(
        engine,
        (x) => square(slice(x, begin, size)),
        (x) => box(x!, shape, begin, size).map((v) => v * v),
        [operand(seed, shape)],
      );
      checkAgainst(
        engine,
        (x) => square(pad(x, paddings, 2)),
        (x) => {
          const whole = new Float64Array(sizeOf(shape)).fill(4);
          // Where each number of the box lies in the whole.
          box(Float64Array.from(whole.keys()), shape, begin, size).forEach((at, i) => {
            whole[at] = x![i]! * x![i]!;
          });
          return whole;
        },
        [operand(seed, size)],
      );
    }),
    { numRuns: 60 },
  );
});

test('concat along any axis: the pieces come back, and so do their gradients', () => {
  fc.assert(
    fc.property(
      fc.array(whole(1, 3), { minLength: 1, maxLength: 4 }),
      fc.array(whole(1, 3), { minLength: 1, maxLength: 3 }),
      whole(0, 3),
      whole(1, 1e6),
      (base, lengths, pick, seed) => {
        const axis = pick % base.length;
        const shapes = lengths.map((n) => base.with(axis, n));
        const total = lengths.reduce((a, b) => a + b);
        const wholeShape = base.with(axis, total);
        checkAgainst(
          engine,
          (...x) => square(concat(x, axis - base.length)),
          (...x) => {
            const out = new Float64Array(sizeOf(wholeShape));
            let at = 0;
            shapes.forEach((shape, k) => {
              const begin = shape.map((_, i) => (i === axis ? at : 0));
              box(Float64Array.from(out.keys()), wholeShape, begin, shape).forEach((to, i) => {
                out[to] = x[k]![i]! * x[k]![i]!;
              });
              at += lengths[k]!;
            });
            return out;
          },
          shapes.map((shape, k) => operand(seed + k, shape)),
        );
      },
    ),
    { numRuns: 60 },
  );
});

test('slices and joins that do not fit are named errors', () => {
  engine.scope(() => {
    const x = engine.full([2, 3], 0);
    throwsCode('RANGE_INVALID', () => slice(x, [0, 2], [2, 2]));
    throwsCode('RANGE_INVALID', () => slice(x, [0], [2]));
    throwsCode('RANGE_INVALID', () => pad(x, [[0, 0]]));
    throwsCode('RANGE_INVALID', () =>
      pad(x, [
        [0, 0],
        [0, -1],
      ]),
    );
    throwsCode('SHAPE_MISMATCH', () => concat([x, engine.full([2, 3, 1], 0)], 1));
    throwsCode('SHAPE_MISMATCH', () => concat([x, engine.full([3, 3], 0)], 1));
    throwsCode('AXIS_INVALID', () => concat([x, x], 2));
    throwsCode('NOT_A_TENSOR', () => concat([], 0));
  });
});

test('the examples axis is protected', () => {
  engine.scope(() => {
    const params = new Parameters(engine, [{ name: 'w', shape: [3] }]);
    const batch = { x: asExamples(engine.full([4, 3], 1)) };
    const perRow = (t: Tensor) => sum(t, { axes: 1 });
    const mixed = (f: (x: Tensor) => Tensor) => () =>
      perExample((p, b: typeof batch) => perRow(f(mul(b.x, p.get('w')))), params, batch);
    throwsCode(
      'EXAMPLES_MIXED',
      mixed((x) => concat([x, x], 0)),
    );
    throwsCode(
      'EXAMPLES_MIXED',
      mixed((x) => slice(x, [1, 0], [3, -1])),
    );
    throwsCode(
      'EXAMPLES_MIXED',
      mixed((x) =>
        pad(x, [
          [1, 0],
          [0, 0],
        ]),
      ),
    );
    const fine = perExample(
      (p, b: typeof batch) => perRow(concat([slice(mul(b.x, p.get('w')), [0, 1], [-1, 2]), b.x], 1)),
      params,
      batch,
    );
    same(fine.array().values(), Array.from({ length: 4 }, () => [0, 1, 1]).flat());
    params.free();
  });
});

test.run();
