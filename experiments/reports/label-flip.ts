import type { TrialResult } from '../harness/index.js';
import type { Report } from '../report/index.js';
import type { AccuracyCurves } from '../tasks/dress-coat.js';
import type { LabelFlipSpec } from '../trials/label-flip.js';
import { indiscriminateReport } from './indiscriminate.js';

/** Figure 4 (a, b). */
export function labelFlipReport(trials: readonly TrialResult<LabelFlipSpec, AccuracyCurves>[]): Report {
  return indiscriminateReport(trials, {
    id: 'label_flip',
    poisons: 'flipped labels',
    clipNorm: 4,
    panels: ['a', 'b'],
    gain: 0.9445 - 0.9415,
    gainSource: 'repository, JAX run, best epoch on test',
  });
}
