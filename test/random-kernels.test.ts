// ChaCha against published vectors and a reference written here; Gaussians against float64 Box–Muller on that
// reference, and against the closed forms of the normal distribution. Keys are fixed, so nothing here can flake; every
// statistical bound is one that a right generator under a random key misses with a probability below 1e-6.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate, floats, kernels, put, reset, words } from './kernel-harness.js';

type Nonce = [number, number, number];

const hex = (text: string) => Uint8Array.from(text.match(/../g)!, (pair) => Number.parseInt(pair, 16));
const toHex = (data: Uint32Array) => Buffer.from(data.buffer).toString('hex');
const keyOf = (seed: number) => Uint32Array.from({ length: 8 }, (_, i) => Math.imul(seed + i, 0x9e3779b9));

/** ChaCha's block function, RFC 8439 section 2.3, in plain JavaScript. */
function referenceBlock(key: Uint32Array, counter: number, nonce: Nonce, rounds: number): Uint32Array {
  const start = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, ...key, counter, ...nonce);
  const x = start.slice();
  const rotate = (value: number, bits: number) => (value << bits) | (value >>> (32 - bits));
  const quarterRound = (a: number, b: number, c: number, d: number) => {
    for (const [i, j, k, bits] of [
      [a, b, d, 16],
      [c, d, b, 12],
      [a, b, d, 8],
      [c, d, b, 7],
    ] as const) {
      x[i] = x[i]! + x[j]!;
      x[k] = rotate(x[k]! ^ x[i]!, bits);
    }
  };
  for (let round = 0; round < rounds; round += 2) {
    for (let i = 0; i < 4; i++) quarterRound(i, 4 + i, 8 + i, 12 + i);
    for (let i = 0; i < 4; i++) quarterRound(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
  }
  return x.map((value, i) => value + start[i]!);
}

/** Draw j of addGaussian in float64: Box–Muller's pairs from the words that its docstring names. */
function referenceGaussian(key: Uint32Array, firstBlock: number, nonce: Nonce, rounds: number, n: number) {
  const draws = new Float64Array(Math.ceil(n / 64) * 64);
  for (let block = 0; block * 16 < draws.length; block++) {
    const x = referenceBlock(key, firstBlock + block, nonce, rounds);
    for (let pair = 0; pair < 8; pair++) {
      const bits = x[2 * pair]!;
      const u = Math.fround(Math.fround(bits >>> 1) + 0.5) / 2 ** 31;
      const radius = Math.sqrt(-2 * Math.log(u)) * (bits & 1 ? -1 : 1);
      const angle = ((Math.PI / 2) * (x[2 * pair + 1]! | 0)) / 2 ** 31;
      const j = (block >> 2) * 64 + pair * 8 + (block & 3);
      draws[j] = radius * Math.cos(angle);
      draws[j + 4] = radius * Math.sin(angle);
    }
  }
  return draws.subarray(0, n);
}

function gaussian(seed: number, firstBlock: number, nonce: Nonce, rounds: number, n: number, std = 1) {
  reset();
  const key = put(keyOf(seed));
  const out = allocate(4 * n);
  kernels.addGaussian(out, 0, n, key, firstBlock, ...nonce, rounds, std);
  return floats(out, n);
}

function bits(seed: number, firstBlock: number, nonce: Nonce, rounds: number, n: number) {
  reset();
  const key = put(keyOf(seed));
  const out = allocate(4 * n);
  kernels.randomBits(out, n, key, firstBlock, ...nonce, rounds);
  return words(out, n);
}

// The standard normal's density, and its upper tail by Laplace's continued fraction (x ≥ 1.5) or the power series.
const density = (x: number) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
function upperTail(x: number): number {
  if (x < 0) return 1 - upperTail(-x);
  if (x >= 1.5) {
    let fraction = x;
    for (let k = 80; k >= 1; k--) fraction = x + k / fraction;
    return density(x) / fraction;
  }
  let term = x;
  let sum = x;
  for (let k = 3; k < 60; k += 2) {
    term *= (x * x) / k;
    sum += term;
  }
  return 0.5 - density(x) * sum;
}

