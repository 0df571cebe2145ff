import {
  asExamples,
  type Batch,
  type BatchLoss,
  GradshapeError,
  type Parameters,
  perExample,
  type Shape,
} from '../engine/index.js';

export interface ModelIssue {
  /** An error makes private training impossible; a warning makes it slower. */
  readonly severity: 'error' | 'warning';
  readonly code: string;
  readonly message: string;
  /** What to do. */
  readonly hint: string;
}

const hints: Readonly<Record<string, string>> = {
  EXAMPLES_MIXED:
    'Each example must have a gradient of its own. Use groupNorm or layerNorm for batch normalisation, and take means and softmaxes over ' +
    'axes other than the examples’.',
  LOSS_SHAPE: 'Return one number per example, [batch], and do not average: the step does.',
  BATCH_NORM_REFUSED: 'Use groupNorm(groups, channels) or layerNorm(features) in its place.',
};

/**
 * Looks for what stands in the way of private training: operations across examples (batch normalisation among them), losses
 * that are averaged, nothing to train; and for what makes it slow: tied parameters, and those that meet an operation without a
 * per-example rule. Tries one gradient on two examples of zeros: no data is looked at.
 * @param options shape of an example
 * @returns nothing where all is well
 * @example
 * validateModel((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, { shape: [28, 28, 1] }); // []
 */
export function validateModel(
  loss: BatchLoss<Batch>,
  params: Parameters,
  { shape }: { readonly shape: Shape },
): ModelIssue[] {
  if (params.trainableEntries.length === 0) {
    return [
      {
        severity: 'error',
        code: 'NOTHING_TO_TRAIN',
        message: 'all parameters are frozen.',
        hint: 'params.unfreeze(names) those to be trained.',
      },
    ];
  }
  const { engine } = params;
  try {
    return engine.scope(() => {
      const x = asExamples(engine.full([2, ...shape], 0));
      const y = engine.tensor([0, 0], [2], 'i32');
      x.examples = { indices: engine.tensor([0, 1], [2], 'i32'), random: { seed: 0, step: 0 } };
      y.examples = x.examples;
      const { fallback } = perExample(loss, params, { x, y });
      return fallback === null ? [] : [slowIssue(fallback)];
    });
  } catch (error) {
    if (!(error instanceof GradshapeError)) throw error;
    const hint =
      hints[error.code] ?? 'Try the model on a batch, model.apply(params, x), to see where it fails.';
    return [{ severity: 'error', code: error.code, message: error.message, hint }];
  }
}

function slowIssue(fallback: string): ModelIssue {
  const tied = /more than once/.test(fallback);
  return {
    severity: 'warning',
    code: tied ? 'PARAMETER_TIED' : 'NO_PER_EXAMPLE_RULE',
    message: `${fallback}.`,
    hint: tied
      ? 'Right, but its gradients are formed one by one, which takes memory: fewer examples at a time (maxPhysicalBatch) helps.'
      : 'Right, but examples are taken one at a time, which is slow: use the layers of gradshape, or give defineOp a perExample rule.',
  };
}
