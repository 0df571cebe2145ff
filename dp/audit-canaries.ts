import { checkSeed, Engine, GradshapeError, type Parameters } from '../engine/index.js';
import type { TrainingStep } from '../nn/index.js';
import { checkAllowedEpsilon } from './accounting/audit.js';
import { checkEvent } from './accounting/events.js';
import {
  type AuditVerdict,
  gaussianEpsilon,
  type OneRunAudit,
  oneRunEpsilonLowerBound,
  oneRunGaussianEpsilonLowerBound,
  type PrivacyEvent,
  pldAccountant,
} from './accounting/index.js';
import { checkDelta, checkFraction } from './accounting/validate.js';
import {
  canariesFor,
  examine,
  type Finding,
  muOf,
  samplingRateOf,
  stepsFor,
  verdictOf,
} from './audit-findings.js';
import type { OwnCoordinates } from './audit-games.js';
import type { Sampler } from './sampling.js';

export interface CanaryAuditOptions {
  readonly engine: Engine;
  /** The step that is audited, made for these parameters. Its optimizer should be plain SGD. */
  readonly makeStep: (params: Parameters) => TrainingStep;
  /** What the step is accounted as: then the audit has a verdict. */
  readonly claim?: PrivacyEvent;
  /** Or the ε that all audited steps together may have at δ. */
  readonly allowedEpsilon?: number;
  /**
   * Makes the sampler of the training, for so many examples; needs a claim. Without it every step is on all canaries that were put in.
   * It is made twice: if the second one knows what the first draws, others know it, too.
   */
  readonly sampler?: (examples: number) => Sampler;
  /** m: canaries; each is put in with probability ½. @default as many as the ε at hand needs, 10,000 to 40,000 */
  readonly canaries?: number;
  /** r: how many of them are guessed at in `counted` and `gaussian`, the surest ones. @default canaries / 25 */
  readonly guesses?: number;
  /** Steps. Without a sampler the bounds are on all of them together; with one, on each. @default 1; with a sampler as many as are needed */
  readonly steps?: number;
  /** Draws who is put in. */
  readonly seed: number;
  /** @default 1e-5 */
  readonly delta?: number;
  /** @default 0.95 */
  readonly confidence?: number;
}

/** What one kind of canary proved. */
export interface CanaryFinding {
  /**
   * `noise`: each canary has a coordinate of its own. `positions`: the canary's positions cancel, and it may change nothing.
   * `pairs`: a canary against one other example. `repeats`: noise that another step made in the same way has, too, or that returns in a
   * later step or on other coordinates. `sampling`: draws that others know, or that are not independent.
   */
  readonly kind: Finding['kind'];
  readonly epsilonLowerBound: number;
  /** The bound that perfect guesses would have proved. */
  readonly ceiling: number;
  /**
   * What must be more than is allowed, or the audit can't decide: for `noise`, what half of the noise, or clipping at 2 C, would have proved
   * in 95 of 100 audits; for the others, the ceiling.
   */
  readonly needed: number;
}

/** A bound by counting right guesses. */
export interface CountedBound {
  readonly epsilonLowerBound: number;
  /** The bound if all guesses were right. */
  readonly ceiling: number;
}

export interface CanaryAuditResult extends OneRunAudit {
  /**
   * With the confidence asked for, the step is not (ε, δ)-DP for any smaller ε, if its noise is Gaussian and independent from coordinate
   * to coordinate, as DP-SGD's is said to be. (A step whose noise is not has broken that promise.)
   */
  readonly epsilonLowerBound: number;
  /** The largest bound that perfect guesses would have proved. */
  readonly ceiling: number;
  /** What the claim allows; null where nothing was claimed. */
  readonly allowedEpsilon: number | null;
  /** `undecided`: nothing was found, but some kind of canary could not have found it: what it `needed` is not above what is allowed. */
  readonly verdict: AuditVerdict | null;
  readonly findings: readonly CanaryFinding[];
  /** From the right guesses alone, on all steps together, whatever the mechanism is (Steinke, Nasr and Jagielski 2023). */
  readonly counted: CountedBound;
  /**
   * From the same guesses, for a Gaussian trade-off curve, however the canaries' noises depend (Mahloujifar, Melis and Chaudhuri 2025); null
   * under sampling, whose curve is no Gaussian's.
   */
  readonly gaussian: CountedBound | null;
}

