// Counter-based random numbers: ChaCha (Bernstein 2008; RFC 8439 for 20 rounds) and, on top of it, Gaussians
// (Box & Muller 1958), uniforms and dropout masks. Nothing here has a state: a draw is a function of the key, the
// words w12..w15 and its index. Four blocks run side by side, one lane each, so that a state word is one vector.
// `rounds` is 8, 12 or 20. The block counter w12 wraps at 2^32 without a carry into w13.
import { loadUpTo4, storeUpTo4 } from './lanes';
import { horner, splat } from './math';

// @ts-ignore: decorator
@inline
function rotate16(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
}

// @ts-ignore: decorator
@inline
function rotate12(x: v128): v128 {
  return v128.or(i32x4.shl(x, 12), i32x4.shr_u(x, 20));
}

// @ts-ignore: decorator
@inline
function rotate8(x: v128): v128 {
  return i8x16.swizzle(x, i8x16(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14));
}

// @ts-ignore: decorator
@inline
function rotate7(x: v128): v128 {
  return v128.or(i32x4.shl(x, 7), i32x4.shr_u(x, 25));
}

// Box–Muller's radius √(-2 ln u)·std with a random sign, from one word each. u = (k + fraction)/2^31, k the upper 31
// bits, rounded to f32, is never 0; with ½ for the fraction it reaches down to 2^-32 (6.66 standard deviations); the
// lowest bit is the sign.
// -log2 u = e + f·p(f) for u = (1 + f)/2^e, 1 + f in [√½, √2); p is the minimax polynomial of -log2(1 + f)/f
// (relative error 3e-7).
// @ts-ignore: decorator
@inline
function signedRadius(word: v128, fraction: v128, std: f32): v128 {
  const u = f32x4.add(f32x4.convert_i32x4_s(i32x4.shr_u(word, 1)), fraction);
  const offset = i32x4.sub(u, i32x4.splat(0x3f3504f3));
  const e = f32x4.convert_i32x4_s(i32x4.sub(i32x4.splat(31), i32x4.shr_s(offset, 23)));
  const f = f32x4.sub(i32x4.add(v128.and(offset, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3)), splat(1));
  // Estrin's scheme: half the latency of Horner's, which is what counts here.
  const f2 = f32x4.mul(f, f);
  const p01 = horner(splat(0.7213528156280518), f, -1.442694902420044);
  const p23 = horner(splat(0.3602396249771118), f, -0.48092323541641235);
  const p45 = horner(splat(0.24887686967849731), f, -0.2870987057685852);
  const p67 = horner(splat(0.14581169188022614), f, -0.23404237627983093);
  const low = f32x4.add(p01, f32x4.mul(p23, f2));
  const high = f32x4.add(p45, f32x4.mul(p67, f2));
  const p = f32x4.add(low, f32x4.mul(high, f32x4.mul(f2, f2)));
  const minusLog2 = f32x4.add(f32x4.mul(p, f), e);
  // √(2 ln 2)
  const radius = f32x4.mul(f32x4.sqrt(minusLog2), splat(1.1774100225154747 * std));
  return v128.xor(radius, i32x4.shl(word, 31));
}

// The angle π/2·x, x = word/2^31 in [-1, 1]: a half turn, which the radius' sign completes to a full one. Its cosine
// and sine are minimax polynomials in x² (absolute error 2e-7 in f32).
// @ts-ignore: decorator
@inline
function turn(word: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(word), splat(4.656612873077393e-10));
}

// @ts-ignore: decorator
@inline
function cosHalfTurn(x: v128): v128 {
  const z = f32x4.mul(x, x);
  let p = horner(splat(0.0008581906440667808), z, -0.020810628309845924);
  p = horner(p, z, 0.2536507546901703);
  p = horner(p, z, -1.2336982488632202);
  return horner(p, z, 0.9999999403953552);
}

// @ts-ignore: decorator
@inline
function sinHalfTurn(x: v128): v128 {
  const z = f32x4.mul(x, x);
  let p = horner(splat(0.00015167852689046413), z, -0.004674157593399286);
  p = horner(p, z, 0.07968992739915848);
  p = horner(p, z, -0.6459637880325317);
  p = horner(p, z, 1.5707963705062866);
  return f32x4.mul(p, x);
}

