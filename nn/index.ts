export { type AdamOptions, adam } from './adam.js';
export { type BatchesOptions, type ShuffleOptions, sequentialBatches, shuffledBatches } from './batches.js';
export {
  loadModel,
  loadTraining,
  loadWeights,
  saveModel,
  saveTraining,
  type TrainingState,
} from './checkpoint.js';
export { avgPool2d, type Conv2dOptions, conv2d, globalAvgPool, maxPool2d } from './conv-layers.js';
export { type EvaluateOptions, type Evaluation, evaluate, predictions } from './evaluate.js';
export {
  type ExponentialAverage,
  type ExponentialAverageOptions,
  exponentialAverage,
} from './exponential-average.js';
export {
  type AnatomyOptions,
  type EpochAnatomy,
  type GradientAnatomy,
  gradientAnatomy,
  type Stages,
  type StepAnatomy,
} from './gradient-anatomy.js';
export type { GroupMoments, Groups, Quantiles, Signature } from './gradient-signature.js';
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
export {
  type DenseOptions,
  dense,
  dropout,
  flatten,
  gelu,
  leakyRelu,
  relu,
  sigmoid,
  tanh,
} from './layers.js';
export { accuracy, confusionMatrix, countCorrect } from './metrics.js';
export {
  badNet,
  cifarCnn,
  cifarTanhCnn,
  fashionTanhCnn,
  lr,
  mlp,
  modelNames,
  namedModel,
} from './models.js';
export { nearestName } from './nearest-name.js';
export { batchNorm, groupNorm, layerNorm } from './norm-layers.js';
export type { Optimizer, OptimizerDescription, OptimizerState, UpdateOptions } from './optimizer.js';
export { optimizerFromJSON } from './optimizer-json.js';
export type { PaperAnatomy } from './paper-means.js';
export { projectedResidual, residual } from './residual.js';
export { readSafetensors, type Safetensors, type StoredTensor, writeSafetensors } from './safetensors.js';
export {
  constantRate,
  cosineDecay,
  exponentialDecay,
  linearWarmup,
  type Schedule,
  stepDecay,
} from './schedules.js';
export {
  type ApplyOptions,
  type Model,
  type ModelDescription,
  modelFromJSON,
  Sequential,
  sequential,
} from './sequential.js';
export { type SgdOptions, sgd } from './sgd.js';
export {
  batchLoss,
  type EarlyStop,
  type EpochOptions,
  type EpochReport,
  type LogitsLoss,
  type StepReport,
  type TrainingPosition,
  type TrainOptions,
  train,
  trainEpoch,
} from './train.js';
export { type StepObserver, type TrainingStep, type VanillaStepOptions, vanillaStep } from './train-step.js';