/**
 * A one-run audit (Steinke, Nasr and Jagielski 2023) with the strongest canaries there are for a step that clips and noises.
 *
 * Canary i's gradient is large in a coordinate of its own and 0 elsewhere; half of them come through a layer with positions. A
 * coin says for each whether it takes part; after the training, its coordinate tells. Canaries of a second kind have positions
 * that cancel: their gradient is 0, and they may change nothing. Where the noises are independent, canaries are independent
 * trainings, and the rates of right and wrong guesses prove a bound on the Gaussian's μ (Nasr, Hayes, Steinke et al. 2023), and so
 * on ε: within a few percent of the truth. Half of the canaries choose how to guess, the others are counted; the kinds share the error.
 *
 * Their sizes are spread over magnitudes, so that a rule that clips only some of them shows. Batches of two find sums that are clipped in
 * place of examples; noise is compared with that of a second step, made in the same way, and from coordinate to coordinate.
 *
 * With a `sampler` it draws the batches. The auditor knows who was drawn, so that what is measured is the noise on a batch; what
 * this means for ε under sampling is the claim's accountant's to say. The draws are tested, too: a public sampler's are known; others
 * must come at the claimed rate, be independent from step to step, and not be foretold by a second sampler made in the same way. So seeds are
 * known draws, and known noise: audit with secure ones.
 *
 * What it can't see: what happens in later steps than it makes (by default one on all canaries, and some hundreds on pairs); what depends on
 * the model or the data; sizes of gradients between its canaries'; a fault that spares most examples, or a few coordinates of
 * many; a sum that is clipped where σ is above 2, since one example's part of it is too small for as many steps; secret seeds, and
 * draws or noises that depend on each other in ways that are not tested. It `holds` where half of the noise, or clipping at twice the norm,
 * would have been found in 95 of 100 audits.
 * @throws AUDIT_INVALID, SEED_INVALID, DELTA_OUT_OF_RANGE, FRACTION_OUT_OF_RANGE, EPSILON_OUT_OF_RANGE, and as the claim is refused for
 * @example
 * const { verdict, epsilonLowerBound } = auditCanaries({
 *   ...{ engine, seed: 1, canaries: 2500, claim: { mechanism: 'gaussian', noiseMultiplier: 1 }, confidence: 0.9999 },
 *   makeStep: (params) =>
 *     privateStep({ params, optimizer: sgd({ learningRate: 1 }), clipNorm: 1, noiseMultiplier: 1, expectedBatchSize: 200 }),
 * });
 * verdict; // "holds"
 * epsilonLowerBound < gaussianEpsilon(1, 1e-5) // true
 */
export function auditCanaries(options: CanaryAuditOptions): CanaryAuditResult {
  check(options);
  const { delta = 1e-5, confidence = 0.95, claim, sampler: makeSampler } = options;
  const mu = muAtHand(options);
  const { canaries = mu === null ? 10_000 : canariesFor(mu, confidence) } = options;
  const { guesses = Math.max(1, Math.floor(canaries / 25)) } = options;
  checkCanaries(canaries, guesses);
  const event = claim ?? { mechanism: 'gaussian', noiseMultiplier: 1 };
  const drawn = canaries * samplingRateOf(event);
  const { steps = makeSampler ? stepsFor(mu!, confidence, drawn) : 1 } = options;
  const { findings, played } = examine({
    ...options,
    ...{ canaries, steps, confidence, claim: event, mu: mu ?? 1, ownNoise: true },
    ...(makeSampler && { makeSampler: () => makeSampler(canaries) }),
  });
  const epsilonOf = (one: PrivacyEvent | null): number =>
    one === null
      ? 0
      : pldAccountant()
          .step(one, makeSampler ? 1 : steps)
          .epsilon(delta).epsilon;
  const inEpsilon = findings.map(({ kind, proved, ceiling, needed }) => ({
    ...{ kind, epsilonLowerBound: epsilonOf(proved), ceiling: epsilonOf(ceiling), needed: epsilonOf(needed) },
  }));
  const bounds = {
    epsilonLowerBound: Math.max(...inEpsilon.map((finding) => finding.epsilonLowerBound)),
    ceiling: Math.max(...inEpsilon.map(({ kind, ceiling }) => (kind === 'repeats' ? 0 : ceiling))),
  };
  const { allowedEpsilon = claim === undefined ? null : epsilonOf(claim) } = options;
  const audit = { canaries, guesses, correct: correctGuesses(played, guesses) };
  const counted = (bound: (audit: OneRunAudit) => number): CountedBound => ({
    epsilonLowerBound: bound(audit),
    ceiling: bound({ canaries, guesses, correct: guesses }),
  });
  return {
    ...audit,
    ...bounds,
    allowedEpsilon,
    verdict: allowedEpsilon === null ? null : verdictOf(inEpsilon, allowedEpsilon),
    findings: inEpsilon,
    counted: counted((a) => oneRunEpsilonLowerBound(a, { delta, confidence })),
    gaussian: makeSampler ? null : counted((a) => oneRunGaussianEpsilonLowerBound(a, { delta, confidence })),
  };
}

