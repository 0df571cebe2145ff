import { Engine, GradshapeError, type Parameters, type Strategy } from '../engine/index.js';
import { sgd } from '../nn/index.js';
import {
  type AuditVerdict,
  createAccountant,
  formatLowerBound,
  formatUpperBound,
  type PrivacyEvent,
  type PrivacyPhase,
  type PrivacyStatement,
} from './accounting/index.js';
import { checkDelta, checkFraction } from './accounting/validate.js';
import { examine, type Finding, muOf, stepsFor, verdictOf } from './audit-findings.js';
import { secureNoise } from './noise.js';
import { type PrivacyPlan, privacyPlan } from './plan.js';
import { privateStep } from './private-step.js';
import { valueAt } from './schedules.js';

/** Canaries of a batch that are given a coordinate. */
const mostPlaced = 5000;

export interface PlanAuditOptions {
  readonly engine: Engine;
  /** How per-example gradients are made, as the training makes them. @default 'ghost' */
  readonly strategy?: Strategy;
  /** Draws who is put in, and orders shuffled epochs. @default from the runtime's cryptographic generator */
  readonly seed?: number;
  /** @default 1e-5 */
  readonly delta?: number;
  /** @default 0.95 */
  readonly confidence?: number;
}

export interface PlanAudit {
  /**
   * With the confidence asked for, all steps of the plan together are not (ε, δ)-DP for any smaller ε, if all are as those that were
   * audited, and their noise Gaussian and independent.
   */
  readonly epsilonLowerBound: number;
  /** The most that perfect guesses could have proved, by Rényi divergences. */
  readonly ceiling: number;
  /** What the plan's accountant promises of these steps. */
  readonly allowedEpsilon: number;
  /** On what was proved, what could have been, and what is allowed, all three by Rényi divergences. */
  readonly verdict: AuditVerdict;
  readonly findings: readonly Finding[];
  readonly delta: number;
  readonly confidence: number;
  /** What the bounds are on: the plan's first steps, or all. */
  readonly steps: number;
  /** The result in a sentence; its numbers are rounded down. */
  readonly says: string;
  /** The same findings at another δ, for the first steps. @param steps default: all @throws DELTA_OUT_OF_RANGE, STEPS_OUT_OF_RANGE */
  at(delta: number, steps?: number): PlanAudit;
}

/**
 * Audits what a plan promises (see `auditCanaries`): its rule, noise multiplier and strategy, as `privateStep` puts them together, on
 * batches that its sampler draws, with canaries in place of its data. What is proved of a step's noise and of its sampling
 * goes through the plan's accountant for all of its steps. Noise and draws are fresh, from the runtime's cryptographic generator,
 * also where the plan's come from a seed: nothing of the training is used up or shown, and what its rule has learned is put back (a
 * rule of your own that learns needs `state` and `loadState` for that). With schedules, the first step is audited.
 * @throws AUDIT_INVALID where the rule belongs to other parameters, as perLayerClipping does; DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE
 * @example
 * const plan = privacyPlan({ datasetSize: 2000, batchSize: 200, epochs: 3, clipNorm: 1, noiseMultiplier: 1 });
 * const { verdict, epsilonLowerBound, allowedEpsilon } = auditPlan(plan, { engine, confidence: 0.9999 });
 * epsilonLowerBound < allowedEpsilon // true
 */
