// How much slower or faster than another checkout: the same steps by both builds in turn, in one process, so that a slow moment
// of the machine falls on both.
//
//   node bench/compare.js --with ../before [--only W1] [--kernels relaxed]
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command, Option } from 'commander';
import * as here from 'gradshape';
import { terminalTable } from '../experiments/report/table.js';
import { median } from './measure.js';

type Library = typeof here;

interface Workload {
  readonly name: string;
  readonly batchSize: number;
  readonly shape: readonly number[];
  readonly classes: number;
  readonly examples: number;
  readonly steps: number;
  model(library: Library): here.Sequential;
  optimizer(library: Library): here.Optimizer;
}

const logistic = {
  ...{ shape: [784], classes: 2, examples: 6000 },
  model: ({ sequential, dense }: Library) => sequential(dense(784, 2)),
  optimizer: ({ adam }: Library) => adam({ learningRate: 0.01 }),
};
const perceptron = {
  ...{ shape: [784], classes: 10, examples: 6000 },
  model: ({ sequential, dense, relu }: Library) =>
    sequential(dense(784, 256), relu(), dense(256, 128), relu(), dense(128, 10)),
  optimizer: ({ sgd }: Library) => sgd({ learningRate: 0.01 }),
};

const workloads: readonly Workload[] = [
  { name: 'W1', batchSize: 300, steps: 3000, ...logistic },
  {
    ...{ name: 'W2', batchSize: 100, shape: [600], classes: 100, examples: 6000, steps: 800 },
    model: ({ sequential, dense }) => sequential(dense(600, 100)),
    optimizer: ({ sgd }) => sgd({ learningRate: 0.01 }),
  },
  { name: 'W3', batchSize: 100, steps: 400, ...perceptron },
  {
    ...{ name: 'W4', batchSize: 100, shape: [32, 32, 3], classes: 10, examples: 600, steps: 14 },
    model({ sequential, conv2d, relu, maxPool2d, flatten, dense }) {
      const conv = (inputs: number, outputs: number) => [
        conv2d(inputs, outputs, 3, { padding: 'same' }),
        relu(),
      ];
      return sequential(
        ...[...conv(3, 32), ...conv(32, 32), maxPool2d(2), ...conv(32, 64), ...conv(64, 64), maxPool2d(2)],
        ...[flatten(), dense(4096, 256), relu(), dense(256, 10)],
      );
    },
    optimizer: ({ sgd }) => sgd({ learningRate: 0.01 }),
  },
  { name: 'W1 of 4096', batchSize: 4096, steps: 250, ...logistic },
  { name: 'W3 of 4096', batchSize: 4096, steps: 24, ...perceptron },
];

/** One DP step of a workload by a build: clipping, seeded noise, the gather of its batch included. */
function stepOf(library: Library, workload: Workload, kernels: 'base' | 'relaxed'): () => void {
  const { batchSize, shape, classes, examples } = workload;
  const engine = library.createEngineSync({ kernels });
  const size = shape.reduce((a, b) => a * b, 1);
  const data = engine.dataset({
    x: Uint8Array.from({ length: examples * size }, (_, i) => Math.imul(i, 2654435761) >>> 24),
    y: Int32Array.from({ length: examples }, (_, i) => i % classes),
    shape,
    scale: 1 / 255,
  });
  const model = workload.model(library);
  const params = model.init(engine, { seed: 1 });
  const step = library.privateStep({
    params,
    optimizer: workload.optimizer(library),
    clipNorm: 1,
    noiseMultiplier: 1,
    expectedBatchSize: batchSize,
    noise: library.seededNoise(1),
  });
  const indices = new Int32Array(batchSize);
  let next = 0;
  return () => {
    for (let i = 0; i < batchSize; i++) indices[i] = (next + i) % examples;
    next = (next + batchSize) % examples;
    engine.scope(() => {
      step.accumulate((p, b) => library.crossEntropy(model.apply(p, b.x), b.y), data.batch(indices));
      step.finish();
    });
  };
}

const program = new Command('node bench/compare.js')
  .description('Milliseconds a DP step, of this build and of another checkout’s, taken in turn.')
  .requiredOption('--with <folder>', 'the other checkout, built')
  .option('--only <pattern>', 'only workloads whose name matches this regular expression', '')
  .addOption(new Option('--kernels <build>').choices(['base', 'relaxed']).default('base'))
  .parse();
const {
  with: folder,
  only,
  kernels,
} = program.opts<{ with: string; only: string; kernels: 'base' | 'relaxed' }>();
const there: Library = await import(pathToFileURL(path.resolve(folder, 'dist/index.js')).href);

const rows = workloads
  .filter(({ name }) => new RegExp(only).test(name))
  .map((workload) => {
    const [own, other] = [stepOf(here, workload, kernels), stepOf(there, workload, kernels)];
    const times: { own: number[]; other: number[] } = { own: [], other: [] };
    for (let i = 0; i < workload.steps; i++) {
      for (const which of i % 2 === 0 ? (['own', 'other'] as const) : (['other', 'own'] as const)) {
        const start = performance.now();
        (which === 'own' ? own : other)();
        if (i >= workload.steps / 10) times[which].push(performance.now() - start);
      }
    }
    const [mine, theirs] = [median(times.own), median(times.other)];
    return {
      cells: [workload.name, theirs.toPrecision(4), mine.toPrecision(4), (mine / theirs).toFixed(3)],
    };
  });
console.log(
  terminalTable({ title: '', columns: ['step', `${folder}, ms`, 'this build, ms', 'ratio'], rows }),
);
