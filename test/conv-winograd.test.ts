// Winograd's algorithm against a naive float64 convolution: its error is bounded, and its bits are as dependable as a
// direct sum's.
import fc from 'fast-check';
import {
  conv2d,
  createEngineSync,
  type Engine,
  gradients,
  mul,
  opTable,
  type PerExampleRule,
  sizeOf,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addUp,
  type Convolution,
  convolved,
  filterGradients,
  inputGradient,
  optionsOf,
  outputShape,
} from './conv-oracle.js';
import { near, same } from './kernel-harness.js';
import { numbers } from './numeric.js';

const engine = createEngineSync();
const rule = opTable.conv2d.perExample[1];
type Attributes = typeof rule extends PerExampleRule<infer A> ? A : never;

/** Geometries that Winograd's algorithm is chosen for, tiles over every edge. */
const convolutions: fc.Arbitrary<Convolution> = fc
  .record({
    batch: fc.integer({ min: 1, max: 2 }),
    image: fc.tuple(fc.integer({ min: 7, max: 22 }), fc.integer({ min: 7, max: 22 })),
    channels: fc.constantFrom(8, 16, 24),
    out: fc.constantFrom(8, 16, 40),
    padding: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 4, maxLength: 4 }),
  })
  .map(({ batch, image, channels, out, padding: [top, bottom, left, right] }) => ({
    ...{ x: [batch, ...image, channels], filter: [3, 3, channels, out], stride: [1, 1], dilation: [1, 1] },
    ...{
      padding: [
        [top!, bottom!],
        [left!, right!],
      ],
      groups: 1,
    },
  })) as fc.Arbitrary<Convolution>;

interface Results {
  readonly output: Tensor;
  readonly toX: Tensor;
  readonly toFilter: Tensor;
}

function run(
  on: Engine,
  c: Convolution,
  algorithm: 'auto' | 'direct',
  x: Float64Array,
  filter: Float64Array,
  dOut: Float64Array,
): Results {
  let output!: Tensor;
  const { gradients: found } = gradients(
    (a, f) => {
      output = conv2d(a!, f!, null, { ...optionsOf(c), algorithm });
      return sum(mul(output, on.tensor(dOut, outputShape(c))));
    },
    [on.tensor(x, c.x), on.tensor(filter, c.filter)],
  );
  return { output, toX: found[0]!, toFilter: found[1]! };
}

const rms = (values: ArrayLike<number>): number => {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]! * values[i]!;
  return Math.sqrt(total / values.length);
};
const difference = (a: ArrayLike<number>, b: Float64Array): Float64Array =>
  b.map((value, i) => a[i]! - value);
const largest = (values: Float64Array): number => values.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const magnitudes = (values: Float64Array): Float64Array => values.map(Math.abs);

/** Unit roundoff of f32. */
const u = 2 ** -24;

// A tile's outputs share their rounding errors, so the bounds are by the largest numbers, not those of each output.
test('the error is within 16 roundoffs of the largest sum of magnitudes; of any numbers, of the largest products', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), fc.boolean(), (c, seed, spread) => {
      // Either all of a size, or spread over six orders of magnitude: small outputs beside large ones.
      const draw = (at: number, count: number): Float64Array => {
        const values = numbers(at, count);
        const sizes = numbers(at + 50, count);
        return spread ? values.map((v, i) => Math.fround(v * 10 ** (3 * sizes[i]!))) : values;
      };
      const x = draw(seed, sizeOf(c.x));
      const filter = draw(seed + 1, sizeOf(c.filter));
      const dOut = draw(seed + 2, sizeOf(outputShape(c)));
      engine.scope(() => {
        const { output, toX, toFilter } = run(engine, c, 'auto', x, filter, dOut);
        const check = (
          what: string,
          actual: Tensor,
          expected: Float64Array,
          magnitude: Float64Array,
          products: number,
        ): void => {
          const error = largest(difference(actual.values(), expected));
          const bound = 16 * u * (spread ? products : largest(magnitude));
          assert.ok(error <= bound, `${what}: error ${error}, bound ${bound}`);
        };
        const [ax, af, ad] = [magnitudes(x), magnitudes(filter), magnitudes(dOut)];
        check(
          'output',
          output,
          convolved(c, x, filter),
          convolved(c, ax, af),
          c.filter[2] * largest(ax) * largest(af),
        );
        check(
          'to x',
          toX,
          inputGradient(c, dOut, filter),
          inputGradient(c, ad, af),
          c.filter[3] * largest(ad) * largest(af),
        );
        check(
          'to the filter',
          toFilter,
          addUp(filterGradients(c, x, dOut)),
          addUp(filterGradients(c, ax, ad)),
          (dOut.length / c.filter[3]) * largest(ax) * largest(ad),
        );
      });
    }),
    { numRuns: 40 },
  );
});