const ZERO = '00'.repeat(32);
const TC8 = 'c46ec1b18ce8a878725a37e780dfb7351f68ed2e194c79fbc6aebee1a667975d';

test('the block function gives the vectors of RFC 8439 (2.3.2 and A.1)', () => {
  const vectors: [string, number, string, string][] = [
    [
      '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
      1,
      '000000090000004a00000000',
      '10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4ed2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e',
    ],
    [
      ZERO,
      0,
      '00'.repeat(12),
      '76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586',
    ],
    [
      ZERO,
      1,
      '00'.repeat(12),
      '9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f',
    ],
    [
      `${'00'.repeat(31)}01`,
      1,
      '00'.repeat(12),
      '3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0',
    ],
    [
      `00ff${'00'.repeat(30)}`,
      2,
      '00'.repeat(12),
      '72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096',
    ],
    [
      ZERO,
      0,
      `${'00'.repeat(11)}02`,
      'c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c78a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d',
    ],
  ];
  for (const [key, counter, nonce, expected] of vectors) {
    reset();
    const [w13, w14, w15] = new Uint32Array(hex(nonce).buffer) as unknown as Nonce;
    const out = allocate(64);
    kernels.chachaBlock(out, put(hex(key)), counter, w13, w14, w15, 20);
    assert.is(toHex(words(out, 16)), expected);
  }
});

test('8 and 12 rounds give the vectors of draft-strombergson-chacha-test-vectors-01 (256-bit keys)', () => {
  const vectors: [number, string, string, string][] = [
    [
      8,
      ZERO,
      '0000000000000000',
      '3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42' +
        'd2aefa0deaa5c151bf0adb6c01f2a5adc0fd581259f9a2aadcf20f8fd566a26b5032ec38bbc5da98ee0c6f568b872a65a08abf251deb21bb4b56e5d8821e68aa',
    ],
    [
      12,
      ZERO,
      '0000000000000000',
      '9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f0564f879d27ae3c02ce82834acfa8c793a629f2ca0de6919610be82f411326be' +
        '0bd58841203e74fe86fc71338ce0173dc628ebb719bdcbcc151585214cc089b442258dcda14cf111c602b8971b8cc843e91e46ca905151c02744a6b017e69316',
    ],
    [
      8,
      TC8,
      '1ada31d5cf688221',
      '838751b42d8ddd8a3d77f48825a2ba752cf4047cb308a5978ef274973be374c96ad848065871417b08f034e681fe46a93f7d5c61d1306614d4aaf257a7cff08b' +
        '16f2fda170cc18a4b58a2667ed962774af792a6e7f3c77992540711a7a136d7e8a2f8d3f93816709d45a3fa5f8ce72fde15be7b841acba3a2abd557228d9fe4f',
    ],
    [
      12,
      TC8,
      '1ada31d5cf688221',
      '1482072784bc6d06b4e73bdc118bc0103c7976786ca918e06986aa251f7e9cc1b2749a0a16ee83b4242d2e99b08d7c20092b80bc466c87283b61b1b39d0ffbab' +
        'd94b116bc1ebdb329b9e4f620db695544a8e3d9b68473d0c975a46ad966ed631e42aff530ad5eac7d8047adfa1e5113c91f3e3b883f1d189ac1c8fe07ba5a42b',
    ],
    [
      20,
      TC8,
      '1ada31d5cf688221',
      'f63a89b75c2271f9368816542ba52f06ed49241792302b00b5e8f80ae9a473afc25b218f519af0fdd406362e8d69de7f54c604a6e00f353f110f771bdca8ab92' +
        'e5fbc34e60a1d9a9db17345b0a402736853bf910b060bdf1f897b6290f01d138ae2c4c90225ba9ea14d518f55929dea098ca7a6ccfe61227053c84e49a4a3332',
    ],
  ];
  for (const [rounds, key, nonce, expected] of vectors) {
    reset();
    const [w14, w15] = new Uint32Array(hex(nonce).buffer) as unknown as [number, number];
    const out = allocate(128);
    kernels.chachaStream(out, 2, put(hex(key)), 0, 0, w14, w15, rounds);
    assert.is(toHex(words(out, 32)), expected);
  }
});

