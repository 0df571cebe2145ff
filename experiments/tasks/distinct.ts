import type { PoisonedSet } from 'gradshape';

/** One of the different poisons of a set: plain JSON, for ledgers. */
export interface DistinctPoison {
  readonly label: number;
  readonly copies: number;
  /** Its pixels, one byte each, in base64. */
  readonly pixels: string;
}

/** The different poisons of a set in [0, 1] with their numbers of copies, most first; at most `limit`. */
export function distinctPoisons({ added }: PoisonedSet, limit = 16): DistinctPoison[] {
  const [poisons] = added;
  if (poisons === undefined) return [];
  const { x, y, scale = 1 } = poisons;
  const size = x.length / y.length;
  const copies = new Map<string, number>();
  for (let i = 0; i < y.length; i++) {
    const bytes = Array.from(x.subarray(i * size, (i + 1) * size), (value) =>
      Math.round(value * scale * 255),
    );
    const key = `${y[i]} ${Buffer.from(bytes).toString('base64')}`;
    copies.set(key, (copies.get(key) ?? 0) + 1);
  }
  return [...copies]
    .sort(([, a], [, b]) => b - a)
    .slice(0, limit)
    .map(([key, count]) => {
      const [label, pixels] = key.split(' ');
      return { label: Number(label), copies: count, pixels: pixels! };
    });
}
