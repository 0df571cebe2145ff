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

/** A hinge learner on examples and points: the mean theta of the second half of its steps. */
export function hingeLearner(
  rows: Rows,
  points: readonly WeightedPoint[],
  { steps, radius, learningRate }: { steps: number; radius: number; learningRate: number },
): Vector {
  let at: DualAveraging = { z: new Float64Array(rows.size + 1), lambda: 1 / learningRate };
  const sum = new Float64Array(rows.size + 1);
  const half = steps >> 1;
  for (let step = 0; step < steps; step++) {
    const theta = thetaOf(at);
    at = dualStep(at, addHinge(meanHinge(rows, theta), points, theta).gradient, radius);
    if (step >= half) addTo(sum, 1 / (steps - half), thetaOf(at));
  }
  return sum;
}