test('the keystream is the reference, for any key, words, rounds and length, and nothing behind it is written', () => {
  const word = fc.integer({ min: 0, max: 0xffffffff });
  fc.assert(
    fc.property(
      fc.array(word, { minLength: 12, maxLength: 12 }),
      fc.constantFrom(8, 12, 20),
      fc.integer({ min: 0, max: 300 }),
      fc.constantFrom(0, 4, 8, 12),
      (state, rounds, n, skew) => {
        reset();
        const key = Uint32Array.from(state.slice(0, 8));
        const [counter, ...nonce] = state.slice(8) as [number, ...Nonce];
        const keyAt = put(key, skew);
        const out = put(new Uint32Array(n + 8).fill(7), skew);
        kernels.randomBits(out, n, keyAt, counter, ...nonce, rounds);
        const expected = new Uint32Array(n + 8).fill(7);
        for (let block = 0; block * 16 < n; block++) {
          const stream = referenceBlock(key, counter + block, nonce, rounds);
          expected.set(stream.subarray(0, Math.min(16, n - 16 * block)), 16 * block);
        }
        assert.equal(words(out, n + 8), expected);
      },
    ),
    { seed: 2, numRuns: 300 },
  );
});

test('the counter wraps at 2^32 and leaves the other words alone', () => {
  const around = bits(1, 0xffffffff, [5, 6, 7], 8, 32);
  assert.equal(around.slice(16), bits(1, 0, [5, 6, 7], 8, 16));
});

test('Gaussians equal float64 Box–Muller on the reference keystream to 2e-6', () => {
  for (const rounds of [8, 12, 20]) {
    const n = 60_100;
    const nonce: Nonce = [0xdeadbeef, rounds, 3];
    const draws = gaussian(rounds, 0xfffffe00, nonce, rounds, n);
    const expected = referenceGaussian(keyOf(rounds), 0xfffffe00, nonce, rounds, n);
    let worst = 0;
    for (let j = 0; j < n; j++) worst = Math.max(worst, Math.abs(draws[j]! - expected[j]!));
    assert.ok(worst < 2e-6, `rounds ${rounds}: off by ${worst}`);
  }
});

test('out = a + std·z: in place, apart, or from zeros; any length; nothing behind it is written', () => {
  const z = gaussian(3, 10, [1, 2, 3], 8, 400);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 400 }),
      fc.constantFrom('apart', 'in place', 'zeros'),
      fc.constantFrom(0, 4, 8, 12),
      fc.float({ min: Math.fround(0.01), max: 100, noNaN: true }),
      (n, mode, skew, std) => {
        reset();
        const key = put(keyOf(3));
        const start = Float32Array.from({ length: n + 8 }, (_, i) => i / 7 - 20);
        const a = mode === 'zeros' ? 0 : put(start, skew);
        const out = mode === 'in place' ? a : put(start);
        kernels.addGaussian(out, a, n, key, 10, 1, 2, 3, 8, std);
        const result = floats(out, n + 8);
        for (let j = 0; j < n; j++) {
          const expected = (mode === 'zeros' ? 0 : start[j]!) + std * z[j]!;
          assert.ok(Math.abs(result[j]! - expected) <= 3e-7 * (Math.abs(expected) + 6 * std + 80));
        }
        assert.equal(result.slice(n), start.slice(n));
      },
    ),
    { seed: 3, numRuns: 300 },
  );
});

