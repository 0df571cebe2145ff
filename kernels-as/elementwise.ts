// Elementwise kernels, strided copies and in-place updates, on four f32 lanes. The element at an index has
// the same bits wherever it falls in a vector: the last one to three elements go through the same code in a
// partial vector.
import { exp4, log4, normalCdf4, sigmoid4, tanh4 } from './math';
import { loadUpTo4, storeUpTo4 } from './lanes';

const enum Unary {
  Negate,
  Exp,
  Log,
  Tanh,
  Sigmoid,
  Relu,
  Sqrt,
  Square,
  Absolute,
  Sign,
  Reciprocal,
  Step,
  Gelu,
}

const enum Binary {
  Add,
  Subtract,
  Multiply,
  Divide,
  Maximum,
  Equal,
  Greater,
  ReluGradient,
  TanhGradient,
  SigmoidGradient,
  GeluGradient,
}

// @ts-ignore: decorator
@inline
function one(): v128 {
  return f32x4.splat(1);
}

/** 1 where the mask is set, else 0. */
// @ts-ignore: decorator
@inline
function oneWhere(mask: v128): v128 {
  return v128.and(mask, one());
}

// @ts-ignore: decorator
@inline
function applyUnary(op: Unary, x: v128): v128 {
  const zero = f32x4.splat(0);
  if (op == Unary.Negate) return f32x4.neg(x);
  if (op == Unary.Exp) return exp4(x);
  if (op == Unary.Log) return log4(x);
  if (op == Unary.Tanh) return tanh4(x);
  if (op == Unary.Sigmoid) return sigmoid4(x);
  if (op == Unary.Relu) return f32x4.pmax(x, zero);
  if (op == Unary.Sqrt) return f32x4.sqrt(x);
  if (op == Unary.Square) return f32x4.mul(x, x);
  if (op == Unary.Absolute) return f32x4.abs(x);
  if (op == Unary.Reciprocal) return f32x4.div(one(), x);
  if (op == Unary.Step) return oneWhere(f32x4.gt(x, zero));
  if (op == Unary.Gelu) return f32x4.mul(x, normalCdf4(x));
  // Sign: ±1; zeros and NaN stay as they are.
  const unit = v128.or(one(), v128.and(x, i32x4.splat(0x80000000)));
  return v128.bitselect(unit, x, v128.or(f32x4.lt(x, zero), f32x4.gt(x, zero)));
}

// @ts-ignore: decorator
@inline
function applyBinary(op: Binary, a: v128, b: v128): v128 {
  if (op == Binary.Add) return f32x4.add(a, b);
  if (op == Binary.Subtract) return f32x4.sub(a, b);
  if (op == Binary.Multiply) return f32x4.mul(a, b);
  if (op == Binary.Divide) return f32x4.div(a, b);
  if (op == Binary.Maximum) return f32x4.max(a, b);
  if (op == Binary.Equal) return oneWhere(f32x4.eq(a, b));
  if (op == Binary.Greater) return oneWhere(f32x4.gt(a, b));
  if (op == Binary.GeluGradient) {
    const density = f32x4.mul(exp4(f32x4.mul(f32x4.mul(a, a), f32x4.splat(-0.5))), f32x4.splat(0.3989422804014327));
    return f32x4.mul(b, f32x4.add(normalCdf4(a), f32x4.mul(a, density)));
  }
  // These gradients: a is the op's output y, b the gradient of it.
  if (op == Binary.ReluGradient) return v128.and(b, f32x4.gt(a, f32x4.splat(0)));
  if (op == Binary.TanhGradient) return f32x4.mul(b, f32x4.sub(one(), f32x4.mul(a, a)));
  return f32x4.mul(b, f32x4.mul(a, f32x4.sub(one(), a)));
}

// @ts-ignore: decorator
@inline
function unary(op: Unary, out: usize, a: usize, n: i32): void {
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, applyUnary(op, loadUpTo4(a + end, rest)), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, applyUnary(op, v128.load(a + i)));
}

