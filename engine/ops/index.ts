export { add, div, equal, greater, mul, type Operand, sub } from './arithmetic.js';
export { absolute, exp, log, negate, relu, sigmoid, sign, sqrt, square, tanh } from './elementwise.js';
export { denseLayer, matmul } from './linear.js';
export { crossEntropy, meanSquaredError } from './loss.js';
export { clip, dropout } from './pointwise.js';
export { l2Norm, max, mean, type ReduceOptions, sum } from './reduction.js';
export { broadcastTo, reshape, transpose } from './shape.js';
export { logSoftmax, softmax } from './softmax.js';