test('draw j depends on neither the length nor where a run of whole groups of 64 begins', () => {
  const n = 1570;
  const whole = gaussian(4, 100, [9, 8, 7], 20, n);
  for (const shorter of [1, 3, 8, 63, 64, 65, 1569]) {
    assert.equal(gaussian(4, 100, [9, 8, 7], 20, shorter), whole.slice(0, shorter));
  }
  for (const groups of [1, 7, 24]) {
    assert.equal(gaussian(4, 100 + 4 * groups, [9, 8, 7], 20, n - 64 * groups), whole.slice(64 * groups));
  }
});

test('moments of 4 million draws', () => {
  const n = 1 << 22;
  for (const rounds of [8, 20]) {
    const draws = gaussian(5, 0, [0, 0, rounds], rounds, n);
    const moments = [0, 0, 0, 0];
    for (let j = 0; j < n; j++) {
      const z = draws[j]!;
      const square = z * z;
      moments[0]! += z;
      moments[1]! += square;
      moments[2]! += square * z;
      moments[3]! += square * square;
    }
    // E z^k = 0, 1, 0, 3; Var z^k = 1, 2, 15, 96. Five standard errors: 6e-7, two-sided.
    const expected = [0, 1, 0, 3];
    const variance = [1, 2, 15, 96];
    moments.forEach((sum, k) => {
      const score = (sum / n - expected[k]!) / Math.sqrt(variance[k]! / n);
      assert.ok(Math.abs(score) < 5, `rounds ${rounds}: moment ${k + 1} is ${score} standard errors off`);
    });
  }
});

test('Kolmogorov–Smirnov over a million draws', () => {
  const n = 1 << 20;
  for (const rounds of [8, 20]) {
    const draws = gaussian(6, 0, [0, 0, rounds], rounds, n).sort();
    let distance = 0;
    for (let j = 0; j < n; j++) {
      const cdf = 1 - upperTail(draws[j]!);
      distance = Math.max(distance, (j + 1) / n - cdf, cdf - j / n);
    }
    // P(√n·D > 2.7) = 2·exp(-2·2.7²) = 9e-7.
    assert.ok(Math.sqrt(n) * distance < 2.7, `rounds ${rounds}: √n·D is ${Math.sqrt(n) * distance}`);
  }
});

test('the tails of 67 million draws hold what the normal distribution says, out to 5.5', () => {
  const chunk = 1 << 22;
  const chunks = 16;
  const limits = [3, 3.5, 4, 4.5, 5, 5.5];
  const counts = limits.map(() => [0, 0]);
  let largest = 0;
  for (let i = 0; i < chunks; i++) {
    const draws = gaussian(7, (i * chunk) / 16, [1, 1, 1], 20, chunk);
    for (let j = 0; j < chunk; j++) {
      const magnitude = Math.abs(draws[j]!);
      if (magnitude < 3) continue;
      largest = Math.max(largest, magnitude);
      for (let k = 0; k < limits.length && magnitude > limits[k]!; k++) counts[k]![draws[j]! < 0 ? 0 : 1]!++;
    }
  }
  // Each tail's count is Poisson with mean m ≥ 1.27; mean ± (5.5·√m + 10) is missed with a probability below 1e-7.
  limits.forEach((limit, k) => {
    const mean = chunk * chunks * upperTail(limit);
    for (const count of counts[k]!) {
      assert.ok(
        Math.abs(count - mean) < 5.5 * Math.sqrt(mean) + 10,
        `beyond ${limit}: ${count}, expected ${mean}`,
      );
    }
  });
  // √(2·32·ln 2) = 6.66 is the largest there can be.
  assert.ok(largest > 5 && largest < 6.67);
});

