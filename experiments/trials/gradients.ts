import {
  adam,
  choose,
  cosineDecay,
  createEngineSync,
  crossEntropy,
  type Dataset,
  type Engine,
  type EpochAnatomy,
  evaluate,
  flipLabels,
  gradientAnatomy,
  type LabelledSet,
  namedModel,
  type Optimizer,
  type Parameters,
  type PoisonedSet,
  patchBackdoor,
  privateStep,
  publicGenerator,
  type Sequential,
  type StepObserver,
  seededNoise,
  sequentialBatches,
  sgd,
  slabAttack,
  stampPatch,
  type TrainingStep,
  trainEpoch,
  vanillaStep,
  watermarkCollision,
} from 'gradshape';
import { cleanCopies } from '../attacks/clean-copies.js';
import { loadDressCoat, loadFashionMnist } from '../data/index.js';
import { defineTrial, type FullSpec, remember, type SharedArrays } from '../harness/index.js';

export interface GradientsSpec {
  readonly task: 'dress-coat' | 'fashion-mnist';
  /** The first so many training images, and no more test images than that; null: all. */
  readonly trainCount: number | null;
  readonly model: 'lr' | 'mlp' | 'badnet';
  /** Epochs on the clean images before any poison comes: SGD with momentum 0.9 at a cosine-decayed rate, batches of 100. */
  readonly pretrainEpochs: number;
  readonly pretrainRate: number;
  readonly attack: 'collision' | 'patch' | 'label-flip' | 'slab';
  /** Collision: the target's weight in the blend. */
  readonly alpha: number;
  /** Patch: side of the white square, in pixels. */
  readonly size: number;
  /** Slab: steps of online learning. */
  readonly iterations: number;
  /** Poisons; they are added to the set. */
  readonly count: number;
  /**
   * Copies of as many clean training images, with their own labels, in the poisons' place: random ones, or those that a
   * clean model finds hardest (of the class whose label the poisons carry, where that is one). What is measured of them
   * is no attack's doing.
   */
  readonly control: 'none' | 'random' | 'hard';
  readonly optimizer: 'adam' | 'sgd';
  readonly learningRate: number;
  readonly batchSize: number;
  readonly epochs: number;
  /** C, or null for no clipping; vanilla without noise. */
  readonly clipNorm: number | null;
  /** Standard deviation of the noise on the sum of gradients. */
  readonly noiseStd: number;
}

type Pair = { readonly clean: number | null; readonly poison: number | null };

/** An epoch: gradients while it lasted, accuracies at its end. */
export interface GradientsEpoch {
  /** By the paper's definition: the output kernel's means over batches. */
  readonly paper: { readonly norms: Pair; readonly ratio: number | null; readonly cosine: number | null };
  /** Of all parameters and all examples, and the same freed of group sizes. */
  readonly whole: {
    readonly ratio: number | null;
    readonly cosine: number | null;
    readonly correctedRatio: number | null;
    readonly correctedCosine: number | null;
    readonly residual: number | null;
  };
  readonly layers: Readonly<
    Record<string, { readonly ratio: number | null; readonly cosine: number | null }>
  >;
  /** Means over steps, of all parameters. */
  readonly perStep: { readonly ratio: number | null; readonly cosine: number | null };
  /** 5 %, 50 % and 95 % quantiles of the examples' own gradient norms. */
  readonly exampleNorms: { readonly clean: readonly number[]; readonly poison: readonly number[] };
  readonly shareClipped: Pair;
  readonly signalToNoise: Pair | null;
  readonly test: number;
  /** On the clean training images; null for the large task. */
  readonly clean: number | null;
  /** Share of the poisons that are given the label they carry. */
  readonly poison: number;
  /** Share of patched test images that are given the attacker's label; null without a patch. */
  readonly backdoor: number | null;
}

export interface GradientsResult {
  readonly epochs: readonly GradientsEpoch[];
  /** N_clean / N_poison: the ratio that stationarity alone makes. */
  readonly stationaryRatio: number;
  /** Test accuracy before the poisons came. */
  readonly startTest: number;
  readonly startBackdoor: number | null;
}

const shape = [28, 28, 1];
const scale = 1 / 255;
/** Fashion-MNIST's classes: the target's and the attacker's, and what each is called in the small task. */
const labels = {
  'dress-coat': { dress: 0, coat: 1, classes: 2 },
  'fashion-mnist': { dress: 3, coat: 4, classes: 10 },
} as const;

