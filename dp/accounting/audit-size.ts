/** How many observations an audit needs, so that it can fail. */
import { normalTail } from './special-functions.js';

/**
 * Observations on either side with which perfect guesses prove 1.2 μ and a bit more: n of n right ones prove 2 Φ⁻¹(α^(1/n)) (see
 * `gaussianMuLowerBound`).
 */
function perfectGuesses(mu: number, confidence: number): number {
  const alpha = (1 - confidence) / 2;
  return Math.log(1 / alpha) / normalTail(0.6 * mu + 0.3);
}

/** Also enough to tell μ from 2 μ nearly always, where the standard error of its estimate is about 1.8/√n. */
export function observationsNeeded(mu: number, confidence: number): number {
  return Math.max(800, (18 / mu) ** 2, perfectGuesses(mu, confidence));
}

/** The same where each takes a step of its own: as many as there is time for. */
export function pairsNeeded(mu: number): number {
  return Math.min(Math.max(300, (14 / mu) ** 2), 784);
}

/** The same where a fault's effect is four times the claimed one, or more. */
export function observationsOfCoarseFaults(mu: number, confidence: number): number {
  return Math.max(128, (4 / mu) ** 2, perfectGuesses(mu, confidence));
}

/** A size between two others, at such a part of the way of their logarithms. */
export function sizeBetween([from, to]: readonly [number, number], part: number): number {
  return from * (to / from) ** part;
}
