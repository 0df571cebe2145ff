// Per-example gradients: their norms without making them (Goodfellow 2015; Li et al. 2022, "ghost clipping"), the
// factors that clip them, their weighted sums, and the gradients themselves.
// What is computed for example i never depends on how many examples there are, and sums over examples are strictly
// sequential in f32 from what the output holds: a batch in pieces gives the bits of the whole.
import { dotF64, loadPair, loadTail, squaredNormF64, storeTail, sumOfLanes } from './lanes';

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

/** ‖Σ_s a_sᵀ b_s‖² = Σ_{s,u} (a_s·a_u)(b_s·b_u) for one example; the sum is symmetric. */
function ghostNorm(a: usize, b: usize, t: i32, dIn: i32, dOut: i32): f64 {
  const lineA = <usize>dIn << 2;
  const lineB = <usize>dOut << 2;
  let diagonal: f64 = 0;
  let above: f64 = 0;
  for (let s: usize = 0; s < <usize>t; s++) {
    const as_ = a + s * lineA;
    const bs = b + s * lineB;
    diagonal += squaredNormF64(as_, dIn) * squaredNormF64(bs, dOut);
    for (let u = s + 1; u < <usize>t; u++) above += dotF64(as_, a + u * lineA, dIn) * dotF64(bs, b + u * lineB, dOut);
  }
  return max<f64>(diagonal + 2 * above, 0);
}

/**
 * out f64[batch] (+)= ‖Σ_s a_sᵀ b_s‖² of each example: the squared norm of a dense layer's weight gradient, from its
 * input a [batch, t, dIn] and output gradient b [batch, t, dOut]. In float64, held at or above 0; the error scales
 * with (Σ_s ‖a_s‖‖b_s‖)².
 */
export function ghostNorms(
  out: usize, a: usize, b: usize, batch: i32, t: i32, dIn: i32, dOut: i32, accumulate: i32,
): void {
  const sizeA = <usize>(t * dIn) << 2;
  const sizeB = <usize>(t * dOut) << 2;
  for (let i: usize = 0; i < <usize>batch; i++) {
    put(out, i, ghostNorm(a + i * sizeA, b + i * sizeB, t, dIn, dOut), accumulate);
  }
}

/** out f64[n] += a f64[n] */
export function sumF64(out: usize, a: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f64>(out + (i << 3), load<f64>(out + (i << 3)) + load<f64>(a + (i << 3)));
}

/** out f32[n] = √a, a f64[n] */
export function sqrtF64ToF32(out: usize, a: usize, n: i32): void {
  for (let i: usize = 0; i < <usize>n; i++) store<f32>(out + (i << 2), <f32>sqrt<f64>(load<f64>(a + (i << 3))));
}

/**
 * out f32[n] = min(1, C/‖g‖) (Abadi et al. 2016, algorithm 1), from float64 squared norms. C is taken 1e-6 smaller, relatively,
 * and the quotient is rounded down, so that factor·‖g‖ ≤ C for the true norm, in spite of rounding in the norm and in
 * the scaled gradient. A norm of 0 gives 1; a norm that is not finite gives 0.
 */
export function clipFactors(out: usize, squaredNorms: usize, clipNorm: f64, n: i32): void {
  const target = clipNorm * (1 - 1e-6);
  for (let i: usize = 0; i < <usize>n; i++) {
    const squared = load<f64>(squaredNorms + (i << 3));
    let factor: f32 = 0;
    if (squared == 0) factor = 1;
    else if (squared > 0 && squared < Infinity) {
      const exact = min<f64>(1, target / sqrt<f64>(squared));
      factor = <f32>exact;
      if (<f64>factor > exact) factor = reinterpret<f32>(reinterpret<i32>(factor) - 1);
    }
    store<f32>(out + (i << 2), factor);
  }
}

/** a·scale, but 0 where scale is 0, whatever a is: a non-finite example that is clipped to nothing leaves nothing. */
// @ts-ignore: decorator
@inline
function scaled(a: v128, scale: v128): v128 {
  return v128.and(f32x4.mul(a, scale), f32x4.ne(scale, f32x4.splat(0)));
}

