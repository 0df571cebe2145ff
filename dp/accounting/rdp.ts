/** Rényi differential privacy: the divergences of each mechanism and their conversion to (ε, δ). */
import type { Component } from './events.js';
import { minimiseOverIntegers, minimiseOverPositive } from './minimise.js';
import { logMoment, logMomentInteger } from './moments.js';
import { fixedSizeMoments } from './rdp-fixed-size.js';

/**
 * 'classic': ε = RDP + log(1/δ)/(α − 1) (Mironov 2017, proposition 3; the one behind the paper's numbers).
 * 'improved': ε = RDP + log(1 − 1/α) − log(δ·α)/(α − 1) (Balle et al. 2020, theorem 21; Canonne, Kamath and Steinke 2020,
 * proposition 12), as in dp_accounting and Opacus.
 */
export type RdpConversion = 'classic' | 'improved';

/** The orders of the paper's authors (and of early TF-Privacy): 1.1, 1.2, …, 10.9, 12, 13, …, 63. */
export const AUTHORS_ORDERS: readonly number[] = [
  ...Array.from({ length: 99 }, (_, i) => 1 + (i + 1) / 10),
  ...Array.from({ length: 52 }, (_, i) => 12 + i),
];

/** A grid's ends are trusted only when the value there is worse than inside. */
export interface RdpOptimum {
  value: number;
  /** The Rényi order α that gave the value. */
  order: number;
  /** The minimum sat on the first or last of the given orders: others would do better. */
  atEdge: boolean;
}

/** Largest order searched where one order costs a sum of α terms; beyond it nothing is gained in practice. */
const MAX_INTEGER_ORDER = 1 << 14;

/**
 * The composed mechanism's moment function t ↦ log E[exp(t·loss)] = t·RDP(1 + t). Where `onlyIntegers`, the bound is known
 * at whole orders and interpolated between them, so its best order is whole.
 */
export interface Moments {
  at(t: number): number;
  onlyIntegers: boolean;
  /** Where the search for the best order starts, for a given log(1/δ). */
  guess(logInverseDelta: number): number;
}

export function momentsOf(components: readonly Component[]): Moments {
  const parts = components.map(({ sampling, q, sigma, count }) => {
    if (sampling === 'fixed-size') {
      const moments = fixedSizeMoments(q, sigma);
      return (t: number): number => count * moments(t);
    }
    return (t: number): number => {
      const order = 1 + t;
      const whole = Number.isInteger(order) && order >= 2 && order <= 256;
      return count * (whole ? logMomentInteger(q, sigma, order) : logMoment('remove', q, sigma, t));
    };
  });
  const at = (t: number): number => {
    if (t === Infinity || components.some((c) => c.sigma === 0)) return Infinity;
    let total = 0;
    for (const part of parts) total += part(t);
    return total;
  };
  return {
    at,
    onlyIntegers: components.some((c) => c.sampling === 'fixed-size'),
    // Near t = 0 the moment is about its value at 1 times t(1 + t)/2; of that the minimum is known.
    guess: (logInverseDelta) => Math.sqrt((2 * logInverseDelta) / Math.max(at(1), 1e-300)),
  };
}

function optimise(moments: Moments, objective: (t: number) => number, start: number): RdpOptimum {
  const best = moments.onlyIntegers
    ? minimiseOverIntegers(objective, MAX_INTEGER_ORDER)
    : minimiseOverPositive(objective, start);
  return {
    value: best.value,
    order: 1 + best.t,
    atEdge: best.t >= MAX_INTEGER_ORDER && moments.onlyIntegers,
  };
}

function pickOrder(orders: readonly number[], objective: (t: number) => number): RdpOptimum {
  const values = orders.map((order) => objective(order - 1));
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! < values[best]!) best = i;
  const isExtreme = orders[best] === Math.min(...orders) || orders[best] === Math.max(...orders);
  return { value: values[best]!, order: orders[best]!, atEdge: isExtreme && orders.length > 1 };
}

/** log δ ≤ ½·log(1 − exp(−KL)) (Bretagnolle and Huber); KL is at most the RDP of any order. */
function logDeltaFromDivergence(divergence: number): number {
  return 0.5 * Math.log(-Math.expm1(-divergence));
}

/** The smallest ε at δ, over the given orders or, without any, over all. ε is never negative. */
export function rdpEpsilon(
  moments: Moments,
  delta: number,
  conversion: RdpConversion,
  orders?: readonly number[],
): RdpOptimum {
  const logDelta = Math.log(delta);
  // Where even the KL divergence (bounded by the RDP of a low order) is below what δ allows, ε is 0.
  const low = orders ? Math.min(...orders) - 1 : 1e-3;
  if (conversion === 'improved' && logDeltaFromDivergence(moments.at(low) / low) < logDelta) {
    return { value: 0, order: 1 + low, atEdge: false };
  }
  const objective = (t: number): number => {
    const moment = moments.at(t);
    if (moment === Infinity) return Infinity;
    if (conversion === 'classic') return (moment - logDelta) / t;
    return (moment - logDelta - Math.log1p(t)) / t + Math.log(t / (1 + t));
  };
  const best = orders ? pickOrder(orders, objective) : optimise(moments, objective, moments.guess(-logDelta));
  return { ...best, value: Math.max(0, best.value) };
}

/** The smallest log δ at ε, over the given orders or, without any, over all; at most 0. */
export function rdpLogDelta(
  moments: Moments,
  epsilon: number,
  conversion: RdpConversion,
  orders?: readonly number[],
): RdpOptimum {
  const objective = (t: number): number => {
    const moment = moments.at(t);
    if (conversion === 'classic' || moment === Infinity) return moment - t * epsilon;
    return moment - t * epsilon + t * Math.log(t / (1 + t)) - Math.log1p(t);
  };
  const start = Math.max(1e-3, epsilon / Math.max(moments.at(1), 1e-300) - 0.5);
  const best = orders ? pickOrder(orders, objective) : optimise(moments, objective, start);
  if (best.value === Infinity) return { ...best, value: 0 };
  const t = Math.max(best.order - 1, 1e-3);
  const divergence = moments.at(t) / t;
  const byDivergence = conversion === 'improved' ? logDeltaFromDivergence(divergence) : 0;
  return { ...best, value: Math.min(0, best.value, byDivergence) };
}
