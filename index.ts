export * from './attacks/index.js';
export * from './dp/index.js';
export * from './engine/index.js';
// Where a layer and the operation it applies share a name, the name is the layer's, and the operation is in `ops`.
export * as ops from './engine/ops/index.js';
export * from './nn/index.js';
export { dropout, relu, sigmoid, tanh } from './nn/index.js';