// @ts-ignore: decorator
@inline
function columnPanel(out: usize, a: usize, scale: usize, rows: i32, line: usize, cols: i32): void {
  let r = 0;
  const unit = f32x4.splat(1);
  for (; r + 4 <= rows; r += 4) {
    const row = a + <usize>r * line;
    const p = scale + (<usize>r << 2);
    const s0 = scale ? v128.load32_splat(p) : unit;
    const s1 = scale ? v128.load32_splat(p, 4) : unit;
    const s2 = scale ? v128.load32_splat(p, 8) : unit;
    const s3 = scale ? v128.load32_splat(p, 12) : unit;
    for (let j = 0; j < cols; j += 4) {
      const at = <usize>j << 2;
      const rest = cols - j;
      if (rest >= 4) {
        let total = v128.load(out + at);
        total = f32x4.add(total, scaled(v128.load(row + at), s0));
        total = f32x4.add(total, scaled(v128.load(row + line + at), s1));
        total = f32x4.add(total, scaled(v128.load(row + 2 * line + at), s2));
        total = f32x4.add(total, scaled(v128.load(row + 3 * line + at), s3));
        v128.store(out + at, total);
      } else {
        let total = loadTail(out + at, rest);
        total = f32x4.add(total, scaled(loadTail(row + at, rest), s0));
        total = f32x4.add(total, scaled(loadTail(row + line + at, rest), s1));
        total = f32x4.add(total, scaled(loadTail(row + 2 * line + at, rest), s2));
        total = f32x4.add(total, scaled(loadTail(row + 3 * line + at, rest), s3));
        storeTail(out + at, total, rest);
      }
    }
  }
  for (; r < rows; r++) {
    const row = a + <usize>r * line;
    const s = scale ? v128.load32_splat(scale + (<usize>r << 2)) : unit;
    for (let j = 0; j < cols; j += 4) {
      const at = <usize>j << 2;
      const rest = cols - j;
      if (rest >= 4) v128.store(out + at, f32x4.add(v128.load(out + at), scaled(v128.load(row + at), s)));
      else storeTail(out + at, f32x4.add(loadTail(out + at, rest), scaled(loadTail(row + at, rest), s)), rest);
    }
  }
}

/**
 * out[cols] (+)= Σ_r scale[r]·a[r], a [rows, cols], scale f32[rows] or 0 for none: bias gradients, weighted sums of
 * materialised gradients. Strictly sequential over rows. A row whose scale is 0 contributes 0 even if it is not finite.
 */
export function columnSums(out: usize, a: usize, scale: usize, rows: i32, cols: i32, accumulate: i32): void {
  if (!accumulate) memory.fill(out, 0, <usize>cols << 2);
  // Panels of columns whose sums stay in L1.
  for (let j = 0; j < cols; j += 2048) {
    const offset = <usize>j << 2;
    columnPanel(out + offset, a + offset, scale, rows, <usize>cols << 2, min<i32>(2048, cols - j));
  }
}

/** out [rows, cols] = scale[r]·a[r]; a row whose scale is 0 becomes 0 even if it is not finite */
export function scaleRows(out: usize, a: usize, scale: usize, rows: i32, cols: i32): void {
  for (let r: usize = 0; r < <usize>rows; r++) {
    const s = v128.load32_splat(scale + (r << 2));
    const offset = (r * <usize>cols) << 2;
    for (let j = 0; j < cols; j += 4) {
      const at = offset + (<usize>j << 2);
      const rest = cols - j;
      if (rest >= 4) v128.store(out + at, scaled(v128.load(a + at), s));
      else storeTail(out + at, scaled(loadTail(a + at, rest), s), rest);
    }
  }
}

/** Rows i…i+3, columns j…j+7 of Σ_s a_sᵀ b_s, strictly sequential over s. */
// @ts-ignore: decorator
@inline
function outerTile4x8(out: usize, a: usize, b: usize, t: i32, lineA: usize, lineB: usize, accumulate: i32): void {
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

/** Row i, columns j…j+rest-1 (at most four) of Σ_s a_sᵀ b_s. */
// @ts-ignore: decorator
@inline
function outerStrip(out: usize, a: usize, b: usize, t: i32, lineA: usize, lineB: usize, rest: i32, accumulate: i32): void {
  const whole = rest >= 4;
  let total = accumulate ? (whole ? v128.load(out) : loadTail(out, rest)) : f32x4.splat(0);
  let pa = a;
  let pb = b;
  for (let s = 0; s < t; s++) {
    total = f32x4.add(total, f32x4.mul(v128.load32_splat(pa), whole ? v128.load(pb) : loadTail(pb, rest)));
    pa += lineA;
    pb += lineB;
  }
  if (whole) v128.store(out, total);
  else storeTail(out, total, rest);
}

/**
 * out[i] [dIn, dOut] (+)= Σ_s a_sᵀ b_s: each example's weight gradient, from a [batch, t, dIn] and b [batch, t, dOut].
 * out's rows are `stride` floats apart.
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

/** out[i] [dOut] (+)= Σ_s b_s: each example's bias gradient, from b [batch, t, dOut]; out's rows are `stride` floats apart. */
export function instantiateRowSums(
  out: usize, b: usize, batch: i32, t: i32, dOut: i32, stride: i32, accumulate: i32,
): void {
  for (let e: usize = 0; e < <usize>batch; e++) {
    columnSums(out + ((e * <usize>stride) << 2), b + ((e * <usize>(t * dOut)) << 2), 0, t, dOut, accumulate);
  }
}
