import { observationsNeeded, observationsOfCoarseFaults, pairsNeeded } from './accounting/audit-size.js';
import { type AuditVerdict, auditVerdict, type PrivacyEvent } from './accounting/index.js';
import type { Evidence } from './audit-evidence.js';
import {
  type Audited,
  lotCoordinates,
  measurePairs,
  type OwnCoordinates,
  playCancellingPositions,
  playOwnCoordinates,
  playPairs,
} from './audit-games.js';
import { drawLots } from './audit-lots.js';
import { noiseRepeats } from './audit-noise.js';
import type { Sampler } from './sampling.js';

export interface Examination extends Audited {
  /** What a step is accounted as. */
  readonly claim: PrivacyEvent;
  /** The Gaussian's μ that the audit should be able to decide about. */
  readonly mu: number;
  readonly canaries: number;
  readonly steps: number;
  readonly seed: number;
  readonly confidence: number;
  /** See `OwnCoordinateOptions`. */
  readonly coordinates?: number;
  /** Whether the step brings its noise: then it is looked at, too. */
  readonly ownNoise?: boolean;
  /** The step with noise 0, whose update is the sum of gradients: then what pairs do is measured, by its `bound`, and not guessed. */
  readonly makeStepWithoutNoise?: Audited['makeStep'];
  /** Makes the sampler; without it all canaries take part in all steps, and the steps are audited together. */
  readonly makeSampler?: () => Sampler;
}

/** What one kind of canary proved. */
export interface Finding {
  readonly kind: 'noise' | 'positions' | 'pairs' | 'repeats' | 'sampling';
  /** The claim with the most noise and the least sampling that agree with what was seen; null where nothing was proved. */
  readonly proved: PrivacyEvent | null;
  /** The same if all guesses had been right. */
  readonly ceiling: PrivacyEvent | null;
  /**
   * What must be more than is allowed, or the audit can't decide. For `noise`, whose faults are the finest: what would have been proved
   * in 95 of 100 audits with half of the noise, or clipping at 2 C. For the others the ceiling.
   */
  readonly needed: PrivacyEvent | null;
}

export interface Findings {
  readonly findings: readonly Finding[];
  readonly played: OwnCoordinates;
}

/**
 * Audits a step with all kinds of canaries. Each kind may err with an equal share of 1 − confidence. Both the largest σ and the
 * smallest sampling rate that agree with what was seen go into what is proved, so that it holds whatever the other one really is.
 */
export function examine(examination: Examination): Findings {
  const { claim, canaries, steps, seed, confidence, mu, makeSampler, coordinates } = examination;
  const rate = samplingRateOf(claim);
  const replace = claim.mechanism === 'fixedSizeSampledGaussian';
  const sampled = makeSampler !== undefined && rate < 1;
  const each = 1 - (1 - confidence) / (sampled ? 5 : 3);
  const drawn =
    makeSampler && drawLots(makeSampler, { claim, rate, count: canaries, steps, alpha: 1 - each });
  const played = playOwnCoordinates(examination, {
    ...{ canaries, steps, seed, replace },
    ...(coordinates !== undefined && { coordinates }),
    ...(drawn && { lots: drawn.lots }),
  });
  const together = makeSampler === undefined ? Math.sqrt(steps) : 1;
  const own = played.observations.evidence(each, mu);
  const perStep = mu / together;
  const lots = lotsFor(perStep, each);
  const positions = playCancellingPositions(examination, { lots, seed }).evidence(each, perStep);
  const event = (muOfStep: number, least: number): PrivacyEvent | null =>
    muOfStep > 0 && least > 0
      ? withRate({ ...claim, noiseMultiplier: muOf(claim, 1) / muOfStep }, least)
      : null;
  const least = sampled ? drawn!.rate : 1;
  const finding = (kind: Finding['kind'], { mu, ceiling, halved }: Proof, over = 1): Finding => ({
    kind,
    proved: event(mu / over, least),
    ceiling: event(ceiling / over, least),
    needed: event((kind === 'noise' ? halved : ceiling) / over, least),
  });
  const findings: Finding[] = [
    finding('noise', own, together),
    finding('positions', positions),
    finding('pairs', pairEvidence(examination, perStep, each)),
  ];
  if (examination.ownNoise) {
    // Nothing hides an example from somebody who knows the noise.
    const none = withRate({ ...claim, noiseMultiplier: 0 }, least);
    findings.push({
      kind: 'repeats',
      proved: noiseRepeats(examination, seed) ? none : null,
      ceiling: none,
      needed: none,
    });
  }
  if (sampled) {
    const known = drawn!.knownRate;
    const ceiling = event(own.ceiling, 1);
    findings.push({ kind: 'sampling', proved: event(own.mu, known), ceiling, needed: ceiling });
  }
  return { played, findings };
}

