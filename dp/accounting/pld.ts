/**
 * Privacy-loss-distribution accounting: upper bounds on δ(ε) and ε(δ) by numerical convolution, in the following way.
 *
 * 1. *Tilt.* Every step's loss distribution is reweighted by exp(t·loss), t chosen as the best Rényi order minus one. That
 *    moves the bulk of the composed distribution to where the answer is, so that the FFT's absolute error becomes a relative
 *    error of δ (even of 1e-12), and a window of some standard deviations suffices (cf. Alghamdi et al. 2023, the
 *    saddle-point accountant).
 * 2. *Grid.* Each step is discretised pessimistically (pld-grid.ts); the grid is refined until what this costs in ε is small.
 * 3. *Compose.* FFT, powers, inverse FFT, modulo the window. What wraps around only adds mass; what lies above the window is
 *    bounded by Chernoff and added, as are the truncated tails and a bound on the float64 error of the transforms.
 */
import type { Component } from './events.js';
import { fft, inverseFft, powerOfSpectrum } from './fft.js';
import { minimiseOverPositive } from './minimise.js';
import { type Direction, logMoment } from './moments.js';
import { discretise, type GridLoss, lossRange } from './pld-grid.js';
import { logAdd, normalQuantile } from './special-functions.js';

const EPSILON_64 = 2.220446049250313e-16;
const MIN_BITS = 10;
const MAX_BITS = 20;
/** Most points that one step's own distribution may take. */
const MAX_POINTS = 1 << 21;
/** log of the tilted probability left outside the window, at either end. */
const LOG_OUTSIDE = -24;

/** What discretisation may cost in ε: 0.03 %, or 3e-7 where ε itself is tiny. */
function allowedCost(epsilon: number): number {
  return 3e-4 * Math.max(epsilon, 1e-3);
}

/** What a query asks: ε at a log δ, or log δ at an ε. */
export type PldQuery = { logDelta: number } | { epsilon: number };

export interface PldAnswer {
  /** The upper bound: on ε for a query by log δ, on log δ for a query by ε. */
  value: number;
  /** How much of the value the grid's rounding accounts for, roughly: same unit. */
  roundingCost: number;
}

/**
 * The moment function of all steps in one direction, over outcomes within `reach` standard deviations of either normal:
 * where to tilt and how wide a window to take follow from it. (Outcomes beyond are counted as infinite losses; with them in,
 * the best tilt could point at a bump that no realistic δ ever sees.)
 */
function momentFunction(
  components: readonly Component[],
  direction: Direction,
  reach: number,
): (t: number) => number {
  return (t) => {
    let total = 0;
    for (const { sampling, q, sigma, count } of components) {
      const near = -reach * sigma;
      const far = 1 + reach * sigma;
      if (sampling === 'fixed-size') {
        const upper = Math.expm1(logMoment('remove', q, sigma, t, 0.5, far));
        const lower = Math.expm1(logMoment('add', q, sigma, t, 0.5, far));
        total += count * Math.log1p(upper + lower);
      } else total += count * logMoment(direction, q, sigma, t, near, far);
    }
    return total;
  };
}

/** One step on the grid, ready for tilting. */
interface GridStep {
  count: number;
  grid: GridLoss;
  logMasses: Float64Array;
  /** log Σ mass·exp(t·loss), and the terms of that sum divided by it. */
  logMoment: number;
  weights: Float64Array;
}

/** log Σ exp(logMasses + t·loss) over the grid; leaves the terms, divided by the largest, in `terms`. */
function gridLogMoment(
  grid: GridLoss,
  logMasses: Float64Array,
  h: number,
  t: number,
  terms: Float64Array,
): number {
  let peak = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < terms.length; i++) {
    const exponent = logMasses[i]! + t * (grid.first + i) * h;
    terms[i] = exponent;
    if (exponent > peak) peak = exponent;
  }
  let sum = 0;
  let lost = 0; // Kahan's compensation: the sum is raised to the number of steps
  for (let i = 0; i < terms.length; i++) {
    const term = Math.exp(terms[i]! - peak);
    terms[i] = term;
    const next = sum + (term - lost);
    lost = next - sum - (term - lost);
    sum = next;
  }
  return peak + Math.log(sum);
}

