/** What a guarantee for one example promises against k of them at once: k poisons, say. */
import { GradshapeError } from '../../engine/errors.js';
import type { AccountantName } from './accountant.js';
import { createAccountant } from './accountants.js';
import {
  componentsOf,
  isNominal,
  type NeighbouringRelation,
  type PrivacyPhase,
  relationOf,
} from './events.js';
import { gaussianEpsilon } from './gaussian.js';
import { gdpMu } from './gdp.js';
import { type Direction, logMoment } from './moments.js';
import { type Moments, rdpEpsilon } from './rdp.js';
import { logAdd, logBinomial } from './special-functions.js';
import { checkCount, checkDelta } from './validate.js';

export interface GroupBound {
  /**
   * 'group-privacy': kε at δ·(exp(kε) − 1)/(exp(ε) − 1), over the best split of δ (Dwork and Roth 2014, theorem 2.2; any
   * mechanism). 'gaussian': k times the sensitivity, exact (no sampling). 'sampled-group': Rényi accounting of the mixture
   * that k Poisson-sampled examples make (Choquette-Choo, Ganesh, Steinke and Thakurta 2024, mixture of Gaussians).
   */
  method: 'group-privacy' | 'gaussian' | 'sampled-group';
  /** At the certificate's δ; ∞ where this way promises nothing. */
  epsilon: number;
}

export interface GroupCertificate {
  size: number;
  delta: number;
  /** The smallest of the bounds. */
  epsilon: number;
  method: GroupBound['method'];
  bounds: GroupBound[];
  relation: NeighbouringRelation;
  /** 'approximation' if batches are accounted as Poisson-sampled only nominally. */
  kind: 'bound' | 'approximation';
}

/** Mass of the number of sampled group members that may be left to δ, over all steps, relative to δ. */
const IGNORED = 1e-3;

/** log P[Binomial(k, q) = j] for j = 0, 1, …, cut where the rest has less than `tail` mass in all. */
function sampledCounts(k: number, q: number, tail: number): number[] {
  const logs: number[] = [];
  let rest = 1;
  for (let j = 0; j <= k && (rest > tail || j < 2); j++) {
    logs.push(logBinomial(k, j) + j * Math.log(q) + (k - j) * Math.log1p(-q));
    rest = 0;
    for (let i = k; i > j; i--)
      rest += Math.exp(logBinomial(k, i) + i * Math.log(q) + (k - i) * Math.log1p(-q));
  }
  return logs;
}

/**
 * log E[exp(t·loss)] of the mixture Σⱼ exp(logWeightsⱼ)·N(j, σ²) against N(0, σ²), by the trapezoid rule, which converges
 * exponentially for such integrands.
 */
function groupMoment(logWeights: readonly number[], sigma: number, direction: Direction, t: number): number {
  const most = logWeights.length - 1;
  const alpha = direction === 'remove' ? 1 + t : -t;
  const lowest = Math.min(0, alpha * most) - 9 * sigma;
  const highest = Math.max(most, alpha * most) + 9 * sigma;
  const step = Math.min(sigma, sigma * sigma) / 5;
  let logSum = Number.NEGATIVE_INFINITY;
  for (let z = lowest; z <= highest; z += step) {
    let loss = Number.NEGATIVE_INFINITY;
    for (let j = 0; j <= most; j++) loss = logAdd(loss, logWeights[j]! + (j * (z - j / 2)) / sigma / sigma);
    logSum = logAdd(logSum, alpha * loss - 0.5 * (z / sigma) ** 2);
  }
  return logSum + Math.log(step / sigma) - 0.9189385332046728;
}

/** Above this many mixture evaluations for one moment the sampled-group bound isn't attempted. */
const MAX_WORK = 4e5;

/** The sampled-group bound on ε at δ; null where it doesn't apply (fixed-size batches) or costs too much. */
function sampledGroupEpsilon(phases: readonly PrivacyPhase[], size: number, delta: number): number | null {
  const components = componentsOf(phases);
  const steps = components.reduce((total, { count }) => total + count, 0);
  const parts = components.map((component) => ({
    ...component,
    logWeights: sampledCounts(size, component.q, (IGNORED * delta) / steps),
  }));
  const bounds = (['remove', 'add'] as const).map((direction) => {
    let tooMuch = false;
    const moments: Moments = {
      at(t) {
        let total = 0;
        for (const { sampling, q, sigma, count, logWeights } of parts) {
          if (sampling === 'none') total += count * logMoment(direction, q, sigma / size, t);
          else {
            const work =
              (((2 + t) * logWeights.length) / Math.min(sigma, sigma * sigma)) * 5 * logWeights.length;
            if (work > MAX_WORK) {
              tooMuch = true;
              return Infinity;
            }
            total += count * groupMoment(logWeights, sigma, direction, t);
          }
        }
        return total;
      },
      onlyIntegers: false,
      guess: () => 0.5,
    };
    const best = rdpEpsilon(moments, delta * (1 - IGNORED), 'improved');
    return tooMuch && best.value === Infinity ? Infinity : best.value;
  });
  const worst = Math.max(...bounds);
  return worst === Infinity ? null : worst;
}