test('on evenly sized numbers its error is at most four times a direct sum’s', () => {
  const c: Convolution = {
    ...{ x: [2, 16, 16, 32], filter: [3, 3, 32, 32], stride: [1, 1], dilation: [1, 1], groups: 1 },
    padding: [
      [1, 1],
      [1, 1],
    ],
  };
  const x = numbers(1, sizeOf(c.x));
  const filter = numbers(2, sizeOf(c.filter));
  const dOut = numbers(3, sizeOf(outputShape(c)));
  const expected = {
    output: convolved(c, x, filter),
    toX: inputGradient(c, dOut, filter),
    toFilter: addUp(filterGradients(c, x, dOut)),
  };
  engine.scope(() => {
    const fast = run(engine, c, 'auto', x, filter, dOut);
    const direct = run(engine, c, 'direct', x, filter, dOut);
    for (const what of ['output', 'toX', 'toFilter'] as const) {
      const errorOf = (results: Results): number =>
        rms(difference(results[what].values(), expected[what])) / rms(expected[what]);
      const [its, theirs] = [errorOf(fast), errorOf(direct)];
      assert.ok(its !== theirs, `${what}: the algorithm was not chosen`);
      assert.ok(its < 4 * theirs && its < 2e-6, `${what}: ${its} against ${theirs}`);
    }
  });
});

test('an example is computed alike in any batch; sums in pieces have the bits of the whole', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), (any, seed) => {
      const c = { ...any, x: [3, ...any.x.slice(1)] as unknown as Convolution['x'] };
      const one = { ...any, x: [1, ...any.x.slice(1)] as unknown as Convolution['x'] };
      const x = numbers(seed, sizeOf(c.x));
      const filter = numbers(seed + 1, sizeOf(c.filter));
      const dOut = numbers(seed + 2, sizeOf(outputShape(c)));
      const part = (values: Float64Array, i: number): Float64Array =>
        values.subarray((i * values.length) / 3, ((i + 1) * values.length) / 3);
      engine.scope(() => {
        const all = run(engine, c, 'auto', x, filter, dOut);
        const attributes = { ...optionsOf(c), algorithm: 'auto', activation: 'none' } as Attributes;
        const useOf = (k: Convolution, a: Float64Array, d: Float64Array) => ({
          ...{ engine, kernels: engine.kernels, attributes, saved: [], argument: 1, batch: k.x[0] },
          ...{ output: engine.full(outputShape(k), 0), dOutput: engine.tensor(d, outputShape(k)) },
          inputs: [engine.tensor(a, k.x), engine.tensor(filter, k.filter), engine.full([k.filter[3]], 0)],
        });
        const size = sizeOf(c.filter);
        const rows = engine.full([3 * size], 0);
        rule.instantiate(useOf(c, x, dOut), rows.address, size, false);
        const inPieces = engine.full([size], 0);
        for (let i = 0; i < 3; i++) {
          const alone = run(engine, one, 'auto', part(x, i), filter, part(dOut, i));
          for (const what of ['output', 'toX'] as const) {
            const values = alone[what].values();
            const within = all[what].values().subarray(i * values.length, (i + 1) * values.length);
            same(within, values, `${what} of example ${i}`);
          }
          const row = rows.values().subarray(i * size, (i + 1) * size);
          same(row, alone.toFilter.values(), `gradient of example ${i}`);
          rule.weightedSum(useOf(one, part(x, i), part(dOut, i)), 0, inPieces.address, i > 0);
        }
        same(inPieces.values(), all.toFilter.values(), 'pieces');
        near(all.toFilter.values(), addUp(filterGradients(c, x, dOut)), 0, 1e-3);
      });
    }),
    { numRuns: 20 },
  );
});

test.run();
