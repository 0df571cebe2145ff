import { GradshapeError } from '../engine/index.js';
import { dot, norm, type Vector } from './vectors.js';

/** A sphere, a slab and a box, all around 0. */
export interface LinearMaximumProblem {
  /** What is maximised: ⟨objective, z⟩. */
  readonly objective: Vector;
  /** ‖z‖ ≤ radius */
  readonly radius: number;
  /** |⟨normal, z⟩| ≤ halfWidth */
  readonly normal: Vector;
  readonly halfWidth: number;
  /** low ≤ z ≤ high, element by element, with low ≤ 0 ≤ high. @default no box */
  readonly low?: Vector;
  readonly high?: Vector;
}

export interface LinearMaximum {
  readonly z: Vector;
  /** ⟨objective, z⟩ */
  readonly value: number;
  /** The dual's value minus `value`: no feasible point is better by more. */
  readonly gap: number;
}

/**
 * Maximises a linear function over sphere ∩ slab ∩ box: the inner problem of Steinhardt, Koh and Liang (2017, eq. 7).
 *
 * For a multiplier λ of the sphere and ν of the slab the Lagrangian falls apart into pixels and is maximised by
 * z = clip(t·(objective − ν·normal), low, high) with t = 1/(2λ), which is the projection of t·objective on slab ∩ box. So
 * ‖z‖ grows with t and ⟨normal, z⟩ falls with ν: two searches for a root, one inside the other. Where the box ends inside
 * the sphere, t grows until the dual says that nothing is left to gain.
 * @throws INFEASIBLE when a size is negative or 0 is outside the box
 */
export function maximizeLinear(problem: LinearMaximumProblem): LinearMaximum {
  check(problem);
  const { objective, radius } = problem;
  const length = norm(objective);
  const zero = new Float64Array(objective.length);
  if (length === 0 || radius === 0) return { z: zero, value: 0, gap: 0 };
  // A projection of t·objective is no longer than t·objective.
  let inside = project(problem, radius / length);
  let outside: Projection | null = null;
  for (let doubling = 0; doubling < 30; doubling++) {
    const next = project(problem, inside.t * 2);
    if (next.length > radius) {
      outside = next;
      break;
    }
    inside = next;
  }
  for (let halving = 0; outside !== null && halving < 60; halving++) {
    const middle = project(problem, (inside.t + outside.t) / 2);
    if (middle.length > radius) outside = middle;
    else inside = middle;
    if (outside.t - inside.t <= 1e-15 * outside.t) break;
  }
  return certified(problem, inside);
}

interface Projection {
  readonly z: Vector;
  readonly t: number;
  readonly multiplier: number;
  readonly length: number;
}

/** Rounding may leave z outside by the last bits: it is pulled towards 0, which is inside. */
function certified(
  { objective, radius, normal, halfWidth, low, high }: LinearMaximumProblem,
  at: Projection,
) {
  const across = Math.abs(dot(normal, at.z));
  const shrink = Math.min(1, radius / at.length, across > halfWidth ? halfWidth / across : 1);
  const z = at.z.map((value) => value * shrink);
  const value = dot(objective, z);
  const lambda = 1 / (2 * at.t);
  let dual = lambda * radius * radius + Math.abs(at.multiplier) * halfWidth;
  for (let i = 0; i < z.length; i++) {
    const pull = objective[i]! - at.multiplier * normal[i]!;
    const best = clip(at.t * pull, low?.[i], high?.[i]);
    dual += pull * best - lambda * best * best;
  }
  return { z, value, gap: dual - value };
}

/** The projection of t·objective on slab ∩ box; `multiplier` is ν. */
function project(problem: LinearMaximumProblem, t: number): Projection {
  const { objective, normal, halfWidth, low, high } = problem;
  const n = objective.length;
  const at = (multiplier: number): { z: Vector; across: number; slope: number } => {
    const z = new Float64Array(n);
    let across = 0;
    let slope = 0;
    for (let i = 0; i < n; i++) {
      const free = t * (objective[i]! - multiplier * normal[i]!);
      const value = clip(free, low?.[i], high?.[i]);
      z[i] = value;
      across += value * normal[i]!;
      if (value === free) slope += t * normal[i]! * normal[i]!;
    }
    return { z, across, slope };
  };
  const result = (multiplier: number, z: Vector): Projection => ({ z, t, multiplier, length: norm(z) });
  const free = at(0);
  if (Math.abs(free.across) <= halfWidth) return result(0, free.z);
  // |⟨normal, z⟩| falls as |ν| grows on the side of its sign: piecewise linear, so Newton's steps end in a few, kept in a bracket.
  const side = Math.sign(free.across);
  const excess = (across: number): number => side * across - halfWidth;
  let near = 0;
  let far = Math.abs(dot(objective, normal)) / dot(normal, normal);
  while (excess(at(side * far).across) > 0) far = far * 2 + 1e-300;
  let guess = near + excess(free.across) / (free.slope || Infinity);
  for (let step = 0; step < 200; step++) {
    if (!(guess > near && guess < far)) guess = (near + far) / 2;
    if (guess === near || guess === far) break;
    const there = at(side * guess);
    const over = excess(there.across);
    if (over > 0) near = guess;
    else far = guess;
    if (Math.abs(over) <= 1e-14 * halfWidth) return result(side * guess, there.z);
    guess += over / (there.slope || Infinity);
  }
  return between(result(side * near, at(side * near).z), result(side * far, at(side * far).z), problem);
}

/** Where ν can't be told more exactly, z jumps: the point between the two sides that lies on the slab's face. */
function between(
  outer: Projection,
  inner: Projection,
  { normal, halfWidth }: LinearMaximumProblem,
): Projection {
  const a = Math.abs(dot(normal, outer.z)) - halfWidth;
  const b = halfWidth - Math.abs(dot(normal, inner.z));
  const share = a + b > 0 ? b / (a + b) : 0;
  const z = inner.z.map((value, i) => value + share * (outer.z[i]! - value));
  return { ...inner, z, length: norm(z) };
}

function clip(value: number, low = -Infinity, high = Infinity): number {
  return value < low ? low : value > high ? high : value;
}

function check({ objective, radius, normal, halfWidth, low, high }: LinearMaximumProblem): void {
  const n = objective.length;
  for (const [name, vector] of Object.entries({ normal, low, high })) {
    if (vector !== undefined && vector.length !== n) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `maximizeLinear: ${name} has ${vector.length} numbers; expected ${n}, as many as the objective.`,
      );
    }
  }
  if (!(radius >= 0 && halfWidth >= 0)) {
    throw new GradshapeError(
      'INFEASIBLE',
      `maximizeLinear: radius is ${radius} and halfWidth ${halfWidth}; expected numbers of at least 0.`,
    );
  }
  for (let i = 0; i < n; i++) {
    if ((low?.[i] ?? 0) <= 0 && (high?.[i] ?? 0) >= 0) continue;
    throw new GradshapeError(
      'INFEASIBLE',
      `maximizeLinear: element ${i} of the box runs from ${low?.[i]} to ${high?.[i]}; expected it to hold the centre, 0.`,
    );
  }
}
