/**
 * Privacy-loss-distribution accounting: upper bounds on δ(ε) and ε(δ) by numerical convolution, in the following way.
 *
 * 1. *Tilt.* Every step's loss distribution is reweighted by exp(t·loss), t chosen as the best Rényi order minus one. That
 *    moves the bulk of the composed distribution to where the answer is, so that the FFT's absolute error becomes a relative
 *    error of δ (even of 1e-12), and a window of some standard deviations suffices (cf. Alghamdi et al. 2023, the
 *    saddle-point accountant).
 * 2. *Grid.* Each step is discretised pessimistically (pld-grid.ts); the grid is refined until what this costs in ε is small.
 *    Where rare losses are far larger than the usual ones (a small sampling rate), the two get a grid each.
 * 3. *Compose.* FFT, powers, inverse FFT, modulo the window (pld-compose.ts). What lies outside the window is bounded by
 *    Chernoff and added, as are the truncated tails and a bound on the float64 error of the transforms.
 */
import type { Component } from './events.js';
import { minimiseOverPositive } from './minimise.js';
import { type Direction, logMoment } from './moments.js';
import {
  compose,
  findWindow,
  type GridStep,
  momentOnGrid,
  tilt,
  tiltedDelta,
  tiltedDeltaOfSum,
  type Window,
} from './pld-compose.js';
import { discretise, discretiseOuter, type LossRange, lossRange, outcomeAt } from './pld-grid.js';
import { inClosedForm, sampledStepDelta, sampledStepEpsilon } from './sampled-step.js';
import { erf, logAdd, normalQuantile } from './special-functions.js';

const EPSILON_64 = 2.220446049250313e-16;
const MIN_BITS = 10;
const MAX_BITS = 20;
/** Most points that one step's own distribution may take. */
const MAX_POINTS = 1 << 21;

