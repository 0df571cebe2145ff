import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import { checkForward } from './example-check.js';
import type { KernelExports } from './kernels.js';
import {
  addressOf,
  aliasOf,
  type DType,
  type Examples,
  isMixed,
  isTensor,
  markExamples,
  type Shape,
  showShape,
  type Tensor,
} from './tensor.js';

/** What an op's forward sees. */
export interface Forward<A> {
  readonly engine: Engine;
  readonly kernels: KernelExports;
  readonly inputs: readonly Tensor[];
  readonly attributes: A;
  readonly output: Tensor;
}

/** What an op's backward sees: the forward's context, what it saved, and the gradient that arrives at the output. */
export interface Backward<A> extends Forward<A> {
  readonly saved: readonly Tensor[];
  readonly dOutput: Tensor;
  /** Which inputs' gradients are wanted; the others may be null. */
  readonly needs: readonly boolean[];
  /** Whether this backward is itself being recorded, for second order: then only table ops may be used. */
  readonly recorded: boolean;
}

/** One place where a parameter meets the batch. */
export interface Use<A = unknown> extends Omit<Backward<A>, 'needs' | 'recorded'> {
  /** Which input of the op the parameter is. */
  readonly argument: number;
  /** Examples in the batch. */
  readonly batch: number;
}

/**
 * How an op's parameter gradient splits into the examples' own, for one argument position.
 * Addresses are bytes in the engine's memory; a parameter of p numbers has gradients of p numbers.
 */
export interface PerExampleRule<A> {
  /** Writes (or adds) the examples' gradients to rows `stride` floats apart: [batch, p]. */
  instantiate(use: Use<A>, out: number, stride: number, accumulate: boolean): void;
  /** Writes (or adds) Σᵢ wᵢ·gᵢ without forming the gᵢ; weights 0 means all ones. */
  weightedSum(use: Use<A>, weights: number, out: number, accumulate: boolean): void;
  /**
   * Norms, dot products and weighted sums without forming the gᵢ; absent where instantiating is always the cheaper. Measured norms
   * must bound what is added, in float32: see docs/arithmetic.md, lemma 1. Where in doubt, leave it out.
   */
  readonly ghost?: {
    /** T: how many products an example's gradient is the sum of. */
    positions(use: Use<A>): number;
    /** The book-keeping rule: ghost where 2T² < d·p, a formula, so that bits don't depend on the machine. */
    cheaper(use: Use<A>): boolean;
    /**
     * Adds Σ wᵢ·gᵢ over the examples from…to−1 to `out`; weights: f32, of these examples. Each example's sum over its positions is
     * formed by itself before it is added.
     */
    addRange(use: Use<A>, weights: number, from: number, to: number, out: number): void;
    /** ‖gᵢ‖² to f64 [batch], and, where terms is not 0, the norms of the T products added up, to terms, f64 [batch]. */
    squaredNorms(use: Use<A>, out: number, terms: number): void;
    /** ⟨gᵢ, direction⟩ to f64 [batch]; `direction` is f32 [p]. */
    dots(use: Use<A>, direction: number, out: number): void;
  };
}

/** One row of the op table. */
export interface Op<A> {
  readonly name: string;
  /** What it computes, in a line, for the op reference. */
  readonly summary: string;
  /** The output's shape; throws a named error for inputs that don't fit. */
  shape(inputs: readonly Tensor[], attributes: A): Shape;
  /** The examples that axis 0 of the output is, or null when they were mixed or there were none. */
  examples(inputs: readonly Tensor[], attributes: A, output: Shape): Examples | null;
  /** Dtypes of the inputs. @default all f32 */
  readonly dtypes?: readonly DType[];
  /** The output is the first input's bytes under another shape; forward has nothing to do. */
  readonly alias?: boolean;
  /** Computes the output; may return tensors to save for backward. */
  forward(c: Forward<A>): readonly Tensor[] | undefined;
  /** For an op that ends in an activation: the gradient before it. Backward and the per-example rules get this as dOutput. */
  beforeActivation?(c: Omit<Backward<A>, 'needs' | 'recorded'>): Tensor;
  /** The gradients to the inputs, in their order; null where there is none or none is needed. Written with table ops. */
  backward(c: Backward<A>): readonly (Tensor | null)[];
  /** true, or why a gradient of this op can't be differentiated again. */
  readonly secondOrder: true | string;
  /** Rules by argument position, for ops that meet parameters. */
  readonly perExample?: Readonly<Record<number, PerExampleRule<A>>>;
  /** Set by `defineOp`: what it says of examples is checked. */
  readonly own?: OwnOp;
}

/** What is kept of a user's op. */
export interface OwnOp {
  /** Whether it was said what the op does with examples. */
  readonly declared: boolean;
  /** How often forward and backward were looked at. */
  readonly looks: { forward: number; backward: number };
}

/** Runs an op: checks, forward, and a record on the tape when a watched tensor reaches it. */
export function run<A>(op: Op<A>, inputs: readonly Tensor[], attributes: A): Tensor {
  const engine = checkedEngine(op, inputs);
  const { recorder } = engine;
  if (op.own !== undefined) return runOwn(op, op.own, engine, inputs, attributes);
  recorder.inside++;
  try {
    return evaluate(op, engine, inputs, attributes).output;
  } finally {
    recorder.inside--;
  }
}

