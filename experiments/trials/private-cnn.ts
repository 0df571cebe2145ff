import {
  createEngineSync,
  evaluate,
  exponentialAverage,
  fashionTanhCnn,
  type LabelledSet,
  type Layer,
  makePrivateWithEpsilon,
  type Sequential,
  sequential,
  sgd,
  sub,
} from 'gradshape';
import { loadDressCoat, loadFashionMnist } from '../data/index.js';
import { defineTrial, type FullSpec, remember } from '../harness/index.js';

export interface PrivateCnnSpec {
  readonly data: 'dress-coat' | 'fashion-mnist';
  /** So many of the last training images are kept from training, and evaluated instead of the test images; 0: none. */
  readonly heldOut: number;
  readonly targetEpsilon: number;
  readonly targetDelta: number;
  readonly epochs: number;
  /** Expected batch size of Poisson sampling. */
  readonly batchSize: number;
  readonly clipNorm: number;
  readonly learningRate: number;
  readonly momentum: number;
  /** Of the exponential moving average of the weights. */
  readonly decay: number;
}

export interface PrivateCnnResult {
  /** σ, the least that keeps within the target by privacy-loss distributions. */
  readonly noiseMultiplier: number;
  /** Accuracy after each epoch: of the weights, and of their average. */
  readonly weights: readonly number[];
  readonly average: readonly number[];
  /** What the accountants count by. */
  readonly datasetSize: number;
  readonly stepsPerEpoch: number;
}

type Shared = Record<string, Uint8Array | Float32Array | Int32Array>;

const shape = [28, 28, 1];
const classes = { 'dress-coat': 2, 'fashion-mnist': 10 };

/** Pixels of [0, 2] to [-1, 1]: by a constant, so that nothing is learnt of the images. */
const centring: Layer = {
  kind: 'centring',
  parameters: () => [],
  outputShape: (input) => input,
  apply: ({ x }) => sub(x, 1),
  toString: () => 'centring()',
};

const centredTanhCnn = (outputs: number): Sequential =>
  sequential(centring, ...fashionTanhCnn(shape, outputs).layers);

/** The tanh network by DP-SGD with momentum on Poisson-sampled batches, its noise calibrated to a target ε. */
export const privateCnn = defineTrial<PrivateCnnSpec, PrivateCnnResult, Shared>({
  module: import.meta.url,
  name: 'private-cnn',
  version: 2,
  description: 'Accuracy by epoch of a tanh CNN trained by DP-SGD to a target ε',
  defaults: {
    data: 'fashion-mnist',
    heldOut: 0,
    targetEpsilon: 3,
    targetDelta: 1e-5,
    epochs: 20,
    batchSize: 2048,
    clipNorm: 0.1,
    learningRate: 8,
    momentum: 0.9,
    decay: 0.95,
  },
  async shared({ data }, specs) {
    const shared: Shared = {};
    for (const name of new Set(specs.map((spec) => spec.data))) {
      const splits =
        name === 'dress-coat' ? loadDressCoat() : await loadFashionMnist(data === undefined ? {} : { data });
      for (const part of ['train', 'test'] as const) {
        shared[`${name} ${part} x`] = splits[part].x;
        shared[`${name} ${part} y`] = splits[part].y;
      }
    }
    return shared;
  },
  uses: ({ data }) => ['train x', 'train y', 'test x', 'test y'].map((array) => `${data} ${array}`),
  run(spec, { kernels, shared, memo }) {
    const { targetEpsilon, targetDelta, epochs, batchSize, clipNorm, learningRate, momentum, seed } = spec;
    const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
    const sets = setsOf(spec, shared);
    using data = engine.dataset(sets.training);
    using evaluated = engine.dataset(sets.evaluated);
    const model = centredTanhCnn(classes[spec.data]);
    using params = model.init(engine, { seed: seed.init });
    using optimizer = sgd({ learningRate, momentum });
    using training = makePrivateWithEpsilon({
      ...{ model, params, optimizer, data, batchSize, epochs, clipNorm, targetEpsilon, targetDelta },
      // The fastest for this network's few positions and parameters.
      ...{ strategy: 'materialize', maxPhysicalBatch: 500, seed: seed.noise },
    });
    using average = exponentialAverage(params, { decay: spec.decay });
    const accuracies: Record<'weights' | 'average', number[]> = { weights: [], average: [] };
    for (let epoch = 0; epoch < epochs; epoch++) {
      for (const _ of training.run({ untilEpoch: epoch })) average.update();
      accuracies.weights.push(evaluate(model, params, evaluated).accuracy);
      accuracies.average.push(evaluate(model, average.params, evaluated).accuracy);
    }
    const { noiseMultiplier, stepsPerEpoch } = training.plan;
    return {
      ...accuracies,
      noiseMultiplier: noiseMultiplier as number,
      datasetSize: data.count,
      stepsPerEpoch,
    };
  },
});

function setsOf({ data, heldOut }: FullSpec<PrivateCnnSpec>, shared: Shared) {
  const set = (part: string): LabelledSet => ({
    x: shared[`${data} ${part} x`] as Uint8Array,
    y: shared[`${data} ${part} y`] as Int32Array,
    shape,
    scale: 2 / 255,
  });
  const [train, test] = [set('train'), set('test')];
  if (heldOut === 0) return { training: train, evaluated: test };
  const kept = train.y.length - heldOut;
  return { training: rows(train, 0, kept), evaluated: rows(train, kept, train.y.length) };
}

function rows(set: LabelledSet, from: number, to: number): LabelledSet {
  const size = set.x.length / set.y.length;
  const x = (set.x as Uint8Array).subarray(from * size, to * size);
  return { ...set, x, y: (set.y as Int32Array).subarray(from, to) };
}