test('neighbouring draws, streams, steps, keys and the two of a pair are uncorrelated, and so are their squares', () => {
  const n = 1 << 19;
  const base = gaussian(8, 0, [1, 2, 3], 8, n);
  const others = {
    'the pair': base.map((_, j) => base[j ^ 4]!),
    'the next draw': base.map((_, j) => base[(j + 1) % n]!),
    'the next group': base.map((_, j) => base[(j + 64) % n]!),
    w13: gaussian(8, 0, [2, 2, 3], 8, n),
    w14: gaussian(8, 0, [1, 3, 3], 8, n),
    w15: gaussian(8, 0, [1, 2, 4], 8, n),
    'one key bit': gaussian(8, 0, [1, 2, 3], 8, n),
  };
  const key = keyOf(8);
  key[0]! ^= 1;
  reset();
  const out = allocate(4 * n);
  kernels.addGaussian(out, 0, n, put(key), 0, 1, 2, 3, 8, 1);
  others['one key bit'] = floats(out, n);
  for (const [name, other] of Object.entries(others)) {
    let products = 0;
    let squares = 0;
    for (let j = 0; j < n; j++) {
      products += base[j]! * other[j]!;
      squares += (base[j]! ** 2 - 1) * (other[j]! ** 2 - 1);
    }
    // Variances 1 and 4; a pair is counted twice in `the pair`, which doubles them. Five standard errors.
    const twice = name === 'the pair' ? 2 : 1;
    assert.ok(Math.abs(products) < 5 * Math.sqrt(twice * n), `${name}: correlation ${products / n}`);
    assert.ok(
      Math.abs(squares) < 5 * Math.sqrt(twice * 4 * n),
      `${name}: correlation of squares ${squares / n}`,
    );
  }
});

/** The bit of w14 under which addGaussianOnGrid takes its dither and, with w12's highest bit, its further radius bits. */
const GRID_STREAM = 0x80000000;

/** Draw j of addGaussianOnGrid, unrounded, in float64, from the words that its docstring names, and its dither. */
function referenceOnGrid(key: Uint32Array, firstBlock: number, nonce: Nonce, rounds: number, n: number) {
  const z = new Float64Array(Math.ceil(n / 64) * 64);
  const dither = new Int32Array(z.length);
  const gridNonce: Nonce = [nonce[0], (nonce[1] | GRID_STREAM) >>> 0, nonce[2]];
  let refined = 0;
  for (let block = 0; block * 16 < z.length; block++) {
    const x = referenceBlock(key, firstBlock + block, nonce, rounds);
    const more = referenceBlock(key, (firstBlock + block) | 0x80000000, gridNonce, rounds);
    const [group, lane] = [block >> 2, block & 3];
    for (let pair = 0; pair < 8; pair++) {
      const bits = x[2 * pair]!;
      const tail = bits >>> 1 < 256;
      if (tail) refined++;
      const u = ((bits >>> 1) + (tail ? ((more[2 * pair]! >>> 1) + 0.5) / 2 ** 31 : 0.5)) / 2 ** 31;
      const radius = Math.sqrt(-2 * Math.log(u)) * (bits & 1 ? -1 : 1);
      const angle = ((Math.PI / 2) * (x[2 * pair + 1]! | 0)) / 2 ** 31;
      const word = 32 * group + 4 * pair + lane;
      const half = referenceBlock(key, (firstBlock >>> 1) + (word >> 4), gridNonce, rounds)[word & 15]!;
      const j = group * 64 + pair * 8 + lane;
      z[j] = radius * Math.cos(angle);
      z[j + 4] = radius * Math.sin(angle);
      dither[j] = (half << 16) >> 16;
      dither[j + 4] = (half | 0) >> 16;
    }
  }
  return { z: z.subarray(0, n), dither: dither.subarray(0, n), refined };
}

interface OnGrid {
  readonly key: Uint32Array;
  readonly firstBlock?: number;
  readonly nonce?: Nonce;
  readonly rounds?: number;
  readonly std: number;
  readonly grid: number;
}

