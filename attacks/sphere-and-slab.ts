import { addTo, dot, dotAt, minus, type Numbers, norm, quantile, type Vector } from './vectors.js';

/** What the defender of Steinhardt, Koh and Liang (2017) lets through, a class each. */
export interface SphereAndSlab {
  readonly centroids: readonly [Vector, Vector];
  /** ‖x − μ‖ ≤ radius */
  readonly radii: readonly [number, number];
  /** |⟨x − μ, μ₁ − μ₀⟩| ≤ halfWidth */
  readonly halfWidths: readonly [number, number];
}

/** A matrix of examples and their labels. */
export interface Rows {
  /** count · size numbers, row by row. */
  readonly x: Float32Array;
  readonly y: ArrayLike<number>;
  readonly size: number;
}

/** The mean of the examples with this label. */
export function centroid({ x, y, size }: Rows, label: number): Vector {
  const sum = new Float64Array(size);
  let count = 0;
  for (let i = 0; i < y.length; i++) {
    if (y[i] !== label) continue;
    addTo(sum, 1, x, i * size);
    count++;
  }
  return sum.map((value) => value / count);
}

/** Distances of the examples with this label from a point, and how far they lie from it along an axis. */
export function distances(
  { x, y, size }: Rows,
  label: number,
  centre: Vector,
  axis: Vector,
): { sphere: number[]; slab: number[] } {
  const sphere: number[] = [];
  const slab: number[] = [];
  const offset = new Float64Array(size);
  for (let i = 0; i < y.length; i++) {
    if (y[i] !== label) continue;
    for (let j = 0; j < size; j++) offset[j] = x[i * size + j]! - centre[j]!;
    sphere.push(norm(offset));
    slab.push(Math.abs(dotAt(offset, 0, axis)));
  }
  return { sphere, slab };
}

/** Sphere and slab around the centroids of these examples, as wide as a quantile of them asks. */
export function sphereAndSlab(rows: Rows, share: number): SphereAndSlab {
  const centroids = [centroid(rows, 0), centroid(rows, 1)] as const;
  const axis = minus(centroids[1], centroids[0]);
  const sizes = centroids.map((centre, label) => {
    const { sphere, slab } = distances(rows, label, centre, axis);
    return { radius: quantile(sphere, share), halfWidth: quantile(slab, share) };
  });
  return {
    centroids,
    radii: [sizes[0]!.radius, sizes[1]!.radius],
    halfWidths: [sizes[0]!.halfWidth, sizes[1]!.halfWidth],
  };
}

/** How far a point lies outside, relative to the sizes: at most 0 inside. */
export function outsideBy(
  { centroids, radii, halfWidths }: SphereAndSlab,
  point: Numbers,
  label: 0 | 1,
): number {
  const offset = minus(point, centroids[label]);
  const across = Math.abs(dot(offset, minus(centroids[1], centroids[0])));
  return Math.max(norm(offset) / radii[label] - 1, across / halfWidths[label] - 1);
}