function runOwn<A>(op: Op<A>, own: OwnOp, engine: Engine, inputs: readonly Tensor[], attributes: A): Tensor {
  const { recorder } = engine;
  if (recorder.examplesApart && !own.declared && inputs.some((input) => input.examples !== null)) {
    throw new GradshapeError(
      'EXAMPLES_UNDECLARED',
      `${op.name}: defineOp was not told what the op does with the examples of a batch, and it met some inside perExample. Give it ` +
        "examples: 'apart' where each row of the output depends on the same row of the inputs alone, else 'mixed'.",
    );
  }
  const { output } = recorder.lend(inputs, () => evaluate(op, engine, inputs, attributes));
  recorder.lendResult(inputs, output);
  if (recorder.examplesApart && output.examples !== null) checkForward(op, own, inputs, attributes, output);
  return output;
}

/** An op's output, and what it saves for backward. */
export function evaluate<A>(
  op: Op<A>,
  engine: Engine,
  inputs: readonly Tensor[],
  attributes: A,
): { output: Tensor; saved: readonly Tensor[] } {
  const { recorder, kernels } = engine;
  recorder.checkLent(inputs);
  const shape = op.shape(inputs, attributes);
  const output = op.alias ? aliasOf(inputs[0]!, shape) : engine.allocate(shape, 'f32', op.name);
  const examples = examplesAfter(op, engine, inputs, attributes, shape);
  if (examples !== null) markExamples(output, examples);
  else if (inputs.some((input) => input.examples !== null || isMixed(input)))
    markExamples(output, null, true);
  recorder.lendResult(inputs, output);
  const saved = op.forward({ engine, kernels, inputs, attributes, output }) ?? [];
  recorder.record(op as Op<unknown>, inputs, attributes, output, saved);
  return { output, saved };
}

function checkedEngine<A>(op: Op<A>, inputs: readonly Tensor[]): Engine {
  const engine = inputs[0]?.engine;
  if (engine === undefined) {
    throw new GradshapeError(
      'NOT_A_TENSOR',
      `${op.name}: the first argument is not a tensor. Make one with engine.tensor.`,
    );
  }
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i]!;
    if (!isTensor(input)) {
      throw new GradshapeError(
        'NOT_A_TENSOR',
        `${op.name}: argument ${i} is not a tensor. Make one with engine.tensor.`,
      );
    }
    if (input.engine !== engine) {
      throw new GradshapeError(
        'ENGINE_MISMATCH',
        `${op.name}: its tensors live in two engines; expected one.`,
      );
    }
    const dtype = op.dtypes?.[i] ?? 'f32';
    if (input.dtype !== dtype) {
      throw new GradshapeError(
        'DTYPE_MISMATCH',
        `${op.name}: argument ${i} is ${input.dtype}; expected ${dtype}. Make it with engine.tensor(values, shape, '${dtype}').`,
      );
    }
    addressOf(input); // a tensor used after its scope is an error here, before anything is computed from it
  }
  return engine;
}

function examplesAfter<A>(
  op: Op<A>,
  engine: Engine,
  inputs: readonly Tensor[],
  attributes: A,
  shape: Shape,
): Examples | null {
  const { examplesApart } = engine.recorder;
  const foreign = otherExamples(inputs);
  const examples = foreign === null ? op.examples(inputs, attributes, shape) : null;
  if (!examplesApart) return examples;
  if (foreign !== null) throw mixed(op, inputs, shape, foreign);
  if (examples === null && inputs.some((input) => input.examples !== null)) {
    throw mixed(op, inputs, shape, 'it mixes the examples of the batch');
  }
  return examples;
}

/** Why the inputs' examples are not the same ones, or null where they are. */
function otherExamples(inputs: readonly Tensor[]): string | null {
  let examples: Examples | null = null;
  for (const input of inputs) {
    if (isMixed(input)) return "an input was computed from a whole batch before, and is no single example's";
    if (input.examples === null) continue;
    if (examples !== null && input.examples !== examples) {
      return "it mixes the examples of the batch with another batch's examples";
    }
    examples = input.examples;
  }
  return null;
}

function mixed<A>(op: Op<A>, inputs: readonly Tensor[], shape: Shape, why: string): GradshapeError {
  return new GradshapeError(
    'EXAMPLES_MIXED',
    `${op.name}: ${why} (inputs ${inputs.map((t) => showShape(t.shape)).join(', ')} → ${showShape(shape)}), and inside perExample ` +
      "every example's loss must depend on that example alone. " +
      'Keep axis 0 for the examples and reduce over the other axes; the step does the sum over the batch. ' +
      'For normalisation use groupNorm or layerNorm, which know one example at a time. ' +
      'Where rows of two tensors are the same examples, say so: asExamples(tensor, batch.x); where one is a public constant, copy its ' +
      'numbers before, outside the loss: engine.tensor(t.values(), t.shape).',
  );
}

/** The first input's examples, for ops whose output rows are the input's rows. */
export function sameExamples(inputs: readonly Tensor[]): Examples | null {
  return inputs[0]!.examples;
}

/** The examples' rule of broadcasting ops: axis 0 must line up, and other operands must be the same for all examples. */
export function alignedExamples(
  inputs: readonly Tensor[],
  _attributes: unknown,
  output: Shape,
): Examples | null {
  let examples: Examples | null = null;
  for (const input of inputs) {
    if (input.examples === null) continue;
    if (input.rank !== output.length || input.shape[0] !== output[0]) return null;
    examples = input.examples;
  }
  if (examples === null) return null;
  const foreignRows = inputs.some(
    (input) => input.examples === null && input.rank === output.length && input.shape[0] !== 1,
  );
  return foreignRows ? null : examples;
}