/** Both operands contiguous. */
// @ts-ignore: decorator
@inline
function binaryContiguous(op: Binary, out: usize, a: usize, b: usize, n: i32): void {
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, applyBinary(op, loadUpTo4(a + end, rest), loadUpTo4(b + end, rest)), rest);
  for (let i: usize = 0; i < end; i += 16) {
    v128.store(out + i, applyBinary(op, v128.load(a + i), v128.load(b + i)));
  }
}

/** One operand contiguous, the other a constant; `constantFirst` says which. */
// @ts-ignore: decorator
@inline
function binaryConstant(op: Binary, constantFirst: bool, out: usize, a: usize, constant: v128, n: i32): void {
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) {
    const x = loadUpTo4(a + end, rest);
    storeUpTo4(out + end, constantFirst ? applyBinary(op, constant, x) : applyBinary(op, x, constant), rest);
  }
  for (let i: usize = 0; i < end; i += 16) {
    const x = v128.load(a + i);
    v128.store(out + i, constantFirst ? applyBinary(op, constant, x) : applyBinary(op, x, constant));
  }
}

/** One innermost row, any strides (in elements). */
// @ts-ignore: decorator
@inline
function binaryRow(op: Binary, out: usize, a: usize, b: usize, n: i32, strideA: i32, strideB: i32): void {
  if (strideA == 1 && strideB == 1) {
    binaryContiguous(op, out, a, b, n);
  } else if (strideA == 1 && strideB == 0) {
    binaryConstant(op, false, out, a, v128.load32_splat(b), n);
  } else if (strideA == 0 && strideB == 1) {
    binaryConstant(op, true, out, b, v128.load32_splat(a), n);
  } else {
    let to = out;
    let pa = a;
    let pb = b;
    for (let i = 0; i < n; i++) {
      v128.store32_lane(to, applyBinary(op, v128.load32_zero(pa), v128.load32_zero(pb)), 0);
      to += 4;
      pa += <usize>strideA << 2;
      pb += <usize>strideB << 2;
    }
  }
}

// @ts-ignore: decorator
@inline
function binary(
  op: Binary, out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  let to = out;
  for (let i0 = 0; i0 < d0; i0++) {
    for (let i1 = 0; i1 < d1; i1++) {
      let pa = a + (<usize>(i0 * a0 + i1 * a1) << 2);
      let pb = b + (<usize>(i0 * b0 + i1 * b1) << 2);
      for (let i2 = 0; i2 < d2; i2++) {
        binaryRow(op, to, pa, pb, d3, a3, b3);
        to += <usize>d3 << 2;
        pa += <usize>a2 << 2;
        pb += <usize>b2 << 2;
      }
    }
  }
}

/** out[n] = -a */
export function negate(out: usize, a: usize, n: i32): void {
  unary(Unary.Negate, out, a, n);
}

/** out[n] = e^a */
export function exp(out: usize, a: usize, n: i32): void {
  unary(Unary.Exp, out, a, n);
}

/** out[n] = ln a */
export function log(out: usize, a: usize, n: i32): void {
  unary(Unary.Log, out, a, n);
}

/** out[n] = tanh a */
export function tanh(out: usize, a: usize, n: i32): void {
  unary(Unary.Tanh, out, a, n);
}

/** out[n] = 1/(1 + e^-a) */
export function sigmoid(out: usize, a: usize, n: i32): void {
  unary(Unary.Sigmoid, out, a, n);
}

/** out[n] = max(a, 0); NaN stays NaN */
export function relu(out: usize, a: usize, n: i32): void {
  unary(Unary.Relu, out, a, n);
}

/** out[n] = √a */
export function sqrt(out: usize, a: usize, n: i32): void {
  unary(Unary.Sqrt, out, a, n);
}

