/** What this process has released of a data set, and into which weights: so that several trainings are counted together. */
import type { Dataset, Parameters } from '../engine/index.js';
import { eventOf, sameEvent } from './accounting/events.js';
import type { PrivacyEvent, PrivacyPhase } from './accounting/index.js';
import { isSeeded } from './seeded-phases.js';

/** How far a run of steps got, by the run's name. A training taken up from a checkpoint is another run from there on. */
export interface RunPart {
  readonly run: string;
  readonly step: number;
}

/** Phases with equal events merged: as many as there are kinds of events, however many trainings there were. */
class Tally {
  readonly #phases = new Map<string, PrivacyPhase>();
  /** The phase that was added to last: mostly it is added to again. */
  #last: PrivacyPhase | null = null;

  constructor(phases: Iterable<PrivacyPhase> = []) {
    for (const phase of phases) this.add(phase);
  }

  add(phase: PrivacyPhase): void {
    if (this.#last === null || !sameEvent(phase, this.#last)) {
      const event = eventOf(phase);
      const key = Object.values(event).join(' ');
      this.#last = this.#phases.get(key) ?? { ...event, steps: 0 };
      this.#phases.set(key, this.#last);
    }
    this.#last.steps += phase.steps;
  }

  get phases(): PrivacyPhase[] {
    return [...this.#phases.values()].map((phase) => ({ ...phase }));
  }

  /** What is here beyond other phases. */
  beyond(others: Iterable<PrivacyPhase>): PrivacyPhase[] {
    const theirs = new Tally(others).#phases;
    return [...this.#phases]
      .map(([key, phase]) => ({ ...phase, steps: phase.steps - (theirs.get(key)?.steps ?? 0) }))
      .filter(({ steps }) => steps > 0);
  }
}

/** `phases` without `others`, equal events merged. */
export function phasesBeyond(
  phases: readonly PrivacyPhase[],
  others: readonly PrivacyPhase[],
): PrivacyPhase[] {
  return new Tally(phases).beyond(others);
}

/** All that this process released of one data set, or into one set of weights. */
export class Ledger {
  readonly #secure = new Tally();
  readonly #seeded = new Tally();
  /** Phases that trainings counted here gave out as their `released`, or were counted here as their past: no news if met again. */
  readonly #known = new WeakSet<PrivacyPhase>();
  /** How many steps of the runs that have checkpoints are counted here. */
  readonly #runs = new Map<string, number>();
  /** Whether something here was noised from a seed, which protects nothing. */
  seeded = false;
  /** Of weights: updates that private trainings made, and those of others that came with a checkpoint. */
  updates = 0;
  strangeUpdates = 0;

  step(event: PrivacyEvent, origin: 'secure' | 'seeded'): void {
    const tally = origin === 'secure' ? this.#secure : this.#seeded;
    tally.add({ ...event, steps: 1 });
  }

  add(phases: readonly PrivacyPhase[]): void {
    for (const phase of phases) (isSeeded([phase]) ? this.#seeded : this.#secure).add(phase);
    this.seeded ||= isSeeded(phases);
  }

  /** Counts phases that are not known here, once. */
  addPrevious(phases: readonly PrivacyPhase[]): void {
    this.add(phases.filter((phase) => !this.#known.has(phase)));
    this.know(phases);
  }

  know(phases: readonly PrivacyPhase[]): void {
    for (const phase of phases) this.#known.add(phase);
  }

  /** Says that a run's steps so far are counted here: its checkpoint, taken up again, brings nothing new. */
  knowRun({ run, step }: RunPart): void {
    this.#runs.set(run, step);
  }

  /**
   * Counts the steps behind a checkpoint that are not counted yet, of the runs one after another that made them.
   * @param phasesAfter what the first steps release
   * @returns whether the last of these runs was known here: then the training that goes on from it is a fork
   */
  addRuns(parts: readonly RunPart[], phasesAfter: (step: number) => PrivacyPhase[]): boolean {
    let from = 0;
    let known = false;
    for (const part of parts) {
      known = this.#runs.has(part.run);
      const counted = Math.max(from, this.#runs.get(part.run) ?? 0);
      if (part.step > counted) {
        this.add(phasesBeyond(phasesAfter(part.step), phasesAfter(counted)));
        this.knowRun(part);
      }
      from = part.step;
    }
    return known;
  }

  /** What is here beyond other phases: all of it, or what was noised securely. */
  beyond(others: readonly PrivacyPhase[], which: 'all' | 'secure' = 'all'): PrivacyPhase[] {
    if (which === 'secure') return this.#secure.beyond(others);
    return phasesBeyond([...this.#secure.phases, ...this.#seeded.phases], others);
  }
}

const ofData = new WeakMap<object, Ledger>();
const inWeights = new WeakMap<Parameters, { readonly ledger: Ledger; readonly replacements: number }>();

/** The ledgers of a data set's examples: sets composed on one base share the base's. */
export function ledgersOf(data: Dataset): Ledger[] {
  return data.origins.map((origin) => {
    const ledger = ofData.get(origin) ?? new Ledger();
    ofData.set(origin, ledger);
    return ledger;
  });
}

/** The ledger of the weights that the parameters hold now: another one after `params.load`. */
export function ledgerOfWeights(params: Parameters): Ledger {
  const { replacements } = params;
  const known = inWeights.get(params);
  if (known?.replacements === replacements) return known.ledger;
  const ledger = new Ledger();
  inWeights.set(params, { ledger, replacements });
  return ledger;
}

/** How often the weights were updated by something that keeps no account: ordinary training, or a private step by hand. */
export function strangeUpdates(params: Parameters): number {
  const { updates, strangeUpdates } = ledgerOfWeights(params);
  return strangeUpdates + Math.max(0, params.updates - updates);
}

const taken = new Map<string, number>();

/** Counts how often this process took up the checkpoint of a run at a step, this time included. */
export function takeUp({ run, step }: RunPart): number {
  const key = `${run} ${step}`;
  const times = (taken.get(key) ?? 0) + 1;
  taken.set(key, times);
  return times;
}
