import { minimize } from './minimize.js';
import type { SphereAndSlab } from './sphere-and-slab.js';
import { combine, dot, minus, type Numbers, norm, orthonormal, type Vector } from './vectors.js';

/** Poisons that are all copies of one point. */
export interface PoisonPoint {
  /** 0 or 1 */
  readonly label: number;
  /** Copies. */
  readonly count: number;
  /** Whether the attack gains from its loss; others only shift the centroids. */
  readonly bearsLoss: boolean;
}

export interface MovingProblem {
  readonly points: readonly PoisonPoint[];
  /** Clean examples a class. */
  readonly clean: readonly [number, number];
  /** The constraints on the clean set: radii and half widths stay, centroids move with the poisons. */
  readonly constraints: SphereAndSlab;
  /** The model's weights: a point of label 1 gains −⟨theta, x⟩, one of label 0 ⟨theta, x⟩. */
  readonly theta: Vector;
  /** As many directions as there are points, beside those of the problem, that the points may take. */
  readonly directions: readonly Numbers[];
  /** Where to start, a vector a point, or null. */
  readonly start: readonly Vector[] | null;
}

/**
 * The best poisons against a defender whose centroids are those of the poisoned set (Steinhardt, Koh and Liang 2017,
 * §5.2): maximises Σ count·⟨∓theta, x⟩ over points that lie in sphere and slab around centroids that the points themselves
 * move. The authors solve the semidefinite programme over the Gram matrix of points, clean centroids and theta; here its
 * factors are the variables (Burer and Monteiro 2003): the points' coordinates in the span of centroids, theta and one
 * further direction a point, where nothing is lost, with an augmented Lagrangian for the constraints.
 * @returns a point each, feasible; a local optimum, which the factorisation makes a global one as a rule but not by proof
 */
export function movingCentroidPoints(problem: MovingProblem): Vector[] {
  const { points, constraints, theta, directions, start } = problem;
  const { centroids, radii } = constraints;
  const basis = orthonormal([...centroids, theta, ...directions]);
  const dims = basis.length;
  const scale = radii[0];
  const inner = (vector: Numbers): Vector => Float64Array.from(basis, (b) => dot(b, vector) / scale);
  const geometry = movingGeometry(points, problem.clean, [inner(centroids[0]), inner(centroids[1])], {
    radii: [radii[0] / scale, radii[1] / scale],
    halfWidths: [constraints.halfWidths[0] / (scale * scale), constraints.halfWidths[1] / (scale * scale)],
  });
  const total = points.reduce((sum, { count }) => sum + count, 0);
  const along = inner(theta);
  const length = norm(along) || 1;
  const pulls = points.map(({ label, count, bearsLoss }) =>
    along.map((value) => (bearsLoss ? ((label === 0 ? 1 : -1) * count * value) / (total * length) : 0)),
  );
  const place = (vectors: readonly Vector[]): Vector => {
    const flat = new Float64Array(points.length * dims);
    vectors.forEach((vector, i) => {
      flat.set(vector, i * dims);
    });
    return flat;
  };
  // A start off the stationary points that symmetry makes: a little along the point's own direction.
  const nudged = points.map(({ label }, i) =>
    geometry.centroids[label as 0 | 1].map((value, j) => value + (j === dims - 1 - (i % dims) ? 0.05 : 0)),
  );
  const starts = [place(nudged), ...(start === null ? [] : [place(start.map(inner))])];
  const gain = (point: Vector): number =>
    pulls.reduce((sum, pull, i) => sum + dot(pull, point.subarray(i * dims, (i + 1) * dims)), 0);
  const found = starts.map((from) => geometry.pulledInside(augmentedLagrangian(geometry, pulls, from)));
  const best = found.reduce((a, b) => (gain(b) > gain(a) ? b : a));
  return points.map((_, i) =>
    combine(
      Array.from(best.subarray(i * dims, (i + 1) * dims), (value) => value * scale),
      basis,
    ),
  );
}

/** Maximises Σ ⟨pull, point⟩ under the geometry's constraints (Nocedal and Wright 2006, framework 17.3). */
function augmentedLagrangian(geometry: MovingGeometry, pulls: readonly Vector[], start: Vector): Vector {
  const dims = pulls[0]!.length;
  let point = start;
  let penalty = 5;
  const multipliers = new Float64Array(2 * pulls.length);
  let worst = Infinity;
  for (let outer = 0; outer < 25; outer++) {
    point = minimize(
      (at) => {
        const gradient = new Float64Array(at.length);
        let value = 0;
        pulls.forEach((pull, i) => {
          for (let j = 0; j < dims; j++) {
            value -= pull[j]! * at[i * dims + j]!;
            gradient[i * dims + j] = -pull[j]!;
          }
        });
        const weights = geometry.violations(at).map((violation, i) => {
          const force = Math.max(0, multipliers[i]! + penalty * violation);
          value += (force * force) / (2 * penalty);
          return force;
        });
        geometry.addGradient(at, weights, gradient);
        return { value, gradient };
      },
      point,
      80,
    );
    const violations = geometry.violations(point);
    const beyond = violations.reduce((a, b) => Math.max(a, b), 0);
    for (let i = 0; i < multipliers.length; i++) {
      multipliers[i] = Math.max(0, multipliers[i]! + penalty * violations[i]!);
    }
    if (beyond > 0.25 * worst) penalty *= 3;
    worst = beyond;
    if (worst < 1e-8) break;
  }
  return point;
}