/** out[n] = a² */
export function square(out: usize, a: usize, n: i32): void {
  unary(Unary.Square, out, a, n);
}

/** out[n] = |a| */
export function absolute(out: usize, a: usize, n: i32): void {
  unary(Unary.Absolute, out, a, n);
}

/** out[n] = -1, 0 or 1; NaN stays NaN */
export function sign(out: usize, a: usize, n: i32): void {
  unary(Unary.Sign, out, a, n);
}

/** out[n] = 1/a */
export function reciprocal(out: usize, a: usize, n: i32): void {
  unary(Unary.Reciprocal, out, a, n);
}

/** out[n] = 1 where a > 0, else 0 */
export function step(out: usize, a: usize, n: i32): void {
  unary(Unary.Step, out, a, n);
}

/** out[n] = a·Φ(a), Φ the normal distribution function */
export function gelu(out: usize, a: usize, n: i32): void {
  unary(Unary.Gelu, out, a, n);
}

/** out[d0, d1, d2, d3], contiguous = a + b. Strides in elements, 0 to broadcast. */
export function add(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Add, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = a - b. Strides in elements, 0 to broadcast. */
export function subtract(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Subtract, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = a·b. Strides in elements, 0 to broadcast. */
export function multiply(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Multiply, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = a/b. Strides in elements, 0 to broadcast. */
export function divide(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Divide, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = max(a, b); NaN if either is. Strides in elements, 0 to broadcast. */
export function maximum(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Maximum, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = 1 where a = b, else 0. Strides in elements, 0 to broadcast. */
export function equal(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Equal, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[d0, d1, d2, d3], contiguous = 1 where a > b, else 0. Strides in elements, 0 to broadcast. */
export function greater(
  out: usize, a: usize, b: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
  b0: i32, b1: i32, b2: i32, b3: i32,
): void {
  binary(Binary.Greater, out, a, b, d0, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3);
}

/** out[n] = dOut·(1 - y²), where y = tanh x */
export function tanhGradient(out: usize, y: usize, dOut: usize, n: i32): void {
  binaryContiguous(Binary.TanhGradient, out, y, dOut, n);
}

/** out[n] = dOut·y·(1 - y), where y = sigmoid x */
export function sigmoidGradient(out: usize, y: usize, dOut: usize, n: i32): void {
  binaryContiguous(Binary.SigmoidGradient, out, y, dOut, n);
}

/** out[n] = dOut where y > 0, else 0 */
export function reluGradient(out: usize, y: usize, dOut: usize, n: i32): void {
  binaryContiguous(Binary.ReluGradient, out, y, dOut, n);
}

/** out[n] = dOut·(Φ(a) + a·φ(a)), Φ and φ the normal distribution and density: the gradient of gelu */
export function geluGradient(out: usize, a: usize, dOut: usize, n: i32): void {
  binaryContiguous(Binary.GeluGradient, out, a, dOut, n);
}

// @ts-ignore: decorator
@inline
function leaky(a: v128, slope: v128): v128 {
  return v128.bitselect(f32x4.mul(a, slope), a, f32x4.lt(a, f32x4.splat(0)));
}

/** out[n] = a where a ≥ 0, else slope·a; NaN stays NaN */
export function leakyRelu(out: usize, a: usize, slope: f32, n: i32): void {
  const slopes = f32x4.splat(slope);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, leaky(loadUpTo4(a + end, rest), slopes), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, leaky(v128.load(a + i), slopes));
}

// @ts-ignore: decorator
@inline
function slopeAt(a: v128, slope: v128): v128 {
  return v128.bitselect(one(), slope, f32x4.gt(a, f32x4.splat(0)));
}

/** out[n] = 1 where a > 0, else slope: the derivative of leakyRelu */
export function leakySlopes(out: usize, a: usize, slope: f32, n: i32): void {
  const slopes = f32x4.splat(slope);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, slopeAt(loadUpTo4(a + end, rest), slopes), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, slopeAt(v128.load(a + i), slopes));
}

// @ts-ignore: decorator
@inline
function held(a: v128, low: v128, high: v128): v128 {
  return f32x4.pmin(f32x4.pmax(a, low), high);
}

/** out[n] = a held within [low, high]; NaN stays NaN */
export function clamp(out: usize, a: usize, low: f32, high: f32, n: i32): void {
  const lows = f32x4.splat(low);
  const highs = f32x4.splat(high);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, held(loadUpTo4(a + end, rest), lows, highs), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, held(v128.load(a + i), lows, highs));
}

// @ts-ignore: decorator
@inline
function inside(a: v128, low: v128, high: v128): v128 {
  return oneWhere(v128.and(f32x4.ge(a, low), f32x4.le(a, high)));
}

/** out[n] = 1 where low ≤ a ≤ high, else 0 */
export function insideMask(out: usize, a: usize, low: f32, high: f32, n: i32): void {
  const lows = f32x4.splat(low);
  const highs = f32x4.splat(high);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) storeUpTo4(out + end, inside(loadUpTo4(a + end, rest), lows, highs), rest);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, inside(v128.load(a + i), lows, highs));
}

/** One row with a stride (in elements) on the input. */
// @ts-ignore: decorator
@inline
function copyRow(out: usize, a: usize, n: i32, stride: i32): void {
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (stride == 1) {
    if (rest) storeUpTo4(out + end, loadUpTo4(a + end, rest), rest);
    for (let i: usize = 0; i < end; i += 16) v128.store(out + i, v128.load(a + i));
  } else if (stride == 0) {
    fill(out, load<f32>(a), n);
  } else {
    let from = a;
    for (let i: usize = 0; i < <usize>n; i++) {
      store<f32>(out + (i << 2), load<f32>(from));
      from += <usize>stride << 2;
    }
  }
}

/** out[rows, cols] = a transposed: a's element (r, c) is at r + c·stride. Blocks of 4×4. */
function transpose(out: usize, a: usize, rows: i32, cols: i32, stride: i32): void {
  const fullRows = rows & ~3;
  const fullCols = cols & ~3;
  const lineA = <usize>stride << 2;
  const lineOut = <usize>cols << 2;
  for (let r = 0; r < fullRows; r += 4) {
    let from = a + (<usize>r << 2);
    let to = out + <usize>r * lineOut;
    for (let c = 0; c < fullCols; c += 4) {
      const x0 = v128.load(from);
      const x1 = v128.load(from + lineA);
      const x2 = v128.load(from + 2 * lineA);
      const x3 = v128.load(from + 3 * lineA);
      const low01 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5);
      const low23 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
      const high01 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7);
      const high23 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<f32>(low01, low23, 0, 1, 4, 5));
      v128.store(to + lineOut, v128.shuffle<f32>(low01, low23, 2, 3, 6, 7));
      v128.store(to + 2 * lineOut, v128.shuffle<f32>(high01, high23, 0, 1, 4, 5));
      v128.store(to + 3 * lineOut, v128.shuffle<f32>(high01, high23, 2, 3, 6, 7));
      from += 4 * lineA;
      to += 16;
    }
    for (let c = fullCols; c < cols; c++) {
      for (let i: usize = 0; i < 4; i++) store<f32>(to + i * lineOut, load<f32>(from + (i << 2)));
      from += lineA;
      to += 4;
    }
  }
  for (let r = fullRows; r < rows; r++) copyRow(out + <usize>r * lineOut, a + (<usize>r << 2), cols, stride);
}

