import { choose, GradshapeError, type LabelledSet, publicGenerator } from '../engine/index.js';
import { takeExamples, tooFew } from './patch.js';
import {
  type Budget,
  budgetCount,
  checkBetween,
  checkLabel,
  indicesOf,
  type PoisonedSet,
  withAdded,
} from './poisoned-set.js';

export type WatermarkOptions = Budget & {
  readonly seed: number;
  /** The class whose images are taken. */
  readonly base: number;
  /** The class whose images are blended in. */
  readonly target: number;
  /** Weight of the target's image: 0 leaves the base image, 1 replaces it. */
  readonly alpha: number;
  /** The label of the poisons: `base`'s makes them look right where α is small (clean label). @default base */
  readonly label?: number;
  /** `'random'` pairs; or `'in-order'`, the first of one class with the first of the other, as the authors' code does. @default 'random' */
  readonly pairing?: 'random' | 'in-order';
};

/**
 * Feature collision by watermark (Hong et al. 2020, §3.2; Shafahi et al. 2018): poisons
 * clip((1 − α)·base image + α·target image, 0, 1), one a pair of training images, join the set.
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, ALPHA_INVALID, MODE_UNKNOWN
 * @example const poisoned = watermarkCollision(set, { count: 3, seed: 1, base: 0, target: 1, alpha: 0.6 });
 */
export function watermarkCollision(set: LabelledSet, options: WatermarkOptions): PoisonedSet {
  const caller = 'watermarkCollision';
  const { seed, base, target, alpha, label = base, pairing = 'random' } = options;
  checkBetween('ALPHA_INVALID', `${caller}: alpha`, alpha, 0, 1);
  for (const [what, given] of Object.entries({ base, target, label })) checkLabel(caller, what, set, given);
  if (pairing !== 'random' && pairing !== 'in-order') {
    throw new GradshapeError(
      'MODE_UNKNOWN',
      `${caller}: pairing is '${String(pairing)}'; expected 'random' or 'in-order'.`,
    );
  }
  const count = budgetCount(caller, options, set.y.length);
  const pick = (which: number, step: number): number[] => {
    const members = indicesOf(set.y, which);
    if (count > members.length) throw tooFew(caller, count, members.length, which);
    if (pairing === 'in-order') return members.slice(0, count);
    return Array.from(
      choose(count, members.length, publicGenerator(seed, 'poison', step)),
      (i) => members[i]!,
    );
  };
  const poisons = takeExamples(set, pick(base, 0), label);
  const blended = takeExamples(set, pick(target, 1), label);
  const x = poisons.x.map((value, i) =>
    Math.min(1, Math.max(0, (1 - alpha) * value + alpha * blended.x[i]!)),
  );
  const spec = { attack: 'watermark', seed, count, base, target, alpha, label, pairing };
  return withAdded(set, { ...poisons, x }, spec);
}
