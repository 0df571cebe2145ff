// What a user's op says of examples is looked at where it counts: in losses under perExample, now and then, its rows are compared
// with those that it makes of one example alone.
import { numbersOf, rowCutter } from './batch.js';
import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import { evaluate, type Op, type OwnOp } from './op.js';
import type { TapeRecord } from './tape.js';
import { showShape, type Tensor } from './tensor.js';

type Named = Pick<Op<unknown>, 'name'>;

/** Two numbers are the same when they differ by less than this share of the larger. */
const tolerance = 1e-4;

type Cut = ReturnType<typeof rowCutter>;

/** Of inputs of examples one row, others whole. */
const cutAll = (inputs: readonly Tensor[], cut: Cut): Tensor[] =>
  inputs.map((input) => (input.examples === null ? input : cut(input, input.examples)));

/** Whether row `i` of a tensor is the only row of another. */
function isRow(whole: Tensor, i: number, one: Tensor): boolean {
  if (whole.dtype !== one.dtype || one.size * whole.shape[0]! !== whole.size) return false;
  const alone = numbersOf(one);
  const row = numbersOf(whole).subarray(i * one.size, (i + 1) * one.size);
  return row.every((value, j) => sameNumber(value, alone[j]!));
}

function sameNumber(a: number, b: number): boolean {
  return Object.is(a, b) || a === b || Math.abs(a - b) <= tolerance * Math.max(Math.abs(a), Math.abs(b));
}

/**
 * Which examples are looked at the `look`th time: all at the 1st, 2nd, 4th, 8th …, for nothing shows for certain in one row; else one,
 * in turn.
 */
function examplesToTry(look: number, count: number): number[] {
  if ((look & (look - 1)) === 0) return Array.from({ length: count }, (_, i) => i);
  return [look % count];
}

function mixes(op: Named, what: string, i: number, cause?: unknown): GradshapeError {
  return new GradshapeError(
    'EXAMPLES_MIXED',
    `${op.name}: example ${i} of a batch, tried alone, ${what}, although the op's definition keeps examples apart. Let each row depend on ` +
      "the same row of the inputs alone, or say examples: 'mixed'. Randomness must be the example's own: drawn from " +
      'inputs[0].examples (indices and random), as dropout does, or an input of its own, asExamples(noise, batch.x).',
    { cause },
  );
}

/** Runs `body` for one example; that it fails alone is a way to depend on the others. */
function attempt<T>(op: Named, engine: Engine, i: number, body: () => T): void {
  try {
    engine.recorder.forget(() => engine.scope(() => void body()));
  } catch (error) {
    if (error instanceof GradshapeError && /^EXAMPLES_|^MEMORY_LIMIT$/.test(error.code)) throw error;
    throw mixes(op, 'is an error', i, error);
  }
}

/** @throws EXAMPLES_MIXED when an example alone makes another output than among the others */
export function checkForward<A>(
  op: Op<A>,
  own: OwnOp,
  inputs: readonly Tensor[],
  attributes: A,
  output: Tensor,
): void {
  const count = output.shape[0]!;
  const batch = inputs.find((input) => input.examples !== null && input.shape[0] !== count);
  if (batch !== undefined) {
    throw new GradshapeError(
      'EXAMPLES_MIXED',
      `${op.name}: its definition says that the output ${showShape(output.shape)} has the rows of the examples of ${showShape(batch.shape)}; ` +
        "expected as many, or examples: 'mixed'.",
    );
  }
  if (count < 2) return;
  const { engine } = output;
  for (const i of examplesToTry(++own.looks.forward, count)) {
    attempt(op, engine, i, () => {
      const alone = evaluateAlone(op, cutAll(inputs, rowCutter(i, i + 1)), attributes);
      if (!isRow(output, i, alone.output)) throw mixes(op, 'has another output than among the others', i);
    });
  }
}

function evaluateAlone<A>(op: Op<A>, inputs: readonly Tensor[], attributes: A): ReturnType<typeof evaluate> {
  const { engine } = inputs[0]!;
  return engine.recorder.lend(inputs, () => evaluate(op, engine, inputs, attributes), true);
}

/** What backward did at a user's op. */
export interface BackwardDone {
  /** The gradient at the op's output. */
  readonly arriving: Tensor;
  /** The same before the op's activation. */
  readonly dOutput: Tensor;
  readonly needs: readonly boolean[];
  readonly results: readonly (Tensor | null)[];
}

/** @throws EXAMPLES_MIXED when an example alone gets another gradient than among the others */
export function checkBackward(
  { op, inputs, attributes, output }: TapeRecord,
  own: OwnOp,
  { arriving, dOutput, needs, results }: BackwardDone,
): void {
  const count = output.shape[0]!;
  if (count < 2 || (op.beforeActivation === undefined && !needs.includes(true))) return;
  const { engine, examples } = output;
  const { recorder, kernels } = engine;
  for (const i of examplesToTry(++own.looks.backward, count)) {
    attempt(op, engine, i, () => {
      const cut = rowCutter(i, i + 1);
      const ones = cutAll(inputs, cut);
      const forward = { engine, kernels, inputs: ones, attributes, ...evaluateAlone(op, ones, attributes) };
      const lend = <T>(gradient: Tensor, body: () => T): T =>
        recorder.lend([...ones, forward.output, ...forward.saved, gradient], body, true);
      const arrivingOne = cut(arriving, examples!);
      const dOutputOne = lend(
        arrivingOne,
        () => op.beforeActivation?.({ ...forward, dOutput: arrivingOne }) ?? arrivingOne,
      );
      if (!isRow(dOutput, i, dOutputOne)) throw mixes(op, 'has another gradient than among the others', i);
      if (!needs.includes(true)) return;
      const alone = lend(dOutputOne, () =>
        op.backward({ ...forward, dOutput: dOutputOne, needs, recorded: recorder.active }),
      );
      inputs.forEach((input, argument) => {
        const [whole, one] = [results[argument] ?? null, alone[argument] ?? null];
        if (!needs[argument] || input.examples === null) return;
        const same = whole === null || one === null ? whole === one : isRow(whole, i, one);
        if (!same) throw mixes(op, `has another gradient of input ${argument} than among the others`, i);
      });
    });
  }
}
