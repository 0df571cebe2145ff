// Per-example gradients: their norms without making them (Goodfellow 2015; Li et al. 2022, "ghost clipping"),
// the factors that clip them, their weighted sums, and the gradients themselves. What is computed for example
// i never depends on how many examples there are, and sums over examples are strictly sequential in f32 from
// what the output holds: a batch in pieces gives the bits of the whole.
import { addScaled, fill, scaleBy } from './elementwise';
import { addProduct } from './gemm';
import { dotF64, loadPair, loadUpTo4, scaled, scaledOne, squaredNormF64, storeUpTo4 } from './lanes';

// Columns summed at a time: 256 KiB of sums stay in L2, and rows are still read in long streams.
const PANEL = 65536;

/** An accumulator's value goes to out[i], or is added to it. */
// @ts-ignore: decorator
@inline
function put(out: usize, i: usize, value: f64, accumulate: i32): void {
  const p = out + (i << 3);
  store<f64>(p, accumulate ? load<f64>(p) + value : value);
}

/** out f64[rows] (+)= ‖a_i‖², a [rows, cols] */
export function rowSquaredNorms(out: usize, a: usize, rows: i32, cols: i32, accumulate: i32): void {
  for (let i: usize = 0; i < <usize>rows; i++) {
    put(out, i, squaredNormF64(a + ((i * <usize>cols) << 2), cols), accumulate);
  }
}

/** out f64[rows] (+)= a_i·b_i, both [rows, cols] */
export function rowDots(out: usize, a: usize, b: usize, rows: i32, cols: i32, accumulate: i32): void {
  for (let i: usize = 0; i < <usize>rows; i++) {
    const offset = (i * <usize>cols) << 2;
    put(out, i, dotF64(a + offset, b + offset, cols), accumulate);
  }
}

/**
 * ‖Σ_s a_sᵀ b_s‖² = Σ_{s,u} (a_s·a_u)(b_s·b_u) for one example; the sum is symmetric. terms f64 = Σ_s ‖a_s‖‖b_s‖,
 * unless it is 0.
 */
function ghostNorm(terms: usize, a: usize, b: usize, t: i32, dIn: i32, dOut: i32): f64 {
  const lineA = <usize>dIn << 2;
  const lineB = <usize>dOut << 2;
  let diagonal: f64 = 0;
  let above: f64 = 0;
  let scale: f64 = 0;
  for (let s: usize = 0; s < <usize>t; s++) {
    const rowA = a + s * lineA;
    const rowB = b + s * lineB;
    const square = squaredNormF64(rowA, dIn) * squaredNormF64(rowB, dOut);
    diagonal += square;
    if (terms) scale += sqrt<f64>(square);
    for (let u = s + 1; u < <usize>t; u++) {
      above += dotF64(rowA, a + u * lineA, dIn) * dotF64(rowB, b + u * lineB, dOut);
    }
  }
  if (terms) store<f64>(terms, scale);
  return max<f64>(diagonal + 2 * above, 0);
}

/**
 * out f64[batch] (+)= ‖Σ_s a_sᵀ b_s‖² of each example: the squared norm of a dense layer's weight gradient,
 * from its input a [batch, t, dIn] and output gradient b [batch, t, dOut]. In float64, held at or above 0;
 * the error scales with the square of terms f64[batch] = Σ_s ‖a_s‖‖b_s‖, which are written unless terms is 0.
 */
export function ghostNorms(
  out: usize, terms: usize, a: usize, b: usize, batch: i32, t: i32, dIn: i32, dOut: i32, accumulate: i32,
): void {
  const sizeA = <usize>(t * dIn) << 2;
  const sizeB = <usize>(t * dOut) << 2;
  for (let i: usize = 0; i < <usize>batch; i++) {
    const at = terms ? terms + (i << 3) : 0;
    put(out, i, ghostNorm(at, a + i * sizeA, b + i * sizeB, t, dIn, dOut), accumulate);
  }
}

