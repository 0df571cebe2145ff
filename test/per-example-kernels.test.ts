import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate, doubles, floats, kernels, near, put, reset, same } from './kernel-harness.js';

const f = Math.fround;

test.before.each(reset);

/** `n` floats in (-4, 4) from a linear congruential generator (Numerical Recipes). */
function random(n: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 29 - 4;
  });
}

const sizes = fc.record({
  batch: fc.integer({ min: 1, max: 5 }),
  t: fc.integer({ min: 1, max: 5 }),
  dIn: fc.integer({ min: 1, max: 19 }),
  dOut: fc.integer({ min: 1, max: 19 }),
  accumulate: fc.constantFrom(0, 1),
  skew: fc.constantFrom(0, 4, 12),
  seed: fc.nat(),
});

/** Σ_s a_sᵀ b_s of each example, in float64. */
function exactGradients(
  a: Float32Array,
  b: Float32Array,
  batch: number,
  t: number,
  dIn: number,
  dOut: number,
) {
  return Array.from({ length: batch }, (_, e) =>
    Float64Array.from({ length: dIn * dOut }, (_, at) => {
      const [i, j] = [Math.floor(at / dOut), at % dOut];
      let total = 0;
      for (let s = e * t; s < (e + 1) * t; s++) total += a[s * dIn + i]! * b[s * dOut + j]!;
      return total;
    }),
  );
}

const squared = (v: ArrayLike<number>) => Array.from(v).reduce((s, x) => s + x * x, 0);

test('rowSquaredNorms and rowDots in float64, set and accumulated', () => {
  fc.assert(
    fc.property(sizes, ({ batch: rows, dIn, dOut, accumulate, skew, seed }) => {
      reset();
      const cols = dIn * dOut;
      const [a, b] = [random(rows * cols, seed), random(rows * cols, seed + 1)];
      const [pa, pb, out] = [put(a, skew), put(b, skew), put(new Float64Array(rows).fill(100))];
      const start = accumulate ? 100 : 0;
      const row = (x: Float32Array, i: number) => x.subarray(i * cols, (i + 1) * cols);
      kernels.rowSquaredNorms(out, pa, rows, cols, accumulate);
      const norms = Array.from({ length: rows }, (_, i) => start + squared(row(a, i)));
      near(doubles(out, rows), norms, 1e-13, 0, 'norms');
      const again = put(new Float64Array(rows).fill(100));
      kernels.rowDots(again, pa, pb, rows, cols, accumulate);
      const dots = norms.map((_, i) => start + row(a, i).reduce((s, x, j) => s + x * row(b, i)[j]!, 0));
      near(doubles(again, rows), dots, 1e-12, 1e-10, 'dots');
    }),
  );
});

test('ghostNorms are the squared norms of the gradients they never make', () => {
  fc.assert(
    fc.property(sizes, ({ batch, t, dIn, dOut, accumulate, skew, seed }) => {
      reset();
      const [a, b] = [random(batch * t * dIn, seed), random(batch * t * dOut, seed + 1)];
      const out = put(new Float64Array(batch).fill(100));
      kernels.ghostNorms(out, 0, put(a, skew), put(b, skew), batch, t, dIn, dOut, accumulate);
      const exact = exactGradients(a, b, batch, t, dIn, dOut).map((g) => squared(g) + (accumulate ? 100 : 0));
      // The stated tolerance: (Σ_s ‖a_s‖‖b_s‖)² in units of float64's last place.
      const scale = (t * 16 * Math.sqrt(dIn * dOut)) ** 2;
      near(doubles(out, batch), exact, 0, scale * 1e-14);
    }),
    { numRuns: 200 },
  );
});

test('ghostNorms never go below 0 when the terms cancel', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 9 }), (seed, d) => {
      reset();
      const [a, b] = [random(d, seed), random(d, seed + 1)];
      const out = allocate(8);
      kernels.ghostNorms(out, 0, put([...a, ...a]), put([...b, ...b.map((x) => -x)]), 1, 2, d, d, 0);
      assert.ok(doubles(out, 1)[0]! >= 0);
    }),
  );
});