export function auditPlan(plan: PrivacyPlan, options: PlanAuditOptions): PlanAudit {
  if (!(options?.engine instanceof Engine) || typeof plan?.releasedBy !== 'function') {
    throw new GradshapeError(
      'AUDIT_INVALID',
      'auditPlan: expected a plan, from privacyPlan, and { engine }, from createEngine.',
    );
  }
  const { engine, strategy = 'ghost', delta = 1e-5, confidence = 0.95 } = options;
  const { seed = crypto.getRandomValues(new Uint32Array(1))[0]! } = options;
  checkDelta(delta);
  checkFraction(confidence, 'confidence');
  const { shaper, datasetSize, batchSize } = plan;
  const claim = plan.releasedBy(0)!;
  if (claim.noiseMultiplier === 0) return nothingPromised({ delta, confidence, steps: plan.steps });
  const noiseMultiplier = valueAt('noiseMultiplier', plan.noiseMultiplier, 0);
  const state = shaper.state?.();
  const restore = (): void => {
    if (state !== undefined) shaper.loadState?.(state);
  };
  const sameAsFirst = (step: number): boolean =>
    step < plan.steps &&
    shaper.bound(step) === shaper.bound(0) &&
    valueAt('noiseMultiplier', plan.noiseMultiplier, step) === noiseMultiplier;
  const makeStepWith = (sigma: number, expectedBatchSize: number) => (params: Parameters) => {
    const step = privateStep({
      ...{
        params,
        optimizer: sgd({ learningRate: 1 }),
        shaper,
        noiseMultiplier: sigma,
        noise: secureNoise(),
      },
      ...{ expectedBatchSize, strategy },
    });
    const { finish } = step;
    step.finish = (update) => {
      finish.call(step, update);
      restore();
      // Where the plan changes with time, the next one is the first again.
      if (!sameAsFirst(step.step)) step.step = 0;
    };
    return step;
  };
  const secret = secretPlan(plan);
  const mu = muOf(claim);
  const placed = Math.min(Math.ceil(batchSize) + 32, mostPlaced);
  try {
    const { findings } = examine({
      makeStep: makeStepWith(noiseMultiplier, batchSize),
      makeStepWithoutNoise: makeStepWith(0, 1),
      ...{ engine, claim, mu, seed, confidence, bound: shaper.bound(0)! },
      canaries: datasetSize,
      coordinates: 2 * placed,
      steps: stepsFor(mu, confidence, Math.min(batchSize, placed)),
      makeSampler: () => secret.sampler(engine, seed),
    });
    return concluded(plan, claim, findings, { delta, confidence, steps: plan.steps });
  } catch (error) {
    if (!(error instanceof GradshapeError && error.code === 'PARAMETER_UNKNOWN')) throw error;
    throw new GradshapeError(
      'AUDIT_INVALID',
      `auditPlan: ${shaper.toString()} belongs to other parameters than an audit's canaries have; expected a rule for gradients as a whole, such as flatClipping.`,
    );
  } finally {
    restore();
  }
}

/** The plan with secure sampling. */
function secretPlan(plan: PrivacyPlan): PrivacyPlan {
  if (plan.origin === 'secure') return plan;
  const { datasetSize, batchSize, steps, noiseMultiplier, shaper, sampling } = plan;
  return privacyPlan({ datasetSize, batchSize, steps, noiseMultiplier, shaper, sampling });
}

interface Asked {
  readonly delta: number;
  readonly confidence: number;
  readonly steps: number;
}

function nothingPromised(asked: Asked): PlanAudit {
  return {
    ...{
      epsilonLowerBound: 0,
      ceiling: Infinity,
      allowedEpsilon: Infinity,
      verdict: 'undecided',
      findings: [],
    },
    ...asked,
    says: 'Audit: nothing was promised (ε = ∞), so there is nothing that an audit could refute.',
    at: (delta, steps = asked.steps) => nothingPromised({ ...asked, delta, steps }),
  };
}