/** What discretisation may cost in ε: 0.05 %, or 5e-10 where ε itself is tiny. */
function allowedCost(epsilon: number): number {
  return 5e-4 * Math.max(epsilon, 1e-6);
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
 * The moment function of all steps in one direction, over outcomes within `reach` standard deviations of either normal and
 * with losses between −`within` and `within`: where to tilt and how wide a window to take follow from it. (Outcomes beyond
 * are counted as infinite losses; with them in, the best tilt could point at a bump that no realistic δ ever sees.)
 */
function momentFunction(
  components: readonly Component[],
  direction: Direction,
  reach: number,
  within = Infinity,
): (t: number) => number {
  return (t) => {
    let total = 0;
    for (const component of components) {
      const { sampling, q, sigma, count } = component;
      const near = Math.max(-reach * sigma, outcomeAt(component, -within));
      const far = Math.min(1 + reach * sigma, outcomeAt(component, within));
      if (sampling === 'fixed-size') {
        const upper = Math.expm1(logMoment('remove', q, sigma, t, 0.5, far));
        const lower = Math.expm1(logMoment('add', q, sigma, t, 0.5, far));
        total += count * Math.log1p(upper + lower);
      } else total += count * logMoment(direction, q, sigma, t, near, far);
    }
    return total;
  };
}

/** Where usual losses end and rare ones, which get a grid of their own, begin; ∞ where one grid serves both. */
function usualLosses(
  components: readonly Component[],
  direction: Direction,
  reach: number,
  widest: number,
): number {
  const quantiles = components.map((component) => {
    const { lowest, highest } = lossRange(component, direction, 1e-4);
    return Math.max(-lowest, highest);
  });
  const usual = Math.max(...quantiles);
  const steps = components.reduce((total, { count }) => total + count, 0);
  const small = 0.01 / usual;
  const variance = (2 * momentFunction(components, direction, reach, usual)(small)) / (small * (1 + small));
  const beyond = Math.max(usual, 100 * Math.sqrt(variance / steps));
  return 16 * beyond < widest ? beyond : Infinity;
}

/** One direction's steps on their grids: usual losses, and rare ones where those have a grid of their own. */
interface Discretised {
  h: number;
  usual: GridStep[];
  window: Window;
  rare: { h: number; steps: GridStep[]; window: Window } | null;
}

function discretiseAll(
  components: readonly Component[],
  direction: Direction,
  ranges: LossRange[],
  moments: { all: (t: number) => number; usual: (within: number) => (t: number) => number },
  t: number,
  beyond: number,
  bits: number,
): Discretised {
  const widest = Math.max(...ranges.map(({ lowest, highest }) => Math.max(highest - lowest, highest * 1e-3)));
  const onGrid = (h: number, within: number): GridStep[] =>
    components.map((component, i) =>
      tilt(component.count, discretise(component, direction, h, ranges[i]!, within), h, t),
    );
  const clip = (highest: number): void => {
    // A loss far above the window counts as infinite at next to no cost.
    for (const range of ranges) range.highest = Math.min(range.highest, highest);
  };
  if (beyond === Infinity) {
    const window = findWindow(moments.all, t, 1e3 / widest);
    const width = window.highest - window.lowest;
    clip(window.highest + width + 30);
    const h = Math.max(width / (0.95 * 2 ** bits), widest / MAX_POINTS);
    const usual = onGrid(h, Infinity);
    const points = usual.reduce((total, { weights }) => total + weights.length, 0);
    // A coarse grid moves the window up; then its few points tell where to.
    const exact =
      points < 1 << 13 ? findWindow(momentOnGrid(usual, h), t, 1e3 / widest, window.upperShift) : window;
    return { h, usual, window: exact, rare: null };
  }
  let within = beyond;
  let window = findWindow(moments.usual(within), t, 1e3 / within);
  // As many points for the usual losses as for the rare ones, whose grid is 64 times finer than they are large.
  within = Math.max(beyond, Math.sqrt((64 * widest * (window.highest - window.lowest)) / 2 ** bits));
  const usualMoment = moments.usual(within);
  window = findWindow(usualMoment, t, 1e3 / within);
  const width = window.highest - window.lowest;
  const rareWindow = findWindow((s) => moments.all(s) - usualMoment(s), t, 1e3 / widest);
  clip(window.highest + width + rareWindow.highest + 30);
  const h = Math.max(width / (0.95 * 2 ** bits), within / MAX_POINTS);
  const usual = onGrid(h, within);
  /*
   * Let a step draw a usual loss in any case, and a rare one besides with the rare ones' probability. That is a composition of
   * two mechanisms from which the step follows by dropping the usual loss where there is a rare one; so it bounds the step,
   * provided that the usual losses, shifted by −c, have E[exp(−loss)] ≤ 1. c cancels where there's no rare loss.
   */
  const shares = usual.map(({ grid: { first, mass } }) => {
    let p = 0;
    let q = 0;
    mass.forEach((m, i) => {
      p += m;
      q += m * Math.exp(-(first + i) * h);
    });
    return { p, c: Math.log(p / q) - 1e-14 };
  });
  const shift = Math.min(...shares.map(({ c }) => c));
  const rareH = within / 64;
  const steps = components.map((component, i) => {
    const grid = discretiseOuter(component, direction, { h: rareH, shift }, ranges[i]!, within);
    for (let j = 0; j < grid.mass.length; j++) grid.mass[j]! /= shares[i]!.p;
    grid.mass[-grid.first]! += 1;
    return tilt(component.count, grid, rareH, t, true);
  });
  return {
    h,
    usual,
    window: findWindow(momentOnGrid(usual, h), t, 1e3 / within, window.upperShift),
    rare: {
      h: rareH,
      steps,
      window: findWindow(momentOnGrid(steps, rareH), t, 1e3 / widest, rareWindow.upperShift),
    },
  };
}

/** All steps composed: log δ as a function of ε ≥ 0. */
function composeAll({ h, usual, window, rare }: Discretised, t: number): (epsilon: number) => number {
  const bulk = compose(usual, h, t, window);
  const jumps = rare && compose(rare.steps, rare.h, t, rare.window);
  const tilted = jumps ? tiltedDeltaOfSum(bulk, jumps) : tiltedDelta(bulk);
  const logScale = bulk.logScale + (jumps?.logScale ?? 0);
  const outside = bulk.outside + (jumps?.outside ?? 0);
  const slack = bulk.slack + (jumps?.slack ?? 0);
  const logInfinite = Math.log(-Math.expm1(bulk.logFinite));
  return (epsilon) => {
    // What lies outside the windows was tilted by at least exp(t·ε) wherever it counts.
    const counted = logScale - t * epsilon + Math.log(tilted(epsilon) + outside) + slack;
    return Math.min(0, logAdd(counted, logInfinite));
  };
}

/** The ε where a decreasing log δ reaches logDelta, rounded up; 0 if log δ(0) is below it, ∞ if it stays above. */
function solveEpsilon(logDeltaAt: (epsilon: number) => number, logDelta: number, guess: number): number {
  let lo = 0;
  let atLo = logDeltaAt(0) - logDelta;
  if (atLo <= 0) return 0;
  let hi = guess;
  let atHi = logDeltaAt(hi) - logDelta;
  for (; atHi > 0; atHi = logDeltaAt(hi) - logDelta) {
    if (hi > 4 * guess) return Infinity;
    lo = hi;
    atLo = atHi;
    hi *= 1.5;
  }
  // False position, halving the stale end's value (the Illinois rule).
  for (let i = 0; i < 200 && hi - lo > 1e-10 * hi; i++) {
    const secant = hi - (atHi * (hi - lo)) / (atHi - atLo);
    const middle = secant > lo && secant < hi ? secant : (lo + hi) / 2;
    const at = logDeltaAt(middle) - logDelta;
    if (at > 0) {
      lo = middle;
      atLo = at;
      atHi /= 2;
    } else {
      hi = middle;
      atHi = at;
      atLo /= 2;
    }
  }
  return hi;
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
  let lastCost = Infinity;
  for (let attempt = 0; attempt < 80; attempt++) {
    tail = Math.max(tail, 1e-300);
    const reach = -normalQuantile(tail);
    const moment = momentFunction(components, direction, reach);
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
    // (The truncated outcomes, at most 1e-5 of δ on either side, must not tip the comparison.)
    const cautious =
      'logDelta' in query
        ? chernoff.value + 3e-5 / chernoff.t
        : logAdd(chernoff.value, Math.log(2 * tail * steps));
    if (cautious < known) return { value: cautious, roundingCost: 0 };
    if ('epsilon' in query && Math.log(tail * steps) > chernoff.value - 16 && tail > 1e-300) {
      tail = Math.exp(chernoff.value - 23) / steps; // what is truncated should not weigh
      continue;
    }
    const t = chernoff.t * shrinkTilt;
    const beyond = usualLosses(components, direction, reach, widest);
    const moments = {
      all: moment,
      usual: (within: number) => momentFunction(components, direction, reach, within),
    };
    const onGrid = discretiseAll(components, direction, ranges, moments, t, beyond, bits);
    const gridMoment = [...onGrid.usual, ...(onGrid.rare?.steps ?? [])].reduce(
      (total, { count, logMoment }) => total + count * logMoment,
      0,
    );
    const roundingCost = (gridMoment - moment(t)) / t;
    // In search of no more than `known`, any grid may do.
    const searching = known > Number.NEGATIVE_INFINITY;
    const refine = (cost: number, epsilon: number, factor: number): boolean => {
      const excess = cost / (factor * allowedCost(epsilon));
      if (!(excess > 1) || bits === MAX_BITS) return false;
      const finer = Math.max(1, Math.ceil(Math.log2(excess) / 2));
      bits = Math.min(MAX_BITS, bits + Math.min(searching ? 2 : 4, finer));
      return true;
    };
    if (!searching && refine(roundingCost, 'logDelta' in query ? chernoff.value : query.epsilon, 1)) continue;
    const logDelta = composeAll(onGrid, t);
    const epsilon =
      'logDelta' in query ? solveEpsilon(logDelta, query.logDelta, chernoff.value) : query.epsilon;
    const value = logDelta(epsilon);
    const found = 'logDelta' in query ? epsilon : value;
    if (found < known) return { value: known, roundingCost: 0 };
    if ('logDelta' in query && epsilon < onGrid.window.lowest && epsilon > 0 && shrinkTilt > 1e-9) {
      shrinkTilt /= 3; // a large δ: the answer lies below the tilted bulk
      continue;
    }
    if (searching && bits < MAX_BITS && !(found < Infinity)) {
      bits += 2;
      continue;
    }
    if (epsilon === Infinity) return null;
    // Where δ falls more steeply at ε than exp(−t·ε), rounding matters more than its effect on the moment says.
    const slope = (value - logDelta(epsilon + onGrid.h)) / onGrid.h;
    const cost = roundingCost * Math.max(1, slope / t);
    if (epsilon > 0 && cost < 0.5 * lastCost && refine(cost, epsilon, searching ? 1 : 5)) {
      lastCost = cost; // where float64 leaves nothing to gain, it stops falling
      continue;
    }
    if ('epsilon' in query) {
      const wanted = (1e-3 * Math.exp(value)) / steps;
      if (tail > wanted && tail > 1e-300) {
        tail = wanted / 1e3;
        continue;
      }
      return { value, roundingCost: slope * cost };
    }
    // The grid points themselves are float64 numbers, off by a unit in the last place in every step.
    const placement = 4 * EPSILON_64 * steps * (1 + Math.abs(epsilon));
    return { value: epsilon === 0 ? 0 : epsilon + placement, roundingCost: cost };
  }
  return null;
}

/** The probability that steps can be told apart at all, δ(0), is at most this: one minus the product over steps. */
function logTotalVariation(components: readonly Component[]): number {
  let logSame = 0;
  for (const { q, sigma, count } of components) {
    logSame += count * Math.log1p(-q * erf(Math.SQRT1_2 / (2 * sigma)));
  }
  return Math.log(-Math.expm1(logSame));
}

/** A single Poisson-sampled step needs no grid; null for anything else, or where the closed form doesn't reach. */
function singleStep(components: readonly Component[], query: PldQuery): PldAnswer | null {
  const [step] = components;
  if (components.length !== 1 || step!.count !== 1 || step!.sampling !== 'poisson' || step!.q === 1)
    return null;
  const { q, sigma } = step!;
  if ('logDelta' in query) {
    const epsilon = sampledStepEpsilon(q, sigma, Math.exp(query.logDelta));
    return epsilon === null ? null : { value: epsilon, roundingCost: 0 };
  }
  if (!inClosedForm(query.epsilon)) return null;
  return { value: Math.log(sampledStepDelta(q, sigma, query.epsilon)), roundingCost: 0 };
}

/**
 * An upper bound on ε at δ, or on log δ at ε, for the composed components (σ > 0): the worse of adding and removing an
 * example. Null (or NaN) where no affordable grid resolves it.
 */
export function pldBound(components: readonly Component[], query: PldQuery): PldAnswer | null {
  const logVariation = logTotalVariation(components) + 1e-12;
  if ('logDelta' in query && logVariation <= query.logDelta) return { value: 0, roundingCost: 0 };
  const exact = singleStep(components, query);
  if (exact !== null) return exact;
  const symmetric = components.every((c) => c.sampling !== 'poisson');
  const remove = boundInDirection(components, 'remove', query);
  const add =
    remove === null || symmetric ? remove : boundInDirection(components, 'add', query, remove.value);
  if (remove === null || add === null) {
    return 'epsilon' in query ? { value: logVariation, roundingCost: 0 } : null;
  }
  const worst = add.value <= remove.value ? remove : add;
  return 'epsilon' in query && !(worst.value <= logVariation)
    ? { value: logVariation, roundingCost: 0 }
    : worst;
}
