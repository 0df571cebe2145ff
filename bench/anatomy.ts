import {
  badNet,
  createEngineSync,
  crossEntropy,
  gradientAnatomy,
  type KernelBuild,
  lr,
  mlp,
  privateStep,
  type Sequential,
  sgd,
  shuffledBatches,
  vanillaStep,
} from 'gradshape';
import { type Figure, medians, type Setting } from './measure.js';

/** A training, and how many of its examples are watched as poisons. */
interface Watched {
  readonly model: Sequential;
  readonly classes: number;
  readonly count: number;
  readonly batchSize: number;
  readonly poisons: number;
  readonly clipNorm?: number;
}

/** The experiments on gradients: 40 % of poisons for LR, 1 % for the others. */
export const watched: Readonly<Record<string, Watched>> = {
  'lr-40%': { model: lr(784, 2), classes: 2, count: 15_120, batchSize: 300, poisons: 4320 },
  'lr-40%-clipped': {
    ...{ model: lr(784, 2), classes: 2, count: 15_120, batchSize: 300, poisons: 4320 },
    clipNorm: 4,
  },
  'lr-1%': { model: lr(784, 2), classes: 2, count: 10_900, batchSize: 300, poisons: 100 },
  'mlp-1%': { model: mlp(784, 10), classes: 10, count: 2020, batchSize: 100, poisons: 20 },
  'mlp-40%-clipped': {
    ...{ model: mlp(784, 10), classes: 10, count: 2100, batchSize: 100, poisons: 840 },
    clipNorm: 1,
  },
  'badnet-1%': { model: badNet(), classes: 10, count: 505, batchSize: 100, poisons: 5 },
};

/** Milliseconds of a training step, plain and with the gradient anatomy watching: epochs are timed, their ends included. */
export async function anatomySuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, setting] of Object.entries(watched)) {
    const asked = ['plain', 'watched'].filter((mode) => wanted(`anatomy/${name}/${mode}`));
    if (asked.length === 0) continue;
    const epochs = asked.map((mode) => ({ mode, ...epochOf(setting, mode === 'watched', kernels) }));
    const times = await medians(Object.fromEntries(epochs.map(({ mode, epoch }) => [mode, epoch])));
    for (const { mode, steps } of epochs) {
      figures.push({ name: `anatomy/${name}/${mode}`, unit: 'ms', value: times[mode]! / steps });
    }
  }
  return figures;
}

function epochOf(
  { model, classes, count, batchSize, poisons, clipNorm }: Watched,
  isWatched: boolean,
  kernels: KernelBuild,
): { epoch: () => void; steps: number } {
  const engine = createEngineSync({ kernels });
  const x = Uint8Array.from({ length: count * 784 }, (_, i) => (i * 37 + (i >> 5)) % 256);
  const y = Int32Array.from({ length: count }, (_, i) => i % classes);
  const data = engine.dataset({ x, y, shape: [28, 28, 1], scale: 1 / 255 });
  const params = model.init(engine, { seed: 1 });
  const poison = Int32Array.from({ length: poisons }, (_, i) => count - poisons + i);
  const observer = isWatched ? { observer: gradientAnatomy({ params, poison }) } : {};
  const options = { params, optimizer: sgd({ learningRate: 1e-3 }), ...observer };
  const step =
    clipNorm === undefined
      ? vanillaStep(options)
      : privateStep({ ...options, clipNorm, noiseStd: 0, expectedBatchSize: batchSize });
  const batches = shuffledBatches({ count, batchSize, lastBatch: 'drop', seed: 1 });
  const epoch = (): void => {
    for (const indices of batches) {
      engine.scope(() => {
        step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch(indices));
        step.finish();
      });
    }
    observer.observer?.endEpoch();
  };
  return { epoch, steps: batches.length };
}