/**
 * The same for t = 1 where ‖a_i‖² is known: known f64 holds it for each example of the data set, indices i32[batch] tells
 * which ones these are.
 */
export function ghostNormsKnown(out: usize, known: usize, indices: usize, b: usize, batch: i32, dOut: i32): void {
  for (let i: usize = 0; i < <usize>batch; i++) {
    const example = <usize>load<i32>(indices + (i << 2));
    const normA = load<f64>(known + (example << 3));
    store<f64>(out + (i << 3), normA * squaredNormF64(b + ((i * <usize>dOut) << 2), dOut));
  }
}

/** start + Σ wᵢ²·aᵢ for a f64[n], weights f32[n]. A weight of 0 leaves its term out even if it is not finite. */
export function weightedSquares(start: f64, a: usize, weights: usize, n: i32): f64 {
  let total = start;
  for (let i: usize = 0; i < <usize>n; i++) {
    const w = <f64>load<f32>(weights + (i << 2));
    const value = load<f64>(a + (i << 3));
    // Finite ones first: a branch on the weights would often be mispredicted.
    if (value - value == 0 || w != 0) total += w * w * value;
  }
  return total;
}

/** out f64[n] += a f64[n] */
export function sumF64(out: usize, a: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n << 3; i += 8) {
    store<f64>(out + i, load<f64>(out + i) + load<f64>(a + i));
  }
}

/** out f32[n] = √a, a f64[n] */
export function sqrtF64ToF32(out: usize, a: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) {
    store<f32>(out + (i << 2), <f32>sqrt<f64>(load<f64>(a + (i << 3))));
  }
}

/**
 * out f32[n] = min(1, C/‖g‖) (Abadi et al. 2016, algorithm 1), from float64 squared norms. C is taken 1e-6
 * smaller, relatively, and the quotient is rounded down, so that factor·‖g‖ ≤ C for the true norm, in spite
 * of rounding in the norm and in the scaled gradient. A norm of 0 gives 1; a norm that is not finite gives 0.
 */
export function clipFactors(out: usize, squaredNorms: usize, clipNorm: f64, n: i32): void {
  const target = f64x2.splat(clipNorm * (1 - 1e-6));
  const end = <usize>(n & ~1) << 2;
  for (let i: usize = 0; i < end; i += 8) {
    v128.store64_lane(out + i, factorsOf(v128.load(squaredNorms + 2 * i), target), 0);
  }
  if (n & 1) v128.store32_lane(out + end, factorsOf(v128.load64_zero(squaredNorms + 2 * end), target), 0);
}

/** Two factors, in the lower lanes. A norm of 0 makes the quotient infinite, one that is not finite makes it 0 or NaN. */
// @ts-ignore: decorator
@inline
function factorsOf(squared: v128, target: v128): v128 {
  const one = f64x2.splat(1);
  const isZero = f64x2.eq(squared, f64x2.splat(0));
  const quotient = f64x2.min(one, f64x2.div(target, f64x2.sqrt(squared)));
  const exact = v128.bitselect(one, quotient, isZero);
  const factor = f32x4.demote_f64x2_zero(v128.and(exact, f64x2.eq(exact, exact)));
  const tooLarge = f64x2.gt(f64x2.promote_low_f32x4(factor), exact);
  // The next smaller number of a positive one.
  return i32x4.add(factor, v128.shuffle<i32>(tooLarge, i32x4.splat(0), 0, 2, 4, 5));
}

// out[0…count-1] += four rows of a, `line` bytes apart, each times its scale, one after the other.
// @ts-ignore: decorator
@inline
function addFour(
  out: usize, a: usize, line: usize, count: i32, s0: v128, s1: v128, s2: v128, s3: v128,
): void {
  let total = f32x4.add(loadUpTo4(out, count), f32x4.mul(loadUpTo4(a, count), s0));
  total = f32x4.add(total, f32x4.mul(loadUpTo4(a + line, count), s1));
  total = f32x4.add(total, f32x4.mul(loadUpTo4(a + 2 * line, count), s2));
  total = f32x4.add(total, f32x4.mul(loadUpTo4(a + 3 * line, count), s3));
  storeUpTo4(out, total, count);
}

