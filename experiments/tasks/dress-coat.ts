// Logistic regression on dress against coat, vanilla or shaped: what the experiments on indiscriminate poisons train.
import {
  adam,
  type Batch,
  createEngineSync,
  crossEntropy,
  type Dataset,
  type Engine,
  evaluate,
  type LabelledSet,
  lr,
  type Parameters,
  privateStep,
  type Sequential,
  seededNoise,
  shuffledBatches,
  type TrainingStep,
  vanillaStep,
} from 'gradshape';
import { loadDressCoat } from '../data/index.js';
import { remember, type Seeds, type TrialContext } from '../harness/index.js';

const splits = ['train', 'validation', 'test'] as const;
type Split = (typeof splits)[number];

export type Images = Record<`${Split}X` | `${Split}Y`, Uint8Array | Int32Array>;

const shape = [28, 28, 1];
const scale = 1 / 255;

/** How the model is trained. */
export interface ShapedTraining {
  /** C, or null for no clipping. Without clipping and noise the training is vanilla. */
  readonly clipNorm: number | null;
  /** Standard deviation of the noise on the sum of gradients: what the paper calls its noise. */
  readonly noiseStd: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly epochs: number;
}

/** Accuracy after each epoch. `poison` is the share of poisons the model gives the wrong label they carry; null without poisons. */
export interface AccuracyCurves {
  readonly clean: readonly number[];
  readonly poison: readonly number[] | null;
  readonly validation: readonly number[];
  readonly test: readonly number[];
}

/** The task's images for a trial's `shared`. */
export function sharedImages(): Images {
  const task = loadDressCoat();
  return Object.fromEntries(
    splits.flatMap((split) => [
      [`${split}X`, task[split].x],
      [`${split}Y`, task[split].y],
    ]),
  ) as Images;
}

export function images(shared: Images, split: Split): LabelledSet {
  return { x: shared[`${split}X`] as Uint8Array, y: shared[`${split}Y`] as Int32Array, shape, scale };
}

/** The worker's engine, and the task in its memory. */
export function workbench({ kernels, shared, memo }: TrialContext<Images>): {
  engine: Engine;
  sets: Record<Split, Dataset>;
} {
  const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
  const sets = remember(memo, 'sets', () => ({
    train: engine.dataset(images(shared, 'train')),
    validation: engine.dataset(images(shared, 'validation')),
    test: engine.dataset(images(shared, 'test')),
  }));
  return { engine, sets };
}

/** The model in training: what may be looked at after each epoch. */
export interface Trained {
  readonly model: Sequential;
  readonly params: Parameters;
}

/** Trains on `data`; `afterEpoch` sees the model each time. */
export function trainShaped(
  { clipNorm, noiseStd, learningRate, batchSize, epochs, seed }: ShapedTraining & { readonly seed: Seeds },
  data: Dataset,
  afterEpoch: (trained: Trained) => void,
): void {
  const { engine } = data;
  const model = lr(784, 2);
  using params = model.init(engine, { seed: seed.init });
  const optimizer = adam({ learningRate });
  const step: TrainingStep =
    clipNorm === null && noiseStd === 0
      ? vanillaStep({ params, optimizer })
      : privateStep({
          params,
          optimizer,
          clipNorm: clipNorm ?? Infinity,
          noiseStd,
          expectedBatchSize: batchSize,
          noise: seededNoise(seed.noise),
        });
  const loss = (p: Parameters, batch: Batch) => crossEntropy(model.apply(p, batch.x), batch.y);
  for (let epoch = 0; epoch < epochs; epoch++) {
    for (const indices of shuffledBatches({ count: data.count, batchSize, seed: seed.order, epoch })) {
      engine.scope(() => {
        step.accumulate(loss, data.batch(indices));
        step.finish();
      });
    }
    afterEpoch({ model, params });
  }
  step.free();
}

/** The same, with the accuracies that every report wants. */
export function trainingCurves(
  spec: ShapedTraining & { readonly seed: Seeds },
  data: Dataset,
  sets: Record<Split, Dataset>,
  poisons: LabelledSet | undefined,
): AccuracyCurves {
  const poison = poisons === undefined ? null : data.engine.dataset(poisons);
  const curves = {
    clean: [] as number[],
    poison: [] as number[],
    validation: [] as number[],
    test: [] as number[],
  };
  trainShaped(spec, data, ({ model, params }) => {
    const accuracy = (set: Dataset): number => evaluate(model, params, set).accuracy;
    curves.clean.push(accuracy(sets.train));
    curves.validation.push(accuracy(sets.validation));
    curves.test.push(accuracy(sets.test));
    if (poison !== null) curves.poison.push(accuracy(poison));
  });
  poison?.free();
  return { ...curves, poison: poison === null ? null : curves.poison };
}
