import {
  type Engine,
  GradshapeError,
  type LabelledSet,
  type Parameters,
  permutation,
  publicGenerator,
} from '../../engine/index.js';
import { adam, evaluate, lr, trainEpoch, vanillaStep } from '../../nn/index.js';
import type { Rows } from '../sphere-and-slab.js';
import { checkCount, classesOf, type Filtered, type FilterOptions, keepLowest, membersOf } from './filter.js';

export interface RoniOptions extends FilterOptions {
  /** Clean examples, at least two: every other one of a class to train with, the rest to judge by. */
  readonly trusted: LabelledSet;
  /** Forms the groups. */
  readonly seed: number;
  /** Examples judged together; 1 judges each alone. @default 50 */
  readonly group?: number;
  /** Times every example is judged, in other company. @default 1 */
  readonly rounds?: number;
  /** Epochs of logistic regression, at learning rate 0.01. @default 3 */
  readonly epochs?: number;
}

/**
 * Reject on negative impact (Nelson et al. 2008; Barreno et al. 2010): an example's score is by how much adding it (with
 * its group) to trusted training data raises the loss on other trusted data, for logistic regression.
 * @throws FILTER_INVALID, SEED_INVALID
 */
export function roniFilter(engine: Engine, rows: Rows, options: RoniOptions): Filtered {
  const caller = 'roniFilter';
  const { trusted, seed, group = 50, rounds = 1, epochs = 3 } = options;
  for (const [what, value] of Object.entries({ group, rounds, epochs })) checkCount(caller, what, value);
  const { y, size } = rows;
  if (trusted.y.length < 2) {
    throw new GradshapeError(
      'FILTER_INVALID',
      `${caller}: there are ${trusted.y.length} trusted examples; expected two at least.`,
    );
  }
  const classes = Math.max(...classesOf(y), ...classesOf(trusted.y)) + 1;
  const model = lr(size, classes);
  using all = engine.dataset({ x: rows.x, y, shape: trusted.shape });
  using judged = engine.dataset({ base: all, added: [trusted] });
  const n = y.length;
  const byClass = classesOf(trusted.y).flatMap((label) =>
    Array.from(membersOf(trusted.y, label), (i) => n + i),
  );
  const training = byClass.filter((_, k) => k % 2 === 0);
  const judges = byClass.filter((_, k) => k % 2 === 1);
  using start = model.init(engine, { seed });
  const initial = start.values();
  const lossWith = (members: ArrayLike<number>): number => {
    start.load(initial);
    return trainedLoss(start, [...training, ...Array.from(members)]);
  };
  const without = lossWith([]);
  const scores = new Float64Array(n);
  for (let round = 0; round < rounds; round++) {
    const order = permutation(n, publicGenerator(seed, 'sampler', round));
    for (let from = 0; from < n; from += group) {
      const members = order.subarray(from, from + group);
      const impact = lossWith(members) - without;
      for (const i of members) scores[i]! += impact / rounds;
    }
  }
  return keepLowest(caller, y, scores, options);

  function trainedLoss(params: Parameters, indices: readonly number[]): number {
    const step = vanillaStep({ params, optimizer: adam({ learningRate: 0.01 }) });
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = permutation(indices.length, publicGenerator(seed, 'order', epoch));
      const batches = function* () {
        for (let at = 0; at < order.length; at += 100) {
          yield order.subarray(at, at + 100).map((i) => indices[i]!);
        }
      };
      trainEpoch({ model, params, data: judged, step, seed, batches }, epoch);
    }
    step.free();
    return evaluate(model, params, judged, { indices: judges }).loss;
  }
}