function addFourRows(out: usize, a: usize, line: usize, cols: i32, x0: f32, x1: f32, x2: f32, x3: f32): void {
  const s0 = f32x4.splat(x0);
  const s1 = f32x4.splat(x1);
  const s2 = f32x4.splat(x2);
  const s3 = f32x4.splat(x3);
  const end = <usize>(cols & ~3) << 2;
  const rest = cols & 3;
  if (rest) addFour(out + end, a + end, line, rest, s0, s1, s2, s3);
  for (let i: usize = 0; i < end; i += 16) addFour(out + i, a + i, line, 4, s0, s1, s2, s3);
}

/** out[cols] += Σ_r scale[r]·a[r], in the order of the rows. */
function addRows(out: usize, a: usize, line: usize, scale: usize, rows: i32, cols: i32): void {
  let r = 0;
  while (r < rows) {
    const row = a + <usize>r * line;
    const s = scale + (<usize>r << 2);
    const x0 = scale ? load<f32>(s) : 1;
    if (r + 4 <= rows) {
      const x1 = scale ? load<f32>(s, 4) : 1;
      const x2 = scale ? load<f32>(s, 8) : 1;
      const x3 = scale ? load<f32>(s, 12) : 1;
      if (x0 != 0 && x1 != 0 && x2 != 0 && x3 != 0) {
        addFourRows(out, row, line, cols, x0, x1, x2, x3);
        r += 4;
        continue;
      }
    }
    if (x0 != 0) addScaled(out, row, x0, cols);
    r++;
  }
}

/**
 * out[cols] (+)= Σ_r scale[r]·a[r], a [rows, cols], scale f32[rows] or 0 for none: bias gradients, weighted
 * sums of materialised gradients. Strictly sequential over rows. A row whose scale is 0 contributes 0 even if
 * it is not finite.
 */
export function columnSums(out: usize, a: usize, scale: usize, rows: i32, cols: i32, accumulate: i32): void {
  if (!accumulate) memory.fill(out, 0, <usize>cols << 2);
  for (let j = 0; j < cols; j += PANEL) {
    const offset = <usize>j << 2;
    addRows(out + offset, a + offset, <usize>cols << 2, scale, rows, min<i32>(PANEL, cols - j));
  }
}

/** out [rows, cols] = scale[r]·a[r]; a row whose scale is 0 becomes 0 even if it is not finite */
export function scaleRows(out: usize, a: usize, scale: usize, rows: i32, cols: i32): void {
  for (let r: usize = 0; r < <usize>rows; r++) {
    const s = load<f32>(scale + (r << 2));
    const offset = (r * <usize>cols) << 2;
    if (s == 0) fill(out + offset, 0, cols);
    else scaleBy(out + offset, a + offset, s, cols);
  }
}

/**
 * out [rows, cols] = scale[r]·a[r], where a product that is no normal number is 0 (see `scaled`): one side of products whose
 * other side may be as large as floats go.
 */
export function scaleFactors(out: usize, a: usize, scale: usize, rows: i32, cols: i32): void {
  const end = <usize>(cols & ~3) << 2;
  const line = <usize>cols << 2;
  let first: usize = 0;
  // Two classes are common: two rows at a time.
  for (const pairs = cols == 2 ? <usize>(rows & ~1) : 0; first < pairs; first += 2) {
    const s = v128.load64_zero(scale + (first << 2));
    v128.store(out, scaled(v128.load(a), v128.shuffle<f32>(s, s, 0, 0, 1, 1)));
    out += 16;
    a += 16;
  }
  for (let r = first; r < <usize>rows; r++) {
    const s = load<f32>(scale + (r << 2));
    if (end) {
      const factor = f32x4.splat(s);
      for (let i: usize = 0; i < end; i += 16) v128.store(out + i, scaled(v128.load(a + i), factor));
    }
    for (let i = end; i < line; i += 4) store<f32>(out + i, scaledOne(load<f32>(a + i), s));
    out += line;
    a += line;
  }
}

