import { GradshapeError } from './errors.js';
import { alignedExamples, type Op, type PerExampleRule, run } from './op.js';
import type { Examples, Shape, Tensor } from './tensor.js';

/** A user's own op: the same row as the built-in ones, with less to say. */
export interface OpDefinition<A>
  extends Omit<Op<A>, 'summary' | 'examples' | 'secondOrder' | 'perExample' | 'own'> {
  readonly summary?: string;
  /**
   * What the op does with the examples of a batch. 'apart': axis 0 of the output is the examples of the inputs, and each row depends on
   * the same row of the inputs alone (and on inputs that all examples share). 'mixed': it does not keep them apart. Or a function, as in
   * the table: the examples that axis 0 of the output is, or null. Without it the op can't meet examples in a loss under `perExample`.
   */
  readonly examples?: 'apart' | 'mixed' | Op<A>['examples'];
  /** true, or why not. @default true: backward is written with table ops */
  readonly secondOrder?: true | string;
  /** Rules by argument position; without one, parameters that meet this op fall back to the loop strategy. */
  readonly perExample?: Readonly<Record<number, PerExampleRule<A>>>;
}

/** The rule of 'apart': the inputs' examples, where the output has a row for each. */
function rowsApart(inputs: readonly Tensor[], _attributes: unknown, output: Shape): Examples | null {
  const batch = inputs.find((input) => input.examples !== null);
  return batch !== undefined && batch.shape[0] === output[0] ? batch.examples : null;
}

function examplesRule<A>({ examples }: OpDefinition<A>): Op<A>['examples'] {
  if (examples === 'apart') return rowsApart;
  if (examples === 'mixed') return () => null;
  if (examples === undefined) return alignedExamples;
  if (typeof examples === 'function') return examples;
  throw new GradshapeError(
    'OP_INVALID',
    `defineOp: examples is ${String(examples)}; expected 'apart', 'mixed', or a function of the inputs.`,
  );
}

/**
 * Makes an op like the built-in ones, from its shape rule, forward and backward. Forward may read its inputs' numbers, also in a loss
 * under `perExample`. There, what it says of examples is checked: now and then it runs again with one example alone, and output and
 * gradients must be that example's rows; what backward needs of forward is returned by forward, as `saved`. Random numbers must therefore belong to the example: drawn from `inputs[0].examples`, its
 * indices and random seed and step, or an input of their own, `asExamples(noise, batch.x)`.
 * @returns a function of the input tensors and the attributes
 * @throws OP_INVALID when a part is missing; the op: EXAMPLES_UNDECLARED, EXAMPLES_MIXED
 * @example
 * const cube = defineOp({
 *   name: 'cube',
 *   examples: 'apart',
 *   shape: ([x]) => x.shape,
 *   forward: ({ inputs, output }) => { output.view().set(inputs[0].values().map((x) => x * x * x)); },
 *   backward: ({ inputs, dOutput }) => [mul(dOutput, mul(square(inputs[0]), 3))],
 * });
 * cube([engine.tensor([2])]).item(); // 8
 * @example
 * // Each example's loss times the weight of its class.
 * const weighted = defineOp({
 *   name: 'weighted',
 *   examples: 'apart',
 *   dtypes: ['f32', 'i32', 'f32'],
 *   shape: ([losses]) => losses.shape,
 *   forward: ({ engine, inputs: [losses, labels, classWeights], output }) => {
 *     const of = classWeights.values();
 *     const weights = engine.tensor(Float32Array.from(labels.values(), (label) => of[label]));
 *     weights.examples = labels.examples;
 *     output.view().set(mul(losses, weights).values());
 *     return [weights];
 *   },
 *   backward: ({ saved, dOutput }) => [mul(dOutput, saved[0]), null, null],
 * });
 * const losses = (p, b) => weighted([crossEntropy(model.apply(p, b.x), b.y), b.y, engine.tensor([1, 3])]);
 * perExample(losses, params, batch).batch; // 3
 */
export function defineOp<A = undefined>(
  definition: OpDefinition<A>,
): (inputs: readonly Tensor[], ...attributes: A extends undefined ? [] : [A]) => Tensor {
  const parts = { ...definition } as Partial<OpDefinition<A>>;
  for (const part of ['name', 'shape', 'forward', 'backward'] as const) {
    if (parts[part] === undefined) {
      throw new GradshapeError(
        'OP_INVALID',
        `defineOp: ${part} is missing; expected name, shape, forward and backward.`,
      );
    }
  }
  const op: Op<A> = {
    summary: '',
    secondOrder: true,
    ...definition,
    examples: examplesRule(definition),
    own: { declared: definition.examples !== undefined, looks: { forward: 0, backward: 0 } },
  };
  return (inputs, ...attributes) => run(op, inputs, attributes[0] as A);
}
