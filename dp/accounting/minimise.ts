/**
 * The minimum over t > 0 of a function with one valley (every t gives a valid bound here, so a miss costs tightness, never
 * soundness): doubles or halves t until the valley is bracketed, then golden-section on log t down to `tolerance`.
 */
export function minimiseOverPositive(
  f: (t: number) => number,
  start: number,
  { tolerance = 1e-3, tMin = 1e-30, tMax = 1e15 } = {},
): { t: number; value: number } {
  const at = (t: number): { t: number; value: number } => ({ t, value: f(t) });
  let mid = at(Math.min(Math.max(start, tMin), tMax));
  let hi = at(Math.min(mid.t * 2, tMax));
  let lo = mid;
  if (hi.value < mid.value) {
    while (hi.value < mid.value && hi.t < tMax) {
      lo = mid;
      mid = hi;
      hi = at(Math.min(mid.t * 2, tMax));
    }
  } else {
    lo = at(Math.max(mid.t / 2, tMin));
    while (lo.value < mid.value && lo.t > tMin) {
      hi = mid;
      mid = lo;
      lo = at(Math.max(mid.t / 2, tMin));
    }
  }
  const golden = 0.6180339887498949;
  let a = Math.log(lo.t);
  let b = Math.log(hi.t);
  let left = at(Math.exp(b - golden * (b - a)));
  let right = at(Math.exp(a + golden * (b - a)));
  let best = mid;
  while (b - a > tolerance) {
    if (left.value <= right.value) {
      b = Math.log(right.t);
      right = left;
      left = at(Math.exp(b - golden * (b - a)));
    } else {
      a = Math.log(left.t);
      left = right;
      right = at(Math.exp(a + golden * (b - a)));
    }
    for (const point of [left, right]) if (point.value < best.value) best = point;
  }
  return best;
}

/** The same over the whole numbers 1, 2, 3, …, up to `max`. */
export function minimiseOverIntegers(f: (t: number) => number, max: number): { t: number; value: number } {
  const known = new Map<number, number>();
  const at = (t: number): number => {
    let value = known.get(t);
    if (value === undefined) {
      value = f(t);
      known.set(t, value);
    }
    return value;
  };
  let hi = 2;
  while (hi < max && at(hi) < at(hi / 2)) hi = Math.min(2 * hi, max);
  let lo = 1;
  while (hi - lo > 2) {
    const third = Math.floor((hi - lo) / 3);
    if (at(lo + third) <= at(hi - third)) hi -= third;
    else lo += third;
  }
  let best = lo;
  for (let t = lo; t <= hi; t++) if (at(t) < at(best)) best = t;
  return { t: best, value: at(best) };
}

/** The least x ≤ hi, rounded up, at which a decreasing function is no longer above `level`; it isn't at hi, and is at 0. */
export function firstBelow(f: (x: number) => number, level: number, hi: number): number {
  let lo = 0;
  let high = hi;
  while (high - lo > 4e-16 * high) {
    const middle = lo + (high - lo) / 2;
    if (middle <= lo || middle >= high) break;
    if (f(middle) > level) lo = middle;
    else high = middle;
  }
  return high;
}