function onGrid(a: Float32Array, { key, firstBlock = 0, nonce = [1, 2, 3], rounds = 20, std, grid }: OnGrid) {
  reset();
  const keyAt = put(key);
  const scratch = allocate(kernels.gaussianOnGridScratchBytes());
  const out = put(a);
  kernels.addGaussianOnGrid(out, out, a.length, scratch, keyAt, firstBlock, ...nonce, rounds, std, grid);
  return floats(out, a.length);
}

/** To the nearest integer, and of two as near to the even one. */
const nearest = (v: number) => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));

test('on the grid: noise as in float64 plus the dither, everything a multiple, the sum exact', () => {
  const key = keyOf(12);
  const nonce: Nonce = [1, 2, 3];
  const { z, dither } = referenceOnGrid(key, 40, nonce, 20, 700);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 700 }),
      fc.constantFrom('apart', 'in place'),
      fc.constantFrom(0, 4, 8, 12),
      fc.double({ min: 1e-9, max: 1e9, noNaN: true }),
      fc.double({ min: 1e-9, max: 1e4, noNaN: true }),
      (n, mode, skew, std, size) => {
        const grid = 2 ** (Math.floor(Math.log2(std)) - 20);
        const noise = onGrid(new Float32Array(n), { key, firstBlock: 40, nonce, std, grid });
        reset();
        const keyAt = put(key, skew);
        const scratch = allocate(kernels.gaussianOnGridScratchBytes(), skew);
        const start = Float32Array.from({ length: n + 8 }, (_, i) => Math.sin(i) * size * std);
        const a = put(start, skew);
        const out = mode === 'in place' ? a : put(start);
        kernels.addGaussianOnGrid(out, a, n, scratch, keyAt, 40, ...nonce, 20, std, grid);
        const result = floats(out, n + 8);
        for (let j = 0; j < n; j++) {
          // f32's 2e-6 on the draw, half a step for its rounding.
          assert.ok(Math.abs(noise[j]! - std * z[j]! - grid * dither[j]!) <= 2e-6 * std + grid);
          assert.ok(Number.isInteger(noise[j]! / grid) && Number.isInteger(result[j]! / grid));
          const steps = nearest(start[j]! / grid) + noise[j]! / grid;
          assert.is(result[j]!, Math.fround(steps * grid));
        }
        assert.equal(result.slice(n), start.slice(n));
      },
    ),
    { seed: 12, numRuns: 200 },
  );
});

test('the dither is 16 bits of its own words a draw, exactly; draws depend on neither length nor beginning', () => {
  const n = 10_000;
  const key = keyOf(13);
  const nonce: Nonce = [9, 8, 7];
  // Noise of a thousandth step rounds to nothing.
  const alone = onGrid(new Float32Array(n), { key, firstBlock: 64, nonce, std: 0.001, grid: 1 });
  const { dither } = referenceOnGrid(key, 64, nonce, 20, n);
  assert.equal(alone, Float32Array.from(dither));
  const whole = onGrid(new Float32Array(n), { key, firstBlock: 64, nonce, std: 1, grid: 2 ** -20 });
  for (const shorter of [1, 3, 8, 63, 64, 65, 4095, 4097]) {
    const part = onGrid(new Float32Array(shorter), { key, firstBlock: 64, nonce, std: 1, grid: 2 ** -20 });
    assert.equal(part, whole.slice(0, shorter));
  }
  for (const groups of [1, 7, 64, 100]) {
    const later = { key, firstBlock: 64 + 4 * groups, nonce, std: 1, grid: 2 ** -20 };
    assert.equal(onGrid(new Float32Array(n - 64 * groups), later), whole.slice(64 * groups));
  }
});

