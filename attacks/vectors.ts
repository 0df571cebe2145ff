// Vectors in float64. Sums run in one fixed order, so that poisons are the same bits everywhere.
export type Vector = Float64Array;
export type Numbers = Float32Array | Float64Array;

/** ⟨a, b⟩ of n numbers, `a` from `at` on. In four sums: one would wait for each addition. */
export function dotAt(a: Numbers, at: number, b: Numbers, n = b.length): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let i = 0;
  for (; i + 3 < n; i += 4) {
    s0 += a[at + i]! * b[i]!;
    s1 += a[at + i + 1]! * b[i + 1]!;
    s2 += a[at + i + 2]! * b[i + 2]!;
    s3 += a[at + i + 3]! * b[i + 3]!;
  }
  for (; i < n; i++) s0 += a[at + i]! * b[i]!;
  return s0 + s1 + (s2 + s3);
}

export const dot = (a: Numbers, b: Numbers): number => dotAt(a, 0, b);

export const norm = (a: Numbers): number => Math.sqrt(dot(a, a));

/** out += weight · (n numbers of `a` from `at` on) */
export function addTo(out: Vector, weight: number, a: Numbers, at = 0): void {
  for (let i = 0; i < out.length; i++) out[i]! += weight * a[at + i]!;
}

/** Σ weightᵢ · vectorᵢ */
export function combine(weights: readonly number[], vectors: readonly Numbers[]): Vector {
  const sum = new Float64Array(vectors[0]!.length);
  vectors.forEach((vector, i) => {
    addTo(sum, weights[i]!, vector);
  });
  return sum;
}

export const minus = (a: Numbers, b: Numbers): Vector => combine([1, -1], [a, b]);

/** Orthonormal vectors that span the given ones (Gram and Schmidt, twice); those that depend on earlier ones are left out. */
export function orthonormal(vectors: readonly Numbers[]): Vector[] {
  const basis: Vector[] = [];
  for (const vector of vectors) {
    const rest = Float64Array.from(vector);
    for (let pass = 0; pass < 2; pass++) {
      for (const direction of basis) addTo(rest, -dot(rest, direction), direction);
    }
    const length = norm(rest);
    if (length > 1e-9 * (norm(vector) + 1e-300)) basis.push(rest.map((value) => value / length));
  }
  return basis;
}

/** The q-quantile, interpolated between neighbours (the default of NumPy and R). */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  const place = q * (sorted.length - 1);
  const below = Math.floor(place);
  const next = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return sorted[below]! + (place - below) * (next - sorted[below]!);
}
