import { adam, createEngineSync, dense, relu, sequential, sgd } from 'gradshape';
import { type Figure, medians, type Setting } from './measure.js';
import { modes, stepTask, type Workload } from './step-task.js';

interface BenchWorkload extends Workload {
  readonly features: number;
  readonly classes: number;
}

/** The workloads: a logistic regression, a wide one, and a perceptron. */
const workloads: Record<string, BenchWorkload> = {
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
