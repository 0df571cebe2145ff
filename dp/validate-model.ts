import {
  asExamples,
  type Batch,
  type BatchLoss,
  GradshapeError,
  gradients,
  type Parameters,
  perExample,
  publicGenerator,
  type Shape,
  sizeOf,
  sliceBatch,
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
  EXAMPLES_READ:
    'Compute with operations alone. For numbers that an example needs beside its own, make an operation of your own with defineOp.',
  EXAMPLES_UNDECLARED:
    "Give defineOp examples: 'apart' if each row of the output depends on the same row of the inputs alone.",
  LOSS_NOT_REPRODUCIBLE:
    'Make the loss a function of parameters and batch alone. For randomness use dropout, whose masks belong to the examples.',
  RULE_WRONG:
    'Look at the perExample rule of your defineOp, or leave it out: the gradients are then taken one by one.',
  BATCH_NORM_REFUSED: 'Use groupNorm(groups, channels) or layerNorm(features) in its place.',
};

/**
 * Looks for what stands in the way of private training: operations across examples (batch normalisation among them), losses
 * that are averaged, nothing to train; and for what makes it slow: tied parameters, and those that meet an operation without a
 * per-example rule. Tries one gradient on two examples of zeros; then, on a few random ones, compares each example among the others
 * with the same example alone, in loss, norm and gradient, to a thousandth, and the per-example rules (of `defineOp`, too) with backward.
 * No data is looked at. The parameters change for a moment, and are put back.
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
  try {
    const fallback = params.engine.scope(() => {
      const zeros = batchOf(params, shape, [0, 0], () => 0);
      return perExample(loss, params, zeros).fallback;
    });
    const found = tryRandom(loss, params, shape);
    if (found !== null) return [found];
    return fallback === null ? [] : [slowIssue(fallback)];
  } catch (error) {
    if (!(error instanceof GradshapeError)) throw error;
    return [errorIssue(error.code, error.message)];
  }
}

function errorIssue(code: string, message: string): ModelIssue {
  const hint = hints[code] ?? 'Try the model on a batch, model.apply(params, x), to see where it fails.';
  return { severity: 'error', code, message, hint };
}

/** Examples 0, 1, … of nobody's data, with these labels. */
function batchOf(params: Parameters, shape: Shape, labels: readonly number[], draw: () => number): Batch {
  const { engine } = params;
  const count = labels.length;
  const x = engine.tensor(Float32Array.from({ length: count * sizeOf(shape) }, draw), [count, ...shape]);
  const indices = engine.tensor(
    labels.map((_, i) => i),
    [count],
    'i32',
  );
  x.examples = { indices, random: { seed: 0, step: 0 } };
  asExamples(indices, x);
  return { x, y: asExamples(engine.tensor(labels, [count], 'i32'), x) };
}

/** What the numbers of random examples lie between, and whether parameters are random too: those at 0 hide much. */
const trials = [
  { low: -1, high: 1, shaken: false },
  { low: -64, high: 64, shaken: false },
  { low: 0, high: 1, shaken: true },
];
/** Classes of the random examples: of several, of two, and of one, for models that know no more. */
const labelings = [
  [0, 1, 2],
  [1, 0, 1],
  [0, 0, 0],
];

/** Compares random examples among others with the same ones alone. What fails with random numbers alone is no issue. */
function tryRandom(loss: BatchLoss<Batch>, params: Parameters, shape: Shape): ModelIssue | null {
  const { engine } = params;
  const before = params.values();
  const generator = publicGenerator(0, 'data');
  const uniform = (): number => generator.next() / 0x80000000;
  try {
    for (const { low, high, shaken } of trials) {
      if (shaken) params.load(before.map((value) => value + uniform() / 4));
      for (const labels of labelings) {
        try {
          const found = engine.scope(() => {
            const draw = (): number => low + ((high - low) * (uniform() + 1)) / 2;
            return compare(loss, params, batchOf(params, shape, labels, draw));
          });
          if (found !== null) return found;
          break;
        } catch (error) {
          if (!(error instanceof GradshapeError)) continue;
          if (error.code.startsWith('EXAMPLES_')) return errorIssue(error.code, error.message);
        }
      }
    }
    return null;
  } finally {
    params.load(before);
  }
}

/** What an example's loss and gradient are, as a private step would have them, and by backward alone. */
interface Example {
  readonly loss: number;
  readonly norm: number;
  /** Σ wᵢ·gᵢ with weight 1 for this example alone. */
  readonly summed: Float32Array;
  /** The same from the array of all gradients; left out for large models. */
  readonly formed: Float32Array;
}

