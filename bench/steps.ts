import {
  adam,
  type Batch,
  createEngineSync,
  crossEntropy,
  type Dataset,
  dense,
  type Optimizer,
  type Parameters,
  privateStep,
  relu,
  type Sequential,
  type Strategy,
  secureNoise,
  seededNoise,
  sequential,
  sgd,
  vanillaStep,
} from 'gradshape';
import { type Figure, medians, type Setting } from './measure.js';

interface Workload {
  readonly model: Sequential;
  readonly features: number;
  readonly classes: number;
  readonly batchSize: number;
  optimizer(): Optimizer;
}

/** The workloads: a logistic regression, a wide one, and a perceptron. */
const workloads: Record<string, Workload> = {
  W1: {
    model: sequential(dense(784, 2)),
    features: 784,
    classes: 2,
    batchSize: 300,
    optimizer: () => adam({ learningRate: 0.01 }),
  },
  W2: {
    model: sequential(dense(600, 100)),
    features: 600,
    classes: 100,
    batchSize: 100,
    optimizer: () => sgd({ learningRate: 0.01 }),
  },
  W3: {
    model: sequential(dense(784, 256), relu(), dense(256, 128), relu(), dense(128, 10)),
    features: 784,
    classes: 10,
    batchSize: 100,
    optimizer: () => sgd({ learningRate: 0.01 }),
  },
};

const modes = ['vanilla', 'loop', 'materialize', 'ghost', 'ghost-secure'] as const;
const examples = 6000;

/** Milliseconds a training step, the gather of its batch included. DP steps have noise on all parameters. */
export async function stepSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, workload] of Object.entries(workloads)) {
    const asked = modes.filter((mode) => wanted(`step/${name}/${mode}`));
    if (asked.length === 0) continue;
    const engine = createEngineSync({ kernels });
    const { features, classes } = workload;
    const data = engine.dataset({
      x: Uint8Array.from({ length: examples * features }, () => Math.random() * 256),
      y: Int32Array.from({ length: examples }, () => Math.random() * classes),
      shape: [features],
      scale: 1 / 255,
    });
    const tasks = asked.map((mode) => [mode, stepTask(mode, workload, data)] as const);
    const times = await medians(Object.fromEntries(tasks));
    figures.push(
      ...asked.map((mode) => ({ name: `step/${name}/${mode}`, unit: 'ms', value: times[mode]! }) as const),
    );
  }
  return figures;
}

/** One step of a mode, on a model of its own, over batches that follow each other through the data. */
function stepTask(mode: (typeof modes)[number], workload: Workload, data: Dataset): () => void {
  const { model, batchSize } = workload;
  const { engine } = data;
  const params = model.init(engine, { seed: 1 });
  const optimizer = workload.optimizer();
  const loss = (p: Parameters, b: Batch) => crossEntropy(model.apply(p, b.x), b.y);
  const step =
    mode === 'vanilla'
      ? vanillaStep({ params, optimizer })
      : privateStep({
          params,
          optimizer,
          clipNorm: 1,
          noiseMultiplier: 1,
          expectedBatchSize: batchSize,
          noise: mode === 'ghost-secure' ? secureNoise() : seededNoise(1),
          strategy: (mode === 'ghost-secure' ? 'ghost' : mode) as Strategy,
        });
  const indices = new Int32Array(batchSize);
  let next = 0;
  return () => {
    for (let i = 0; i < batchSize; i++) indices[i] = (next + i) % examples;
    next = (next + batchSize) % examples;
    engine.scope(() => {
      step.accumulate(loss, data.batch(indices));
      step.finish();
    });
  };
}