// Eight Gaussians from two words of four blocks, added to a; the first `left` of them where that is fewer.
// @ts-ignore: decorator
@inline
function addPair(out: usize, a: usize, left: i32, radiusWord: v128, angleWord: v128, std: f32): void {
  const radius = signedRadius(radiusWord, splat(0.5), std);
  const x = turn(angleWord);
  if (left > 0) storeUpTo4(out, f32x4.add(loadUpTo4(a, left), f32x4.mul(radius, cosHalfTurn(x))), left);
  if (left > 4) {
    storeUpTo4(out + 16, f32x4.add(loadUpTo4(a + 16, left - 4), f32x4.mul(radius, sinHalfTurn(x))), left - 4);
  }
}

function addPairTail(out: usize, a: usize, left: i32, radiusWord: v128, angleWord: v128, std: f32): void {
  addPair(out, a, left, radiusWord, angleWord, std);
}

// Radius words below this take the rest of u's fraction from further bits.
const TAIL: i32 = 512;

// Where 31 bits are too coarse, 31 more: u reaches down to 2^-63 (9.34 standard deviations). `more` holds four blocks
// of further words, in keystream order; a lane takes the one at its radius word's place.
// @ts-ignore: decorator
@inline
function refinedFraction(word: v128, more: usize): v128 {
  let bits = v128.load32_zero(more);
  bits = v128.load32_lane(more, bits, 1, 64);
  bits = v128.load32_lane(more, bits, 2, 128);
  bits = v128.load32_lane(more, bits, 3, 192);
  const fraction = f32x4.add(f32x4.convert_i32x4_s(i32x4.shr_u(bits, 1)), splat(0.5));
  // 2^-31
  const scaled = f32x4.mul(fraction, splat(4.656612873077393e-10));
  return v128.bitselect(scaled, splat(0.5), i32x4.lt_u(word, i32x4.splat(TAIL)));
}

// a, rounded to the grid, and as many steps of it as noise and dither make, which are never -0: nor is the sum, where
// a zero's sign would tell on which side of 0 `a` was.
// @ts-ignore: decorator
@inline
function sumOnGrid(a: v128, noise: v128, dither: v128, grid: f32): v128 {
  const steps = f32x4.add(f32x4.nearest(noise), f32x4.convert_i32x4_s(dither));
  return f32x4.mul(f32x4.add(f32x4.nearest(f32x4.mul(a, splat(1 / grid))), steps), splat(grid));
}

// Pair p's eight Gaussians of `std` steps each on the grid, added to a group's `a`; `left` are left of the group. The
// pair's four words of dither: the lower halves are the cosines', the upper halves the sines'.
// @ts-ignore: decorator
@inline
function addPairOnGrid(
  p: i32,
  out: usize,
  a: usize,
  left: i32,
  radiusWord: v128,
  angleWord: v128,
  fraction: v128,
  std: f32,
  grid: f32,
  dither: usize,
): void {
  out += p << 5;
  a += p << 5;
  left -= p << 3;
  const radius = signedRadius(radiusWord, fraction, std);
  const x = turn(angleWord);
  const bits = v128.load(dither + (p << 4));
  if (left > 0) {
    const low = i32x4.shr_s(i32x4.shl(bits, 16), 16);
    storeUpTo4(out, sumOnGrid(loadUpTo4(a, left), f32x4.mul(radius, cosHalfTurn(x)), low, grid), left);
  }
  if (left > 4) {
    const noise = f32x4.mul(radius, sinHalfTurn(x));
    const high = i32x4.shr_s(bits, 16);
    storeUpTo4(out + 16, sumOnGrid(loadUpTo4(a + 16, left - 4), noise, high, grid), left - 4);
  }
}

// The same where not all eight are wanted, or a radius word needs `more` (0: none does).
function addPairOnGridRare(
  p: i32,
  out: usize,
  a: usize,
  left: i32,
  radiusWord: v128,
  angleWord: v128,
  more: usize,
  std: f32,
  grid: f32,
  dither: usize,
): void {
  const fraction = more == 0 ? splat(0.5) : refinedFraction(radiusWord, more + (p << 3));
  addPairOnGrid(p, out, a, left, radiusWord, angleWord, fraction, std, grid, dither);
}

