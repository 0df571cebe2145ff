import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { choose, GradshapeError, type LabelledSet, publicGenerator } from '../engine/index.js';
import {
  type Budget,
  budgetCount,
  copyExamples,
  type Json,
  type PoisonedSet,
  withAdded,
  withRelabelled,
} from './poisoned-set.js';

/** How labels are flipped, whatever chooses the examples. */
export type FlipOptions = Budget & {
  readonly seed: number;
  /** `'add'`: copies with a wrong label join the set (the paper's way). `'in-place'`: labels of the set itself change. @default 'add' */
  readonly mode?: 'add' | 'in-place';
  /** Number of classes. @default the largest label + 1, and at least 2 */
  readonly classes?: number;
};

/** The flip's options once checked. */
export interface Flip {
  readonly count: number;
  readonly mode: 'add' | 'in-place';
  readonly classes: number;
  readonly seed: number;
}

/**
 * Random label flipping: examples chosen at random get another label, the opposite one when there are two classes,
 * else one of the others at random. For one seed, a larger budget contains the smaller one's poisons.
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, MODE_UNKNOWN
 * @example const poisoned = flipLabels(set, { ratio: 0.4, seed: 1 });
 */
export function flipLabels(base: LabelledSet, options: FlipOptions): PoisonedSet {
  const flip = checkedFlip('flipLabels', base, options);
  const chosen = choose(flip.count, base.y.length, publicGenerator(flip.seed, 'poison'));
  return flipped(base, chosen, otherLabels(base, chosen, flip), flip, 'label-flip');
}

/** @throws BUDGET_INVALID, LABEL_OUT_OF_RANGE, MODE_UNKNOWN */
export function checkedFlip(caller: string, base: LabelledSet, options: FlipOptions): Flip {
  const { seed, mode = 'add' } = options;
  if (mode !== 'add' && mode !== 'in-place') {
    throw new GradshapeError(
      'MODE_UNKNOWN',
      `${caller}: mode is '${String(mode)}'; expected 'add' or 'in-place'.`,
    );
  }
  const count = budgetCount(caller, options, base.y.length);
  const largest = Array.from(base.y).reduce((a, b) => Math.max(a, b), 1);
  const classes = options.classes ?? largest + 1;
  if (!Number.isInteger(classes) || classes <= largest) {
    throw new GradshapeError(
      'LABEL_OUT_OF_RANGE',
      `${caller}: classes is ${options.classes}, and the largest label is ${largest}; expected a whole number above it.`,
    );
  }
  return { count, mode, classes, seed };
}

/** Another label for each of these examples: the opposite one of two, else one of the others at random. */
export function otherLabels(base: LabelledSet, chosen: Int32Array, { classes, seed }: Flip): Int32Array {
  const offsets = publicGenerator(seed, 'poison', 1);
  return chosen.map((i) => (base.y[i]! + uniformInt(offsets, 1, classes - 1)) % classes);
}

/** The set where the chosen examples, or copies of them, carry these labels. */
export function flipped(
  base: LabelledSet,
  chosen: Int32Array,
  labels: Int32Array,
  { count, mode, classes, seed }: Flip,
  attack: string,
  more: { readonly [option: string]: Json } = {},
): PoisonedSet {
  const spec = { ...more, attack, seed, count, mode, classes };
  if (mode === 'in-place') return withRelabelled(base, chosen, labels, spec);
  return withAdded(base, copyExamples(base, chosen, labels), spec);
}
