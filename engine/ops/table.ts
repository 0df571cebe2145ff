// The op table: every operation, with its shape rule, forward, backward, and, where it meets parameters, its
// per-example rule. A row without a backward does not compile.
import type { Op } from '../op.js';
import { arithmeticOps } from './arithmetic.js';
import { convOps } from './conv.js';
import { elementwiseOps } from './elementwise.js';
import { joinOps } from './join.js';
import { linearOps } from './linear.js';
import { lossOps } from './loss.js';
import { normOps } from './norm.js';
import { pointwiseOps } from './pointwise.js';
import { poolOps } from './pool.js';
import { reductionOps } from './reduction.js';
import { shapeOps } from './shape.js';
import { softmaxOps } from './softmax.js';

/** Every operation by name; what the op reference (OPS.md) is made from. */
export const opTable = {
  ...arithmeticOps,
  ...elementwiseOps,
  ...reductionOps,
  ...shapeOps,
  ...linearOps,
  ...softmaxOps,
  ...lossOps,
  ...pointwiseOps,
  ...convOps,
  ...poolOps,
  ...normOps,
  ...joinOps,
} satisfies Record<string, Op<never>>;
