/** What all accountants share: releases go in step by step, (ε, δ) comes out. */
import {
  type Component,
  checkPhases,
  componentsOf,
  eventOf,
  isNominal,
  type NeighbouringRelation,
  type PrivacyEvent,
  type PrivacyPhase,
  relationOf,
  sameEvent,
} from './events.js';
import type { RdpConversion } from './rdp.js';
import { checkDelta, checkEpsilon, checkSteps } from './validate.js';

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
  /** All that was released so far, in order; equal events in a row are counted. A copy, which later steps leave as it is. */
  readonly phases: readonly PrivacyPhase[];
  /**
   * Adds `count` (default 1) releases of the event; of a phase, `count` times its steps.
   * @throws GradshapeError as `checkEvent`; STEPS_OUT_OF_RANGE; RELATION_MISMATCH (nothing is added then)
   * @example rdpAccountant().step({ mechanism: 'gaussian', noiseMultiplier: 4, steps: 10 }, 3).phases[0].steps; // 30
   */
  step(event: PrivacyEvent | PrivacyPhase, count?: number): Accountant;
  /** The guarantee at δ in (0, 1). @throws GradshapeError DELTA_OUT_OF_RANGE */
  epsilon(delta: number): PrivacyGuarantee;
  /** The guarantee at ε ≥ 0. @throws GradshapeError EPSILON_OUT_OF_RANGE */
  delta(epsilon: number): PrivacyGuarantee;
  toJSON(): AccountantState;
}

/** The part of an answer that depends on the accountant. */
export type Answer = Pick<PrivacyGuarantee, 'epsilon' | 'delta' | 'kind' | 'method' | 'warnings'> & {
  order?: number;
};

/** The mathematics of one accountant, for components with noise. */
export interface Engine {
  name: AccountantName;
  epsilon(components: readonly Component[], delta: number): Answer;
  delta(components: readonly Component[], epsilon: number): Answer;
  settings: Pick<AccountantState, 'conversion' | 'orders'>;
}

/** How many releases `count` times an event, or a phase with steps of its own, are. */
function releases(event: PrivacyEvent | PrivacyPhase, count: number): number {
  checkSteps(count, 'count');
  if (!('steps' in event)) return count;
  checkSteps(event.steps);
  return count * event.steps;
}

export function makeAccountant(engine: Engine, start: readonly PrivacyPhase[] = []): Accountant {
  const phases: PrivacyPhase[] = [];
  /** The phases as they are given out; null where the last one has grown since. */
  let shown: readonly PrivacyPhase[] | null = null;
  /** One phase of each mechanism there is: what the relation depends on. */
  const kinds = new Map<PrivacyEvent['mechanism'], PrivacyPhase>();
  let components: Component[] | null = null;
  const finish = (answer: Answer): PrivacyGuarantee => {
    const warnings = [...answer.warnings];
    const nominal = isNominal(phases);
    if (phases.some(({ noiseMultiplier }) => noiseMultiplier === 0)) {
      warnings.push('A step without noise was released: no finite ε is promised.');
    }
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
  const noiseless = (): boolean => current().some(({ sigma }) => sigma === 0);
  const trivial = (epsilon: number, delta: number): Answer => ({
    epsilon,
    delta,
    kind: 'bound',
    method: 'closed-form',
    warnings: [],
  });
  const accountant: Accountant = {
    name: engine.name,
    get phases() {
      shown ??= phases.map((phase) => Object.freeze({ ...phase }));
      return [...shown];
    },
    step(given, count = 1) {
      const event = eventOf(given);
      const last = phases.at(-1);
      const merges = last !== undefined && sameEvent(event, last);
      const steps = releases(given, count) + (merges ? last.steps : 0);
      checkSteps(steps);
      if (merges) last.steps = steps;
      else {
        const phase = { ...event, steps };
        relationOf([...kinds.values(), phase]);
        kinds.set(phase.mechanism, phase);
        phases.push(phase);
      }
      components = null;
      shown = null;
      return accountant;
    },
    epsilon(delta) {
      checkDelta(delta);
      if (phases.length === 0) return finish(trivial(0, delta));
      if (noiseless()) return finish(trivial(Infinity, delta));
      return finish(engine.epsilon(current(), delta));
    },
    delta(epsilon) {
      checkEpsilon(epsilon);
      if (phases.length === 0 || epsilon === Infinity) return finish(trivial(epsilon, 0));
      if (noiseless()) return finish(trivial(epsilon, 1));
      return finish(engine.delta(current(), epsilon));
    },
    toJSON: () => ({
      accountant: engine.name,
      version: 1,
      ...engine.settings,
      phases: phases.map((phase) => ({ ...phase })),
    }),
  };
  checkPhases(start);
  for (const phase of start) {
    checkSteps(phase?.steps);
    accountant.step(phase);
  }
  return accountant;
}
