import {
  type Engine,
  GradshapeError,
  type LabelledSet,
  permutation,
  publicGenerator,
} from '../engine/index.js';
import { checkedFlip, type FlipOptions, flipped, otherLabels } from './label-flip.js';
import type { PoisonedSet } from './poisoned-set.js';
import { exampleLosses, type SurrogateOptions, surrogate } from './surrogate.js';

export type RankedFlipOptions = FlipOptions &
  SurrogateOptions & {
    readonly engine: Engine;
    /** Which examples: those whose wrong label costs the clean model most, or least. @default 'highest' */
    readonly order?: 'highest' | 'lowest';
  };

/**
 * Label flipping of the examples that a clean model ranks: logistic regression is trained on the base, and those whose
 * flipped label has the highest (or lowest) loss under it are flipped. Ties are broken at random.
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, MODE_UNKNOWN, OPTION_INVALID
 * @example const poisoned = flipRankedLabels(set, { engine, ratio: 0.1, seed: 1 });
 */
export function flipRankedLabels(base: LabelledSet, options: RankedFlipOptions): PoisonedSet {
  const caller = 'flipRankedLabels';
  const { engine, order = 'highest' } = options;
  const flip = checkedFlip(caller, base, options);
  if (order !== 'highest' && order !== 'lowest') {
    throw new GradshapeError(
      'MODE_UNKNOWN',
      `${caller}: order is '${String(order)}'; expected 'highest' or 'lowest'.`,
    );
  }
  const all = permutation(base.y.length, publicGenerator(flip.seed, 'poison'));
  const { model, params, settings } = surrogate(caller, engine, base, flip.classes, options);
  const labels = otherLabels(base, all, flip);
  const losses = exampleLosses(model, params, { ...base, y: inPlace(all, labels) });
  params.free();
  const sign = order === 'highest' ? -1 : 1;
  const places = Array.from(all.keys()).sort((a, b) => sign * (losses[all[a]!]! - losses[all[b]!]!));
  const first = Int32Array.from(places.slice(0, flip.count));
  const more = { ...settings, order };
  return flipped(
    base,
    first.map((i) => all[i]!),
    first.map((i) => labels[i]!),
    flip,
    'ranked-label-flip',
    more,
  );
}

/** The labels by example. */
function inPlace(examples: Int32Array, labels: Int32Array): Int32Array {
  const y = new Int32Array(labels.length);
  examples.forEach((example, i) => {
    y[example] = labels[i]!;
  });
  return y;
}
