import { createAccountant } from './accounting/accountants.js';
import { isNominal } from './accounting/events.js';
import {
  type Accountant,
  type AccountantName,
  formatUpperBound,
  type PrivacyPhase,
  type PrivacyStatement,
} from './accounting/index.js';
import { withdrawn } from './accounting/statement.js';
import { bySeededPast, type PrivacyPlan, planStatement } from './plan.js';
import type { Ledger } from './released.js';

/** A training's statement: its plan's, and what else it knows of the data and of the weights. */
export interface TrainingStatement extends PrivacyStatement {
  /**
   * What other trainings of this process released from the same data, beyond what is in the weights, where there were any: so many steps, and
   * the ε, by Rényi divergences, of these and this training's together; null where no relation fits them all, or some are accounted
   * nominally (`nominal-poisson`), so that nothing is promised of them together.
   */
  readonly sameData?: { readonly steps: number; readonly epsilon: number | null };
}

export interface TrainingFacts {
  readonly plan: PrivacyPlan;
  readonly delta: number;
  /** The training's own account, `previous` included. */
  readonly account: Accountant;
  readonly weights: Ledger;
  /** How often the weights were updated without an account. */
  readonly updates: number;
  /** Whether other weights were loaded after the training's first step. */
  readonly replaced: boolean;
  readonly data: readonly Ledger[];
  /** Whether an audit refuted the plan, here or before a checkpoint. */
  readonly refuted: boolean;
  /** Whether its `previous` was noised from a seed, as far as this process knows. */
  readonly seededPast: boolean;
  /** The checkpoint it was taken up from: after how many steps, and how often this process took it up. */
  readonly takenUp: { readonly step: number; readonly times: number } | null;
}

/**
 * ε is for all that is in the weights: other trainings of the same parameters are counted in. What was released from the same data
 * into other weights is named, with the ε of all together.
 */
export function trainingStatement(facts: TrainingFacts): TrainingStatement {
  const { plan, delta, account, weights, data } = facts;
  const origin = weights.seeded ? 'seeded' : plan.origin;
  const others = weights.beyond(account.phases);
  const all = [...others, ...account.phases];
  const accountant = others.length === 0 ? account : compose(plan.accountant, all);
  const statement = planStatement(accountant ?? account, { ...plan, origin, delta });
  // Beside secure noise, what was noised from a seed counts for nothing: it is named by itself.
  const which = plan.origin === 'secure' ? 'secure' : 'all';
  const sameData = worst(data.map((ledger) => together(all, ledger.beyond(all, which), delta)));
  const says = [...statement.says];
  if (others.length > 0) says.push(inWeights(others, accountant !== null));
  if (sameData !== undefined) says.push(named(sameData, delta));
  if (plan.origin === 'secure' && data.some(({ seeded }) => seeded)) {
    says.push(
      'No ε above holds against this: with seeded noise, this process also trained on the same data. From whoever sees what came of that and knows the seed, ' +
        'nothing is hidden.',
    );
  }
  const stated: TrainingStatement = {
    ...statement,
    says,
    notCovered: [...statement.notCovered, ...forks(facts)],
    ...(sameData !== undefined && { sameData }),
  };
  const found = withdrawn(stated, reasonsAgainst(facts, accountant !== null));
  return accountant !== null ? found : { ...found, epsilon: Infinity, phases: all };
}

/** Why no promise stands, whatever was counted. */
function reasonsAgainst(facts: TrainingFacts, together: boolean): string[] {
  const { refuted, updates, replaced, seededPast } = facts;
  const reasons: string[] = [];
  if (refuted) {
    reasons.push(
      'an audit refuted it: its canaries prove a larger ε than is counted below. Look for the fault in what was audited, such as a shaper that exceeds its bound; ' +
        'steps that were made with it stay unprotected.',
    );
  }
  if (updates > 0) {
    reasons.push(
      `these weights were also updated ${updates === 1 ? 'once' : `${updates.toLocaleString('en')} times`} by something that keeps no account, such as ordinary ` +
        'training or a private step by hand, and no ε counts what that learnt. Make private steps alone, on fresh parameters; or, where those updates saw public ' +
        'data only, load their weights into the parameters before the first private step, with params.load(values).',
    );
  }
  if (replaced) {
    reasons.push(
      "after this training's first step its weights were replaced (params.load) by others, and no ε counts what those had learnt from the data. To compare " +
        'weights, load the others into parameters of their own.',
    );
  }
  if (seededPast) reasons.push(bySeededPast);
  if (!together) {
    reasons.push(
      'these weights hold steps that are accounted under different neighbouring relations, which no ε counts together.',
    );
  }
  return reasons;
}

/** An accountant that has seen all phases; null where no relation fits them all. */
function compose(name: AccountantName, phases: readonly PrivacyPhase[]): Accountant | null {
  try {
    return createAccountant(name, phases);
  } catch (error) {
    if ((error as { code?: string }).code === 'RELATION_MISMATCH') return null;
    throw error;
  }
}

const stepsOf = (phases: readonly PrivacyPhase[]): number =>
  phases.reduce((sum, { steps }) => sum + steps, 0);

/** By Rényi divergences: a millisecond, however many trainings there were. */
function together(all: readonly PrivacyPhase[], others: readonly PrivacyPhase[], delta: number) {
  if (others.length === 0) return undefined;
  const phases = [...all, ...others];
  const found = isNominal(phases) ? null : compose('rdp', phases);
  return { steps: stepsOf(others), epsilon: found?.epsilon(delta).epsilon ?? null };
}

type SameData = NonNullable<TrainingStatement['sameData']>;

/** Of a composed set's parts, the one with the least protection. */
function worst(found: readonly (SameData | undefined)[]): SameData | undefined {
  const weight = ({ epsilon }: SameData): number => epsilon ?? Infinity;
  return found.reduce(
    (a, b) => (a === undefined || (b !== undefined && weight(b) > weight(a)) ? b : a),
    undefined,
  );
}

function inWeights(others: readonly PrivacyPhase[], counted: boolean): string {
  return (
    `Other trainings of these parameters made ${steps(stepsOf(others))} that are in the weights, too, ` +
    `${counted ? 'and are counted in ε' : 'and could not be counted with this one’s'}. ` +
    'If none of them saw these data, train parameters of your own (params.load of weights begins anew).'
  );
}

function named({ steps: count, epsilon }: SameData, delta: number): string {
  const released = `From the same data, this process released ${steps(count)} more, by other trainings.`;
  if (epsilon === null) {
    return (
      `${released} Nothing is promised against somebody who sees what came of all these trainings: they are accounted under different ` +
      'neighbouring relations, or some of them only nominally, and so no ε holds for them together.'
    );
  }
  return (
    `${released} Against somebody who sees what came of all these trainings, ε = ${formatUpperBound(epsilon)} at δ = ${formatUpperBound(delta)} is promised ` +
    '(all together, by Rényi divergences).'
  );
}

function forks({ takenUp, plan }: TrainingFacts): string[] {
  // Seeded steps are the same when made again, and are never called private.
  if (takenUp === null || plan.origin === 'seeded') return [];
  const { step, times } = takenUp;
  const often = times === 1 ? '' : ` This process took it up ${times} times.`;
  return [
    `Other trainings that went on from the same checkpoint, the one after step ${step}, and steps that were made after it was saved and then thrown away: ` +
      `each is a release of its own if anybody saw what came of it.${often}`,
  ];
}

const steps = (count: number): string => `${count.toLocaleString('en')} step${count === 1 ? '' : 's'}`;