/** out[d0, d1, d2, d3], contiguous = a with the given strides (in elements): transpose, broadcast, slice. */
export function copyStrided(
  out: usize, a: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  a0: i32, a1: i32, a2: i32, a3: i32,
): void {
  let to = out;
  for (let i0 = 0; i0 < d0; i0++) {
    for (let i1 = 0; i1 < d1; i1++) {
      let from = a + (<usize>(i0 * a0 + i1 * a1) << 2);
      if (a2 == 1 && a3 > 1) {
        transpose(to, from, d2, d3, a3);
        to += <usize>(d2 * d3) << 2;
        continue;
      }
      for (let i2 = 0; i2 < d2; i2++) {
        copyRow(to, from, d3, a3);
        to += <usize>d3 << 2;
        from += <usize>a2 << 2;
      }
    }
  }
}

// out, with strides o0…o3 (in elements) = or += a[d0, d1, d2, d3], contiguous.
// @ts-ignore: decorator
@inline
function toStrided(
  accumulate: bool, out: usize, a: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  o0: i32, o1: i32, o2: i32, o3: i32,
): void {
  let from = a;
  for (let i0 = 0; i0 < d0; i0++) {
    for (let i1 = 0; i1 < d1; i1++) {
      let to = out + (<usize>(i0 * o0 + i1 * o1) << 2);
      for (let i2 = 0; i2 < d2; i2++) {
        if (o3 == 1) {
          if (accumulate) binaryContiguous(Binary.Add, to, to, from, d3);
          else copyRow(to, from, d3, 1);
          from += <usize>d3 << 2;
        } else {
          let p = to;
          for (let i3 = 0; i3 < d3; i3++) {
            store<f32>(p, accumulate ? load<f32>(p) + load<f32>(from) : load<f32>(from));
            p += <usize>o3 << 2;
            from += 4;
          }
        }
        to += <usize>o2 << 2;
      }
    }
  }
}

