import { permutation, publicGenerator } from '../engine/index.js';
import type { Rows } from './sphere-and-slab.js';
import { addTo, dotAt, type Numbers, norm, type Vector } from './vectors.js';

/** An example with a weight: copies of a poison, as a share of the clean set. */
export interface WeightedPoint {
  readonly x: Numbers;
  readonly label: number;
  readonly weight: number;
}

/** The sum of hinge losses max(0, 1 − s·(⟨w, x⟩ + b)), s = ±1, and its gradient. theta is w, then b. */
export interface HingeLoss {
  readonly value: number;
  readonly gradient: Vector;
}

const signOf = (label: number): number => (label === 0 ? -1 : 1);

/** The mean over the examples. */
export function meanHinge({ x, y, size }: Rows, theta: Vector): HingeLoss {
  const n = y.length;
  const gradient = new Float64Array(size + 1);
  let value = 0;
  for (let i = 0; i < n; i++) {
    const sign = signOf(y[i]!);
    const loss = 1 - sign * (rowDot(x, i * size, theta, size) + theta[size]!);
    if (loss <= 0) continue;
    value += loss;
    addRow(gradient, -sign, x, i * size, size);
    gradient[size]! -= sign;
  }
  return { value: value / n, gradient: gradient.map((g) => g / n) };
}

// Apart from the general ones in vectors.ts, and of one type each, because here is where the attack's time goes.
function rowDot(x: Float32Array, at: number, theta: Vector, n: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < n; i += 4) {
    s0 += x[at + i]! * theta[i]!;
    s1 += x[at + i + 1]! * theta[i + 1]!;
    s2 += x[at + i + 2]! * theta[i + 2]!;
    s3 += x[at + i + 3]! * theta[i + 3]!;
  }
  for (; i < n; i++) s0 += x[at + i]! * theta[i]!;
  return s0 + s1 + (s2 + s3);
}

function addRow(out: Vector, weight: number, x: Float32Array, at: number, n: number): void {
  for (let i = 0; i < n; i++) out[i]! += weight * x[at + i]!;
}

function squaredLength(x: Float32Array, at: number, n: number): number {
  let sum = 0;
  for (let i = at; i < at + n; i++) sum += x[i]! * x[i]!;
  return sum;
}

/** The weighted sum over the points, added to `to`. */
export function addHinge(to: HingeLoss, points: readonly WeightedPoint[], theta: Vector): HingeLoss {
  const gradient = to.gradient.slice();
  const size = gradient.length - 1;
  let { value } = to;
  for (const { x, label, weight } of points) {
    const loss = hingeOf(x, label, theta);
    if (loss <= 0) continue;
    const push = weight * signOf(label);
    value += weight * loss;
    addTo(gradient.subarray(0, size), -push, x);
    gradient[size]! -= push;
  }
  return { value, gradient };
}

export function hingeOf(x: Numbers, label: number, theta: Vector): number {
  return Math.max(0, 1 - signOf(label) * (dotAt(x, 0, theta, x.length) + theta[x.length]!));
}

/** Dual averaging in a ball (Steinhardt, Koh and Liang 2017, algorithm 1): z ← z − g; λ ← max(λ, ‖z‖/ρ); θ = z/λ. */
export interface DualAveraging {
  readonly z: Vector;
  readonly lambda: number;
}

export function dualStep({ z, lambda }: DualAveraging, gradient: Vector, radius: number): DualAveraging {
  const next = z.map((value, i) => value - gradient[i]!);
  return { z: next, lambda: Math.max(lambda, norm(next) / radius) };
}

export const thetaOf = ({ z, lambda }: DualAveraging): Vector => z.map((value) => value / lambda);

/** Copies of a point. */
export interface Copies {
  readonly x: Numbers;
  readonly label: number;
  readonly count: number;
}

/** How often the hinge learner sees every example. */
const passes = 10;

/**
 * A hinge learner on examples and copies of points, as the authors' release trains it (Steinhardt, Koh and Liang 2017,
 * "RDA"): dual averaging one example at a time, whose step η halves as soon as its regret says that it was too long. So it
 * depends on nobody's choice of a step size. The mean of theta after each of the last five of ten passes.
 */
export function hingeLearner(
  { x, y, size }: Rows,
  points: readonly Copies[],
  { radius, seed }: { readonly radius: number; readonly seed: number },
): Vector {
  const n = y.length;
  // As the poisoned set holds them; and float32 like the rows, for speed.
  const distinct = points.map((point) => Float32Array.from(point.x));
  const owners = points.flatMap((point, k) => new Array<number>(point.count).fill(k));
  const lengths = Float64Array.from(y, (_, i) => squaredLength(x, i * size, size));
  const ownLengths = distinct.map((values) => squaredLength(values, 0, size));
  const z = new Float64Array(size + 1);
  const mean = new Float64Array(size + 1);
  let eta = 1;
  let lambda = 1 / eta;
  let squared = 0; // ‖z‖²
  let regret = 0;
  for (let pass = 0; pass < passes; pass++) {
    for (const i of permutation(n + owners.length, publicGenerator(seed, 'order', pass))) {
      const owner = i < n ? -1 : owners[i - n]!;
      const from = owner < 0 ? x : distinct[owner]!;
      const at = owner < 0 ? i * size : 0;
      const sign = signOf(owner < 0 ? y[i]! : points[owner]!.label);
      const along = rowDot(from, at, z, size) + z[size]!;
      if (sign * along >= lambda) continue;
      const length = 1 + (owner < 0 ? lengths[i]! : ownLengths[owner]!);
      addRow(z, sign, from, at, size);
      z[size]! += sign;
      squared += 2 * sign * along + length;
      lambda = Math.max(lambda, Math.sqrt(squared) / radius);
      regret += length / (2 * lambda);
      if (regret > (radius * radius) / (2 * eta)) {
        eta /= 2;
        lambda = Math.max(lambda, 1 / eta);
      }
    }
    if (pass >= passes / 2) addTo(mean, 2 / passes / lambda, z);
  }
  return mean;
}