// Four words of four blocks, turned back into keystream order: a block's words side by side, blocks 64 bytes (16
// words) apart; those of the first `left` words.
// @ts-ignore: decorator
@inline
function storeWords(out: usize, left: i32, a: v128, b: v128, c: v128, d: v128): void {
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  if (left > 0) storeUpTo4(out, v128.shuffle<i64>(ab, cd, 0, 2), left);
  if (left > 16) storeUpTo4(out + 64, v128.shuffle<i64>(ab, cd, 1, 3), left - 16);
  if (left > 32) storeUpTo4(out + 128, v128.shuffle<i64>(abHigh, cdHigh, 0, 2), left - 32);
  if (left > 48) storeUpTo4(out + 192, v128.shuffle<i64>(abHigh, cdHigh, 1, 3), left - 48);
}

function storeWordsTail(out: usize, left: i32, a: v128, b: v128, c: v128, d: v128): void {
  storeWords(out, left, a, b, c, d);
}

const enum Draw {
  Bits,
  Gaussian,
  GaussianOnGrid,
}

// The one loop over ChaCha's blocks, four at a time: 64 words, which become 64 Gaussians added to `a` or are
// stored in keystream order. `draw` is a constant where this is inlined; `grid`, `more` and `dither` are the grid's.
// @ts-ignore: decorator
@inline
function generate(
  draw: Draw,
  out: usize,
  a: usize,
  n: i32,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
  std: f32,
  grid: f32,
  more: usize,
  dither: usize,
): void {
  for (let left = n; left > 0; left -= 64) {
    const counter = i32x4.add(i32x4.splat(w12), i32x4(0, 1, 2, 3));
    let x0 = i32x4.splat(0x61707865);
    let x1 = i32x4.splat(0x3320646e);
    let x2 = i32x4.splat(0x79622d32);
    let x3 = i32x4.splat(0x6b206574);
    let x4 = v128.load32_splat(key);
    let x5 = v128.load32_splat(key, 4);
    let x6 = v128.load32_splat(key, 8);
    let x7 = v128.load32_splat(key, 12);
    let x8 = v128.load32_splat(key, 16);
    let x9 = v128.load32_splat(key, 20);
    let x10 = v128.load32_splat(key, 24);
    let x11 = v128.load32_splat(key, 28);
    let x12 = counter;
    let x13 = i32x4.splat(w13);
    let x14 = i32x4.splat(w14);
    let x15 = i32x4.splat(w15);
    for (let round = 0; round < rounds; round += 2) {
      // the columns
      x0 = i32x4.add(x0, x4); x12 = rotate16(v128.xor(x12, x0));
      x8 = i32x4.add(x8, x12); x4 = rotate12(v128.xor(x4, x8));
      x0 = i32x4.add(x0, x4); x12 = rotate8(v128.xor(x12, x0));
      x8 = i32x4.add(x8, x12); x4 = rotate7(v128.xor(x4, x8));
      x1 = i32x4.add(x1, x5); x13 = rotate16(v128.xor(x13, x1));
      x9 = i32x4.add(x9, x13); x5 = rotate12(v128.xor(x5, x9));
      x1 = i32x4.add(x1, x5); x13 = rotate8(v128.xor(x13, x1));
      x9 = i32x4.add(x9, x13); x5 = rotate7(v128.xor(x5, x9));
      x2 = i32x4.add(x2, x6); x14 = rotate16(v128.xor(x14, x2));
      x10 = i32x4.add(x10, x14); x6 = rotate12(v128.xor(x6, x10));
      x2 = i32x4.add(x2, x6); x14 = rotate8(v128.xor(x14, x2));
      x10 = i32x4.add(x10, x14); x6 = rotate7(v128.xor(x6, x10));
      x3 = i32x4.add(x3, x7); x15 = rotate16(v128.xor(x15, x3));
      x11 = i32x4.add(x11, x15); x7 = rotate12(v128.xor(x7, x11));
      x3 = i32x4.add(x3, x7); x15 = rotate8(v128.xor(x15, x3));
      x11 = i32x4.add(x11, x15); x7 = rotate7(v128.xor(x7, x11));
      // the diagonals
      x0 = i32x4.add(x0, x5); x15 = rotate16(v128.xor(x15, x0));
      x10 = i32x4.add(x10, x15); x5 = rotate12(v128.xor(x5, x10));
      x0 = i32x4.add(x0, x5); x15 = rotate8(v128.xor(x15, x0));
      x10 = i32x4.add(x10, x15); x5 = rotate7(v128.xor(x5, x10));
      x1 = i32x4.add(x1, x6); x12 = rotate16(v128.xor(x12, x1));
      x11 = i32x4.add(x11, x12); x6 = rotate12(v128.xor(x6, x11));
      x1 = i32x4.add(x1, x6); x12 = rotate8(v128.xor(x12, x1));
      x11 = i32x4.add(x11, x12); x6 = rotate7(v128.xor(x6, x11));
      x2 = i32x4.add(x2, x7); x13 = rotate16(v128.xor(x13, x2));
      x8 = i32x4.add(x8, x13); x7 = rotate12(v128.xor(x7, x8));
      x2 = i32x4.add(x2, x7); x13 = rotate8(v128.xor(x13, x2));
      x8 = i32x4.add(x8, x13); x7 = rotate7(v128.xor(x7, x8));
      x3 = i32x4.add(x3, x4); x14 = rotate16(v128.xor(x14, x3));
      x9 = i32x4.add(x9, x14); x4 = rotate12(v128.xor(x4, x9));
      x3 = i32x4.add(x3, x4); x14 = rotate8(v128.xor(x14, x3));
      x9 = i32x4.add(x9, x14); x4 = rotate7(v128.xor(x4, x9));
    }
    x0 = i32x4.add(x0, i32x4.splat(0x61707865));
    x1 = i32x4.add(x1, i32x4.splat(0x3320646e));
    x2 = i32x4.add(x2, i32x4.splat(0x79622d32));
    x3 = i32x4.add(x3, i32x4.splat(0x6b206574));
    x4 = i32x4.add(x4, v128.load32_splat(key));
    x5 = i32x4.add(x5, v128.load32_splat(key, 4));
    x6 = i32x4.add(x6, v128.load32_splat(key, 8));
    x7 = i32x4.add(x7, v128.load32_splat(key, 12));
    x8 = i32x4.add(x8, v128.load32_splat(key, 16));
    x9 = i32x4.add(x9, v128.load32_splat(key, 20));
    x10 = i32x4.add(x10, v128.load32_splat(key, 24));
    x11 = i32x4.add(x11, v128.load32_splat(key, 28));
    x12 = i32x4.add(x12, counter);
    x13 = i32x4.add(x13, i32x4.splat(w13));
    x14 = i32x4.add(x14, i32x4.splat(w14));
    x15 = i32x4.add(x15, i32x4.splat(w15));

    if (draw == Draw.GaussianOnGrid) {
      const least0 = i32x4.min_u(i32x4.min_u(x0, x2), i32x4.min_u(x4, x6));
      const least = i32x4.min_u(least0, i32x4.min_u(i32x4.min_u(x8, x10), i32x4.min_u(x12, x14)));
      const tail = v128.any_true(i32x4.lt_u(least, i32x4.splat(TAIL)));
      if (left >= 64 && !tail) {
        const half = splat(0.5);
        addPairOnGrid(0, out, a, 64, x0, x1, half, std, grid, dither);
        addPairOnGrid(1, out, a, 64, x2, x3, half, std, grid, dither);
        addPairOnGrid(2, out, a, 64, x4, x5, half, std, grid, dither);
        addPairOnGrid(3, out, a, 64, x6, x7, half, std, grid, dither);
        addPairOnGrid(4, out, a, 64, x8, x9, half, std, grid, dither);
        addPairOnGrid(5, out, a, 64, x10, x11, half, std, grid, dither);
        addPairOnGrid(6, out, a, 64, x12, x13, half, std, grid, dither);
        addPairOnGrid(7, out, a, 64, x14, x15, half, std, grid, dither);
      } else {
        if (tail) randomBits(more, 64, key, w12 | 0x80000000, w13, w14 | GRID_STREAM, w15, rounds);
        const further = tail ? more : 0;
        addPairOnGridRare(0, out, a, left, x0, x1, further, std, grid, dither);
        addPairOnGridRare(1, out, a, left, x2, x3, further, std, grid, dither);
        addPairOnGridRare(2, out, a, left, x4, x5, further, std, grid, dither);
        addPairOnGridRare(3, out, a, left, x6, x7, further, std, grid, dither);
        addPairOnGridRare(4, out, a, left, x8, x9, further, std, grid, dither);
        addPairOnGridRare(5, out, a, left, x10, x11, further, std, grid, dither);
        addPairOnGridRare(6, out, a, left, x12, x13, further, std, grid, dither);
        addPairOnGridRare(7, out, a, left, x14, x15, further, std, grid, dither);
      }
      a += 256;
      dither += 128;
    } else if (draw == Draw.Gaussian) {
      if (left >= 64) {
        addPair(out, a, 8, x0, x1, std);
        addPair(out + 32, a + 32, 8, x2, x3, std);
        addPair(out + 64, a + 64, 8, x4, x5, std);
        addPair(out + 96, a + 96, 8, x6, x7, std);
        addPair(out + 128, a + 128, 8, x8, x9, std);
        addPair(out + 160, a + 160, 8, x10, x11, std);
        addPair(out + 192, a + 192, 8, x12, x13, std);
        addPair(out + 224, a + 224, 8, x14, x15, std);
      } else {
        addPairTail(out, a, left, x0, x1, std);
        addPairTail(out + 32, a + 32, left - 8, x2, x3, std);
        addPairTail(out + 64, a + 64, left - 16, x4, x5, std);
        addPairTail(out + 96, a + 96, left - 24, x6, x7, std);
        addPairTail(out + 128, a + 128, left - 32, x8, x9, std);
        addPairTail(out + 160, a + 160, left - 40, x10, x11, std);
        addPairTail(out + 192, a + 192, left - 48, x12, x13, std);
        addPairTail(out + 224, a + 224, left - 56, x14, x15, std);
      }
      a += 256;
    } else if (left >= 64) {
      storeWords(out, 64, x0, x1, x2, x3);
      storeWords(out + 16, 64, x4, x5, x6, x7);
      storeWords(out + 32, 64, x8, x9, x10, x11);
      storeWords(out + 48, 64, x12, x13, x14, x15);
    } else {
      storeWordsTail(out, left, x0, x1, x2, x3);
      storeWordsTail(out + 16, left - 4, x4, x5, x6, x7);
      storeWordsTail(out + 32, left - 8, x8, x9, x10, x11);
      storeWordsTail(out + 48, left - 12, x12, x13, x14, x15);
    }
    out += 256;
    w12 += 4;
  }
}