/** out, with strides o0…o3 (in elements) += a[d0, d1, d2, d3], contiguous: the gradient of a slice. */
export function addToStrided(
  out: usize, a: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  o0: i32, o1: i32, o2: i32, o3: i32,
): void {
  toStrided(true, out, a, d0, d1, d2, d3, o0, o1, o2, o3);
}

/** out, with strides o0…o3 (in elements) = a[d0, d1, d2, d3], contiguous: pad, concatenate. */
export function copyToStrided(
  out: usize, a: usize,
  d0: i32, d1: i32, d2: i32, d3: i32,
  o0: i32, o1: i32, o2: i32, o3: i32,
): void {
  toStrided(false, out, a, d0, d1, d2, d3, o0, o1, o2, o3);
}

/** out[n] = value */
export function fill(out: usize, value: f32, n: i32): void {
  const values = f32x4.splat(value);
  const end = <usize>(n & ~3) << 2;
  if (n & 3) storeUpTo4(out + end, values, n & 3);
  for (let i: usize = 0; i < end; i += 16) v128.store(out + i, values);
}

/** out[n] += scale·a */
export function addScaled(out: usize, a: usize, scale: f32, n: i32): void {
  const scales = f32x4.splat(scale);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) {
    const product = f32x4.mul(scales, loadUpTo4(a + end, rest));
    storeUpTo4(out + end, f32x4.add(loadUpTo4(out + end, rest), product), rest);
  }
  for (let i: usize = 0; i < end; i += 16) {
    v128.store(out + i, f32x4.add(v128.load(out + i), f32x4.mul(scales, v128.load(a + i))));
  }
}

/** out[n] = scale·a */
export function scaleBy(out: usize, a: usize, scale: f32, n: i32): void {
  binaryConstant(Binary.Multiply, false, out, a, f32x4.splat(scale), n);
}

/** out f32[n] = a f64[n], rounded to nearest */
export function toF32FromF64(out: usize, a: usize, n: i32): void {
  let to = out;
  let from = a;
  for (let i = n >> 1; i > 0; i--) {
    v128.store64_lane(to, f32x4.demote_f64x2_zero(v128.load(from)), 0);
    to += 8;
    from += 16;
  }
  if (n & 1) store<f32>(to, <f32>load<f64>(from));
}
