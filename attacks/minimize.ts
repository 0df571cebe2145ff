import { addTo, dot, minus, type Vector } from './vectors.js';

/** A function's value and gradient at a point. */
export type Smooth = (point: Vector) => { readonly value: number; readonly gradient: Vector };

/**
 * A local minimum of a smooth function of a few variables: BFGS with backtracking (Nocedal and Wright 2006, algorithm
 * 6.1). It ends when a step gains nothing, or after `iterations`.
 */
export function minimize(f: Smooth, start: Vector, iterations: number): Vector {
  const n = start.length;
  let point = start;
  let here = f(point);
  let inverse = identity(n, 1);
  let fresh = true;
  for (let iteration = 0; iteration < iterations; iteration++) {
    let direction = inverse.map((row) => -dot(row, here.gradient));
    let slope = dot(Float64Array.from(direction), here.gradient);
    if (!(slope < 0)) {
      inverse = identity(n, 1);
      fresh = true;
      direction = Array.from(here.gradient, (value) => -value);
      slope = -dot(here.gradient, here.gradient);
      if (slope === 0) break;
    }
    let length = 1;
    let next = moved(point, length, direction);
    let there = f(next);
    while (!(there.value <= here.value + 1e-4 * length * slope) && length > 1e-12) {
      length /= 2;
      next = moved(point, length, direction);
      there = f(next);
    }
    if (!(there.value < here.value)) break;
    const step = minus(next, point);
    const change = minus(there.gradient, here.gradient);
    const curvature = dot(step, change);
    if (curvature > 1e-14) {
      if (fresh) inverse = identity(n, curvature / dot(change, change));
      fresh = false;
      update(inverse, step, change, curvature);
    }
    const gained = here.value - there.value;
    point = next;
    here = there;
    if (gained <= 1e-13 * (Math.abs(here.value) + 1e-12)) break;
  }
  return point;
}

function identity(n: number, scale: number): Vector[] {
  return Array.from({ length: n }, (_, i) => {
    const row = new Float64Array(n);
    row[i] = scale;
    return row;
  });
}

function moved(point: Vector, length: number, direction: readonly number[]): Vector {
  return point.map((value, i) => value + length * direction[i]!);
}

/** H ← (I − s yᵀ/c) H (I − y sᵀ/c) + s sᵀ/c, with c = ⟨s, y⟩. */
function update(inverse: readonly Vector[], step: Vector, change: Vector, curvature: number): void {
  const product = Float64Array.from(inverse, (row) => dot(row, change));
  const factor = (1 + dot(change, product) / curvature) / curvature;
  inverse.forEach((row, i) => {
    addTo(row, factor * step[i]! - product[i]! / curvature, step);
    addTo(row, -step[i]! / curvature, product);
  });
}