type Proof = Omit<Evidence, 'counts'>;

/** Rounding, of a rule that keeps its bound, is far below this. */
const beyondRounding = 1.01;

function pairEvidence(
  examination: Examination,
  claimed: number,
  confidence: number,
): Omit<Evidence, 'counts'> {
  const { makeStepWithoutNoise: makeStep, bound, seed } = examination;
  if (makeStep !== undefined) {
    const mu = measurePairs({ ...examination, makeStep }) / bound! / examination.claim.noiseMultiplier;
    return { mu: mu > beyondRounding * claimed ? mu : 0, ceiling: Infinity, halved: Infinity };
  }
  const { moved, spread } = playPairs(examination, { steps: Math.ceil(4 * pairsNeeded(claimed)), seed });
  const [a, b] = [moved, spread].map((seen) => seen.evidence(1 - (1 - confidence) / 2, claimed));
  return a!.mu > b!.mu ? a! : b!;
}

/** One kind that finds a fault is enough for a verdict; that there is none is for all of them to say. */
export function verdictOf(
  kinds: readonly { readonly epsilonLowerBound: number; readonly needed: number }[],
  allowedEpsilon: number,
): AuditVerdict {
  const verdicts = kinds.map(({ epsilonLowerBound, needed }) =>
    auditVerdict({ epsilonLowerBound, ceiling: needed }, allowedEpsilon),
  );
  const worst = (['violated', 'undecided'] as const).find((verdict) => verdicts.includes(verdict));
  return worst ?? 'holds';
}

/** The claim at another sampling rate, where it has one. */
function withRate(claim: PrivacyEvent, rate: number): PrivacyEvent | null {
  if ('samplingRate' in claim) return { ...claim, samplingRate: Math.min(rate, 1) };
  if (claim.mechanism !== 'fixedSizeSampledGaussian') return claim;
  const batchSize = Math.floor(rate * claim.datasetSize);
  return batchSize > 0 ? { ...claim, batchSize } : null;
}

/** The probability with which the claim has an example in a step's batch; 1 where it claims no amplification by sampling. */
export function samplingRateOf(claim: PrivacyEvent): number {
  if ('samplingRate' in claim) return claim.samplingRate;
  return claim.mechanism === 'fixedSizeSampledGaussian' ? claim.batchSize / claim.datasetSize : 1;
}

/** Sensitivity over noise of a claimed step, given the batch. */
export function muOf({ mechanism, noiseMultiplier }: PrivacyEvent, sigma = noiseMultiplier): number {
  return (mechanism === 'fixedSizeSampledGaussian' ? 2 : 1) / sigma;
}

const fewestCanaries = 10_000;
const mostCanaries = 40_000;

/** m, a square number, for one step on all of them: half of them are put in, and half of these counted. */
export function canariesFor(mu: number, confidence: number): number {
  const wanted = Math.min(Math.max(4 * observationsNeeded(mu, confidence), fewestCanaries), mostCanaries);
  const side = Math.ceil(Math.sqrt(wanted));
  return side * side;
}

/** Steps in which so many canaries are in the batch as are needed, if so many are drawn in each. */
export function stepsFor(mu: number, confidence: number, drawn: number): number {
  return Math.ceil(Math.min(Math.max((4 * observationsNeeded(mu, confidence)) / drawn, 1), 128));
}

/** Lots of cancelling canaries, an even number of them; a quarter of a lot's coordinates are counted on either side. */
function lotsFor(mu: number, confidence: number): number {
  const needed = (2 * observationsOfCoarseFaults(mu, confidence)) / lotCoordinates;
  return 2 * Math.ceil(Math.min(Math.max(needed, 2), 320));
}
