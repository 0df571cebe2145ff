import {
  type Dataset,
  type Engine,
  loadTraining,
  namedModel,
  saveTraining,
  type TrainingPosition,
  train,
} from 'gradshape';
import type { RunSettings } from './options.js';
import { optimizerOf, scheduleOf, type Trainer } from './trainer.js';

/** Ordinary training: shuffled passes over the data. */
export function vanillaTrainer(
  engine: Engine,
  settings: RunSettings,
  data: Dataset,
  classes: number,
  checkpoint?: Uint8Array,
): Trainer {
  const { seed, batchSize, epochs } = settings;
  const { model, params, optimizer, ...saved } =
    checkpoint === undefined ? begin(engine, settings, data, classes) : loadTraining(checkpoint, engine);
  let position: TrainingPosition | undefined = saved.position;
  const steps = epochs * Math.ceil(data.count / batchSize);
  return {
    ...{ settings, model, params, steps, notes: [] },
    get epoch() {
      return position?.epoch;
    },
    async *run(signal, onEpoch) {
      const reports = train({
        ...{ model, params, optimizer, data, batchSize, epochs, seed, signal, onEpoch },
        schedule: scheduleOf(settings, steps),
        ...(position && { start: position }),
      });
      for await (const report of reports) {
        position = report.position;
        yield report;
      }
    },
    save: () => saveTraining({ model, params, optimizer, seed, position: position! }),
    free() {
      params.free();
      optimizer.free();
    },
  };
}

function begin(engine: Engine, settings: RunSettings, { shape }: Dataset, classes: number) {
  const model = namedModel(settings.model, shape, classes);
  const params = model.init(engine, { seed: settings.seed });
  return { model, params, optimizer: optimizerOf(settings), position: undefined };
}