function tilt(component: Component, grid: GridLoss, h: number, t: number): GridStep {
  const logMasses = grid.mass.map(Math.log);
  const weights = new Float64Array(grid.mass.length);
  const logMoment = gridLogMoment(grid, logMasses, h, t, weights);
  let sum = 0;
  for (const weight of weights) sum += weight;
  for (let i = 0; i < weights.length; i++) weights[i]! /= sum;
  return { count: component.count, grid, logMasses, logMoment, weights };
}

interface Window {
  lowest: number;
  highest: number;
  /** The Chernoff exponents beyond t that the two ends were found with. */
  upperShift: number;
}

/** An interval that holds all but exp(LOG_OUTSIDE) of the tilted sum at either end, by Chernoff's bound. */
function findWindow(moment: (t: number) => number, t: number, tMax: number): Window {
  const at = moment(t);
  const loose = { tolerance: 0.1, tMax };
  const upper = minimiseOverPositive((s) => (moment(t + s) - at - LOG_OUTSIDE) / s, t, loose);
  const lower = minimiseOverPositive((s) => (moment(t - s) - at - LOG_OUTSIDE) / s, upper.t, loose);
  return { lowest: -lower.value, highest: upper.value, upperShift: upper.t };
}

/** The composed distribution's tilted mass on the window, still to be untilted. */
interface Composed {
  h: number;
  /** Grid index of the window's first point. */
  first: number;
  mass: Float64Array;
  /** Bound on the float64 error of each entry of `mass`. */
  error: number;
  /** mass·exp(logScale − t·loss) is probability. */
  logScale: number;
  t: number;
  /** Added to δ: truncated mass, and mass above the window. */
  extraDelta: number;
  /** Relative float64 error of the untilted mass. */
  slack: number;
}

function compose(steps: GridStep[], bits: number, h: number, t: number, window: Window): Composed {
  const n = 2 ** bits;
  const first = Math.floor(window.lowest / h);
  const totalRe = new Float64Array(n).fill(1);
  const totalIm = new Float64Array(n);
  const relativeError = new Float64Array(n);
  const logLargest = new Float64Array(n); // of the spectrum with all errors against us
  let offset = 0;
  let logScale = 0;
  let slack = 1e-13;
  let logFinite = 0;
  let logTop = -(t + window.upperShift) * (first + n) * h;
  for (const { count, grid, logMasses, logMoment, weights } of steps) {
    const re = new Float64Array(n);
    const im = new Float64Array(n);
    let sum = 0;
    for (let i = 0, at = 0; i < weights.length; i++) {
      re[at]! += weights[i]!;
      sum += weights[i]!;
      at = (at + 1) & (n - 1);
    }
    fft(re, im);
    // Each output is a sum over paths of log₂ n butterflies, each with a relative error of a few units in the last place.
    const transformError = 4 * EPSILON_64 * bits * sum;
    for (let k = 0; k < n; k++) {
      const size = Math.sqrt(re[k]! * re[k]! + im[k]! * im[k]!);
      relativeError[k]! += count * (transformError / size + 3 * EPSILON_64);
      logLargest[k]! += count * Math.log(size + transformError);
    }
    powerOfSpectrum(re, im, count);
    for (let k = 0; k < n; k++) {
      const r = totalRe[k]! * re[k]! - totalIm[k]! * im[k]!;
      totalIm[k] = totalRe[k]! * im[k]! + totalIm[k]! * re[k]!;
      totalRe[k] = r;
    }
    offset += count * grid.first;
    logScale += count * logMoment;
    const largest =
      Math.abs(t * grid.first * h) + Math.abs(t * (grid.first + weights.length) * h) + Math.abs(logMoment);
    slack += 2 * EPSILON_64 * count * (8 + largest);
    logFinite += count * Math.log1p(-Math.min(1, grid.infinite));
    logTop += count * gridLogMoment(grid, logMasses, h, t + window.upperShift, weights);
  }
  let error = 0;
  let spectrum = 0;
  for (let k = 0; k < n; k++) {
    const size = Math.sqrt(totalRe[k]! * totalRe[k]! + totalIm[k]! * totalIm[k]!);
    spectrum += size;
    error += relativeError[k]! < 0.2 ? 1.2 * size * relativeError[k]! : Math.exp(logLargest[k]!);
  }
  inverseFft(totalRe, totalIm);
  // The window's point i is the circular result at (first + i − offset) mod n.
  const shift = (((first - offset) % n) + n) % n;
  const mass = new Float64Array(n);
  mass.set(totalRe.subarray(shift));
  mass.set(totalRe.subarray(0, shift), n - shift);
  return {
    h,
    first,
    mass,
    error: (error + 4 * EPSILON_64 * bits * spectrum) / n,
    logScale,
    t,
    extraDelta: -Math.expm1(logFinite) + Math.exp(logTop),
    slack: slack + 8 * EPSILON_64 * Math.abs(logScale),
  };
}

