/** The accountants: what was released goes in step by step, (ε, δ) comes out. */
import { GradshapeError } from '../../engine/errors.js';
import {
  type Component,
  checkEvent,
  componentsOf,
  isNominal,
  type NeighbouringRelation,
  type PrivacyEvent,
  type PrivacyPhase,
  relationOf,
} from './events.js';
import { gaussianDelta, gaussianEpsilon } from './gaussian.js';
import { gdpMu } from './gdp.js';
import { type PldAnswer, type PldQuery, pldBound } from './pld.js';
import { momentsOf, type RdpConversion, type RdpOptimum, rdpEpsilon, rdpLogDelta } from './rdp.js';
import { checkDelta, checkEpsilon, checkOneOf, checkSteps } from './validate.js';

export type AccountantName = 'rdp' | 'pld' | 'gdp';

/** What every answer says about itself. */
export interface PrivacyGuarantee {
  /** ∞ where nothing is promised (no noise). Never NaN. */
  epsilon: number;
  delta: number;
  accountant: AccountantName;
  /** 'bound': the true value is no larger. 'approximation': it may be. */
  kind: 'bound' | 'approximation';
  /** How the number was found: a PLD accountant may have had to use the Rényi bound. */
  method: 'renyi' | 'privacy-loss-distribution' | 'closed-form' | 'central-limit';
  relation: NeighbouringRelation;
  /** The Rényi order that gave the value, where one did. */
  order?: number;
  warnings: string[];
}

/** A plain-data picture of an accountant, for checkpoints. */
export interface AccountantState {
  accountant: AccountantName;
  version: 1;
  phases: PrivacyPhase[];
  conversion?: RdpConversion;
  orders?: number[];
}

export interface Accountant {
  readonly name: AccountantName;
  /** All that was released so far, in order; equal events in a row are counted. */
  readonly phases: readonly PrivacyPhase[];
  /**
   * Adds `count` (default 1) releases of the event.
   * @throws GradshapeError as `checkEvent`; STEPS_OUT_OF_RANGE; RELATION_MISMATCH (nothing is added then)
   */
  step(event: PrivacyEvent, count?: number): Accountant;
  /** The guarantee at δ in (0, 1). @throws GradshapeError DELTA_OUT_OF_RANGE */
  epsilon(delta: number): PrivacyGuarantee;
  /** The guarantee at ε ≥ 0. @throws GradshapeError EPSILON_OUT_OF_RANGE */
  delta(epsilon: number): PrivacyGuarantee;
  toJSON(): AccountantState;
}

/** The part of an answer that depends on the accountant. */
type Answer = Pick<PrivacyGuarantee, 'epsilon' | 'delta' | 'kind' | 'method' | 'warnings'> & {
  order?: number;
};

interface Engine {
  name: AccountantName;
  epsilon(components: readonly Component[], delta: number): Answer;
  delta(components: readonly Component[], epsilon: number): Answer;
  settings: Pick<AccountantState, 'conversion' | 'orders'>;
}

function sameEvent(a: PrivacyEvent, b: PrivacyEvent): boolean {
  const keys = Object.keys(a).filter((key) => key !== 'steps') as (keyof PrivacyEvent)[];
  return keys.every((key) => a[key] === b[key]);
}

function makeAccountant(engine: Engine, start: readonly PrivacyPhase[] = []): Accountant {
  let phases: PrivacyPhase[] = [];
  let components: Component[] | null = null;
  const finish = (answer: Answer): PrivacyGuarantee => {
    const warnings = [...answer.warnings];
    const nominal = isNominal(phases);
    if (nominal) {
      warnings.push(
        'Batches were shuffled but are accounted as Poisson-sampled: this ε is nominal, as in papers that do so, and no bound.',
      );
    }
    return {
      ...answer,
      accountant: engine.name,
      kind: nominal ? 'approximation' : answer.kind,
      relation: relationOf(phases),
      warnings,
    };
  };
  const current = (): Component[] => {
    components ??= componentsOf(phases);
    return components;
  };
  const trivial = (epsilon: number, delta: number): Answer => ({
    epsilon,
    delta,
    kind: 'bound',
    method: 'closed-form',
    warnings: epsilon === Infinity ? ['A step without noise was released: no finite ε is promised.'] : [],
  });
  const accountant: Accountant = {
    name: engine.name,
    get phases() {
      return phases;
    },
    step(event, count = 1) {
      checkEvent(event);
      checkSteps(count, 'count');
      const last = phases[phases.length - 1];
      if (last && sameEvent(event, last)) phases[phases.length - 1] = { ...last, steps: last.steps + count };
      else {
        const next = [...phases, { ...event, steps: count }];
        relationOf(next);
        phases = next;
      }
      components = null;
      return accountant;
    },
    epsilon(delta) {
      checkDelta(delta);
      if (phases.length === 0) return finish(trivial(0, delta));
      if (current().some(({ sigma }) => sigma === 0)) return finish(trivial(Infinity, delta));
      return finish(engine.epsilon(current(), delta));
    },
    delta(epsilon) {
      checkEpsilon(epsilon);
      if (phases.length === 0) return finish(trivial(epsilon, 0));
      if (current().some(({ sigma }) => sigma === 0)) return finish(trivial(epsilon, 1));
      return finish(engine.delta(current(), epsilon));
    },
    toJSON: () => ({
      accountant: engine.name,
      version: 1,
      ...engine.settings,
      phases: phases.map((phase) => ({ ...phase })),
    }),
  };
  for (const { steps, ...event } of start) accountant.step(event as PrivacyEvent, steps);
  return accountant;
}

