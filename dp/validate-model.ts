import {
  asExamples,
  type Batch,
  type BatchLoss,
  GradshapeError,
  gradients,
  type Parameters,
  type PerExampleGradients,
  perExample,
  publicGenerator,
  type Shape,
  sizeOf,
  slice,
  sliceBatch,
  type Tensor,
  writeKey,
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
  try {
    for (const { low, high, shaken } of trials) {
      if (shaken) shake(params);
      const draw = (): number => low + ((high - low) * (generator.next() / 0x80000000 + 1)) / 2;
      for (const labels of labelings) {
        try {
          const found = engine.scope(() => compare(loss, params, batchOf(params, shape, labels, draw)));
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
    // Not by params.load: the weights are those that they were.
    params.flat.view().set(before);
  }
}

/** Adds normal numbers of standard deviation 0.1 to the parameters. */
function shake({ engine, flat, size }: Parameters): void {
  const key = writeKey(engine, 0, 'init');
  engine.kernels.addGaussian(flat.address, flat.address, size, key, 0, 0, 0, 0, 8, 0.1);
}

function compare(loss: BatchLoss<Batch>, params: Parameters, batch: Batch): ModelIssue | null {
  const together = perExample(loss, params, batch);
  for (let i = 0; i < together.batch; i++) {
    const found = params.engine.scope(() => {
      const one = sliceBatch(batch, i, i + 1);
      const alone = attempt(() => perExample(loss, params, one));
      const difference =
        alone === null ? 'has a loss among the others, and fails alone' : differenceOf(together, i, alone, 0);
      if (difference === null) return ruleError(together, i, backwardGradient(loss, params, one));
      const again = differenceOf(together, i, perExample(loss, params, batch), i);
      return again === null
        ? errorIssue('EXAMPLES_MIXED', `of ${together.batch} random examples, number ${i} ${difference}.`)
        : errorIssue(
            'LOSS_NOT_REPRODUCIBLE',
            `the same examples and parameters gave different losses or gradients the second time: an example ${again}.`,
          );
    });
    if (found !== null) return found;
  }
  return null;
}

/** The result, or null where one example alone is an error. */
function attempt<T>(body: () => T): T | null {
  try {
    return body();
  } catch (error) {
    if (error instanceof GradshapeError && error.code === 'MEMORY_LIMIT') throw error;
    return null;
  }
}

const tolerance = 1e-3;
/** Below this, gradients are rounding. */
const negligible = 1e-12;
/** Most parameters of a model whose gradients are also formed for the comparison. */
const formedLimit = 250_000;

function same(a: number, b: number): boolean {
  if (!Number.isFinite(a) || !Number.isFinite(b)) return Number.isFinite(a) === Number.isFinite(b);
  return Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b)) + negligible;
}

/** An example's gradient as a private step sums it: Σ wᵢgᵢ with weight 1 for it alone. */
function gradientOf(g: PerExampleGradients, i: number): Tensor {
  return g.weightedSums([Array.from({ length: g.batch }, (_, j) => (j === i ? 1 : 0))])[0]!;
}

/** How far it is from another gradient. */
function distance(g: PerExampleGradients, i: number, { engine, size, address }: Tensor): number {
  return engine.scope(() => {
    const summed = gradientOf(g, i);
    engine.kernels.addScaled(summed.address, address, -1, size);
    return Math.sqrt(engine.kernels.squaredNorm(summed.address, size));
  });
}

/** How example i of one batch differs from example j of another, which is the same one. */
function differenceOf(
  g: PerExampleGradients,
  i: number,
  other: PerExampleGradients,
  j: number,
): string | null {
  const told = (what: string, a: number, b: number): string =>
    `has a ${what} of ${a} in the batch, and of ${b} ${other.batch === 1 ? 'alone' : 'again'}`;
  const [loss, otherLoss] = [g.losses.values()[i]!, other.losses.values()[j]!];
  if (!same(loss, otherLoss)) return told('loss', loss, otherLoss);
  const [norm, otherNorm] = [g.norms().values()[i]!, other.norms().values()[j]!];
  if (!same(norm, otherNorm)) return told('gradient norm', norm, otherNorm);
  if (!Number.isFinite(norm)) return null;
  const apart = g.losses.engine.scope(() => {
    return distance(g, i, gradientOf(other, j));
  });
  return apart > tolerance * norm + negligible ? told('gradient', norm, otherNorm) : null;
}

/** The gradient of one example's loss by backward, without per-example rules. */
function backwardGradient(loss: BatchLoss<Batch>, params: Parameters, one: Batch): Tensor {
  const { engine, trainableEntries, size } = params;
  return engine.scope(() => {
    const views = trainableEntries.map(({ name }) => params.get(name));
    const found = gradients(() => loss(params, one), views).gradients;
    const flat = engine.full([size], 0);
    trainableEntries.forEach((entry, i) => {
      engine.kernels.addScaled(flat.address + entry.offset * 4, found[i]!.address, 1, entry.size);
    });
    return flat;
  });
}

/** The same distance of the gradient as it is formed in the array of all. */
function distanceFormed(g: PerExampleGradients, i: number, { engine, size, address }: Tensor): number {
  return engine.scope(() => {
    const row = slice(g.array(), [i, 0], [1, size]);
    engine.kernels.addScaled(row.address, address, -1, size);
    return Math.sqrt(engine.kernels.squaredNorm(row.address, size));
  });
}

/** Whether the per-example rules disagree with backward about the gradient of example i. */
function ruleError(g: PerExampleGradients, i: number, gradient: Tensor): ModelIssue | null {
  const { engine, size } = gradient;
  const norm = g.norms().values()[i]!;
  const truth = Math.sqrt(engine.kernels.squaredNorm(gradient.address, size));
  if (!Number.isFinite(truth) || !Number.isFinite(norm)) return null;
  const most = tolerance * truth + 1e-4;
  const errors = [Math.abs(norm - truth), distance(g, i, gradient)];
  if (size <= formedLimit) errors.push(distanceFormed(g, i, gradient));
  if (errors.every((error) => error <= most)) return null;
  return errorIssue(
    'RULE_WRONG',
    `the per-example rules say that a gradient has norm ${norm}, where backward says ${truth}, or they form or sum another one.`,
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