test('the smallest radius words take 31 further bits: those that a search finds in 130 million words', () => {
  const key = keyOf(14);
  const nonce: Nonce = [4, 5, 6];
  const chunk = 1 << 22;
  let found = 0;
  for (let i = 0; i < 32; i++) {
    const firstBlock = (i * chunk) / 16;
    const stream = bits(14, firstBlock, nonce, 8, chunk);
    for (let j = 0; j < chunk; j += 2) {
      if (stream[j]! >= 512) continue;
      found++;
      const start = (firstBlock + (j >> 4)) & ~3;
      const expected = referenceOnGrid(key, start, nonce, 8, 64);
      assert.is(expected.refined, 1);
      const noise = onGrid(new Float32Array(64), {
        key,
        firstBlock: start,
        nonce,
        rounds: 8,
        std: 1,
        grid: 2 ** -20,
      });
      noise.forEach((value, k) => {
        const error = value - expected.z[k]! - expected.dither[k]! * 2 ** -20;
        assert.ok(Math.abs(error) < 3e-6, `draw ${k} of block ${start} is off by ${error}`);
      });
    }
  }
  // 8 expected; outside 1..30 with a probability below 4e-4, but the key is fixed.
  assert.ok(found > 0 && found < 31, `${found}`);
});

test('the tail reaches 9.34 standard deviations: chosen words, with no rounds every word is twice the state', () => {
  // Key words 0, 2, 4 and 6 are then the upper 31 bits of a radius word and its further bits; 1, 3, 5 and 7 make angles.
  const std = 1;
  const grid = 2 ** -20;
  let largest = 0;
  for (let k = 0; k <= 260; k++) {
    const key = Uint32Array.of(k, 0, k, 0x20000000, k + 1, 0x12345678, 3 * k, 0x71111111);
    const nonce: Nonce = [k, 0x12345, 77];
    const expected = referenceOnGrid(key, 0, nonce, 0, 64);
    assert.ok(expected.refined >= 4);
    const noise = onGrid(new Float32Array(64), { key, nonce, rounds: 0, std, grid });
    noise.forEach((value, j) => {
      const error = value - expected.z[j]! - expected.dither[j]! * grid;
      assert.ok(Math.abs(error) < 4e-6, `k = ${k}, draw ${j} is off by ${error}`);
      largest = Math.max(largest, Math.abs(expected.z[j]!));
    });
  }
  assert.ok(Math.abs(largest - Math.sqrt(2 * 63 * Math.log(2))) < 1e-9, `${largest}`);
});

test('nothing tells where a sum was below its grid: zeros have no sign, and last bits are fair', () => {
  const n = 1 << 22;
  let zeros = 0;
  for (const value of [-1e-9, -0, 1e-9]) {
    for (const y of onGrid(new Float32Array(n).fill(value), { key: keyOf(15), std: 0.001, grid: 1 })) {
      if (y !== 0) continue;
      zeros++;
      assert.ok(Object.is(y, 0), `${value}`);
    }
  }
  assert.ok(zeros > 50);
  // Without the dither, noise just below 2^21 steps is even 57 times of 100.
  for (const std of [1, 1.5, 1.999]) {
    const noise = onGrid(new Float32Array(n), { key: keyOf(16), std, grid: 2 ** -20 });
    // The two of a pair: their last five bits together.
    const bins = new Float64Array(1024);
    for (let j = 0; j < n; j += 8) {
      for (let lane = j; lane < j + 4; lane++) {
        bins[((noise[lane]! * 2 ** 20) & 31) * 32 + ((noise[lane + 4]! * 2 ** 20) & 31)]!++;
      }
    }
    const mean = n / 2048;
    const chiSquare = bins.reduce((sum, count) => sum + (count - mean) ** 2 / mean, 0);
    // As for the uniforms: beyond 800 or 1270, below 1e-6.
    assert.ok(chiSquare > 800 && chiSquare < 1270, `std ${std}: χ² = ${chiSquare}`);
    const even = noise.reduce((count, y) => count + ((y * 2 ** 20) % 2 === 0 ? 1 : 0), 0);
    assert.ok(Math.abs(even - n / 2) < 2.5 * Math.sqrt(n), `std ${std}: ${even} of ${n} are even`);
  }
});

