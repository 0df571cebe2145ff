import { GradshapeError } from './errors.js';
import type { Backward, Op } from './op.js';
import { add } from './ops/arithmetic.js';
import { sameShape, showShape, Tensor } from './tensor.js';

/** One op that ran while a watched tensor reached it. */
export interface TapeRecord {
  readonly op: Op<unknown>;
  readonly inputs: readonly Tensor[];
  readonly attributes: unknown;
  readonly output: Tensor;
  readonly saved: readonly Tensor[];
}

/** Records the ops between watched tensors and a result. Recordings nest, for gradients of gradients. */
export class Recorder {
  /** While true, an op that mixes the batch's examples is an error. */
  examplesApart = false;
  private readonly records: TapeRecord[] = [];
  private depth = 0;
  private serial = 0;

  get active(): boolean {
    return this.depth > 0;
  }

  /** Called by every op. */
  record(
    op: Op<unknown>,
    inputs: readonly Tensor[],
    attributes: unknown,
    output: Tensor,
    saved: readonly Tensor[],
  ): void {
    if (this.depth === 0 || !inputs.some((input) => input.recording === this.serial)) return;
    output.recording = this.serial;
    this.records.push({ op, inputs, attributes, output, saved });
  }

  /**
   * Runs `forward` while watching `watched`, then `then` with its result and what was recorded. `then` is recorded too
   * when this happens inside another recording: that is second order.
   */
  run<V, R>(
    watched: Iterable<Tensor>,
    forward: () => V,
    then: (value: V, tape: readonly TapeRecord[]) => R,
  ): R {
    if (this.depth === 0) this.serial++;
    for (const tensor of watched) tensor.recording = this.serial;
    const start = this.records.length;
    this.depth++;
    try {
      let value: V;
      try {
        value = forward();
      } finally {
        this.depth--;
      }
      return then(value, this.records.slice(start));
    } finally {
      if (this.depth === 0) this.records.length = 0;
    }
  }
}

/**
 * Takes the use of a watched tensor out of backward's hands: true when the caller will make that gradient itself.
 * `dOutput` is the gradient at the op's output, before its activation.
 */
export type Collect = (record: TapeRecord, argument: number, dOutput: Tensor) => boolean;

/**
 * Reverse-mode differentiation along a tape: the gradients to `wanted` of ⟨seed, output⟩.
 * Nothing is computed for tensors that can't reach a wanted one.
 */
export function backward(
  tape: readonly TapeRecord[],
  output: Tensor,
  seed: Tensor,
  wanted: ReadonlySet<Tensor>,
  collect?: Collect,
): Map<Tensor, Tensor> {
  const reaching = new Set(wanted);
  for (const record of tape) {
    if (record.inputs.some((input) => reaching.has(input))) reaching.add(record.output);
  }
  const gradients = new Map<Tensor, Tensor>([[output, seed]]);
  for (let i = tape.length - 1; i >= 0; i--) {
    const record = tape[i]!;
    const arriving = gradients.get(record.output);
    if (arriving === undefined || !reaching.has(record.output)) continue;
    const dOutput = beforeActivation(record, arriving);
    const needs = record.inputs.map(
      (input, argument) =>
        reaching.has(input) &&
        !(collect !== undefined && wanted.has(input) && collect(record, argument, dOutput)),
    );
    if (needs.includes(true)) propagate(record, dOutput, needs, gradients);
  }
  return gradients;
}

function beforeActivation(record: TapeRecord, dOutput: Tensor): Tensor {
  return record.op.beforeActivation?.({ ...context(record), dOutput }) ?? dOutput;
}

function context(record: TapeRecord): Omit<Backward<unknown>, 'dOutput' | 'needs' | 'recorded'> {
  const { engine } = record.output;
  const { inputs, attributes, output, saved } = record;
  return { engine, kernels: engine.kernels, inputs, attributes, output, saved };
}

function propagate(
  record: TapeRecord,
  dOutput: Tensor,
  needs: readonly boolean[],
  gradients: Map<Tensor, Tensor>,
): void {
  const { op, inputs, output } = record;
  const recorded = output.engine.recorder.active;
  if (recorded && op.secondOrder !== true) {
    throw new GradshapeError(
      'NO_SECOND_ORDER',
      `${op.name}: its gradient can't be differentiated again: ${op.secondOrder}.`,
    );
  }
  const results = op.backward({ ...context(record), dOutput, needs, recorded });
  if (!Array.isArray(results)) {
    throw new GradshapeError(
      'BACKWARD_INVALID',
      `${op.name}: backward returned ${String(results)}; expected an array of ${inputs.length}, a gradient or null for each input.`,
    );
  }
  if (results.length !== inputs.length) {
    throw new GradshapeError(
      'BACKWARD_INVALID',
      `${op.name}: backward returned ${results.length} gradients for ${inputs.length} inputs.`,
    );
  }
  for (let i = 0; i < inputs.length; i++) {
    const gradient = results[i];
    if (!needs[i] || gradient === null || gradient === undefined) continue;
    const input = inputs[i]!;
    if (
      !(gradient instanceof Tensor) ||
      gradient.dtype !== 'f32' ||
      !sameShape(gradient.shape, input.shape)
    ) {
      throw new GradshapeError(
        'BACKWARD_INVALID',
        `${op.name}: backward returned ${String(gradient)} as the gradient of input ${i}; expected an f32 tensor of its shape, ${showShape(input.shape)}, or null.`,
      );
    }
    const earlier = gradients.get(input);
    gradients.set(input, earlier === undefined ? gradient : add(earlier, gradient));
  }
}

/**
 * The value of `fn` and the gradients of its sum with respect to `inputs`, by reverse mode. Calls nest: inside `fn`
 * another `gradients` can be taken, and is differentiated in turn. An input that `fn` does not reach has gradient 0.
 * @param fn returns any f32 tensor; its elements are summed
 * @throws NOT_DIFFERENTIABLE when an input is not f32
 * @example
 * const { gradients: [dx] } = gradients((x) => sum(square(x)), [engine.tensor([1, 2])]); // [2, 4]
 */
export function gradients(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
): { value: Tensor; gradients: Tensor[] } {
  const first = inputs[0];
  if (first === undefined || inputs.some((input) => input.dtype !== 'f32')) {
    throw new GradshapeError(
      'NOT_DIFFERENTIABLE',
      'gradients: expected at least one input, all f32 tensors.',
    );
  }
  const { engine } = first;
  return engine.recorder.run(
    inputs,
    () => fn(...inputs),
    (value, tape) => {
      if (!(value instanceof Tensor) || value.dtype !== 'f32') {
        throw new GradshapeError(
          'NOT_DIFFERENTIABLE',
          `gradients: the function returned ${String(value)}; expected an f32 tensor, made of its inputs.`,
        );
      }
      const seed = engine.full(value.shape, 1);
      seed.examples = value.examples;
      const found = backward(tape, value, seed, new Set(inputs));
      return { value, gradients: inputs.map((input) => found.get(input) ?? engine.full(input.shape, 0)) };
    },
  );
}