/** One ChaCha block: the 64 bytes of keystream at counter w12. Key: 32 bytes; w13..w15: the nonce (RFC 8439, 2.3). */
export function chachaBlock(
  out: usize,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
): void {
  randomBits(out, 16, key, w12, w13, w14, w15, rounds);
}

/** The keystream of `blocks` consecutive blocks: counters w12, w12 + 1, … */
export function chachaStream(
  out: usize,
  blocks: i32,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
): void {
  randomBits(out, blocks << 4, key, w12, w13, w14, w15, rounds);
}

/** out[j] = word j of the keystream, u32[n]. */
export function randomBits(
  out: usize,
  n: i32,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
): void {
  generate(Draw.Bits, out, 0, n, key, w12, w13, w14, w15, rounds, 0, 0, 0, 0);
}

/**
 * out[j] = a[j] + std·z[j] with independent standard Gaussians z, f32[n]. `out` may be `a`; a = 0 stands for zeros.
 * Draws come in groups of 64 from four blocks: draw 64g + 8p + l (the cosine) and 64g + 8p + 4 + l (the sine), p < 8,
 * l < 4, are Box–Muller's pair from words 2p (radius and sign) and 2p + 1 (angle) of block w12 + 4g + l. So
 * starting 64 draws later is starting four blocks later.
 */