/** Trains on a poisoned set and takes the gradients apart: Figures 1, 2, 4 (c, f) and 11 of the paper. */
export const gradients = defineTrial<GradientsSpec, GradientsResult>({
  module: import.meta.url,
  name: 'gradients',
  version: 3,
  description: 'Clean and poisoned gradients while a model trains on a poisoned set',
  defaults: {
    task: 'dress-coat',
    trainCount: null,
    model: 'lr',
    pretrainEpochs: 0,
    pretrainRate: 0.02,
    attack: 'collision',
    alpha: 1,
    size: 4,
    iterations: 100,
    count: 100,
    control: 'none',
    optimizer: 'adam',
    learningRate: 0.01,
    batchSize: 300,
    epochs: 40,
    clipNorm: null,
    noiseStd: 0,
  },
  async shared({ data }, specs) {
    const arrays: SharedArrays = {};
    for (const task of new Set(specs.map((spec) => spec.task))) {
      const { train, test } =
        task === 'dress-coat' ? loadDressCoat() : await loadFashionMnist(data === undefined ? {} : { data });
      Object.assign(arrays, {
        [`${task} train x`]: train.x,
        [`${task} train y`]: train.y,
        [`${task} test x`]: test.x,
        [`${task} test y`]: test.y,
      });
    }
    return arrays;
  },
  uses: ({ task }) => ['train x', 'train y', 'test x', 'test y'].map((part) => `${task} ${part}`),
  async run(spec, { kernels, shared, memo }) {
    const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
    const base = imagesOf(shared, spec, 'train');
    const test = imagesOf(shared, spec, 'test');
    const trained = remember(memo, `base ${spec.task} ${spec.trainCount}`, () => engine.dataset(base));
    const tested = remember(memo, `test ${spec.task} ${spec.trainCount}`, () => engine.dataset(test));
    const model = namedModel(spec.model, shape, labels[spec.task].classes);
    const cleanly = (): Float32Array => cleanParameters(spec, engine, model, trained, memo);
    using params = model.init(engine, { seed: spec.seed.init });
    const initial = params.values();
    const poisoned =
      spec.control === 'hard'
        ? cleanCopies(base, hardest(spec, model, params, trained, cleanly()))
        : await poisonsOf(spec, base, memo);
    params.load(spec.pretrainEpochs > 0 ? cleanly() : initial);
    using data = engine.dataset({ ...poisoned, base: trained });
    using poison = engine.dataset(poisoned.added[0]!);
    using backdoor = spec.attack === 'patch' ? engine.dataset(triggered(test, spec)) : null;
    const anatomy = gradientAnatomy({ params, poison: poisoned.poison });
    const { learningRate } = spec;
    using optimizer = spec.optimizer === 'adam' ? adam({ learningRate }) : sgd({ learningRate });
    const step = stepOf(spec, params, optimizer, anatomy);
    const accuracy = (set: Dataset) => evaluate(model, params, set).accuracy;
    const startTest = accuracy(tested);
    const startBackdoor = backdoor && accuracy(backdoor);
    const epochs: GradientsEpoch[] = [];
    for (let epoch = 0; epoch < spec.epochs; epoch++) {
      trainEpoch({ model, params, data, step, batchSize: spec.batchSize, seed: spec.seed.order }, epoch);
      epochs.push({
        ...recordOf(anatomy.endEpoch()),
        test: accuracy(tested),
        clean: spec.task === 'dress-coat' ? accuracy(trained) : null,
        poison: accuracy(poison),
        backdoor: backdoor && accuracy(backdoor),
      });
    }
    step.free();
    anatomy.free();
    return { epochs, stationaryRatio: base.y.length / spec.count, startTest, startBackdoor };
  },
});

function imagesOf(
  shared: SharedArrays,
  { task, trainCount }: GradientsSpec,
  part: 'train' | 'test',
): LabelledSet {
  const x = shared[`${task} ${part} x`] as Uint8Array;
  const y = shared[`${task} ${part} y`] as Int32Array;
  const count = Math.min(trainCount ?? y.length, y.length);
  return { x: x.subarray(0, count * 784), y: y.subarray(0, count), shape, scale };
}

