import { type Engine, GradshapeError, Parameters, showShape } from '../engine/index.js';
import type { Optimizer, OptimizerDescription, OptimizerState } from './optimizer.js';
import { optimizerFromJSON } from './optimizer-json.js';
import { readSafetensors, type Safetensors, type StoredTensor, writeSafetensors } from './safetensors.js';
import { modelFromJSON, type Sequential } from './sequential.js';
import type { TrainingPosition } from './train.js';

/** Everything that a training run goes on from. */
export interface TrainingState {
  readonly model: Sequential;
  readonly params: Parameters;
  readonly optimizer: Optimizer;
  /** The seed given to `train`: streams are functions of it and the position, and need no state of their own. */
  readonly seed: number;
  /** The last step's `position`. */
  readonly position: TrainingPosition;
}

/** What `saveTraining` keeps beside the tensors. */
interface TrainingMetadata {
  readonly optimizer: OptimizerDescription;
  readonly counters: Readonly<Record<string, number>>;
  readonly frozen: readonly string[];
  readonly seed: number;
  readonly position: TrainingPosition;
}

const optimizerPrefix = 'optimizer.';

function weightsOf(params: Parameters): [string, StoredTensor][] {
  const values = params.values();
  return params.entries.map(({ name, shape, offset, size }) => [
    name,
    { shape, values: values.subarray(offset, offset + size) },
  ]);
}

/**
 * Model and weights as a safetensors file: tensors under the parameters' names, the model's description in the
 * metadata. It holds no trace of the training, neither seed nor optimizer, and so is safe to publish as far as the
 * weights are.
 * @example const copy = loadModel(saveModel(model, params), engine);
 */
export function saveModel(model: Sequential, params: Parameters): Uint8Array<ArrayBuffer> {
  return writeSafetensors({
    metadata: { format: 'gradshape', model: JSON.stringify(model) },
    tensors: new Map(weightsOf(params)),
  });
}

/**
 * What `saveModel` (or `saveTraining`) wrote; the parameters are new ones in this engine.
 * @throws CHECKPOINT_INVALID, CHECKPOINT_MISMATCH, MODEL_INVALID, DTYPE_MISMATCH, MEMORY_LIMIT
 */
export function loadModel(bytes: Uint8Array, engine: Engine): { model: Sequential; params: Parameters } {
  return modelOf(readSafetensors(bytes), engine);
}

/**
 * Overwrites parameters with a safetensors file's tensors of the same names and shapes, whatever tool wrote it.
 * @throws CHECKPOINT_INVALID, CHECKPOINT_MISMATCH, DTYPE_MISMATCH
 */
export function loadWeights(params: Parameters, bytes: Uint8Array): void {
  assign(params, readSafetensors(bytes));
}

function modelOf(file: Safetensors, engine: Engine): { model: Sequential; params: Parameters } {
  const model = modelFromJSON(parsedMetadata(file, 'model', 'saveModel'));
  const params = new Parameters(engine, model.parameters);
  try {
    assign(params, file);
  } catch (error) {
    params.free();
    throw error;
  }
  return { model, params };
}

function parsedMetadata({ metadata }: Safetensors, key: string, writer: string): unknown {
  try {
    return JSON.parse(metadata[key]!);
  } catch {
    throw new GradshapeError(
      'CHECKPOINT_INVALID',
      `checkpoint: the metadata has no '${key}'; expected a file that ${writer} wrote. For other tools' weights use loadWeights(params, bytes).`,
    );
  }
}

function assign(params: Parameters, { tensors }: Safetensors): void {
  const names = new Set(params.entries.map(({ name }) => name));
  for (const name of tensors.keys()) {
    if (names.has(name) || name.startsWith(optimizerPrefix)) continue;
    throw mismatch(`the file has a tensor '${name}', the model has ${[...names].join(', ')}`);
  }
  const values = new Float32Array(params.size);
  for (const { name, shape, offset } of params.entries) {
    const stored = tensors.get(name);
    if (stored === undefined) throw mismatch(`the file lacks '${name}'`);
    if (showShape(stored.shape) !== showShape(shape)) {
      throw mismatch(
        `'${name}' has shape ${showShape(stored.shape)} in the file, and ${showShape(shape)} in the model`,
      );
    }
    values.set(stored.values, offset);
  }
  params.load(values);
}