test('ghostNorms: what is not finite stays in its example and is not hidden', () => {
  const a = put([1, 2, Number.NaN, 1, 1, 1, 0, 0]);
  const b = put([1, 1, 1, 1, Number.POSITIVE_INFINITY, 1, Number.NaN, 0]);
  const out = allocate(32);
  kernels.ghostNorms(out, 0, a, b, 4, 1, 2, 2, 0);
  const norms = doubles(out, 4);
  assert.is(norms[0], 10);
  assert.ok(norms.slice(1).every((x) => !Number.isFinite(x)));
  const factors = allocate(16);
  kernels.clipFactors(factors, out, 100, 4);
  same(floats(factors, 4), [1, 0, 0, 0]);
});

test('norms and gradients of an example do not depend on how many examples there are', () => {
  fc.assert(
    fc.property(sizes, ({ batch, t, dIn, dOut, seed }) => {
      reset();
      const [a, b] = [put(random(batch * t * dIn, seed)), put(random(batch * t * dOut, seed + 1))];
      const size = dIn * dOut;
      const [whole, one] = [allocate(8 * batch), allocate(8)];
      const [gradients, gradient] = [allocate(4 * batch * size), allocate(4 * size)];
      kernels.ghostNorms(whole, 0, a, b, batch, t, dIn, dOut, 0);
      kernels.instantiateDense(gradients, a, b, batch, t, dIn, dOut, size, 0);
      for (let e = 0; e < batch; e++) {
        const [ae, be] = [a + 4 * e * t * dIn, b + 4 * e * t * dOut];
        kernels.ghostNorms(one, 0, ae, be, 1, t, dIn, dOut, 0);
        assert.is(doubles(one, 1)[0], doubles(whole + 8 * e, 1)[0]);
        kernels.instantiateDense(gradient, ae, be, 1, t, dIn, dOut, size, 0);
        same(floats(gradient, size), floats(gradients + 4 * e * size, size));
      }
    }),
  );
});

test('clipFactors: factor · true norm never exceeds the clip norm, and loses at most 1.2e-6 of it', () => {
  const size = fc.double({ min: -30, max: 30, noNaN: true });
  fc.assert(
    fc.property(fc.array(size, { minLength: 1, maxLength: 9 }), size, (exponents, clipExponent) => {
      reset();
      const n = exponents.length;
      const norms = exponents.map((e) => 10 ** e);
      const clipNorm = 10 ** clipExponent;
      const out = allocate(4 * n);
      kernels.clipFactors(out, put(Float64Array.from(norms, (x) => x * x)), clipNorm, n);
      floats(out, n).forEach((factor, i) => {
        const norm = norms[i]!;
        assert.ok(factor >= 0 && factor <= 1);
        assert.ok(factor * norm <= clipNorm * (1 - 0.9e-6) || (factor === 1 && norm <= clipNorm));
        const lost = Math.min(1, clipNorm / norm) - factor;
        // Down to the smallest float, below which a factor is 0.
        assert.ok(lost <= 1.2e-6 * Math.min(1, clipNorm / norm) + 1.5e-45);
      });
    }),
    { numRuns: 1000 },
  );
});

test('clipFactors at the edges', () => {
  const cases: [number, number, number][] = [
    // squared norm, clip norm, factor
    [0, 1, 1],
    [Number.POSITIVE_INFINITY, 1, 0],
    [Number.NaN, 1, 0],
    [-1, 1, 0],
    [4, Number.POSITIVE_INFINITY, 1],
    [4, 0, 0],
    [5e-324, 1e-3, 1],
    [1.7e308, 1e-30, 0],
    [0.25, 1, 1],
  ];
  for (const [squaredNorm, clipNorm, factor] of cases) {
    const out = allocate(4);
    kernels.clipFactors(out, put(Float64Array.from([squaredNorm])), clipNorm, 1);
    assert.is(floats(out, 1)[0], factor, `${squaredNorm}, ${clipNorm}`);
  }
});

