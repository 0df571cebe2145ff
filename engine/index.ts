export { asExamples, sliceBatch } from './batch.js';
export { type BatchLoss, type BatchTensors, sumGradient } from './batch-gradient.js';
export type { Weights } from './checks.js';
export { type Batch, type BatchOptions, type ComposedSet, Dataset, type LabelledSet } from './dataset.js';
export { defineOp, type OpDefinition } from './define-op.js';
export { createEngine, createEngineSync, Engine, type EngineOptions } from './engine.js';
export { GradshapeError } from './errors.js';
export { GroupedSum } from './grouped-sum.js';
export { groupSize } from './grouping.js';
export { type KernelBuild, type KernelExports, type KernelSource, supportsRelaxedSimd } from './kernels.js';
export type { Backward, Forward, Op, PerExampleRule, Use } from './op.js';
export * from './ops/index.js';
export { opTable } from './ops/table.js';
export { type ParameterEntry, Parameters, type Range } from './parameters.js';
export {
  Norms,
  type PerExampleGradients,
  type PerExampleOptions,
  perExample,
  type Strategy,
} from './per-example.js';
export {
  checkSeed,
  choose,
  permutation,
  publicGenerator,
  type Stream,
  writeKey,
  writeKeyWords,
} from './random.js';
export { gradients } from './tape.js';
export {
  BlockTensor,
  type DType,
  type Examples,
  type HostArray,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
  Tensor,
} from './tensor.js';