export function addGaussian(
  out: usize,
  a: usize,
  n: i32,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
  std: f32,
): void {
  if (a == 0) {
    memory.fill(out, 0, n << 2);
    a = out;
  }
  generate(Draw.Gaussian, out, a, n, key, w12, w13, w14, w15, rounds, std, 0, 0, 0);
}

// The bit of w14 that sets apart the words besides the draws' own.
const GRID_STREAM: u32 = 0x80000000;
// Draws at a time, a multiple of 64: their dither stays in the cache.
const PIECE: i32 = 4096;
const MORE_BYTES: i32 = 256;

/** Bytes of scratch that addGaussianOnGrid needs. */
export function gaussianOnGridScratchBytes(): i32 {
  return MORE_BYTES + 2 * PIECE;
}

/**
 * out[j] = a[j], rounded to a multiple of `grid`, + std·z[j], rounded to one, + grid·d[j], f32[n]: z[j] as in addGaussian,
 * d[j] an independent integer, uniform in [-2^15, 2^15). `grid` is a power of two, 2^-126 or more. The sum is exact up to 2^24
 * steps of the grid, and rounded once beyond; a[j] is below 2^127 steps. `out` may be `a`.
 *
 * Why d: a rounded float is no rounded Gaussian. Of all pairs of integers, Box–Muller in f32 hits some more often than
 * their neighbours, and it hits more even numbers than odd ones. d averages over 2^16 neighbours on either axis.
 *
 * Radius words below 2^9 (beyond 5.6 standard deviations) get 31 further bits: z ends at 9.34, not at 6.66.
 *
 * Group g of 64 draws takes d from 32 words of keystream, those of the blocks w12/2 + 2g and w12/2 + 2g + 1 with w14's
 * highest bit set: draws 64g + 8p + l and 64g + 8p + 4 + l from the halves of word 4p + l, lower and upper. Further bits
 * are the upper 31 of the radius word's namesake with the highest bits of w12 and w14 set. The caller leaves both bits
 * 0; w12 is a multiple of 4. `scratch`: gaussianOnGridScratchBytes().
 */