test('a clipped f32 gradient stays within the clip norm, rounding included', () => {
  for (let seed = 0; seed < 50; seed++) {
    reset();
    const cols = 1000;
    const a = random(cols, seed);
    const [pa, norms, factors, out] = [put(a), allocate(8), allocate(4), allocate(4 * cols)];
    kernels.rowSquaredNorms(norms, pa, 1, cols, 0);
    kernels.clipFactors(factors, norms, 1.5, 1);
    kernels.columnSums(out, pa, factors, 1, cols, 0);
    const norm = Math.sqrt(squared(floats(out, cols)));
    assert.ok(norm <= 1.5 && norm > 1.5 * (1 - 2e-6));
  }
});

const table = fc.record({
  rows: fc.integer({ min: 0, max: 23 }),
  cols: fc.integer({ min: 1, max: 37 }),
  scaled: fc.boolean(),
  zeros: fc.boolean(),
  skew: fc.constantFrom(0, 4, 12),
  seed: fc.nat(),
});

test('columnSums are the sequential f32 sums over rows, and pieces give the bits of the whole', () => {
  fc.assert(
    fc.property(table, fc.nat({ max: 23 }), ({ rows, cols, scaled, zeros, skew, seed }, cut) => {
      reset();
      const a = random(rows * cols, seed);
      const scale = random(rows, seed + 1).map((x) => (zeros && x > 0 ? 0 : x));
      const start = random(cols, seed + 2);
      const [pa, ps] = [put(a, skew), scaled ? put(scale) : 0];
      const expected = (from: ArrayLike<number>) =>
        Array.from({ length: cols }, (_, j) => {
          let total = from[j]!;
          for (let r = 0; r < rows; r++) total = f(total + f(a[r * cols + j]! * (scaled ? scale[r]! : 1)));
          return total;
        });
      const out = put([...start, 7], skew);
      kernels.columnSums(out, pa, ps, rows, cols, 1);
      same(floats(out, cols + 1), [...expected(start), 7], 'accumulated');
      kernels.columnSums(out, pa, ps, rows, cols, 0);
      same(floats(out, cols + 1), [...expected(new Float32Array(cols)), 7], 'set');
      const whole = new Uint32Array(floats(out, cols).buffer);
      const head = Math.min(cut, rows);
      kernels.columnSums(out, pa, ps, head, cols, 0);
      kernels.columnSums(out, pa + 4 * head * cols, ps && ps + 4 * head, rows - head, cols, 1);
      assert.equal(new Uint32Array(floats(out, cols).buffer), whole);
    }),
    { numRuns: 300 },
  );
});

test('columnSums over more columns than one panel holds', () => {
  const [rows, cols] = [5, 70001];
  const a = random(rows * cols, 1);
  const out = allocate(4 * cols);
  kernels.columnSums(out, put(a), 0, rows, cols, 0);
  const expected = Float32Array.from({ length: cols }, (_, j) => {
    let total = 0;
    for (let r = 0; r < rows; r++) total = f(total + a[r * cols + j]!);
    return total;
  });
  same(floats(out, cols), expected);
});

test('an example with factor 0 adds nothing, even if it is not finite', () => {
  const rows = [1, 2, Number.NaN, Number.POSITIVE_INFINITY, 3, 4, 5, 6, 7, 8];
  const scale = put([1, 0, 1, 1, 1]);
  const [a, out] = [put(rows), allocate(40)];
  kernels.columnSums(out, a, scale, 5, 2, 0);
  same(floats(out, 2), [16, 20]);
  kernels.scaleRows(out, a, scale, 5, 2);
  same(floats(out, 10), [1, 2, 0, 0, 3, 4, 5, 6, 7, 8]);
});

test('scaleRows multiplies each row by its factor', () => {
  fc.assert(
    fc.property(table, ({ rows, cols, skew, seed }) => {
      reset();
      const [a, scale] = [random(rows * cols, seed), random(rows, seed + 1)];
      const [pa, out] = [put(a, skew), put(new Float32Array(rows * cols + 1).fill(7), skew)];
      kernels.scaleRows(out, pa, put(scale), rows, cols);
      same(floats(out, a.length + 1), [...a.map((x, i) => f(x * scale[Math.floor(i / cols)]!)), 7]);
    }),
  );
});

