import {
  adam,
  createEngineSync,
  evaluate,
  type LabelledSet,
  makePrivate,
  namedModel,
  permutation,
  publicGenerator,
  train,
} from 'gradshape';
import { loadDressCoat, loadFashionMnist, loadLocation30 } from '../data/index.js';
import { defineTrial, type FullSpec, remember, toShared } from '../harness/index.js';

export type UtilityData = 'dress-coat' | 'fashion-mnist' | 'location30';

export interface UtilitySpec {
  readonly data: UtilityData;
  /** 'lr' or 'mlp'. */
  readonly model: string;
  /** σ; 0 is clipping alone, null is vanilla training. */
  readonly noiseMultiplier: number | null;
  readonly clipNorm: number;
  /** Expected batch size of Poisson sampling; vanilla training shuffles batches of that size. */
  readonly batchSize: number;
  readonly learningRate: number;
  readonly epochs: number;
}

export interface UtilityResult {
  /** Test accuracy after each epoch. */
  readonly test: readonly number[];
  /** What the accountants count by. */
  readonly datasetSize: number;
}

/** Location-30 has no test part: a fifth of it is drawn by the seed. */
const LOCATION_TEST = 1002;

interface Sets {
  readonly train: LabelledSet;
  readonly test: LabelledSet;
}

type Shared = Record<string, Uint8Array | Int32Array>;

const shapes: Record<UtilityData, readonly number[]> = {
  'dress-coat': [28, 28, 1],
  'fashion-mnist': [28, 28, 1],
  location30: [446],
};
const classes: Record<UtilityData, number> = { 'dress-coat': 2, 'fashion-mnist': 10, location30: 30 };

/** Accuracy by epoch of DP-Adam with Poisson sampling: what the privacy of a training costs. */
export const utilityEpsilon = defineTrial<UtilitySpec, UtilityResult, Shared>({
  module: import.meta.url,
  name: 'utility-epsilon',
  version: 2,
  description: 'Test accuracy by epoch of a privately trained LR or MLP',
  defaults: {
    data: 'dress-coat',
    model: 'lr',
    noiseMultiplier: 1,
    clipNorm: 1,
    batchSize: 300,
    learningRate: 0.01,
    epochs: 10,
  },
  async shared({ data }, specs) {
    const wanted = new Set(specs.map((spec) => spec.data));
    const shared: Shared = {};
    const put = (
      name: UtilityData,
      sets: Record<string, { x: Uint8Array | Float32Array; y: Int32Array }>,
    ) => {
      for (const [part, { x, y }] of Object.entries(sets)) {
        shared[`${name} ${part} x`] = toShared(x as Uint8Array);
        shared[`${name} ${part} y`] = toShared(y);
      }
    };
    const where = data === undefined ? {} : { data };
    if (wanted.has('dress-coat')) {
      const { train, test } = loadDressCoat();
      put('dress-coat', { train, test });
    }
    if (wanted.has('fashion-mnist')) {
      const { train, test } = await loadFashionMnist(where);
      put('fashion-mnist', { train, test });
    }
    if (wanted.has('location30')) put('location30', { all: await loadLocation30(where) });
    return shared;
  },
  uses: ({ data }) =>
    (data === 'location30' ? ['all'] : ['train', 'test']).flatMap((part) =>
      ['x', 'y'].map((array) => `${data} ${part} ${array}`),
    ),
  async run(spec, { kernels, shared, memo }) {
    const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
    const { train: training, test } = setsOf(spec, shared);
    using data = engine.dataset(training);
    using held = engine.dataset(test);
    const model = namedModel(spec.model, shapes[spec.data], classes[spec.data]);
    using params = model.init(engine, { seed: spec.seed.init });
    using optimizer = adam({ learningRate: spec.learningRate });
    const accuracies: number[] = [];
    const note = (): void => {
      accuracies.push(evaluate(model, params, held).accuracy);
    };
    if (spec.noiseMultiplier === null) {
      const { batchSize, epochs, seed } = spec;
      const steps = train({
        model,
        params,
        data,
        optimizer,
        batchSize,
        epochs,
        seed: seed.order,
        onEpoch: note,
      });
      for await (const _ of steps) {
        // to the end
      }
    } else {
      const { batchSize, epochs, clipNorm, noiseMultiplier, seed } = spec;
      using run = makePrivate({
        ...{ model, params, optimizer, data, batchSize, clipNorm, noiseMultiplier },
        ...{ epochs, seed: seed.noise, maxPhysicalBatch: 600 },
      });
      for (let epoch = 0; epoch < epochs; epoch++) {
        for (const _ of run.run({ untilEpoch: epoch })) {
          // to the epoch's end
        }
        note();
      }
    }
    return { test: accuracies, datasetSize: data.count };
  },
});

function setsOf({ data, seed }: FullSpec<UtilitySpec>, shared: Shared): Sets {
  const part = (name: string): LabelledSet => ({
    x: shared[`${data} ${name} x`] as Uint8Array,
    y: shared[`${data} ${name} y`] as Int32Array,
    shape: shapes[data],
    scale: data === 'location30' ? 1 : 1 / 255,
  });
  if (data !== 'location30') return { train: part('train'), test: part('test') };
  const all = part('all');
  const order = permutation(all.y.length, publicGenerator(seed.data, 'data'));
  return {
    test: rows(all, order.subarray(0, LOCATION_TEST)),
    train: rows(all, order.subarray(LOCATION_TEST)),
  };
}

function rows(set: LabelledSet, indices: Int32Array): LabelledSet {
  const size = set.x.length / set.y.length;
  const x = new Uint8Array(indices.length * size);
  indices.forEach((row, i) => {
    x.set(set.x.subarray(row * size, (row + 1) * size), i * size);
  });
  return { ...set, x, y: Int32Array.from(indices, (row) => set.y[row]!) };
}
