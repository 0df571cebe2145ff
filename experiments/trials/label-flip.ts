import {
  adam,
  type Batch,
  createEngineSync,
  crossEntropy,
  type Dataset,
  dense,
  type Engine,
  evaluate,
  flatten,
  flipLabels,
  type LabelledSet,
  type Parameters,
  type PoisonedSet,
  privateStep,
  type Sequential,
  seededNoise,
  sequential,
  shuffledBatches,
  type TrainingStep,
  vanillaStep,
} from 'gradshape';
import { type DressCoat, loadDressCoat } from '../data/index.js';
import { defineTrial, type FullSpec, remember } from '../harness/index.js';

export interface LabelFlipSpec {
  /** Poisons as a share of the clean training set; they are added to it. */
  readonly ratio: number;
  /** C, or null for no clipping. Without clipping and noise the training is vanilla. */
  readonly clipNorm: number | null;
  /** Standard deviation of the noise on the sum of gradients: what the paper calls its noise. */
  readonly noiseStd: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly epochs: number;
}

/** Accuracy after each epoch. `poison` is the share of poisons the model gives the wrong label they carry; null without poisons. */
export interface LabelFlipResult {
  readonly clean: readonly number[];
  readonly poison: readonly number[] | null;
  readonly validation: readonly number[];
  readonly test: readonly number[];
}

type Images = Record<
  'trainX' | 'trainY' | 'validationX' | 'validationY' | 'testX' | 'testY',
  Uint8Array | Int32Array
>;

const splits = ['train', 'validation', 'test'] as const;
const shape = [28, 28, 1];
const scale = 1 / 255;

/** E4 of the paper: logistic regression on dress against coat, trained with (DP-)Adam on a set with flipped labels. */
export const labelFlip = defineTrial<LabelFlipSpec, LabelFlipResult, Images>({
  module: import.meta.url,
  name: 'label-flip',
  version: 1,
  description:
    'Logistic regression on Fashion-MNIST dress against coat with flipped labels, vanilla or shaped',
  defaults: { ratio: 0, clipNorm: null, noiseStd: 0, learningRate: 0.01, batchSize: 300, epochs: 40 },
  shared: () => sharedImages(loadDressCoat()),
  run(spec, { kernels, shared, memo }) {
    const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
    const sets = remember(memo, 'sets', () => ({
      train: engine.dataset(images(shared, 'train')),
      validation: engine.dataset(images(shared, 'validation')),
      test: engine.dataset(images(shared, 'test')),
    }));
    const poisoned = flipLabels(images(shared, 'train'), { ratio: spec.ratio, seed: spec.seed.data });
    using data = engine.dataset({ ...poisoned, base: sets.train });
    return train(spec, engine, data, poisoned, sets);
  },
});

function train(
  spec: FullSpec<LabelFlipSpec>,
  engine: Engine,
  data: Dataset,
  poisoned: PoisonedSet,
  sets: Record<(typeof splits)[number], Dataset>,
): LabelFlipResult {
  const { batchSize, epochs, seed } = spec;
  const model = sequential(flatten(), dense(784, 2));
  using params = model.init(engine, { seed: seed.init });
  const step = trainingStep(spec, params);
  const loss = (p: Parameters, batch: Batch) => crossEntropy(model.apply(p, batch.x), batch.y);
  const poison = poisoned.added[0] === undefined ? null : engine.dataset(poisoned.added[0]);
  const curves = {
    clean: [] as number[],
    poison: [] as number[],
    validation: [] as number[],
    test: [] as number[],
  };
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const indices of shuffledBatches({ count: data.count, batchSize, seed: seed.order, epoch })) {
      engine.scope(() => {
        step.accumulate(loss, data.batch(indices));
        step.finish();
      });
    }
    curves.clean.push(accuracy(model, params, sets.train));
    curves.validation.push(accuracy(model, params, sets.validation));
    curves.test.push(accuracy(model, params, sets.test));
    if (poison !== null) curves.poison.push(accuracy(model, params, poison));
  }
  step.free();
  poison?.free();
  return { ...curves, poison: poison === null ? null : curves.poison };
}

function trainingStep(
  { clipNorm, noiseStd, learningRate, batchSize, seed }: FullSpec<LabelFlipSpec>,
  params: Parameters,
): TrainingStep {
  const optimizer = adam({ learningRate });
  if (clipNorm === null && noiseStd === 0) return vanillaStep({ params, optimizer });
  return privateStep({
    params,
    optimizer,
    clipNorm: clipNorm ?? Infinity,
    noiseStd,
    expectedBatchSize: batchSize,
    noise: seededNoise(seed.noise),
  });
}

function accuracy(model: Sequential, params: Parameters, data: Dataset): number {
  return evaluate(model, params, data).accuracy;
}

function sharedImages(task: DressCoat): Images {
  return Object.fromEntries(
    splits.flatMap((split) => [
      [`${split}X`, task[split].x],
      [`${split}Y`, task[split].y],
    ]),
  ) as Images;
}

function images(shared: Images, split: (typeof splits)[number]): LabelledSet {
  return { x: shared[`${split}X`] as Uint8Array, y: shared[`${split}Y`] as Int32Array, shape, scale };
}