test('instantiateDense and instantiateRowSums make each gradient, sequentially over positions', () => {
  fc.assert(
    fc.property(sizes, fc.nat({ max: 5 }), ({ batch, t, dIn, dOut, accumulate, skew, seed }, gap) => {
      reset();
      const [a, b] = [random(batch * t * dIn, seed), random(batch * t * dOut, seed + 1)];
      const [pa, pb] = [put(a, skew), put(b, skew)];
      const stride = (dIn + 1) * dOut + gap;
      const start = random(batch * stride, seed + 2);
      const out = put(start, skew);
      const bias = 4 * dIn * dOut;
      kernels.instantiateDense(out, pa, pb, batch, t, dIn, dOut, stride, accumulate);
      kernels.instantiateRowSums(out + bias, pb, batch, t, dOut, stride, accumulate);
      const expected = start.slice();
      for (let e = 0; e < batch; e++) {
        for (let i = 0; i <= dIn; i++) {
          for (let j = 0; j < dOut; j++) {
            const at = e * stride + i * dOut + j;
            let total = accumulate ? start[at]! : 0;
            for (let s = e * t; s < (e + 1) * t; s++) {
              const product = i < dIn ? f(a[s * dIn + i]! * b[s * dOut + j]!) : b[s * dOut + j]!;
              total = f(total + product);
            }
            expected[at] = total;
          }
        }
      }
      same(floats(out, expected.length), expected);
    }),
    { numRuns: 300 },
  );
});

test('keepRows packs the rows whose weight is not 0, in their order', () => {
  const weight = fc.constantFrom(0, -0, 1, -2, 0.5, Number.NaN);
  fc.assert(
    fc.property(fc.array(weight, { maxLength: 9 }), fc.nat({ max: 9 }), fc.nat(), (weights, cols, seed) => {
      reset();
      const a = random(weights.length * cols, seed);
      const out = put(new Float32Array(a.length + 1).fill(7));
      const kept = kernels.keepRows(out, put(a), put(weights), weights.length, cols);
      const rows = weights.flatMap((w, i) => (w === 0 ? [] : [a.subarray(i * cols, (i + 1) * cols)]));
      assert.is(kept, rows.length);
      same(floats(out, kept * cols + 1), [...rows.flatMap((row) => [...row]), 7]);
    }),
  );
});

test('weightedSquares adds up w²·a in float64 and in order; weight 0 leaves out what is not finite', () => {
  const weight = fc.constantFrom(0, 1, -2, f(0.3), f(1 / 3));
  const value = fc.oneof(
    fc.double({ min: 0, max: 1e9 }),
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(weight, value), { maxLength: 20 }), fc.nat(9), (terms, start) => {
      reset();
      const weights = put(terms.map(([w]) => w));
      const a = put(Float64Array.from(terms, ([, v]) => v));
      const expected = terms.reduce((sum, [w, v]) => (w === 0 ? sum : sum + w * w * v), start);
      assert.equal(kernels.weightedSquares(start, a, weights, terms.length), expected);
    }),
  );
});

test('addNoisyParts adds each group’s sum with the noise of the whole, in float64', () => {
  const scale = fc.double({ min: 0, max: 2, noNaN: true });
  fc.assert(
    fc.property(fc.nat({ max: 19 }), scale, scale, fc.nat(), (n, cleanScale, poisonScale, seed) => {
      reset();
      const [whole, noisy, part] = [random(n, seed), random(n, seed + 1), random(n, seed + 2)];
      const start = Float64Array.from({ length: n + 1 }, (_, i) => i / 3);
      const [clean, poison] = [put(start), put(start)];
      kernels.addNoisyParts(
        ...([clean, poison, cleanScale, poisonScale] as const),
        ...([put(whole), put(noisy), put(part), n] as const),
      );
      const noise = (i: number) => noisy[i]! - whole[i]!;
      const of = (share: number, sum: (i: number) => number) =>
        Array.from(start, (v, i) => (i < n ? v + share * (sum(i) + noise(i)) : v));
      near(
        doubles(clean, n + 1),
        of(cleanScale, (i) => whole[i]! - part[i]!),
        1e-12,
        1e-12,
        'clean',
      );
      near(
        doubles(poison, n + 1),
        of(poisonScale, (i) => part[i]!),
        1e-12,
        1e-12,
        'poison',
      );
    }),
  );
});

test.run();
