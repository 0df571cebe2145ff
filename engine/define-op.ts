import { GradshapeError } from './errors.js';
import { alignedExamples, type Op, type PerExampleRule, run } from './op.js';
import type { Tensor } from './tensor.js';

/** A user's own op: the same row as the built-in ones, with less to say. */
export interface OpDefinition<A> extends Omit<Op<A>, 'summary' | 'examples' | 'secondOrder' | 'perExample'> {
  readonly summary?: string;
  /** Default: axis 0 stays the examples, as in a broadcasting op. */
  readonly examples?: Op<A>['examples'];
  /** true, or why not. @default true: backward is written with table ops */
  readonly secondOrder?: true | string;
  /** Rules by argument position; without one, parameters that meet this op fall back to the loop strategy. */
  readonly perExample?: Readonly<Record<number, PerExampleRule<A>>>;
}

/**
 * Makes an op like the built-in ones, from its shape rule, forward and backward.
 * @returns a function of the input tensors and the attributes
 * @throws OP_INVALID when a part is missing
 * @example
 * const cube = defineOp({
 *   name: 'cube',
 *   shape: ([x]) => x.shape,
 *   forward: ({ inputs, output }) => { output.view().set(inputs[0].values().map((x) => x * x * x)); },
 *   backward: ({ inputs, dOutput }) => [mul(dOutput, mul(square(inputs[0]), 3))],
 * });
 * cube([engine.tensor([2])]).item(); // 8
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
  const op: Op<A> = { summary: '', examples: alignedExamples, secondOrder: true, ...definition };
  return (inputs, ...attributes) => run(op, inputs, attributes[0] as A);
}