async function poisonsOf(
  spec: FullSpec<GradientsSpec>,
  base: LabelledSet,
  memo: Map<string, unknown>,
): Promise<PoisonedSet> {
  const { attack, count, alpha, size, iterations, control, task } = spec;
  const seed = spec.seed.data;
  const { dress, coat, classes } = labels[task];
  if (control === 'random') {
    return cleanCopies(base, choose(count, base.y.length, publicGenerator(seed, 'poison')));
  }
  if (attack === 'collision') {
    // The authors' code pairs the first dresses with the first coats.
    return watermarkCollision(base, { count, seed, base: dress, target: coat, alpha, pairing: 'in-order' });
  }
  if (attack === 'patch') return patchBackdoor(base, { count, seed, patch: { size }, label: coat });
  if (attack === 'label-flip') return flipLabels(base, { count, seed, classes });
  // Minutes of crafting: once a worker, the same poisons for all seeds, as in the paper.
  return remember(memo, `slab ${count} ${iterations}`, () =>
    slabAttack(base, { count, iterations, seed: 1 }),
  );
}

/** Patched test images, all with the attacker's label. */
function triggered(test: LabelledSet, { size, task }: GradientsSpec): LabelledSet {
  return { ...stampPatch(test, { size }), y: new Int32Array(test.y.length).fill(labels[task].coat) };
}

/** The clean training of the spec, or of ten epochs where it has none; trials of the same seed share it. */
function cleanParameters(
  spec: FullSpec<GradientsSpec>,
  engine: Engine,
  model: Sequential,
  data: Dataset,
  memo: Map<string, unknown>,
): Float32Array {
  const { pretrainEpochs, pretrainRate: learningRate, seed, task, trainCount, model: name } = spec;
  const epochs = pretrainEpochs || 10;
  const key = ['clean', name, task, trainCount, epochs, learningRate, seed.init, seed.order].join(' ');
  return remember(memo, key, () => {
    const batchSize = 100;
    using params = model.init(engine, { seed: seed.init });
    using optimizer = sgd({ learningRate, momentum: 0.9 });
    const step = vanillaStep({ params, optimizer });
    const schedule = cosineDecay({ learningRate, steps: epochs * Math.ceil(data.count / batchSize) });
    for (let epoch = 0; epoch < epochs; epoch++) {
      trainEpoch({ model, params, data, step, batchSize, schedule, seed: seed.order }, epoch);
    }
    step.free();
    return params.values();
  });
}

/** The examples with the largest loss at these parameters: the class's that the poisons carry, or any. */
function hardest(
  { attack, task, count }: GradientsSpec,
  model: Sequential,
  params: Parameters,
  data: Dataset,
  values: Float32Array,
): number[] {
  params.load(values);
  const { dress, coat } = labels[task];
  const label = attack === 'collision' ? dress : attack === 'patch' ? coat : null;
  const classes = data.y;
  const losses = new Float32Array(data.count);
  const pieces = sequentialBatches({ count: data.count, batchSize: Math.min(500, data.count) });
  for (const indices of pieces) {
    params.engine.scope(() => {
      const { x, y } = data.batch(indices);
      losses.set(crossEntropy(model.predict(params, x), y).values(), indices[0]);
    });
  }
  return Array.from(losses.keys())
    .filter((i) => label === null || classes[i] === label)
    .sort((i, j) => losses[j]! - losses[i]!)
    .slice(0, count);
}

function stepOf(
  { clipNorm, noiseStd, batchSize, seed }: FullSpec<GradientsSpec>,
  params: Parameters,
  optimizer: Optimizer,
  observer: StepObserver,
): TrainingStep {
  if (clipNorm === null && noiseStd === 0) return vanillaStep({ params, optimizer, observer });
  return privateStep({
    params,
    optimizer,
    clipNorm: clipNorm ?? Infinity,
    noiseStd,
    expectedBatchSize: batchSize,
    noise: seededNoise(seed.noise),
    observer,
  });
}

function recordOf({
  paper,
  whole,
  layers,
  perStep,
  exampleNorms,
  shareClipped,
  signalToNoise,
}: EpochAnatomy) {
  const { ratio, cosine, corrected, residual } = whole.shaped;
  const three = (group: 'clean' | 'poison'): number[] => {
    const norms = exampleNorms[group];
    return norms === null ? [] : [norms.q5, norms.median, norms.q95];
  };
  return {
    paper: { norms: { ...paper.norms }, ratio: paper.ratio, cosine: paper.cosine },
    whole: { ratio, cosine, correctedRatio: corrected.ratio, correctedCosine: corrected.cosine, residual },
    layers: Object.fromEntries(
      Object.entries(layers).map(([name, { shaped }]) => [
        name,
        { ratio: shaped.ratio, cosine: shaped.cosine },
      ]),
    ),
    perStep,
    exampleNorms: { clean: three('clean'), poison: three('poison') },
    shareClipped: { ...shareClipped },
    signalToNoise: signalToNoise && { ...signalToNoise },
  };
}