interface MovingGeometry {
  readonly centroids: readonly [Vector, Vector];
  /** Two a point: ‖u‖²/radius² − 1 and ⟨u, v⟩²/halfWidth² − 1, where u = x − μ and v = μ₁ − μ₀, both moved. */
  violations(flat: Vector): Float64Array;
  /** gradient += Σ weight · ∇violation */
  addGradient(flat: Vector, weights: Float64Array, gradient: Vector): void;
  /** The points pulled towards the clean centroids, where every constraint holds, until every constraint holds. */
  pulledInside(flat: Vector): Vector;
}

function movingGeometry(
  points: readonly PoisonPoint[],
  clean: readonly [number, number],
  centroids: readonly [Vector, Vector],
  { radii, halfWidths }: Pick<SphereAndSlab, 'radii' | 'halfWidths'>,
): MovingGeometry {
  const dims = centroids[0].length;
  const labels = points.map(({ label }) => label as 0 | 1);
  const masses = poisonShares(points, clean);
  const parts = (flat: Vector): { offsets: Vector[]; axis: Vector } => {
    const list = points.map((_, i) => flat.subarray(i * dims, (i + 1) * dims));
    const moved = movedCentroids(points, clean, centroids, list);
    const offsets = list.map((point, i) => minus(point, moved[labels[i]!]));
    return { offsets, axis: minus(moved[1], moved[0]) };
  };
  const violations = (flat: Vector): Float64Array => {
    const { offsets, axis } = parts(flat);
    const found = new Float64Array(2 * points.length);
    offsets.forEach((u, i) => {
      const across = dot(u, axis) / halfWidths[labels[i]!];
      found[2 * i] = dot(u, u) / (radii[labels[i]!] * radii[labels[i]!]) - 1;
      found[2 * i + 1] = across * across - 1;
    });
    return found;
  };
  return {
    centroids,
    violations,
    addGradient(flat, weights, gradient) {
      const { offsets, axis } = parts(flat);
      offsets.forEach((u, i) => {
        const label = labels[i]!;
        const sphere = (2 * weights[2 * i]!) / (radii[label] * radii[label]);
        const slab = (2 * weights[2 * i + 1]! * dot(u, axis)) / (halfWidths[label] * halfWidths[label]);
        if (sphere === 0 && slab === 0) return;
        points.forEach((_, k) => {
          // u = x − μ of its class, so a point of that class moves it by its own share, and v by its share and sign.
          const moveU = (i === k ? 1 : 0) - (labels[k] === label ? masses[k]! : 0);
          const moveV = (labels[k] === 1 ? 1 : -1) * masses[k]!;
          for (let j = 0; j < dims; j++) {
            gradient[k * dims + j]! += (sphere * u[j]! + slab * axis[j]!) * moveU + slab * u[j]! * moveV;
          }
        });
      });
    },
    pulledInside: (flat) => {
      const pulled = (share: number): Vector =>
        flat.map((value, i) => {
          const centre = centroids[labels[Math.floor(i / dims)]!][i % dims]!;
          return centre + share * (value - centre);
        });
      return largestFeasible(pulled, (point) => violations(point).every((violation) => violation <= 0));
    },
  };
}

/** `at(share)` for the largest share of 1 that is feasible, to 2⁻³⁰ (poisons are float32); `at(0)` must be. */
export function largestFeasible<T>(at: (share: number) => T, feasible: (point: T) => boolean): T {
  const whole = at(1);
  if (feasible(whole)) return whole;
  let low = 0;
  let high = 1;
  for (let halving = 0; halving < 30; halving++) {
    const middle = (low + high) / 2;
    if (feasible(at(middle))) low = middle;
    else high = middle;
  }
  return at(low);
}

/** Each point's share of all examples of its class, poisons included. */
export function poisonShares(points: readonly PoisonPoint[], clean: readonly [number, number]): number[] {
  const totals = [...clean];
  for (const { label, count } of points) totals[label]! += count;
  return points.map(({ label, count }) => count / totals[label]!);
}

/** The centroids of the poisoned set. */
export function movedCentroids(
  points: readonly PoisonPoint[],
  clean: readonly [number, number],
  centroids: readonly [Numbers, Numbers],
  vectors: readonly Numbers[],
): [Vector, Vector] {
  const shares = poisonShares(points, clean);
  const moved = [0, 1].map((label) => {
    const own = shares.map((share, i) => (points[i]!.label === label ? share : 0));
    const rest = 1 - own.reduce((sum, share) => sum + share, 0);
    return combine([rest, ...own], [centroids[label]!, ...vectors]);
  });
  return moved as [Vector, Vector];
}
