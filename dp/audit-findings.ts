import { proportionLowerBound } from './accounting/audit.js';
import { observationsNeeded, observationsOfCoarseFaults } from './accounting/audit-size.js';
import { type AuditVerdict, auditVerdict, type PrivacyEvent } from './accounting/index.js';
import {
  type Audited,
  lotCoordinates,
  type OwnCoordinates,
  playCancellingPositions,
  playOwnCoordinates,
} from './audit-games.js';
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
  /** Makes the sampler; without it all canaries take part in all steps, and the steps are audited together. */
  readonly makeSampler?: () => Sampler;
}

/** What one kind of canary proved. */
export interface Finding {
  readonly kind: 'noise' | 'positions' | 'sampling';
  /** The claim with the most noise and the least sampling that agree with what was seen; null where nothing was proved. */
  readonly proved: PrivacyEvent | null;
  /** The same if all guesses had been right. */
  readonly ceiling: PrivacyEvent | null;
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
  const sampler = makeSampler?.();
  // Seeded draws are for experiments: whoever knows the seed knows them, and nobody says otherwise.
  const twin = sampler !== undefined && sampler.source !== 'seeded' ? makeSampler?.() : undefined;
  const sampled = sampler !== undefined && rate < 1;
  const each = 1 - (1 - confidence) / (sampled ? 3 : 2);
  const played = playOwnCoordinates(examination, {
    ...{ canaries, steps, seed, replace },
    ...(coordinates !== undefined && { coordinates }),
    ...(sampler && { sampler }),
    ...(sampled && twin && { twin }),
  });
  const { drawn, predicted, hits } = played;
  const together = sampler === undefined ? Math.sqrt(steps) : 1;
  const own = played.observations.evidence(each);
  const lots = lotsFor(mu / together, each);
  const positions = playCancellingPositions(examination, { lots, seed }).evidence(each);
  const alpha = (1 - each) / 2;
  const drawnRate = sampled ? proportionLowerBound(drawn, canaries * steps, alpha) : 1;
  const foretold = (right: number): number => proportionLowerBound(right, Math.max(1, predicted), alpha);
  const event = (perStep: number, least: number): PrivacyEvent | null =>
    perStep > 0 && least > 0
      ? withRate({ ...claim, noiseMultiplier: muOf(claim, 1) / perStep }, least)
      : null;
  const [noise, most] = [own.mu / together, own.ceiling / together];
  return {
    played,
    findings: [
      { kind: 'noise', proved: event(noise, drawnRate), ceiling: event(most, drawnRate) },
      {
        kind: 'positions',
        proved: event(positions.mu, drawnRate),
        ceiling: event(positions.ceiling, drawnRate),
      },
      ...(sampled && twin
        ? [
            {
              kind: 'sampling',
              proved: event(noise, foretold(hits)),
              ceiling: event(most, foretold(predicted)),
            } as const,
          ]
        : []),
    ],
  };
}

/** One kind that finds a fault is enough for a verdict; that there is none is for all of them to say. */
export function verdictOf(
  kinds: readonly { readonly epsilonLowerBound: number; readonly ceiling: number }[],
  allowedEpsilon: number,
): AuditVerdict {
  const verdicts = kinds.map((kind) => auditVerdict(kind, allowedEpsilon));
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
