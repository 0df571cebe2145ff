export { type BatchesOptions, type ShuffleOptions, sequentialBatches, shuffledBatches } from './batches.js';
export {
  constant,
  glorotNormal,
  glorotUniform,
  heNormal,
  heUniform,
  type Initializer,
  zeros,
} from './initializers.js';
export type { Layer, LayerCall, ParameterSpec } from './layer.js';
export type { LayerDescription } from './layer-json.js';
export { type DenseOptions, dense, dropout, flatten, relu, sigmoid, tanh } from './layers.js';
export {
  type AdamOptions,
  adam,
  type Optimizer,
  type OptimizerDescription,
  type OptimizerState,
  optimizerFromJSON,
  type SgdOptions,
  sgd,
  type UpdateOptions,
} from './optimizers.js';
export {
  type ApplyOptions,
  type Model,
  type ModelDescription,
  modelFromJSON,
  Sequential,
  sequential,
} from './sequential.js';
export { type TrainingStep, type VanillaStepOptions, vanillaStep } from './train-step.js';