test('uniforms are the upper 24 bits of the keystream, in [0, 1), with a flat histogram', () => {
  for (const n of [1, 5, 64, 257, 1 << 20]) {
    reset();
    const key = put(keyOf(9));
    const out = allocate(4 * n + 16);
    kernels.uniform(out, n, key, 3, 1, 2, 3, 8);
    const draws = floats(out, n);
    const stream = bits(9, 3, [1, 2, 3], 8, n);
    assert.equal(
      draws,
      Float32Array.from(stream, (word) => (word >>> 8) / 2 ** 24),
    );
    if (n < 1 << 20) continue;
    const bins = new Float64Array(1024);
    for (const u of draws) bins[Math.floor(u * 1024)]!++;
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1024) ** 2 / 1024, 0);
    // χ² with 1023 degrees of freedom: mean 1023, standard deviation 45.2; beyond 800 or 1270: below 1e-6.
    assert.ok(chiSquare > 800 && chiSquare < 1270, `χ² = ${chiSquare}`);
  }
});

test('random bits: every bit is fair, and neighbouring words differ in half of them', () => {
  const n = 1 << 20;
  const stream = bits(10, 0, [1, 2, 3], 8, n);
  const ones = new Float64Array(32);
  const flips = new Float64Array(32);
  for (let j = 0; j < n; j++) {
    for (let bit = 0; bit < 32; bit++) {
      ones[bit]! += (stream[j]! >>> bit) & 1;
      flips[bit]! += ((stream[j]! ^ stream[(j + 1) % n]!) >>> bit) & 1;
    }
  }
  // 64 binomials, standard deviation √n/2; six of them: 2e-9 each.
  for (const count of [...ones, ...flips]) assert.ok(Math.abs(count - n / 2) < 3 * Math.sqrt(n));
});

function dropout(indices: number[], cols: number, keep: number, step = 5, stream = 6) {
  reset();
  const key = put(keyOf(11));
  const rows = put(Int32Array.from(indices));
  const out = put(new Float32Array(indices.length * cols + 8).fill(-1));
  kernels.dropoutMask(out, rows, indices.length, cols, keep, key, step, stream);
  assert.equal(floats(out + 4 * indices.length * cols, 8), new Float32Array(8).fill(-1));
  return floats(out, indices.length * cols);
}

test('a dropout row belongs to its example, whatever else is in the batch, and to the step and the stream', () => {
  for (const cols of [1, 10, 63, 64, 300]) {
    const batch = dropout([40, 7, 12, 7, 59_999], cols, 0.6);
    const row = (i: number) => batch.slice(i * cols, (i + 1) * cols);
    assert.equal(row(1), row(3));
    assert.equal(row(1), dropout([7], cols, 0.6));
    assert.equal([...row(4), ...row(0)], [...dropout([59_999, 40], cols, 0.6)]);
    if (cols < 63) continue;
    for (const other of [
      dropout([8], cols, 0.6),
      dropout([7], cols, 0.6, 6),
      dropout([7], cols, 0.6, 5, 7),
    ]) {
      assert.not.equal(row(1), other);
    }
  }
});

test('dropout keeps at the stated rate and scales by 1/keep', () => {
  const cols = 1000;
  const indices = Array.from({ length: 1000 }, (_, i) => i);
  for (const keep of [0.1, 0.5, 0.8, 1]) {
    const mask = dropout(indices, cols, keep);
    const kept = mask.filter((value) => value !== 0);
    assert.ok(kept.every((value) => value === Math.fround(1 / Math.fround(keep))));
    // Five standard deviations of a binomial: 6e-7.
    const n = mask.length;
    assert.ok(Math.abs(kept.length - keep * n) <= 5 * Math.sqrt(n * keep * (1 - keep)));
  }
  assert.equal(dropout([1, 2], 70, 1), new Float32Array(140).fill(1));
});

test.run();
