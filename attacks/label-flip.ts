import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { choose, GradshapeError, type LabelledSet, publicGenerator } from '../engine/index.js';
import { type Budget, budgetCount, copyExamples, type PoisonedSet } from './poisoned-set.js';

export type FlipOptions = Budget & {
  readonly seed: number;
  /** `'add'`: copies with a wrong label join the set (the paper's way). `'in-place'`: labels of the set itself change. @default 'add' */
  readonly mode?: 'add' | 'in-place';
  /** Number of classes. @default the largest label + 1, and at least 2 */
  readonly classes?: number;
};

/**
 * Random label flipping: examples chosen at random get another label, the opposite one when there are two classes,
 * else one of the others at random. For one seed, a larger budget contains the smaller one's poisons.
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, MODE_UNKNOWN
 * @example const poisoned = flipLabels(set, { ratio: 0.4, seed: 1 });
 */
export function flipLabels(base: LabelledSet, options: FlipOptions): PoisonedSet {
  const { seed, mode = 'add' } = options;
  if (mode !== 'add' && mode !== 'in-place') {
    throw new GradshapeError(
      'MODE_UNKNOWN',
      `flipLabels: mode is '${String(mode)}'; expected 'add' or 'in-place'.`,
    );
  }
  const n = base.y.length;
  const count = budgetCount('flipLabels', options, n);
  const y = Int32Array.from(base.y);
  const classes = checkedClasses(y, options.classes);
  const chosen = choose(count, n, publicGenerator(seed, 'poison'));
  const offsets = publicGenerator(seed, 'poison', 1);
  const flipped = chosen.map((i) => (y[i]! + uniformInt(offsets, 1, classes - 1)) % classes);
  if (mode === 'add') {
    const added = count === 0 ? [] : [copyExamples(base, chosen, flipped)];
    const labels = new Int32Array(n + count);
    labels.set(y);
    labels.set(flipped, n);
    return { base, added, y: labels, poison: Int32Array.from({ length: count }, (_, i) => n + i) };
  }
  chosen.forEach((example, i) => {
    y[example] = flipped[i]!;
  });
  return { base, added: [], y, poison: chosen.sort() };
}

function checkedClasses(y: Int32Array, given: number | undefined): number {
  const largest = y.reduce((a, b) => Math.max(a, b), 1);
  const classes = given ?? largest + 1;
  if (!Number.isInteger(classes) || classes <= largest) {
    throw new GradshapeError(
      'LABEL_OUT_OF_RANGE',
      `flipLabels: classes is ${given}, and the largest label is ${largest}; expected a whole number above it.`,
    );
  }
  return classes;
}
