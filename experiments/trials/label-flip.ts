import { flipLabels } from 'gradshape';
import { defineTrial } from '../harness/index.js';
import {
  type AccuracyCurves,
  type Images,
  images,
  type ShapedTraining,
  sharedImages,
  trainingCurves,
  workbench,
} from '../tasks/dress-coat.js';

export interface LabelFlipSpec extends ShapedTraining {
  /** Poisons as a share of the clean training set; they are added to it. */
  readonly ratio: number;
}

/** E4 of the paper: logistic regression on dress against coat, trained with (DP-)Adam on a set with flipped labels. */
export const labelFlip = defineTrial<LabelFlipSpec, AccuracyCurves, Images>({
  module: import.meta.url,
  name: 'label-flip',
  version: 2,
  description:
    'Logistic regression on Fashion-MNIST dress against coat with flipped labels, vanilla or shaped',
  defaults: { ratio: 0, clipNorm: null, noiseStd: 0, learningRate: 0.01, batchSize: 300, epochs: 40 },
  shared: () => sharedImages(),
  run(spec, context) {
    const { engine, sets } = workbench(context);
    const base = images(context.shared, 'train');
    const poisoned = flipLabels(base, { ratio: spec.ratio, seed: spec.seed.data });
    using data = engine.dataset({ ...poisoned, base: sets.train });
    return trainingCurves(spec, data, sets, poisoned.added[0]);
  },
});