/** The first i with weights[i]²·squared[i] > limit, weights f32[n], squared f64[n]; -1 for none. Norms that are not finite don't count. */
export function firstAbove(weights: usize, squared: usize, limit: f64, n: i32): i32 {
  for (let i: usize = 0; i < <usize>n; i++) {
    const w = <f64>load<f32>(weights + (i << 2));
    const part = w * w * load<f64>(squared + (i << 3));
    if (part > limit && part < Infinity) return <i32>i;
  }
  return -1;
}

/** How many of n floats are not 0. */
export function countNonZero(a: usize, n: i32): i32 {
  const zero = f32x4.splat(0);
  let counts = i32x4.splat(0);
  const end = a + (<usize>(n & ~3) << 2);
  for (; a < end; a += 16) counts = i32x4.sub(counts, f32x4.ne(v128.load(a), zero));
  let total =
    i32x4.extract_lane(counts, 0) + i32x4.extract_lane(counts, 1) +
    i32x4.extract_lane(counts, 2) + i32x4.extract_lane(counts, 3);
  for (let rest = n & 3; rest > 0; rest--, a += 4) total += load<f32>(a) != 0 ? 1 : 0;
  return total;
}

/** out [kept, cols] = the rows of a [rows, cols] whose weight f32[rows] is not 0, in their order; returns kept */
export function keepRows(out: usize, a: usize, weights: usize, rows: i32, cols: i32): i32 {
  const line = <usize>cols << 2;
  let kept = 0;
  for (let r: usize = 0; r < <usize>rows; r++) {
    if (load<f32>(weights + (r << 2)) == 0) continue;
    memory.copy(out + <usize>kept * line, a + r * line, line);
    kept++;
  }
  return kept;
}

/** Rows i…i+3, columns j…j+7 of Σ_s a_sᵀ b_s, in the order of s. */
// @ts-ignore: decorator
@inline
function outerTile4x8(
  out: usize, a: usize, b: usize, t: i32, lineA: usize, lineB: usize, accumulate: i32,
): void {
  const zero = f32x4.splat(0);
  const out1 = out + lineB;
  const out2 = out1 + lineB;
  const out3 = out2 + lineB;
  let c00 = accumulate ? v128.load(out) : zero;
  let c01 = accumulate ? v128.load(out, 16) : zero;
  let c10 = accumulate ? v128.load(out1) : zero;
  let c11 = accumulate ? v128.load(out1, 16) : zero;
  let c20 = accumulate ? v128.load(out2) : zero;
  let c21 = accumulate ? v128.load(out2, 16) : zero;
  let c30 = accumulate ? v128.load(out3) : zero;
  let c31 = accumulate ? v128.load(out3, 16) : zero;
  let pa = a;
  let pb = b;
  for (let s = 0; s < t; s++) {
    const b0 = v128.load(pb);
    const b1 = v128.load(pb, 16);
    let x = v128.load32_splat(pa);
    c00 = f32x4.add(c00, f32x4.mul(x, b0));
    c01 = f32x4.add(c01, f32x4.mul(x, b1));
    x = v128.load32_splat(pa, 4);
    c10 = f32x4.add(c10, f32x4.mul(x, b0));
    c11 = f32x4.add(c11, f32x4.mul(x, b1));
    x = v128.load32_splat(pa, 8);
    c20 = f32x4.add(c20, f32x4.mul(x, b0));
    c21 = f32x4.add(c21, f32x4.mul(x, b1));
    x = v128.load32_splat(pa, 12);
    c30 = f32x4.add(c30, f32x4.mul(x, b0));
    c31 = f32x4.add(c31, f32x4.mul(x, b1));
    pa += lineA;
    pb += lineB;
  }
  v128.store(out, c00);
  v128.store(out, c01, 16);
  v128.store(out1, c10);
  v128.store(out1, c11, 16);
  v128.store(out2, c20);
  v128.store(out2, c21, 16);
  v128.store(out3, c30);
  v128.store(out3, c31, 16);
}

