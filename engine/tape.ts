import { GradshapeError } from './errors.js';
import { checkBackward } from './example-check.js';
import type { Backward, Op } from './op.js';
import { add } from './ops/arithmetic.js';
import { isMixed, markExamples, readError, sameShape, showShape, Tensor } from './tensor.js';

/** One op that ran while a watched tensor reached it. */
export interface TapeRecord {
  readonly op: Op<unknown>;
  readonly inputs: readonly Tensor[];
  readonly attributes: unknown;
  readonly output: Tensor;
  readonly saved: readonly Tensor[];
  /** Whether it ran in a loss that must keep examples apart. */
  readonly examplesApart: boolean;
}

/** Records the ops between watched tensors and a result. Recordings nest, for gradients of gradients. */
export class Recorder {
  /** While true, a loss runs under `perExample`: an op that mixes the batch's examples is an error, and so is reading them. */
  examplesApart = false;
  /** How many of the table's own ops are running, forward or backward: what they read doesn't get out. */
  inside = 0;
  /** While a user's op runs in such a loss: the tensors that it was given, and what ops make of them in it. */
  private lent: Set<Tensor> | null = null;
  private readonly records: TapeRecord[] = [];
  private depth = 0;
  private serial = 0;

  get active(): boolean {
    return this.depth > 0;
  }

  /**
   * Runs a part of a user's op. Where it counts (`guarded`), it may use the examples that it was given, and no others: they
   * would be there, too, when it is tried with one example alone.
   */
  lend<T>(tensors: readonly Tensor[], body: () => T, guarded = this.examplesApart): T {
    if (!guarded) return body();
    const before = { lent: this.lent, inside: this.inside };
    this.lent = new Set(tensors);
    for (const { examples } of tensors) if (examples?.indices) this.lent.add(examples.indices);
    this.inside = 0;
    try {
      return body();
    } finally {
      Object.assign(this, before);
    }
  }

  /** An op in a user's op may compute from the examples that were lent. @throws EXAMPLES_READ */
  checkLent(inputs: readonly Tensor[]): void {
    if (this.lent === null) return;
    for (const input of inputs) if (!this.isOpen(input)) throw readError(input);
  }

  /** What it makes of them is lent too. */
  lendResult(inputs: readonly Tensor[], output: Tensor): void {
    if (this.lent !== null && inputs.every((input) => this.isOpen(input))) this.lent.add(output);
  }

  /** Whether a loss under `perExample`, or a user's op in it, may read a tensor's numbers. */
  mayRead(tensor: Tensor): boolean {
    return this.lent === null ? !this.examplesApart : this.isOpen(tensor);
  }

  private isOpen(tensor: Tensor): boolean {
    return (tensor.examples === null && !isMixed(tensor)) || this.lent!.has(tensor);
  }

  /** Whether it may be said whose rows a tensor's are: in a loss under `perExample` by ops alone, and of what is nobody's yet. */
  maySetExamples(tensor: Tensor): boolean {
    if (this.inside > 0) return true;
    return this.lent === null ? !this.examplesApart : tensor.examples === null && !isMixed(tensor);
  }

  /** Runs `body`, and takes what it recorded off the tape. */
  forget(body: () => void): void {
    const { length } = this.records;
    try {
      body();
    } finally {
      this.records.length = length;
    }
  }

  /** Runs code of the engine's own: it may read the batch, tells nobody, and doesn't change it. */
  own(body: () => void): void {
    this.inside++;
    try {
      body();
    } finally {
      this.inside--;
    }
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
    const { examplesApart } = this;
    this.records.push({ op, inputs, attributes, output, saved, examplesApart });
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
    const results = needs.includes(true) ? propagate(record, dOutput, needs, gradients) : [];
    const { own } = record.op;
    if (own !== undefined && record.examplesApart && record.output.examples !== null) {
      checkBackward(record, own, { arriving, dOutput, needs, results });
    }
  }
  return gradients;
}

/** Runs a part of an op's backward: the table's ops may read what they like, a user's what they are given. */
function within<T>(
  { op, inputs, output, saved, examplesApart }: TapeRecord,
  gradient: Tensor,
  body: () => T,
): T {
  const { recorder } = output.engine;
  if (op.own !== undefined)
    return recorder.lend([...inputs, output, ...saved, gradient], body, examplesApart);
  recorder.inside++;
  try {
    return body();
  } finally {
    recorder.inside--;
  }
}

function beforeActivation(record: TapeRecord, arriving: Tensor): Tensor {
  const { op } = record;
  if (op.beforeActivation === undefined) return arriving;
  return within(record, arriving, () => op.beforeActivation!({ ...context(record), dOutput: arriving }));
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
): readonly (Tensor | null)[] {
  const { op, inputs, output } = record;
  const { active: recorded, examplesApart } = output.engine.recorder;
  if (recorded && op.secondOrder !== true) {
    throw new GradshapeError(
      'NO_SECOND_ORDER',
      `${op.name}: its gradient can't be differentiated again: ${op.secondOrder}.`,
    );
  }
  const results = within(record, dOutput, () =>
    op.backward({ ...context(record), dOutput, needs, recorded }),
  );
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
    if (examplesApart && output.examples !== null && gradient.examples !== output.examples) {
      throw new GradshapeError(
        'EXAMPLES_MIXED',
        `${op.name}: its gradient to input ${i} is no longer the examples', and inside perExample every example's loss must depend on that ` +
          'example alone; expected backward to be written with table ops, and no gradient to what all examples share.',
      );
    }
    const earlier = gradients.get(input);
    gradients.set(input, earlier === undefined ? gradient : add(earlier, gradient));
  }
  return results;
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
      markExamples(seed, value.examples);
      engine.recorder.lendResult([value], seed);
      const found = backward(tape, value, seed, new Set(inputs));
      return { value, gradients: inputs.map((input) => found.get(input) ?? engine.full(input.shape, 0)) };
    },
  );
}