/** μ of what is claimed or allowed, for all steps that are audited together; null where nothing is. */
function muAtHand({ claim, allowedEpsilon, steps = 1, sampler, delta = 1e-5 }: CanaryAuditOptions) {
  if (claim !== undefined) return muOf(claim) * (sampler === undefined ? Math.sqrt(steps) : 1);
  if (allowedEpsilon === undefined) return null;
  let [low, high] = [0, 1];
  while (gaussianEpsilon(high, delta) < allowedEpsilon && high < 1e6) high *= 2;
  while (high - low > 1e-3 * high) {
    const middle = (low + high) / 2;
    if (gaussianEpsilon(middle, delta) < allowedEpsilon) low = middle;
    else high = middle;
  }
  return high;
}

/** Half of the guesses call the highest scores in, half the lowest out; returns how many were right. */
function correctGuesses({ scores, included }: OwnCoordinates, guesses: number): number {
  const order = [...scores.keys()].sort((i, j) => scores[j]! - scores[i]!);
  const high = Math.ceil(guesses / 2);
  const low = guesses - high;
  const rightIn = order.slice(0, high).filter((i) => included[i]).length;
  const rightOut = low === 0 ? 0 : order.slice(-low).filter((i) => !included[i]).length;
  return rightIn + rightOut;
}

function check(options: CanaryAuditOptions): void {
  if (!(options?.engine instanceof Engine)) {
    throw invalid('expected options with an engine, from createEngine, and makeStep and seed.');
  }
  for (const [name, given] of [
    ['makeStep', options.makeStep],
    ...(options.sampler === undefined ? [] : [['sampler', options.sampler] as const]),
  ] as const) {
    if (typeof given !== 'function') throw invalid(`${name} is ${String(given)}; expected a function.`);
  }
  const { claim, allowedEpsilon, sampler, steps = 1, seed, delta = 1e-5, confidence = 0.95 } = options;
  checkSeed('auditCanaries', seed);
  checkDelta(delta);
  checkFraction(confidence, 'confidence');
  if (claim !== undefined) checkEvent(claim);
  if (allowedEpsilon !== undefined) checkAllowedEpsilon(allowedEpsilon);
  if (!(Number.isSafeInteger(steps) && steps >= 1))
    throw invalid(`${steps} steps; expected a whole number from 1.`);
  if (sampler !== undefined && claim === undefined) {
    throw invalid(
      'a sampler without a claim; expected what a step is accounted as, such as poissonSampledGaussian.',
    );
  }
  if (sampler === undefined && claim !== undefined && samplingRateOf(claim) < 1) {
    throw invalid(
      `a claim of ${claim.mechanism} without a sampler; expected one, such as (count) => poissonSampler({ engine, count, samplingRate }).`,
    );
  }
}

function checkCanaries(canaries: number, guesses: number): void {
  const side = Math.round(Math.sqrt(canaries));
  const whole = Number.isSafeInteger(canaries) && Number.isSafeInteger(guesses);
  if (whole && side * side === canaries && canaries >= 4 && guesses >= 1 && guesses <= canaries) return;
  throw invalid(
    `${canaries} canaries and ${guesses} guesses; expected a square number of canaries from 4, and from 1 to as many guesses.`,
  );
}

const invalid = (what: string): GradshapeError =>
  new GradshapeError('AUDIT_INVALID', `auditCanaries: ${what}`);