/**
 * Walks the window from its top, undoing the tilt, and hands (lₖ, A, B) to `visit` until that returns true: with
 * probabilities pⱼ at losses lⱼ, A = Σ pⱼ and B = Σ pⱼ·exp(lₖ − lⱼ) over j ≥ k, so that δ(ε) = A − exp(ε − lₖ)·B for ε between
 * lₖ₋₁ and lₖ. A and B are in units of exp(logUnit(c)), which is about δ.
 */
function descend(c: Composed, visit: (loss: number, above: number, scaled: number) => boolean): void {
  const middle = c.mass.length / 2;
  const shrink = Math.exp(-c.h);
  let above = 0;
  let scaled = 0;
  for (let k = c.mass.length - 1; k >= 0; k--) {
    const p = Math.max(0, c.mass[k]! + c.error) * Math.exp(-c.t * (k - middle) * c.h) * (1 + c.slack);
    above += p;
    scaled = scaled * shrink + p;
    if (visit((c.first + k) * c.h, above, scaled)) return;
  }
}

function logUnit(c: Composed): number {
  return c.logScale - c.t * (c.first + c.mass.length / 2) * c.h;
}

/** The ε at a δ: 0 if δ(0) is below it, null if the answer lies below the window. */
function readEpsilon(c: Composed, logDelta: number): number | null {
  const budget = (Math.exp(logDelta) - c.extraDelta) * Math.exp(-logUnit(c));
  if (!(budget > 0)) return Infinity;
  const shrink = Math.exp(-c.h);
  let epsilon: number | null = null;
  descend(c, (loss, above, scaled) => {
    if (above - shrink * scaled >= budget) epsilon = Math.max(0, loss + Math.log((above - budget) / scaled));
    else if (loss <= 0) epsilon = 0;
    return epsilon !== null;
  });
  return epsilon;
}

/** log δ at an ε. */
function readLogDelta(c: Composed, epsilon: number): number {
  let delta = 0;
  descend(c, (loss, above, scaled) => {
    if (loss > epsilon) delta = Math.max(delta, above - Math.exp(epsilon - loss) * scaled);
    return loss <= epsilon;
  });
  const total = logAdd(Math.log(delta) + logUnit(c), Math.log(c.extraDelta));
  // Between an ε below the window and the window there is at most the tilted tail left out, undone at ε.
  const missed =
    epsilon < c.first * c.h ? c.logScale - c.t * epsilon + LOG_OUTSIDE + 1 : Number.NEGATIVE_INFINITY;
  return Math.min(0, logAdd(total, missed));
}

/**
 * The bound in one direction, or null where no affordable grid resolves it. Where Chernoff's bound shows that it is no
 * larger than `known`, that bound will do.
 */