/** Row i, columns j…j+count-1 of Σ_s a_sᵀ b_s. */
// @ts-ignore: decorator
@inline
function outerStrip(
  out: usize, a: usize, b: usize, t: i32, lineA: usize, lineB: usize, count: i32, accumulate: i32,
): void {
  let total = accumulate ? loadUpTo4(out, count) : f32x4.splat(0);
  let pa = a;
  let pb = b;
  for (let s = 0; s < t; s++) {
    total = f32x4.add(total, f32x4.mul(v128.load32_splat(pa), loadUpTo4(pb, count)));
    pa += lineA;
    pb += lineB;
  }
  storeUpTo4(out, total, count);
}

/** out [dIn, dOut] (+)= aᵀ b for single rows a and b. */
function outerProduct(out: usize, a: usize, b: usize, dIn: i32, dOut: i32, accumulate: i32): void {
  const lineB = <usize>dOut << 2;
  for (let i: usize = 0; i < <usize>dIn; i++) {
    const x = load<f32>(a + (i << 2));
    if (accumulate) addScaled(out + i * lineB, b, x, dOut);
    else scaleBy(out + i * lineB, b, x, dOut);
  }
}

/**
 * out[i] [dIn, dOut] (+)= Σ_s a_sᵀ b_s: each example's weight gradient, from a [batch, t, dIn] and b [batch,
 * t, dOut]. out's rows are `stride` floats apart.
 */
export function instantiateDense(
  out: usize, a: usize, b: usize, batch: i32, t: i32, dIn: i32, dOut: i32, stride: i32, accumulate: i32,
): void {
  const lineA = <usize>dIn << 2;
  const lineB = <usize>dOut << 2;
  const wide = dOut & ~7;
  const high = dIn & ~3;
  for (let e: usize = 0; e < <usize>batch; e++) {
    const to = out + ((e * <usize>stride) << 2);
    const pa = a + e * <usize>t * lineA;
    const pb = b + e * <usize>t * lineB;
    if (t == 1) {
      outerProduct(to, pa, pb, dIn, dOut, accumulate);
      continue;
    }
    for (let i = 0; i < dIn; i++) {
      const tiled = i < high;
      const ai = pa + (<usize>i << 2);
      const row = to + <usize>i * lineB;
      if (tiled && (i & 3) == 0) {
        for (let j: usize = 0; j < <usize>wide << 2; j += 32) {
          outerTile4x8(row + j, ai, pb + j, t, lineA, lineB, accumulate);
        }
      }
      for (let j = tiled ? wide : 0; j < dOut; j += 4) {
        const at = <usize>j << 2;
        const rest = dOut - j;
        if (rest >= 4) outerStrip(row + at, ai, pb + at, t, lineA, lineB, 4, accumulate);
        else outerStrip(row + at, ai, pb + at, t, lineA, lineB, rest, accumulate);
      }
    }
  }
}

/**
 * out [dIn, dOut] += Σ_i weights[i]·Σ_s a_sᵀ b_s, from a [batch, t, dIn] and b [batch, t, dOut], t ≤ 384. Each
 * example's part is summed from 0 over its positions, multiplied, and then added: what its positions are on the way to
 * their sum never meets the others' sum. An example of weight 0 adds nothing, even if it is not finite. scratch: as of
 * `gemm`.
 */
export function sumOverPositions(
  out: usize, a: usize, b: usize, weights: usize, batch: i32, t: i32, dIn: i32, dOut: i32, scratch: usize,
): void {
  const sizeA = <usize>(t * dIn) << 2;
  const sizeB = <usize>(t * dOut) << 2;
  for (let i: usize = 0; i < <usize>batch; i++) {
    const weight = load<f32>(weights + (i << 2));
    if (weight == 0) continue;
    addProduct(out, dIn, dOut, t, a + i * sizeA, b + i * sizeB, weight, scratch);
  }
}

