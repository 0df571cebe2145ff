// Arrays of any rank in plain float64 JavaScript: slow, obvious, and sharing nothing with the engine.

export type Shape = readonly number[];

export interface Nd {
  readonly shape: Shape;
  readonly data: Float64Array;
}

export const sizeOf = (shape: Shape): number => shape.reduce((product, n) => product * n, 1);

/** An array from a function of the index. */
export function build(shape: Shape, f: (index: number[]) => number): Nd {
  const data = new Float64Array(sizeOf(shape));
  const index = shape.map(() => 0);
  for (let i = 0; i < data.length; i++) {
    data[i] = f(index);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
  }
  return { shape, data };
}

/** The element at an index. */
export function at({ shape, data }: Nd, index: readonly number[]): number {
  return data[shape.reduce((offset, n, axis) => offset * n + index[axis]!, 0)]!;
}

/** The element at an index of a broadcast shape: extra leading axes are dropped, axes of 1 are repeated. */
export function atBroadcast(a: Nd, index: readonly number[]): number {
  const lead = index.length - a.shape.length;
  return at(
    a,
    a.shape.map((n, axis) => (n === 1 ? 0 : index[lead + axis]!)),
  );
}

export const map = (a: Nd, f: (x: number) => number): Nd => ({ shape: a.shape, data: a.data.map(f) });

/** f of two broadcast arrays. */
export function zip(a: Nd, b: Nd, f: (x: number, y: number) => number): Nd {
  const rank = Math.max(a.shape.length, b.shape.length);
  const shape = Array.from({ length: rank }, (_, axis) => {
    const m = a.shape[axis - rank + a.shape.length] ?? 1;
    const n = b.shape[axis - rank + b.shape.length] ?? 1;
    return m === 1 ? n : m;
  });
  return build(shape, (index) => f(atBroadcast(a, index), atBroadcast(b, index)));
}

/** f of the elements along the axes. */
export function reduce(a: Nd, axes: readonly number[], keepDims: boolean, f: (x: number[]) => number): Nd {
  const groups = new Map<string, number[]>();
  const keyOf = (index: readonly number[]) => index.map((i, axis) => (axes.includes(axis) ? 0 : i)).join();
  build(a.shape, (index) => {
    const key = keyOf(index);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key)!.push(at(a, index));
    return 0;
  });
  const kept = build(
    a.shape.map((n, axis) => (axes.includes(axis) ? 1 : n)),
    (index) => f(groups.get(keyOf(index)) ?? []),
  );
  return keepDims ? kept : { shape: a.shape.filter((_, axis) => !axes.includes(axis)), data: kept.data };
}

/** f of the row of elements along an axis, giving a row. */
export function rowwise(a: Nd, axis: number, f: (row: number[]) => number[]): Nd {
  const along = (index: readonly number[]) =>
    f(Array.from({ length: a.shape[axis]! }, (_, i) => at(a, index.with(axis, i))));
  return build(a.shape, (index) => along(index)[index[axis]!]!);
}

export const transpose = (a: Nd, order: readonly number[]): Nd =>
  build(
    order.map((axis) => a.shape[axis]!),
    (index) =>
      at(
        a,
        a.shape.map((_, axis) => index[order.indexOf(axis)]!),
      ),
  );

/** a [..., m, k] times b [k, n] or [..., k, n]; either may be stored transposed. */
export function matmul(a: Nd, b: Nd, transposeA = false, transposeB = false): Nd {
  const [m, k] = transposeA ? a.shape.slice(-2).reverse() : a.shape.slice(-2);
  const n = b.shape.at(transposeB ? -2 : -1)!;
  return build([...a.shape.slice(0, -2), m!, n], (index) => {
    const stack = index.slice(0, -2);
    const [i, j] = index.slice(-2) as [number, number];
    let total = 0;
    for (let p = 0; p < k!; p++) {
      const left = at(a, [...stack, ...(transposeA ? [p, i] : [i, p])]);
      const right = [...(b.shape.length === 2 ? [] : stack), ...(transposeB ? [j, p] : [p, j])];
      total += left * at(b, right);
    }
    return total;
  });
}

export const sumOf = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0);

export const add = (a: Nd, b: Nd): Nd => zip(a, b, (x, y) => x + y);

export function softmaxRow(row: readonly number[]): number[] {
  const largest = Math.max(...row);
  const exps = row.map((x) => Math.exp(x - largest));
  return exps.map((e) => e / sumOf(exps));
}

export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The error function, by its series; good to 1e-12 for |x| < 4. */
export function erf(x: number): number {
  let term = x;
  let total = x;
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n;
    total += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * total;
}

/** ⟨a, b⟩ */
export const dot = (a: Nd, b: Nd): number => a.data.reduce((total, x, i) => total + x * b.data[i]!, 0);

/** a + h·v for each of several arrays. */
export const shifted = (a: readonly Nd[], v: readonly Nd[], h: number): Nd[] =>
  a.map((x, i) => ({ shape: x.shape, data: x.data.map((value, j) => value + h * v[i]!.data[j]!) }));

/** The derivative of f along v, by central differences. */
export const slope = (f: (a: Nd[]) => number, a: readonly Nd[], v: readonly Nd[], h = 1e-4): number =>
  (f(shifted(a, v, h)) - f(shifted(a, v, -h))) / (2 * h);

/** The second derivative of f along v and w: ⟨w, H·v⟩. */
export const curvature = (
  f: (a: Nd[]) => number,
  a: readonly Nd[],
  v: readonly Nd[],
  w: readonly Nd[],
  h = 2e-4,
): number => slope((b) => slope(f, b, v, h), a, w, h);