export function addGaussianOnGrid(
  out: usize,
  a: usize,
  n: i32,
  scratch: usize,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
  std: f32,
  grid: f32,
): void {
  const dither = scratch + MORE_BYTES;
  for (; n > 0; n -= PIECE) {
    const count = min(n, PIECE);
    randomBits(dither, ((count + 63) & ~63) >> 1, key, w12 >> 1, w13, w14 | GRID_STREAM, w15, rounds);
    generate(
      Draw.GaussianOnGrid,
      out,
      a,
      count,
      key,
      w12,
      w13,
      w14,
      w15,
      rounds,
      std / grid,
      grid,
      scratch,
      dither,
    );
    out += PIECE << 2;
    a += PIECE << 2;
    w12 += PIECE >> 4;
  }
}

/** out[j] = the upper 24 bits of keystream word j, over 2^24: uniform in [0, 1), f32[n]. */
export function uniform(
  out: usize,
  n: i32,
  key: usize,
  w12: u32,
  w13: u32,
  w14: u32,
  w15: u32,
  rounds: i32,
): void {
  randomBits(out, n, key, w12, w13, w14, w15, rounds);
  const end = out + (n << 2);
  for (; out + 16 <= end; out += 16) v128.store(out, uniform4(v128.load(out)));
  for (; out < end; out += 4) store<f32>(out, f32x4.extract_lane(uniform4(v128.load32_zero(out)), 0));
}

// @ts-ignore: decorator
@inline
function uniform4(words: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_u(words, 8)), splat(5.9604644775390625e-8));
}

/**
 * Inverted dropout's mask, f32[rows, cols]: 1/keepProbability with that probability (to 24 bits), else 0. Row i's bits
 * depend on the key, the stream, the step and exampleIndices[i] (i32) only. ChaCha8.
 */
export function dropoutMask(
  out: usize,
  exampleIndices: usize,
  rows: i32,
  cols: i32,
  keepProbability: f32,
  key: usize,
  step: u32,
  stream: u32,
): void {
  const kept = splat(<f32>1 / keepProbability);
  for (let row = 0; row < rows; row++) {
    uniform(out, cols, key, 0, load<u32>(exampleIndices), step, stream, 8);
    const end = out + (cols << 2);
    for (; out + 16 <= end; out += 16) {
      v128.store(out, v128.and(kept, f32x4.lt(v128.load(out), splat(keepProbability))));
    }
    for (; out < end; out += 4) store<f32>(out, load<f32>(out) < keepProbability ? <f32>1 / keepProbability : 0);
    exampleIndices += 4;
  }
}