/** kε such that group privacy turns (ε, δ(ε)) into δ for the group. */
function groupPrivacyEpsilon(
  phases: readonly PrivacyPhase[],
  size: number,
  delta: number,
  accountant: AccountantName,
): number {
  const curve = createAccountant(accountant, phases);
  const logFactor = (epsilon: number): number =>
    epsilon === 0
      ? Math.log(size)
      : (size - 1) * epsilon + Math.log(Math.expm1(-size * epsilon) / Math.expm1(-epsilon));
  const fits = (epsilon: number): boolean =>
    Math.log(curve.delta(epsilon).delta) + logFactor(epsilon) <= Math.log(delta);
  if (fits(0)) return 0;
  let low = 0;
  let high = 1;
  while (!fits(high)) {
    if (high > 1e9) return Infinity;
    low = high;
    high *= 2;
  }
  while (high - low > 1e-4 * high) {
    const middle = (low + high) / 2;
    if (fits(middle)) high = middle;
    else low = middle;
  }
  return size * high;
}

/**
 * The (ε, δ) promised against `size` examples at once, where `phases` were released: for data poisoning, against `size`
 * poisons. All bounds that apply are computed, and the smallest is the certificate.
 * @param options size ≥ 1; delta in (0, 1), the group's; accountant for the plain group-privacy bound,
 *   default 'pld' up to size 4 (half a second), beyond which the others are smaller, so 'rdp'
 * @throws GradshapeError GROUP_SIZE_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, and whatever a phase is refused for
 */
export function groupCertificate(
  phases: readonly PrivacyPhase[],
  options: { size: number; delta: number; accountant?: AccountantName },
): GroupCertificate {
  const { size, delta, accountant = size <= 4 ? 'pld' : 'rdp' } = options;
  checkCount(size, 'size', 'GROUP_SIZE_OUT_OF_RANGE');
  checkDelta(delta);
  const components = componentsOf(phases);
  const bounds: GroupBound[] = [];
  const noiseless = components.some(({ sigma }) => sigma === 0);
  if (size === 1 || noiseless) {
    const { epsilon } = createAccountant(accountant, phases).epsilon(delta);
    bounds.push({ method: 'group-privacy', epsilon });
  } else {
    bounds.push({ method: 'group-privacy', epsilon: groupPrivacyEpsilon(phases, size, delta, accountant) });
    if (components.every(({ sampling }) => sampling === 'none')) {
      bounds.push({ method: 'gaussian', epsilon: gaussianEpsilon(size * gdpMu(components), delta) });
    } else if (components.every(({ sampling }) => sampling !== 'fixed-size')) {
      const epsilon = sampledGroupEpsilon(phases, size, delta);
      if (epsilon !== null) bounds.push({ method: 'sampled-group', epsilon });
    }
  }
  const best = bounds.reduce((a, b) => (b.epsilon < a.epsilon ? b : a));
  return {
    size,
    delta,
    epsilon: best.epsilon,
    method: best.method,
    bounds,
    relation: relationOf(phases),
    kind: isNominal(phases) ? 'approximation' : 'bound',
  };
}

export interface AttackSuccessBound {
  /** With the poisons in, the attack succeeds with at most this probability (over the training's randomness). */
  upper: number;
  /** With them in, it succeeds with at least this probability: poisons can't undo a success either. */
  lower: number;
  /** The guarantees, of those tried, that gave the two. */
  upperFrom: { epsilon: number; delta: number };
  lowerFrom: { epsilon: number; delta: number };
}

/**
 * How far `size` poisons can move an attack's probability of success from `baseline`, its probability without them. For
 * every (ε, δ) that holds: p ≤ exp(ε)·p₀ + δ and 1 − p₀ ≤ exp(ε)·(1 − p) + δ, and the same with p and p₀ exchanged; the
 * tightest over a range of δ is taken.
 * @param options size ≥ 1; baseline in [0, 1]; accountant as in `groupCertificate`, default 'rdp' (a tenth of a second)
 * @throws GradshapeError FRACTION_OUT_OF_RANGE, and as `groupCertificate`
 */
export function attackSuccessBound(
  phases: readonly PrivacyPhase[],
  { size, baseline, accountant = 'rdp' }: { size: number; baseline: number; accountant?: AccountantName },
): AttackSuccessBound {
  if (!(typeof baseline === 'number' && baseline >= 0 && baseline <= 1)) {
    throw new GradshapeError('FRACTION_OUT_OF_RANGE', `baseline must be in [0, 1]; given: ${baseline}.`);
  }
  const nothing = { epsilon: Infinity, delta: 1 };
  const result: AttackSuccessBound = { upper: 1, lower: 0, upperFrom: nothing, lowerFrom: nothing };
  for (const delta of [1e-9, 1e-7, 1e-5, 1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4]) {
    const { epsilon } = groupCertificate(phases, { size, delta, accountant });
    if (epsilon === Infinity) continue;
    const rise = (p: number): number =>
      Math.min(Math.exp(epsilon) * p + delta, 1 - Math.exp(-epsilon) * Math.max(0, 1 - p - delta));
    const upper = rise(baseline);
    const lower = 1 - rise(1 - baseline);
    if (upper < result.upper) Object.assign(result, { upper, upperFrom: { epsilon, delta } });
    if (lower > result.lower) Object.assign(result, { lower, lowerFrom: { epsilon, delta } });
  }
  return result;
}
