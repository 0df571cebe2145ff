import { GradshapeError } from '../engine/index.js';
import { adam } from './adam.js';
import type { Optimizer, OptimizerDescription } from './optimizer.js';
import { sgd } from './sgd.js';

/** The optimizer of a description, as `toJSON` gives it. @throws OPTIMIZER_INVALID */
export function optimizerFromJSON(description: OptimizerDescription): Optimizer {
  switch (description?.kind) {
    case 'sgd':
      return sgd(description);
    case 'adam':
      return adam(description);
    default:
      throw new GradshapeError(
        'OPTIMIZER_INVALID',
        `optimizerFromJSON: kind is '${String((description as { kind?: unknown } | null)?.kind)}'; expected 'sgd' or 'adam'.`,
      );
  }
}