function boundInDirection(
  components: readonly Component[],
  direction: Direction,
  query: PldQuery,
  known = Number.NEGATIVE_INFINITY,
): PldAnswer | null {
  const steps = components.reduce((total, { count }) => total + count, 0);
  // Outcomes less likely than this in a step are taken for infinite losses; for a query by ε it follows δ down.
  let tail = 'logDelta' in query ? (1e-5 * Math.exp(query.logDelta)) / steps : 1e-8 / steps;
  let bits = MIN_BITS;
  let shrinkTilt = 1;
  for (let attempt = 0; attempt < 80; attempt++) {
    tail = Math.max(tail, 1e-300);
    const moment = momentFunction(components, direction, -normalQuantile(tail));
    const start = Math.sqrt(20 / Math.max(moment(1), 1e-300));
    const ranges = components.map((component) => lossRange(component, direction, tail));
    const widest = Math.max(
      ...ranges.map(({ lowest, highest }) => Math.max(highest - lowest, highest * 1e-3)),
    );
    const search = { tMax: 1e5 / widest }; // losses are bounded: more tilt than this picks out single values
    const chernoff =
      'logDelta' in query
        ? minimiseOverPositive((t) => (moment(t) - query.logDelta) / t, start, search)
        : minimiseOverPositive((t) => moment(t) - t * query.epsilon, start, search);
    // (The truncated outcomes, at most 1e-5 of δ, must not tip the comparison.)
    const cautious =
      'logDelta' in query
        ? chernoff.value + 2e-5 / chernoff.t
        : logAdd(chernoff.value, Math.log(tail * steps));
    if (cautious < known) return { value: cautious, roundingCost: 0 };
    if ('epsilon' in query && chernoff.value < Math.log(1e4 * tail * steps) && tail > 1e-300) {
      tail *= 1e-6; // what was truncated would outweigh the rest
      continue;
    }
    const t = chernoff.t * shrinkTilt;
    const window = findWindow(moment, t, 1e3 / widest);
    const width = window.highest - window.lowest;
    for (const range of ranges) {
      // A loss far above the window counts as infinite at next to no cost.
      range.highest = Math.min(range.highest, window.highest + width + 30);
    }
    const h = Math.max(width / (2 ** bits - 2), widest / MAX_POINTS);
    const tilted = components.map((component, i) =>
      tilt(component, discretise(component, direction, h, ranges[i]!), h, t),
    );
    const roundingCost =
      (tilted.reduce((total, { count, logMoment }) => total + count * logMoment, 0) - moment(t)) / t;
    const epsilonGuess = 'logDelta' in query ? chernoff.value : query.epsilon;
    const excess = roundingCost / allowedCost(epsilonGuess);
    if (excess > 1 && bits < MAX_BITS) {
      bits = Math.min(MAX_BITS, bits + Math.min(4, Math.max(1, Math.ceil(Math.log2(excess) / 2))));
      continue;
    }
    const composed = compose(tilted, bits, h, t, window);
    if ('epsilon' in query) {
      const value = readLogDelta(composed, query.epsilon);
      const wanted = (1e-4 * Math.exp(value)) / steps;
      if (tail > wanted && tail > 1e-300) tail = wanted / 10;
      else return { value, roundingCost: t * roundingCost };
      continue;
    }
    const epsilon = readEpsilon(composed, query.logDelta);
    if (epsilon === null) {
      shrinkTilt /= 3; // a large δ: the answer lies below the tilted bulk
      continue;
    }
    if (roundingCost > 10 * allowedCost(epsilon) && epsilon > 0 && bits < MAX_BITS) {
      bits++;
      continue;
    }
    // The grid points themselves are float64 numbers, off by a unit in the last place in every step.
    const placement = 4 * EPSILON_64 * steps * (1 + Math.abs(epsilon));
    return { value: epsilon === 0 ? 0 : epsilon + placement, roundingCost };
  }
  return null;
}

/**
 * An upper bound on ε at δ, or on log δ at ε, for the composed components (σ > 0): the worse of adding and removing an
 * example. Null (or NaN) where no affordable grid resolves it.
 */
export function pldBound(components: readonly Component[], query: PldQuery): PldAnswer | null {
  const symmetric = components.every((c) => c.sampling !== 'poisson');
  const remove = boundInDirection(components, 'remove', query);
  if (remove === null || symmetric) return remove;
  const add = boundInDirection(components, 'add', query, remove.value);
  return add !== null && add.value <= remove.value ? remove : add;
}
