/** The accountants there are: Rényi, privacy-loss distributions, Gaussian DP. */
import { GradshapeError } from '../../engine/errors.js';
import {
  type Accountant,
  type AccountantName,
  type AccountantState,
  type Answer,
  type Engine,
  makeAccountant,
} from './accountant.js';
import type { Component, PrivacyPhase } from './events.js';
import { gaussianDelta, gaussianEpsilon } from './gaussian.js';
import { gdpMu } from './gdp.js';
import { pldBound } from './pld.js';
import { momentsOf, type RdpConversion, type RdpOptimum, rdpEpsilon, rdpLogDelta } from './rdp.js';
import { checkOneOf } from './validate.js';

export interface RdpOptions {
  /** Default 'improved'. */
  conversion?: RdpConversion;
  /** Rényi orders to choose from, all > 1. Default: all; the best one is searched for, so it never sits on an edge. */
  orders?: readonly number[];
}

function rdpEngine({ conversion = 'improved', orders }: RdpOptions): Engine {
  checkOneOf(conversion, ['classic', 'improved'], 'conversion', 'CONVERSION_UNKNOWN');
  const sound = (order: number): boolean => typeof order === 'number' && order > 1;
  if (orders !== undefined && !(Array.isArray(orders) && orders.length > 0 && orders.every(sound))) {
    throw new GradshapeError(
      'ORDERS_OUT_OF_RANGE',
      `orders must be a list of numbers > 1; given: [${String(orders)}].`,
    );
  }
  const answer = (best: RdpOptimum, epsilon: number, delta: number): Answer => ({
    epsilon,
    delta,
    kind: 'bound',
    method: 'renyi',
    order: best.order,
    warnings: best.atEdge
      ? [
          `The best order, ${best.order}, is the last of those tried: with more orders the bound would be smaller.`,
        ]
      : [],
  });
  return {
    name: 'rdp',
    epsilon(components, delta) {
      const best = rdpEpsilon(momentsOf(components), delta, conversion, orders);
      return answer(best, best.value, delta);
    },
    delta(components, epsilon) {
      const best = rdpLogDelta(momentsOf(components), epsilon, conversion, orders);
      return answer(best, epsilon, Math.exp(best.value));
    },
    settings: { conversion, ...(orders ? { orders: [...orders] } : {}) },
  };
}

/**
 * Rényi accountant (Mironov 2017; Mironov, Talwar and Zhang 2019 for Poisson sampling; Wang, Balle and Kasiviswanathan 2019
 * for fixed-size batches). A bound; about a millisecond a query.
 * @throws GradshapeError CONVERSION_UNKNOWN, ORDERS_OUT_OF_RANGE
 */
export function rdpAccountant(options: RdpOptions = {}): Accountant {
  return makeAccountant(rdpEngine(options));
}

/** Without any sampling the composition is one Gaussian, known exactly. */
function isGaussian(components: readonly Component[]): boolean {
  return components.every(({ sampling }) => sampling === 'none');
}

/** The smaller of the privacy-loss bound and the Rényi bound; both hold. */
function pldEngine(): Engine {
  const renyi = rdpEngine({});
  const answer = (
    epsilon: number,
    delta: number,
    method: Answer['method'],
    warnings: string[] = [],
  ): Answer => ({
    epsilon,
    delta,
    kind: 'bound',
    method,
    warnings,
  });
  const unresolved = (fallback: Answer): Answer => ({
    ...fallback,
    warnings: ['No affordable grid of privacy losses does better here: this is the Rényi bound.'],
  });
  return {
    name: 'pld',
    epsilon(components, delta) {
      if (isGaussian(components)) {
        return answer(gaussianEpsilon(gdpMu(components), delta), delta, 'closed-form');
      }
      const fallback = renyi.epsilon(components, delta);
      if (fallback.epsilon === 0) return fallback;
      const bound = pldBound(components, { logDelta: Math.log(delta) });
      if (!(bound && bound.value <= fallback.epsilon)) return unresolved(fallback);
      const cost = bound.roundingCost;
      const coarse = cost > 0.01 * bound.value && cost > 1e-5;
      return answer(
        bound.value,
        delta,
        'privacy-loss-distribution',
        coarse ? [`Rounding losses to a grid costs about ${cost.toPrecision(2)} of this ε.`] : [],
      );
    },
    delta(components, epsilon) {
      if (isGaussian(components)) {
        return answer(epsilon, gaussianDelta(gdpMu(components), epsilon), 'closed-form');
      }
      const fallback = renyi.delta(components, epsilon);
      const bound = pldBound(components, { epsilon });
      if (!(bound && Math.exp(bound.value) <= fallback.delta)) return unresolved(fallback);
      return answer(epsilon, Math.exp(bound.value), 'privacy-loss-distribution');
    },
    settings: {},
  };
}

/**
 * Privacy-loss-distribution accountant: the tightest bound here (pld.ts), rounded so that it never is below the truth. The
 * smaller of it and the Rényi bound is returned, and `method` and `warnings` say which. Tens to hundreds of milliseconds.
 */
export function pldAccountant(): Accountant {
  return makeAccountant(pldEngine());
}

function gdpEngine(): Engine {
  const answer = (epsilon: number, delta: number): Answer => ({
    epsilon,
    delta,
    kind: 'approximation',
    method: 'central-limit',
    warnings: ['The central-limit approximation may be below the true value: never state it as a guarantee.'],
  });
  return {
    name: 'gdp',
    epsilon: (components, delta) => answer(gaussianEpsilon(gdpMu(components), delta), delta),
    delta: (components, epsilon) => answer(epsilon, gaussianDelta(gdpMu(components), epsilon)),
    settings: {},
  };
}

/** Gaussian-DP accountant (Bu, Dong, Long and Su 2020): an approximation for many small steps, marked so. */
export function gdpAccountant(): Accountant {
  return makeAccountant(gdpEngine());
}

function engineOf(name: AccountantName, options: RdpOptions): Engine {
  checkOneOf(name, ['rdp', 'pld', 'gdp'], 'accountant', 'ACCOUNTANT_UNKNOWN');
  if (name === 'rdp') return rdpEngine(options);
  return name === 'pld' ? pldEngine() : gdpEngine();
}

/**
 * An accountant by name, having seen the given phases. `options` apply to 'rdp' only.
 * @throws GradshapeError ACCOUNTANT_UNKNOWN, PHASES_INVALID, and whatever a phase is refused for
 */
export function createAccountant(
  name: AccountantName,
  phases: readonly PrivacyPhase[] = [],
  options: RdpOptions = {},
): Accountant {
  return makeAccountant(engineOf(name, options), phases);
}

/**
 * Restores an accountant from `toJSON()`'s state, for checkpoints.
 * @throws GradshapeError ACCOUNTANT_STATE_INVALID, ACCOUNTANT_UNKNOWN, and whatever a phase is refused for
 */
export function accountantFromJSON(state: AccountantState): Accountant {
  if (state?.version !== 1 || !Array.isArray(state.phases)) {
    throw new GradshapeError(
      'ACCOUNTANT_STATE_INVALID',
      `an accountant's state must have version 1 and a list of phases; given: ${JSON.stringify(state)?.slice(0, 100)}.`,
    );
  }
  return createAccountant(state.accountant, state.phases, state);
}
