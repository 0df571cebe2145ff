export * from './attacks/index.js';
export * from './dp/index.js';
export * from './engine/index.js';
// Where a layer and the operation it applies share a name, the name is the layer's, and the operation is in `ops`.
export * as ops from './engine/ops/index.js';
export * from './nn/index.js';
export {
  avgPool2d,
  conv2d,
  dropout,
  gelu,
  globalAvgPool,
  groupNorm,
  layerNorm,
  leakyRelu,
  maxPool2d,
  relu,
  sigmoid,
  tanh,
} from './nn/index.js';
