import { type PoisonedSet, type SlabParameters, slabAttack } from 'gradshape';
import { defineTrial, remember, type TrialContext } from '../harness/index.js';
import { type DistinctPoison, distinctPoisons } from '../tasks/distinct.js';
import {
  type AccuracyCurves,
  type Images,
  images,
  type ShapedTraining,
  sharedImages,
  trainingCurves,
  workbench,
} from '../tasks/dress-coat.js';

export interface SlabSpec extends ShapedTraining {
  /** Poisons as a share of the clean training set; they are added to it. */
  readonly ratio: number;
  /** Seed of the attack: one for all arms and training seeds, as in the paper. */
  readonly attackSeed: number;
  readonly centroids: 'poisoned' | 'clean';
  readonly box: boolean;
  readonly iterations: number;
  /** The attack's η, of several the one of most damage to a hinge learner on the clean training images; and ρ. */
  readonly attackRate: number | readonly number[];
  readonly attackRadius: number;
}

export interface SlabResult extends AccuracyCurves {
  readonly distinct: readonly DistinctPoison[];
  /** The η of the attacker's choice, and his objective; null without poisons. */
  readonly chosen: ChosenPoisons | null;
}

interface ChosenPoisons {
  readonly learningRate: number;
  /** The hinge loss on the clean training images of a learner trained on the poisoned set. */
  readonly objective: number;
}

/** E4 of the paper: the same training on a set with slab poisons. */
export const slab = defineTrial<SlabSpec, SlabResult, Images>({
  module: import.meta.url,
  name: 'slab',
  version: 3,
  description: 'Logistic regression on Fashion-MNIST dress against coat with slab poisons, vanilla or shaped',
  defaults: {
    ratio: 0,
    attackSeed: 1,
    centroids: 'poisoned',
    box: true,
    iterations: 30,
    attackRate: [0.003, 0.01, 0.03],
    attackRadius: 8,
    clipNorm: null,
    noiseStd: 0,
    learningRate: 0.01,
    batchSize: 300,
    epochs: 40,
  },
  shared: () => sharedImages(),
  async run(spec, context) {
    const { engine, sets } = workbench(context);
    const { ratio, attackSeed, centroids, box, iterations, attackRate, attackRadius } = spec;
    const parameters = { centroids, box, iterations, learningRate: attackRate, radius: attackRadius };
    const { poisoned, chosen } = await craftedSlab(context, ratio, attackSeed, parameters);
    using data = engine.dataset({ ...poisoned, base: sets.train });
    const curves = trainingCurves(spec, data, sets, poisoned.added[0]);
    return { ...curves, distinct: distinctPoisons(poisoned), chosen };
  },
});

/** The attack's set and what it took, crafted once a worker. */
export function craftedSlab(
  { shared, memo }: TrialContext<Images>,
  ratio: number,
  seed: number,
  parameters: SlabParameters,
): Promise<{ poisoned: PoisonedSet; chosen: ChosenPoisons | null }> {
  const options = { ratio, seed, ...parameters };
  return remember(memo, `slab ${JSON.stringify(options)}`, async () => {
    let chosen: ChosenPoisons | null = null;
    const poisoned = await slabAttack(images(shared, 'train'), {
      ...options,
      onProgress({ state: { learningRate, objective } }) {
        chosen = { learningRate, objective };
      },
    });
    return { poisoned, chosen };
  });
}