/** total f64[n] += part f32[n], and part becomes 0 */
export function moveToF64(total: usize, part: usize, n: i32): void {
  const end = <usize>(n & ~1) << 2;
  for (let i: usize = 0; i < end; i += 8) {
    const at = total + 2 * i;
    v128.store(at, f64x2.add(v128.load(at), loadPair(part, i)));
    store<u64>(part + i, 0);
  }
  if (n & 1) {
    const at = total + 2 * end;
    store<f64>(at, load<f64>(at) + <f64>load<f32>(part + end));
    store<f32>(part + end, 0);
  }
}

/**
 * out f32[n] = total f64[n] + noise f32[n], rounded once. Where grid is not 0, a power of two, total is first rounded to
 * its multiples: the sum is then exact in float64, and what is rounded to float32 tells nothing but that sum. noise may
 * be out, or 0 (none).
 */
export function addFromF64(out: usize, total: usize, noise: usize, grid: f64, n: i32): void {
  const step = f64x2.splat(grid);
  const steps = f64x2.splat(1 / grid);
  const end = <usize>(n & ~1) << 2;
  for (let i: usize = 0; i < end; i += 8) {
    let value = v128.load(total + 2 * i);
    if (grid != 0) value = f64x2.mul(f64x2.nearest(f64x2.mul(value, steps)), step);
    if (noise) value = f64x2.add(value, loadPair(noise, i));
    v128.store64_lane(out + i, f32x4.demote_f64x2_zero(value), 0);
  }
  if (n & 1) {
    let value = load<f64>(total + 2 * end);
    if (grid != 0) value = nearest<f64>(value / grid) * grid;
    if (noise) value += <f64>load<f32>(noise + end);
    store<f32>(out + end, <f32>value);
  }
}

/**
 * out[i] [dOut] (+)= Σ_s b_s: each example's bias gradient, from b [batch, t, dOut]. out's rows are `stride`
 * floats apart.
 */
export function instantiateRowSums(
  out: usize, b: usize, batch: i32, t: i32, dOut: i32, stride: i32, accumulate: i32,
): void {
  for (let e: usize = 0; e < <usize>batch; e++) {
    columnSums(out + ((e * <usize>stride) << 2), b + ((e * <usize>(t * dOut)) << 2), 0, t, dOut, accumulate);
  }
}

/**
 * Adds two groups' parts of a noisy sum to clean f64[n] and poison f64[n], each times its scale, in float64. whole f32[n] is
 * the sum over both groups, noisy f32[n] the same with noise on it, part f32[n] that over the poisons: the clean one is whole −
 * part, and both get the noise, noisy − whole.
 */
export function addNoisyParts(
  clean: usize, poison: usize, cleanScale: f64, poisonScale: f64, whole: usize, noisy: usize, part: usize, n: i32,
): void {
  const ofClean = f64x2.splat(cleanScale);
  const ofPoison = f64x2.splat(poisonScale);
  const end = <usize>(n & ~1) << 2;
  for (let i: usize = 0; i < end; i += 8) {
    const all = loadPair(noisy, i);
    const bad = loadPair(part, i);
    const toClean = clean + 2 * i;
    const toPoison = poison + 2 * i;
    const rest = f64x2.sub(f64x2.add(bad, all), loadPair(whole, i));
    v128.store(toClean, f64x2.add(v128.load(toClean), f64x2.mul(ofClean, f64x2.sub(all, bad))));
    v128.store(toPoison, f64x2.add(v128.load(toPoison), f64x2.mul(ofPoison, rest)));
  }
  if (n & 1) {
    const all = <f64>load<f32>(noisy + end);
    const bad = <f64>load<f32>(part + end);
    const toClean = clean + 2 * end;
    const toPoison = poison + 2 * end;
    store<f64>(toClean, load<f64>(toClean) + cleanScale * (all - bad));
    store<f64>(toPoison, load<f64>(toPoison) + poisonScale * (bad + all - <f64>load<f32>(whole + end)));
  }
}
