/** Composition of tilted loss distributions on a grid, and the δ(ε) that comes out. */
import { fft, inverseFft, powerOfSpectrum } from './fft.js';
import { minimiseOverPositive } from './minimise.js';
import type { GridLoss } from './pld-grid.js';

const EPSILON_64 = 2.220446049250313e-16;
/**
 * log of the tilted probability left outside the window, at either end: below what float64 resolves, because it is a floor
 * under δ, and the tilt needn't be the best one where a loss or two make up all of δ.
 */
const LOG_OUTSIDE = -40;

/** One step on the grid, tilted, and how often it is taken. */
export interface GridStep {
  count: number;
  grid: GridLoss;
  logMasses: Float64Array;
  /** log Σ mass·exp(t·loss), and the terms of that sum divided by it. */
  logMoment: number;
  weights: Float64Array;
  /** Whether nearly all the mass sits at loss 0 (on the grid of rare losses). */
  mostlyZero: boolean;
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

export function tilt(count: number, grid: GridLoss, h: number, t: number, mostlyZero = false): GridStep {
  const logMasses = grid.mass.map(Math.log);
  const weights = new Float64Array(grid.mass.length);
  const logMoment = gridLogMoment(grid, logMasses, h, t, weights);
  let sum = 0;
  for (const weight of weights) sum += weight;
  for (let i = 0; i < weights.length; i++) weights[i]! /= sum;
  return { count, grid, logMasses, logMoment, weights, mostlyZero };
}

export interface Window {
  lowest: number;
  highest: number;
  /** The Chernoff exponents below and beyond t that the two ends were found with. */
  lowerShift: number;
  upperShift: number;
}

/** The moment function t ↦ log E[exp(t·loss)] of steps on one grid, composed. */
export function momentOnGrid(steps: readonly GridStep[], h: number): (t: number) => number {
  const scratch = steps.map(({ weights }) => new Float64Array(weights.length));
  return (t) =>
    steps.reduce(
      (total, { count, grid, logMasses }, i) =>
        total + count * gridLogMoment(grid, logMasses, h, t, scratch[i]!),
      0,
    );
}

/** An interval that holds all but exp(LOG_OUTSIDE) of the tilted sum at either end, by Chernoff's bound. */
export function findWindow(moment: (t: number) => number, t: number, tMax: number, start = t): Window {
  const at = moment(t);
  const loose = { tolerance: 0.1, tMax };
  const upper = minimiseOverPositive((s) => (moment(t + s) - at - LOG_OUTSIDE) / s, start, loose);
  const lower = minimiseOverPositive((s) => (moment(t - s) - at - LOG_OUTSIDE) / s, upper.t, loose);
  return { lowest: -lower.value, highest: upper.value, lowerShift: lower.t, upperShift: upper.t };
}

/** The composed distribution's tilted mass on the window: mass·exp(logScale − t·loss) is probability. */
export interface Composed {
  h: number;
  /** Grid index of the window's first point. */
  first: number;
  mass: Float64Array;
  t: number;
  logScale: number;
  /** Bound on the tilted mass outside the window. */
  outside: number;
  /** log of the probability that no step's loss counts as infinite. */
  logFinite: number;
  /** Relative float64 error of the untilted mass. */
  slack: number;
}

function modulo(a: number, n: number): number {
  return ((a % n) + n) % n;
}

/** Raises 1 − sum + (re + i·im), |re + i·im| ≤ sum, to a power in place, relatively off by 20·power·sum/|base|² units. */
function powerNearOne(re: Float64Array, im: Float64Array, sum: number, power: number): void {
  for (let k = 0; k < re.length; k++) {
    const x = re[k]! - sum;
    const y = im[k]!;
    const size = Math.exp((power / 2) * Math.log1p(2 * x + x * x + y * y));
    const angle = power * Math.atan2(y, 1 + x);
    re[k] = size * Math.cos(angle);
    im[k] = size * Math.sin(angle);
  }
}

/** Steps on one grid, composed in a window of a power of two points, modulo that window. */
export function compose(steps: GridStep[], h: number, t: number, window: Window): Composed {
  const bits = Math.max(4, Math.ceil(Math.log2((window.highest - window.lowest) / h + 2)));
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
  const above = momentOnGrid(steps, h)(t + window.upperShift);
  const below = momentOnGrid(steps, h)(t - window.lowerShift);
  for (const { count, grid, logMoment, weights, mostlyZero } of steps) {
    const re = new Float64Array(n);
    const im = new Float64Array(n);
    const zero = mostlyZero ? -grid.first : -1;
    let sum = 0;
    for (let i = 0, at = mostlyZero ? modulo(grid.first, n) : 0; i < weights.length; i++) {
      if (i !== zero) {
        re[at]! += weights[i]!;
        sum += weights[i]!;
      }
      at = (at + 1) & (n - 1);
    }
    fft(re, im);
    // Each output is a sum over paths of log₂ n butterflies, each with a relative error of a few units in the last place.
    const transformError = 4 * EPSILON_64 * bits * sum;
    for (let k = 0; k < n; k++) {
      const [x, y] = [mostlyZero ? 1 - sum + re[k]! : re[k]!, im[k]!];
      const size = Math.sqrt(x * x + y * y); // ten times as fast as Math.hypot; a size that underflows is below its error
      const rounding = EPSILON_64 * (mostlyZero ? (20 * sum) / (size * size) : 3);
      const relative = count * (transformError / size + rounding);
      relativeError[k]! += relative;
      if (relative > 0.2) logLargest[k]! += count * Math.log(size + transformError);
    }
    if (mostlyZero) powerNearOne(re, im, sum, count);
    else powerOfSpectrum(re, im, count);
    for (let k = 0; k < n; k++) {
      const r = totalRe[k]! * re[k]! - totalIm[k]! * im[k]!;
      totalIm[k] = totalRe[k]! * im[k]! + totalIm[k]! * re[k]!;
      totalRe[k] = r;
    }
    if (!mostlyZero) offset += count * grid.first;
    logScale += count * logMoment;
    const largest =
      Math.abs(t * grid.first * h) + Math.abs(t * (grid.first + weights.length) * h) + Math.abs(logMoment);
    slack += 2 * EPSILON_64 * count * (8 + largest);
    logFinite += count * Math.log1p(-Math.min(1, grid.infinite));
  }
  let error = 0;
  let spectrum = 0;
  for (let k = 0; k < n; k++) {
    const size = Math.sqrt(totalRe[k]! * totalRe[k]! + totalIm[k]! * totalIm[k]!);
    spectrum += size;
    error += relativeError[k]! < 0.2 ? 1.2 * size * relativeError[k]! : size + Math.exp(logLargest[k]!);
  }
  inverseFft(totalRe, totalIm);
  error = (error + 4 * EPSILON_64 * bits * spectrum) / n;
  // The window's point i is the circular result at (first + i − offset) mod n.
  const shift = modulo(first - offset, n);
  const mass = new Float64Array(n);
  for (let i = 0; i < n; i++) mass[i] = Math.max(0, totalRe[(i + shift) & (n - 1)]! + error);
  return {
    h,
    first,
    mass,
    t,
    logScale,
    outside:
      Math.exp(above - logScale - window.upperShift * (first + n) * h) +
      Math.exp(below - logScale + window.lowerShift * first * h),
    logFinite,
    slack: slack + EPSILON_64 * (8 * Math.abs(logScale) + 4 * n),
  };
}

/**
 * What a composed distribution's exp(t·ε − logScale)·δ(ε) is made of, at the window's grid points: sums over the losses above,
 * built up from the top without any cancellation.
 */
interface TiltedProfile {
  /** Σ mass·exp(−t·x)·(1 − exp(−x)) over losses at x ≥ 0 above the point. */
  delta: Float64Array;
  /** Σ mass·exp(−(1 + t)·x). */
  scaled: Float64Array;
}

function profileOf({ h, mass, t }: Composed): TiltedProfile {
  const n = mass.length;
  const delta = new Float64Array(n + 1);
  const scaled = new Float64Array(n + 1);
  const decay = Math.exp(-t * h);
  const scaledDecay = Math.exp(-(1 + t) * h);
  const gain = -Math.expm1(-h);
  for (let k = n - 1; k >= 0; k--) {
    delta[k] = decay * (delta[k + 1]! + gain * scaled[k + 1]!);
    scaled[k] = mass[k]! + scaledDecay * scaled[k + 1]!;
  }
  return { delta, scaled };
}

/** exp(t·ε − logScale)·δ(ε) as a function of ε: exact between grid points, too. */
export function tiltedDelta(composed: Composed): (epsilon: number) => number {
  const { h, first, t, mass } = composed;
  const { delta, scaled } = profileOf(composed);
  return (epsilon) => {
    const k = Math.max(0, Math.ceil(epsilon / h) - first);
    if (k >= mass.length) return 0;
    const x = epsilon - (first + k) * h;
    return Math.exp(t * x) * (delta[k]! - Math.expm1(x) * scaled[k]!);
  };
}

/** The same for the sum of usual losses and rare ones, composed on a grid each. */
export function tiltedDeltaOfSum(usual: Composed, rare: Composed): (epsilon: number) => number {
  const usualDelta = tiltedDelta(usual);
  const usualProfile = profileOf(usual);
  const rareProfile = profileOf(rare);
  const bottom = usual.first * usual.h;
  const top = (usual.first + usual.mass.length) * usual.h;
  const { mass, first, h, t } = rare;
  const clamp = (k: number): number => Math.min(mass.length, Math.max(0, k - first));
  return (epsilon) => {
    // Rare losses that leave less than the least usual loss to go: all of these add up to ε, by a known amount each.
    const certain = clamp(Math.ceil((epsilon - bottom) / h));
    let sum = 0;
    for (let k = clamp(Math.floor((epsilon - top) / h)); k < certain; k++) {
      sum += mass[k]! * usualDelta(epsilon - (first + k) * h);
    }
    const x = epsilon - bottom - (first + certain) * h;
    const all = rareProfile.delta[certain]! + rareProfile.scaled[certain]!; // Σ mass·exp(−t·x)
    const missing = rareProfile.delta[certain]! - Math.expm1(x) * rareProfile.scaled[certain]!;
    return sum + Math.exp(t * x) * (all * usualProfile.delta[0]! + missing * usualProfile.scaled[0]!);
  };
}
