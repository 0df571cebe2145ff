import type { LabelledSet, PoisonedSet } from 'gradshape';

/**
 * A control for attacks that add poisons: copies of these training examples join the set, with their own labels. What is
 * measured of them as of poisons is no attack's doing.
 */
export function cleanCopies(base: LabelledSet, indices: ArrayLike<number>): PoisonedSet {
  const n = base.y.length;
  const count = indices.length;
  const size = base.x.length / n;
  const x = base.x.slice(0, count * size);
  const y = new Int32Array(n + count);
  y.set(base.y);
  for (let i = 0; i < count; i++) {
    const from = indices[i]!;
    x.set(base.x.subarray(from * size, (from + 1) * size), i * size);
    y[n + i] = base.y[from]!;
  }
  return {
    base,
    added: [{ ...base, x, y: y.slice(n) }],
    y,
    poison: Int32Array.from({ length: count }, (_, i) => n + i),
    spec: { attack: 'none', seed: 0, count },
  };
}
