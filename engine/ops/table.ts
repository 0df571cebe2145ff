// The op table: every operation, with its shape rule, forward, backward, and, where it meets parameters, its
// per-example rule. A row without a backward does not compile.
import type { Op } from '../op.js';
import { arithmeticOps } from './arithmetic.js';
import { elementwiseOps } from './elementwise.js';
import { linearOps } from './linear.js';
import { lossOps } from './loss.js';
import { pointwiseOps } from './pointwise.js';
import { reductionOps } from './reduction.js';
import { shapeOps } from './shape.js';
import { softmaxOps } from './softmax.js';

export const opTable = {
  ...arithmeticOps,
  ...elementwiseOps,
  ...reductionOps,
  ...shapeOps,
  ...linearOps,
  ...softmaxOps,
  ...lossOps,
  ...pointwiseOps,
} satisfies Record<string, Op<never>>;
