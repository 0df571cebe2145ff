/** The noise that a plan counts: every step's σ, asked of the schedules once, and refused where it protects nothing. */
import { GradshapeError } from '../engine/index.js';
import type { PrivacyPlanOptions } from './plan.js';
import { largestBound, smallestBound } from './release.js';
import { valueAt } from './schedules.js';
import type { Shaper } from './shaper.js';

/** Releases in a row, steps or shuffled epochs, that are counted with the same σ: [from, to). */
export interface NoiseRun {
  readonly sigma: number;
  readonly from: number;
  readonly to: number;
}

/**
 * The σ of every release, the least of its steps' own; two constants need no loop.
 * @throws NOISE_INVALID, CLIP_NORM_INVALID, SCHEDULE_INVALID where a step has no noise, or no bound to give it a size
 */
export function noiseRuns(
  options: PrivacyPlanOptions,
  shaper: Shaper,
  steps: number,
  stepsPerRelease: number,
): NoiseRun[] {
  const { noiseMultiplier, clipNorm } = options;
  const first = noiseAt(options, shaper, 0);
  const releases = Math.ceil(steps / stepsPerRelease);
  if (typeof noiseMultiplier === 'number' && typeof clipNorm === 'number')
    return [{ sigma: first, from: 0, to: releases }];
  const runs: { sigma: number; from: number; to: number }[] = [];
  for (let from = 0; from < releases; from++) {
    const end = Math.min((from + 1) * stepsPerRelease, steps);
    let least = Infinity;
    for (let step = from * stepsPerRelease; step < end; step++) {
      const sigma = step === 0 ? first : noiseAt(options, shaper, step);
      if (first > 0 && sigma === 0) throw switchedOff(step, steps);
      if (sigma < least) least = sigma;
    }
    const last = runs.at(-1);
    if (last?.sigma === least) last.to++;
    else runs.push({ sigma: least, from, to: from + 1 });
  }
  return runs;
}

function switchedOff(step: number, steps: number): GradshapeError {
  return new GradshapeError(
    'NOISE_INVALID',
    `privacyPlan: noiseMultiplier becomes 0 at step ${step}, where nothing is protected any more; expected a number above 0 at each of the ` +
      `${steps} steps, or fewer steps (0 at all steps is shaping without noise, ε = ∞).`,
  );
}

/** The σ of the run that a release is in. */
export function noiseIn(runs: readonly NoiseRun[], release: number): number {
  let [low, high] = [0, runs.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (runs[middle]!.from <= release) low = middle;
    else high = middle - 1;
  }
  return runs[low]!.sigma;
}

/** σ of a step. Where there is noise, the rule's bound must give it a size, and float32 must be able to hold that. */
function noiseAt({ noiseMultiplier, batchSize }: PrivacyPlanOptions, shaper: Shaper, step: number): number {
  const sigma = valueAt('privacyPlan: noiseMultiplier', noiseMultiplier, step);
  if (!(sigma >= 0 && sigma < Infinity)) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privacyPlan: noiseMultiplier is ${sigma} at step ${step}; expected a finite number of at least 0.`,
    );
  }
  const bound = shaper.bound(step);
  if (sigma === 0) return sigma;
  if (step === 0 && bound === null) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privacyPlan: ${shaper.toString()} bounds no example's part, so no noise gives a guarantee; expected noiseMultiplier 0 (ε = ∞), or a rule with a ` +
        'bound, such as clipNorm: 1. For noise without a guarantee use privateStep with noiseStd.',
    );
  }
  if (!(bound !== null && isCarried(bound))) {
    throw new GradshapeError(
      'CLIP_NORM_INVALID',
      `privacyPlan: ${shaper.toString()} bounds each example's part by ${bound ?? 'nothing (∞)'} at step ${step}, which gives the noise of that step no ` +
        `size that float32 can carry; expected a bound, such as a clip norm, from ${smallestBound} to ${largestBound} at every step.`,
    );
  }
  // A rule that releases something beside the gradient has more noise on that, never less.
  const gradient = shaper.gradientNoise?.(sigma, batchSize) ?? sigma;
  if (!(gradient >= sigma)) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `privacyPlan: of noiseMultiplier ${sigma}, ${shaper.toString()} puts ${gradient} on the gradient at step ${step}; expected no less than all of it.`,
    );
  }
  if (isCarried(bound * gradient)) return sigma;
  throw new GradshapeError(
    'NOISE_INVALID',
    `privacyPlan: at step ${step} the noise's standard deviation, ${bound} · ${gradient}, is beyond what float32 carries; expected a bound and a noise ` +
      `multiplier whose product is from ${smallestBound} to ${largestBound}.`,
  );
}

const isCarried = (value: number): boolean => value >= smallestBound && value <= largestBound;