function mismatch(what: string): GradshapeError {
  return new GradshapeError(
    'CHECKPOINT_MISMATCH',
    `checkpoint: ${what}; expected the same names and shapes. Load it with the model that was saved.`,
  );
}

/**
 * A training run as a safetensors file: the weights, the optimizer's vectors under `optimizer.`, and all else as one
 * JSON string in the metadata. A run resumed from it goes on to the same bits. It holds the run's seed: keep it private.
 * @example
 * for await (const { position } of train({ model, params, data, optimizer, batchSize: 2, epochs: 1, seed: 1 })) {
 *   const bytes = saveTraining({ model, params, optimizer, seed: 1, position });
 * }
 */
export function saveTraining(state: TrainingState): Uint8Array<ArrayBuffer> {
  const { model, params, optimizer, seed, position } = state;
  const { vectors, counters } = optimizer.state();
  const trained = new Set(params.trainableEntries.map(({ name }) => name));
  const frozen = params.entries.map(({ name }) => name).filter((name) => !trained.has(name));
  const training: TrainingMetadata = { optimizer: optimizer.toJSON(), counters, frozen, seed, position };
  const moments = Object.entries(vectors).map(([name, values]): [string, StoredTensor] => [
    optimizerPrefix + name,
    { shape: [values.length], values },
  ]);
  return writeSafetensors({
    metadata: { format: 'gradshape', model: JSON.stringify(model), training: JSON.stringify(training) },
    tensors: new Map([...weightsOf(params), ...moments]),
  });
}

/**
 * What `saveTraining` wrote, with new parameters and a new optimizer in this engine.
 * @throws CHECKPOINT_INVALID, CHECKPOINT_MISMATCH, MODEL_INVALID, OPTIMIZER_INVALID, OPTIMIZER_STATE_INVALID, MEMORY_LIMIT
 * @example
 * const { model, params, optimizer, seed, position } = loadTraining(bytes, engine);
 * for await (const step of train({ model, params, data, optimizer, batchSize: 2, epochs: 3, seed, start: position })) { }
 */
export function loadTraining(bytes: Uint8Array, engine: Engine): TrainingState {
  const file = readSafetensors(bytes);
  const training = trainingOf(file);
  const optimizer = optimizerFromJSON(training.optimizer);
  const { model, params } = modelOf(file, engine);
  try {
    params.freeze(training.frozen);
    optimizer.loadState(params, optimizerState(file, training));
  } catch (error) {
    optimizer.free();
    params.free();
    throw error;
  }
  return { model, params, optimizer, seed: training.seed, position: training.position };
}

/** What a run needs to go on is all there; the optimizer checks its own part. */
function trainingOf(file: Safetensors): TrainingMetadata {
  const training = parsedMetadata(file, 'training', 'saveTraining') as Partial<TrainingMetadata> | null;
  const { counters, frozen, seed, position } = training ?? {};
  const isObject = (value: unknown): boolean =>
    typeof value === 'object' && value !== null && !Array.isArray(value);
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const { step, epoch, batch, examples, waited } = position ?? {};
  const sound = {
    counters: isObject(counters),
    frozen: Array.isArray(frozen),
    seed: isCount(seed),
    position: [step, epoch, batch, examples, waited].every(isCount),
  };
  const damaged = Object.entries(sound).find(([, good]) => !good)?.[0];
  if (damaged === undefined) return training as TrainingMetadata;
  throw new GradshapeError(
    'CHECKPOINT_INVALID',
    `checkpoint: '${damaged}' of the training's metadata is missing or damaged; expected a file that saveTraining wrote.`,
  );
}

function optimizerState({ tensors }: Safetensors, { counters }: TrainingMetadata): OptimizerState {
  const vectors = [...tensors]
    .filter(([name]) => name.startsWith(optimizerPrefix))
    .map(([name, { values }]) => [name.slice(optimizerPrefix.length), values] as const);
  return { vectors: Object.fromEntries(vectors) as Record<string, Float32Array>, counters };
}
