import {
  type Batch,
  crossEntropy,
  type Dataset,
  type Optimizer,
  type Parameters,
  privateStep,
  type Sequential,
  secureNoise,
  seededNoise,
  vanillaStep,
} from 'gradshape';

/** How a step is made: vanilla, or DP by a strategy, with seeded noise unless it says secure. */
export type Mode = (typeof modes)[number];
export const modes = ['vanilla', 'loop', 'materialize', 'ghost', 'ghost-secure'] as const;

export interface Workload {
  readonly model: Sequential;
  readonly batchSize: number;
  optimizer(): Optimizer;
}

/**
 * One step of a mode, the gather of its batch included, on a model of its own, over batches that follow each other through
 * the data. DP steps clip and add noise to all parameters.
 */
export function stepTask(mode: Mode, { model, batchSize, optimizer }: Workload, data: Dataset): () => void {
  const { engine } = data;
  const params = model.init(engine, { seed: 1 });
  const loss = (p: Parameters, b: Batch) => crossEntropy(model.apply(p, b.x), b.y);
  const step =
    mode === 'vanilla'
      ? vanillaStep({ params, optimizer: optimizer() })
      : privateStep({
          params,
          optimizer: optimizer(),
          clipNorm: 1,
          noiseMultiplier: 1,
          expectedBatchSize: batchSize,
          noise: mode === 'ghost-secure' ? secureNoise() : seededNoise(1),
          strategy: mode === 'ghost-secure' ? 'ghost' : mode,
        });
  const indices = new Int32Array(batchSize);
  let next = 0;
  return () => {
    for (let i = 0; i < batchSize; i++) indices[i] = (next + i) % data.count;
    next = (next + batchSize) % data.count;
    engine.scope(() => {
      step.accumulate(loss, data.batch(indices));
      step.finish();
    });
  };
}