/** Numbers by the plan's accountant are found when they are asked for: that takes longer than the audit. */
function concluded(
  plan: PrivacyPlan,
  claim: PrivacyEvent,
  findings: readonly Finding[],
  asked: Asked,
): PlanAudit {
  const { delta, steps } = asked;
  checkDelta(delta);
  const phases = plan.phases(steps);
  const epsilonOf = (proved: PrivacyEvent | null, accountant = plan.accountant): number =>
    proved === null
      ? 0
      : createAccountant(accountant, phasesAs(phases, claim, proved)).epsilon(delta).epsilon;
  // Kinds share events, and the accountant takes longer than the rest of the audit.
  const found = new Map<string, number>();
  const renyi = (proved: PrivacyEvent | null): number => {
    const key = JSON.stringify(proved);
    const epsilon = found.get(key) ?? epsilonOf(proved, 'rdp');
    found.set(key, epsilon);
    return epsilon;
  };
  const kinds = findings.map(({ kind, proved, ceiling, needed }) => ({
    ...{ kind, proved, epsilonLowerBound: renyi(proved), ceiling: renyi(ceiling), needed: renyi(needed) },
  }));
  const best = kinds.reduce((a, b) => (b.epsilonLowerBound > a.epsilonLowerBound ? b : a));
  const lowerBound = once(() => epsilonOf(best.proved));
  const allowed = once(() => epsilonOf(claim));
  const others = new Map<string, PlanAudit>();
  return {
    get epsilonLowerBound() {
      return lowerBound();
    },
    get allowedEpsilon() {
      return allowed();
    },
    get says() {
      return inWords(this, best.kind);
    },
    // Pairs are measured without noise: perfect ones would prove anything.
    ceiling: Math.max(...kinds.map(({ kind, ceiling }) => (kind === 'pairs' ? 0 : ceiling))),
    verdict: verdictOf(kinds, renyi(claim)),
    findings,
    ...asked,
    at(other, first = plan.steps) {
      if (other === delta && first === steps) return this;
      const key = `${other} ${first}`;
      const known =
        others.get(key) ?? concluded(plan, claim, findings, { ...asked, delta: other, steps: first });
      others.set(key, known);
      return known;
    },
  };
}

function once(compute: () => number): () => number {
  let value: number | undefined;
  return () => {
    value ??= compute();
    return value;
  };
}

/** The phases with the noise and the sampling of a step that was proved to be no better than this. */
function phasesAs(
  phases: readonly PrivacyPhase[],
  claim: PrivacyEvent,
  proved: PrivacyEvent,
): PrivacyPhase[] {
  const factor = proved.noiseMultiplier / claim.noiseMultiplier;
  return phases.map(({ steps, noiseMultiplier }) => ({
    ...{ ...proved, steps },
    noiseMultiplier: noiseMultiplier * factor,
  }));
}

function inWords(audit: PlanAudit, kind: Finding['kind']): string {
  const { epsilonLowerBound, verdict, delta, confidence, steps } = audit;
  const proof =
    `Audit: ${steps.toLocaleString('en')} such steps have ε ≥ ${formatLowerBound(epsilonLowerBound)} at δ = ${formatUpperBound(delta)}, ` +
    `with ${formatLowerBound(100 * confidence, 6)} % confidence`;
  if (verdict === 'holds') {
    return `${proof}. That is no more than is promised; had the noise been half of it, or the clip norm twice as large, this audit would have found it.`;
  }
  const promised = formatUpperBound(audit.allowedEpsilon);
  if (verdict === 'undecided') {
    return `${proof}. That is no more than the ${promised} that is promised, but this audit was too small to find every fault: with so few examples in its batches, even half of the noise might have passed.`;
  }
  return `${proof}. That is more than the ${promised} that is promised, by ${faults[kind]}: this training is not as private as it says.`;
}

const faults: Record<Finding['kind'], string> = {
  noise: 'canaries with a coordinate of their own',
  positions: 'canaries whose positions cancel',
  pairs: 'canaries in batches of two',
  repeats: 'noise that others can know',
  sampling: 'draws that others can know, or that depend on each other',
};

/** A statement with what an audit found of it: a plan that was refuted is not private. */
export function withAudit<S extends PrivacyStatement>(statement: S, { verdict, says }: PlanAudit): S {
  return {
    ...statement,
    private: statement.private && verdict !== 'violated',
    says: [...statement.says, says],
  };
}
