/** One value for the clean examples, one for the poisons. */
export interface Groups<T> {
  readonly clean: T;
  readonly poison: T;
}

export const groupNames = ['clean', 'poison'] as const;
export type Group = (typeof groupNames)[number];

export const bothGroups = <T>(of: (group: Group) => T): Groups<T> => ({
  clean: of('clean'),
  poison: of('poison'),
});

/** How the mean gradients of clean examples and poisons lie to each other; null where a group has no examples. */
export interface Signature {
  /** ‖g‖ of each group's mean gradient. */
  readonly norms: Groups<number | null>;
  /** ‖g_poison‖ / ‖g_clean‖ */
  readonly ratio: number | null;
  readonly cosine: number | null;
  /** The same, freed of the group's size; null too where chance is as large as the gradient. */
  readonly corrected: {
    readonly norms: Groups<number | null>;
    readonly ratio: number | null;
    readonly cosine: number | null;
  };
  /** ‖G_c + G_p‖ / (‖G_c‖ + ‖G_p‖) of the groups' sums: 0 where they cancel (stationarity), 1 where they pull as one. */
  readonly residual: number | null;
}

/** What a signature is computed from: sums over a group's n examples. */
export interface GroupMoments {
  readonly counts: Groups<number>;
  /** ‖Σ gᵢ‖² */
  readonly squaredSums: Groups<number>;
  /** Σ ‖gᵢ‖² */
  readonly squares: Groups<number>;
  /** ⟨Σ_clean gᵢ, Σ_poison gᵢ⟩ */
  readonly dot: number;
}

/**
 * A mean over few examples is longer than one over many, by chance alone: E‖ḡ‖² = ‖E g‖² + tr Cov / n. The corrected
 * norms are those of the unbiased estimate of ‖E g‖², the mean of ⟨gᵢ, gⱼ⟩ over pairs i ≠ j:
 * (‖Σ gᵢ‖² − Σ ‖gᵢ‖²) / (n(n − 1)).
 */
export function signature({ counts, squaredSums, squares, dot }: GroupMoments): Signature {
  const norms = bothGroups((group) => {
    const n = counts[group];
    return n === 0 ? null : Math.sqrt(squaredSums[group]) / n;
  });
  const unbiased = bothGroups((group) => {
    const n = counts[group];
    const squared = n < 2 ? 0 : (squaredSums[group] - squares[group]) / (n * (n - 1));
    return squared > 0 ? Math.sqrt(squared) : null;
  });
  const meanDot = dot / (counts.clean * counts.poison);
  const lengths = Math.sqrt(squaredSums.clean) + Math.sqrt(squaredSums.poison);
  const together = Math.max(0, squaredSums.clean + squaredSums.poison + 2 * dot);
  return {
    norms,
    ratio: ratioOf(norms),
    cosine: cosineOf(norms, meanDot),
    corrected: { norms: unbiased, ratio: ratioOf(unbiased), cosine: cosineOf(unbiased, meanDot) },
    residual: lengths > 0 && norms.poison !== null ? Math.sqrt(together) / lengths : null,
  };
}

/** poison / clean; null where there is no such number. */
export function ratioOf({ clean, poison }: Groups<number | null>): number | null {
  return clean === null || poison === null || clean === 0 ? null : poison / clean;
}

/** The cosine of a dot product, kept in [−1, 1] against rounding; null where a length is 0 or missing. */
export function cosineOf({ clean, poison }: Groups<number | null>, dot: number): number | null {
  const lengths = (clean ?? 0) * (poison ?? 0);
  return lengths > 0 ? Math.min(1, Math.max(-1, dot / lengths)) : null;
}

/** A distribution in eight numbers. */
export interface Quantiles {
  readonly mean: number;
  readonly min: number;
  readonly q5: number;
  readonly q25: number;
  readonly median: number;
  readonly q75: number;
  readonly q95: number;
  readonly max: number;
}

/** Quantiles with linear interpolation (R's type 7); null of nothing. */
export function quantiles(numbers: Float64Array): Quantiles | null {
  const values = numbers.slice();
  const last = values.length - 1;
  if (last < 0) return null;
  const places = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1].map((share) => share * last);
  const ranks = places.flatMap((place) => [Math.floor(place), Math.ceil(place)]);
  sortAround(values, ranks, 0, last);
  const [min, q5, q25, median, q75, q95, max] = places.map((place) => {
    const [below, above] = [values[Math.floor(place)]!, values[Math.ceil(place)]!];
    return below + (place - Math.floor(place)) * (above - below);
  }) as [number, number, number, number, number, number, number];
  let sum = 0;
  for (let i = 0; i <= last; i++) sum += values[i]!;
  return { mean: sum / values.length, min, q5, q25, median, q75, q95, max };
}

/** Puts the numbers of some ranks where sorting would put them: quicksort (Hoare 1961) of the parts that hold a rank. */
function sortAround(values: Float64Array, ranks: readonly number[], low: number, high: number): void {
  if (low >= high || !ranks.some((rank) => low <= rank && rank <= high)) return;
  const pivot = values[(low + high) >> 1]!;
  let i = low;
  let j = high;
  while (i <= j) {
    while (values[i]! < pivot) i++;
    while (values[j]! > pivot) j--;
    if (i > j) break;
    const value = values[i]!;
    values[i++] = values[j]!;
    values[j--] = value;
  }
  sortAround(values, ranks, low, j);
  sortAround(values, ranks, i, high);
}