/** Most parameters of a model whose gradients are formed for the comparison. */
const formedLimit = 1_000_000;

function examplesOf(loss: BatchLoss<Batch>, params: Parameters, batch: Batch): Example[] {
  const g = perExample(loss, params, batch);
  const [losses, norms] = [g.losses.values(), g.norms().values()];
  const { size } = params;
  const array = size <= formedLimit ? (g.array().values() as Float32Array) : new Float32Array(0);
  return Array.from(norms, (norm, i) => {
    const weights = Array.from(norms, (_, j) => (j === i ? 1 : 0));
    const [sum] = Number.isFinite(norm) ? g.weightedSums([weights]) : [];
    return {
      loss: losses[i]!,
      norm,
      summed: (sum?.values() ?? new Float32Array(0)) as Float32Array,
      formed: array.subarray(i * size, (i + 1) * size),
    };
  });
}

/** The gradient of one example's loss by backward, without per-example rules. */
function gradientByBackward(loss: BatchLoss<Batch>, params: Parameters, one: Batch): Float32Array {
  const entries = params.trainableEntries;
  const found = gradients(
    () => loss(params, one),
    entries.map(({ name }) => params.get(name)),
  );
  const flat = new Float32Array(params.size);
  entries.forEach(({ offset }, i) => {
    flat.set(found.gradients[i]!.values(), offset);
  });
  return flat;
}

function compare(loss: BatchLoss<Batch>, params: Parameters, batch: Batch): ModelIssue | null {
  const together = examplesOf(loss, params, batch);
  for (let i = 0; i < together.length; i++) {
    const one = sliceBatch(batch, i, i + 1);
    const [alone] = attemptAlone(() => examplesOf(loss, params, one));
    const difference =
      alone === undefined
        ? 'has a loss among the others, and fails alone'
        : differenceOf(together[i]!, alone);
    if (difference !== null) {
      const again = examplesOf(loss, params, batch)[i]!;
      if (differenceOf(together[i]!, again) !== null) return irreproducible(together[i]!, again);
      return errorIssue(
        'EXAMPLES_MIXED',
        `of ${together.length} random examples, number ${i} ${difference}.`,
      );
    }
    const wrong = ruleError(alone!, gradientByBackward(loss, params, one));
    if (wrong !== null) return wrong;
  }
  return null;
}

/** The result, or nothing where one example alone is an error. */
function attemptAlone(body: () => Example[]): Example[] {
  try {
    return body();
  } catch (error) {
    if (error instanceof GradshapeError && error.code === 'MEMORY_LIMIT') throw error;
    return [];
  }
}

const tolerance = 1e-3;
/** Below this, gradients are rounding. */
const negligible = 1e-12;

function same(a: number, b: number): boolean {
  if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.isFinite(a) === Number.isFinite(b);
  return Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b)) + negligible;
}

const distance = (a: Float32Array, b: Float32Array): number =>
  Math.sqrt(a.reduce((total, value, i) => total + (value - b[i]!) * (value - b[i]!), 0));

function differenceOf(together: Example, alone: Example): string | null {
  if (!same(together.loss, alone.loss)) {
    return `has a loss of ${together.loss} among the others, and of ${alone.loss} alone`;
  }
  if (!same(together.norm, alone.norm)) {
    return `has a gradient of norm ${together.norm} among the others, and of ${alone.norm} alone`;
  }
  const most = tolerance * alone.norm + negligible;
  if (distance(alone.summed, together.summed) > most || distance(alone.formed, together.formed) > most) {
    return 'has another gradient among the others than alone';
  }
  return null;
}

function irreproducible(first: Example, second: Example): ModelIssue {
  return errorIssue(
    'LOSS_NOT_REPRODUCIBLE',
    `the same examples and parameters gave a loss of ${first.loss} and then of ${second.loss} (gradients of norm ${first.norm} and ` +
      `${second.norm}), so that it can't be seen whether examples are kept apart.`,
  );
}

/** Whether the per-example rules disagree with backward about an example's gradient. */
function ruleError({ norm, summed, formed }: Example, gradient: Float32Array): ModelIssue | null {
  const truth = distance(gradient, new Float32Array(gradient.length));
  const most = tolerance * truth + 1e-4;
  if (!Number.isFinite(truth) || !Number.isFinite(norm)) return null;
  const wrong = [Math.abs(norm - truth), distance(summed, gradient), distance(formed, gradient)].some(
    (error) => error > most,
  );
  if (!wrong) return null;
  return errorIssue(
    'RULE_WRONG',
    `the per-example rules say that a gradient has norm ${norm}, and it has ${truth}, or they sum another one.`,
  );
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