export interface RdpOptions {
  /** Default 'improved'. */
  conversion?: RdpConversion;
  /** Rényi orders to choose from, all > 1. Default: all; the best one is searched for, so it never sits on an edge. */
  orders?: readonly number[];
}

function rdpEngine({ conversion = 'improved', orders }: RdpOptions): Engine {
  checkOneOf(conversion, ['classic', 'improved'], 'conversion', 'CONVERSION_UNKNOWN');
  if (orders && (orders.length === 0 || !orders.every((order) => order > 1))) {
    throw new GradshapeError('ORDERS_OUT_OF_RANGE', `orders must all be > 1; given: [${orders.join(', ')}].`);
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

/** The smaller of the privacy-loss bound and the Rényi bound; both hold. */
function pldEngine(): Engine {
  const renyi = rdpEngine({});
  const exactMu = (components: readonly Component[]): number | null =>
    components.every(({ sampling }) => sampling === 'none') ? gdpMu(components) : null;
  const choose = (
    bound: PldAnswer | null,
    fallback: Answer,
    value: (answer: Answer) => number,
    fromPld: (bound: PldAnswer) => Answer,
  ): Answer => {
    const answer = bound && fromPld(bound);
    if (answer && value(answer) <= value(fallback)) return answer;
    const why = answer
      ? 'its rounding costs more than the Rényi bound loses'
      : 'none that is affordable resolves the losses';
    return {
      ...fallback,
      warnings: [`No grid of privacy losses reached here (${why}): this is the Rényi bound.`],
    };
  };
  const query = (components: readonly Component[], query: PldQuery): PldAnswer | null => {
    const bound = pldBound(components, query);
    return bound && Number.isNaN(bound.value) ? null : bound;
  };
  return {
    name: 'pld',
    epsilon(components, delta) {
      const mu = exactMu(components);
      if (mu !== null) {
        return {
          epsilon: gaussianEpsilon(mu, delta),
          delta,
          kind: 'bound',
          method: 'closed-form',
          warnings: [],
        };
      }
      return choose(
        query(components, { logDelta: Math.log(delta) }),
        renyi.epsilon(components, delta),
        (answer) => answer.epsilon,
        ({ value, roundingCost }) => ({
          epsilon: value,
          delta,
          kind: 'bound',
          method: 'privacy-loss-distribution',
          warnings:
            roundingCost > 0.01 * value && value > 1e-6
              ? [`Rounding losses to a grid costs about ${roundingCost.toPrecision(2)} of this ε.`]
              : [],
        }),
      );
    },
    delta(components, epsilon) {
      const mu = exactMu(components);
      if (mu !== null) {
        return {
          epsilon,
          delta: gaussianDelta(mu, epsilon),
          kind: 'bound',
          method: 'closed-form',
          warnings: [],
        };
      }
      return choose(
        epsilon === Infinity
          ? { value: Number.NEGATIVE_INFINITY, roundingCost: 0 }
          : query(components, { epsilon }),
        renyi.delta(components, epsilon),
        (answer) => answer.delta,
        ({ value }) => ({
          epsilon,
          delta: Math.exp(value),
          kind: 'bound',
          method: 'privacy-loss-distribution',
          warnings: [],
        }),
      );
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
 * @throws GradshapeError ACCOUNTANT_UNKNOWN, and whatever a phase is refused for
 */
export function createAccountant(
  name: AccountantName,
  phases: readonly PrivacyPhase[] = [],
  options: RdpOptions = {},
): Accountant {
  return makeAccountant(engineOf(name, options), phases);
}

/** Restores an accountant from `toJSON()`'s state, for checkpoints. @throws GradshapeError ACCOUNTANT_STATE_INVALID */
export function accountantFromJSON(state: AccountantState): Accountant {
  if (state?.version !== 1 || !Array.isArray(state.phases)) {
    throw new GradshapeError(
      'ACCOUNTANT_STATE_INVALID',
      `an accountant's state must have version 1 and a list of phases; given: ${JSON.stringify(state)?.slice(0, 100)}.`,
    );
  }
  return createAccountant(state.accountant, state.phases, state);
}
