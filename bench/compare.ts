// How much slower or faster than another checkout: the same steps by both builds in turn, in one process, so that a slow moment
// of the machine falls on both. Where an engine's memory lies moves large batches by up to 20 %, so that each round has new
// engines, and every other one makes the other build's first.
//
//   node bench/compare.js --with ../before [--only W1] [--kernels relaxed]
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { Command, Option } from 'commander';
import * as here from 'gradshape';
import { terminalTable } from '../experiments/report/table.js';
import { median } from './measure.js';

type Library = typeof here;

const rounds = 6;

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

/** The median milliseconds of a step by each build. */
function inTurn(workload: Workload, ownFirst: boolean): { own: number; other: number } {
  const steps = new Map<'own' | 'other', () => void>();
  for (const which of ownFirst ? (['own', 'other'] as const) : (['other', 'own'] as const))
    steps.set(which, stepOf(which === 'own' ? here : there, workload, kernels));
  const times: { own: number[]; other: number[] } = { own: [], other: [] };
  for (let i = 0; i < workload.steps; i++) {
    for (const which of i % 2 === 0 ? (['own', 'other'] as const) : (['other', 'own'] as const)) {
      const start = performance.now();
      steps.get(which)!();
      if (i >= workload.steps / 10) times[which].push(performance.now() - start);
    }
  }
  return { own: median(times.own), other: median(times.other) };
}

const program = new Command('node bench/compare.js')
  .description('Milliseconds a DP step, of this build and of another checkout’s, taken in turn: medians.')
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
    const medians = Array.from({ length: rounds }, (_, round) => inTurn(workload, round % 2 === 0));
    const ratios = medians.map(({ own, other }) => own / other).sort((a, b) => a - b);
    const cells = [
      median(medians.map(({ other }) => other)).toPrecision(4),
      median(medians.map(({ own }) => own)).toPrecision(4),
      median(ratios).toFixed(3),
      `${ratios[0]!.toFixed(3)} to ${ratios.at(-1)!.toFixed(3)}`,
    ];
    return { cells: [workload.name, ...cells] };
  });
console.log(
  terminalTable({
    title: '',
    columns: ['step', `${folder}, ms`, 'this build, ms', 'ratio', `of ${rounds} rounds`],
    rows,
  }),
);
