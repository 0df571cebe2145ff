/** Whether a sampler's lots are drawn as it is claimed: at the rate, independently, and unknown to others. */
import { GradshapeError } from '../engine/index.js';
import { hoeffding, proportionLowerBound } from './accounting/audit.js';
import type { PrivacyEvent } from './accounting/index.js';
import type { Sampler } from './sampling.js';

/** So many lots are looked at, at least; and so many compared with each other. */
const fewestLots = 8;
const mostCompared = 16;
/** Draws foretold by a twin: whether these are true shows soon. */
const enoughPredicted = 300;

export interface DrawnLots {
  /** The lots of steps 0, 1, …, each sorted or not. */
  readonly lots: readonly Int32Array[];
  /** With the confidence asked for, an example's probability to be drawn is not smaller. */
  readonly rate: number;
  /** The same for somebody who knows what others can know of the draws; 1 where they can't be what is claimed. */
  readonly knownRate: number;
}

/**
 * Draws the lots, and tests them. A sampler that calls itself public, or is not of the kind that the claim needs, is taken at its word: its
 * draws are known. Otherwise a second sampler, made in the same way by somebody else, must not foretell them; and their sizes
 * and overlaps must be those of independent draws.
 * @param alpha the probability of each of the results to be wrong
 * @throws AUDIT_INVALID for indices that there are none of, or that are repeated
 */
export function drawLots(
  makeSampler: () => Sampler,
  {
    claim,
    rate,
    count,
    steps,
    alpha,
  }: { claim: PrivacyEvent; rate: number; count: number; steps: number; alpha: number },
): DrawnLots {
  const sampler = makeSampler();
  const lots = Array.from({ length: Math.max(steps, fewestLots) }, (_, t) =>
    checked(sampler.draw(t), count, t),
  );
  const drawn = lots.reduce((sum, lot) => sum + lot.length, 0);
  const result = { lots, rate: proportionLowerBound(drawn, lots.length * count, alpha) };
  const needed = claim.mechanism === 'fixedSizeSampledGaussian' ? 'fixed-size' : 'poisson';
  if (sampler.source === 'public' || sampler.kind !== needed) return { ...result, knownRate: 1 };
  const odd = rarity(lots, count, needed === 'poisson' ? rate : null);
  if (odd < alpha / 2) return { ...result, knownRate: 1 };
  const { predicted, hits } = foretold(lots, makeSampler());
  return { ...result, knownRate: proportionLowerBound(hits, Math.max(1, predicted), alpha / 2) };
}

function checked(lot: Int32Array, count: number, step: number): Int32Array {
  const seen = new Set<number>();
  for (const i of lot) {
    if (Number.isInteger(i) && i >= 0 && i < count && !seen.has(i)) seen.add(i);
    else {
      throw new GradshapeError(
        'AUDIT_INVALID',
        `the audited sampler drew index ${i}${seen.has(i) ? ' twice' : ''} in step ${step}; expected each of 0 to ${count - 1} at most once.`,
      );
    }
  }
  return lot;
}

/** What a sampler made in the same way draws, and how much of it was drawn indeed. */
function foretold(lots: readonly Int32Array[], twin: Sampler) {
  let [predicted, hits] = [0, 0];
  for (let t = 0; t < lots.length && predicted < enoughPredicted; t++) {
    const real = new Set(lots[t]!);
    const guess = twin.draw(t);
    predicted += guess.length;
    for (const i of guess) if (real.has(i)) hits++;
  }
  return { predicted, hits };
}

/**
 * An upper bound on the probability that independent draws are as odd as these. Given their sizes, two lots a and b of n examples share
 * |a||b|/n in the mean, and so do all lots and those k steps later, if each is drawn without knowledge of the others; a lot is n·rate in the
 * mean. Hoeffding's (1963) bound, exp(−N·KL), holds for draws without replacement as for those with; all the tests that are made share the error.
 */
function rarity(lots: readonly Int32Array[], count: number, rate: number | null): number {
  const compared = lots.slice(0, mostCompared);
  const sets = compared.map((lot) => new Set(lot));
  const tests = compared.length - 1 + (rate === null ? 0 : lots.length);
  let least = 1;
  const test = (seen: number, trials: number, mean: number): void => {
    if (trials > 0 && mean > 0 && mean < 1) least = Math.min(least, 2 * hoeffding(seen, trials, mean));
  };
  for (let lag = 1; lag < compared.length; lag++) {
    let [shared, trials, mean] = [0, 0, 0];
    for (let t = lag; t < compared.length; t++) {
      for (const i of compared[t]!) if (sets[t - lag]!.has(i)) shared++;
      trials += compared[t]!.length;
      mean += (compared[t]!.length * compared[t - lag]!.length) / count;
    }
    test(shared, trials, mean / trials);
  }
  if (rate !== null) for (const lot of lots) test(lot.length, count, rate);
  return Math.min(1, tests * least);
}
