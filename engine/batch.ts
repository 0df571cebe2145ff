// Batches: objects that hold, under any names, tensors whose axis 0 is the examples.
import type { BatchTensors } from './batch-gradient.js';
import { GradshapeError } from './errors.js';
import {
  addressOf,
  aliasOf,
  bytesPerElement,
  type Examples,
  type HostArray,
  hostArrays,
  markExamples,
  sizeOf,
  Tensor,
} from './tensor.js';

type NamedExamples = [name: string, tensor: Tensor, examples: Examples];

/** Where examples keep their indices for the host: the symbol is not exported, so a loss can't read them. */
const hostIndices = Symbol('indices');
type WithIndices = Examples & { readonly [hostIndices]?: Int32Array };

/** Who the examples of a batch are, with their indices where the host can read them without a copy. */
export function examplesOf(examples: Examples, indices: Int32Array): Examples {
  const { indices: tensor, random, groups = null, source = null } = examples;
  const known: WithIndices = { indices: tensor, random, groups, source, [hostIndices]: indices };
  return known;
}

/** The examples' indices in their data set, for the step, outside the loss; null where they come from none. */
export function indicesOf(examples: Examples): Int32Array | null {
  const known = (examples as WithIndices)[hostIndices];
  return known ?? (examples.indices && (numbersOf(examples.indices) as Int32Array));
}

/** The names of a batch's tensors of examples, and whose rows they are. */
function examplesByName(batch: BatchTensors): NamedExamples[] {
  return Object.entries(batch).flatMap(([name, value]) =>
    value instanceof Tensor && value.examples !== null ? [[name, value, value.examples]] : [],
  );
}

/**
 * The examples that a loss is asked for, or null where the batch has no tensor of examples.
 * @throws EXAMPLES_MIXED where it holds tensors of different examples
 */
export function onlyExamples(batch: BatchTensors): Examples | null {
  let examples: Examples | null = null;
  for (const value of Object.values(batch)) {
    if (!(value instanceof Tensor) || value.examples === null) continue;
    if (examples !== null && value.examples !== examples) throw severalError(batch);
    examples = value.examples;
  }
  return examples;
}

function severalError(batch: BatchTensors): GradshapeError {
  const [[first, , own], ...others] = examplesByName(batch) as [NamedExamples, ...NamedExamples[]];
  const [other] = others.find(([, , examples]) => examples !== own)!;
  return new GradshapeError(
    'EXAMPLES_MIXED',
    `perExample: '${first}' and '${other}' of the batch hold different examples, so that a loss of both would be no single ` +
      `example's; expected tensors of the same ones. Where their rows are the same examples, say so: asExamples(${other}, ${first}).`,
  );
}

/** Whose rows a batch holds, and how many. @throws NOT_A_BATCH */
export function batchOf(batch: BatchTensors): { examples: Examples; count: number } {
  const [first] = examplesByName(batch);
  if (first === undefined) {
    throw new GradshapeError(
      'NOT_A_BATCH',
      'perExample: the batch holds no tensor whose axis 0 is the examples. Take it with data.batch(indices), or mark yours with asExamples(tensor).',
    );
  }
  return { examples: first[2], count: first[1].shape[0]! };
}

/** The rows from..to of a tensor, as an alias that doesn't say whose they are. */
export function sliceRows(tensor: Tensor, from: number, to: number): Tensor {
  const [, ...rest] = tensor.shape;
  return aliasOf(tensor, [to - from, ...rest], from * sizeOf(rest) * bytesPerElement(tensor.dtype));
}

/**
 * Cuts the rows from..to out of tensors of examples, as aliases. Tensors of the same examples become tensors of the same part of them.
 */
export function rowCutter(from: number, to: number): (tensor: Tensor, examples: Examples) => Tensor {
  const parts = new Map<Examples, Examples>();
  const partOf = (whole: Examples): Examples => {
    const indices = whole.indices && sliceRows(whole.indices, from, to);
    const part: WithIndices = {
      indices,
      random: whole.random,
      groups: whole.groups?.subarray(from, to) ?? null,
      source: whole.source ?? null,
    };
    if (indices !== null) markExamples(indices, part);
    parts.set(whole, part);
    return part;
  };
  return (tensor, examples) => {
    const rows = sliceRows(tensor, from, to);
    markExamples(rows, parts.get(examples) ?? partOf(examples));
    return rows;
  };
}

/**
 * The examples from..to of a batch, as views.
 * @throws INDEX_OUT_OF_RANGE, NOT_A_BATCH
 */
export function sliceBatch<B extends BatchTensors>(batch: B, from: number, to: number): B {
  const { count } = batchOf(batch);
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= count)) {
    throw new GradshapeError(
      'INDEX_OUT_OF_RANGE',
      `sliceBatch: from ${from} to ${to} of a batch of ${count}; expected whole numbers, 0 ≤ from ≤ to ≤ ${count}.`,
    );
  }
  const cut = rowCutter(from, to);
  const slices = examplesByName(batch).map(([name, tensor, examples]) => [name, cut(tensor, examples)]);
  return { ...batch, ...Object.fromEntries(slices) };
}

/**
 * Marks axis 0 of a tensor as the examples of a batch, for batches that don't come from a data set.
 * @param like a tensor of the same examples, row by row: the two may then meet in a loss, where others' rows may not
 * @throws SHAPE_MISMATCH; NOT_A_BATCH when `like` is no tensor of examples; EXAMPLES_MIXED when both are known to come from a data set
 * under different indices
 * @example
 * const batch = data.batch([0, 1, 2]);
 * const withWeights = { ...batch, weights: asExamples(engine.tensor([1, 2, 1]), batch.x) };
 */
export function asExamples(tensor: Tensor, like?: Tensor): Tensor {
  if (tensor.rank === 0) {
    throw new GradshapeError('SHAPE_MISMATCH', 'asExamples: the tensor has shape []; expected [batch, ...].');
  }
  if (like === undefined) {
    // Examples of their own: whoever they are, they can't meet a loss's.
    if (tensor.examples === null) markExamples(tensor, { indices: null, random: null });
    return tensor;
  }
  if (like.examples === null) {
    throw new GradshapeError(
      'NOT_A_BATCH',
      `asExamples: ${like.toString()}, whose examples the rows should be, is no tensor of examples. Mark it first: asExamples(tensor).`,
    );
  }
  if (tensor.shape[0] !== like.shape[0]) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `asExamples: ${tensor.toString()} has ${tensor.shape[0]} rows for the ${like.shape[0]} examples of ${like.toString()}; expected one each.`,
    );
  }
  checkSameIndices(tensor.examples?.indices ?? null, like.examples.indices);
  tensor.examples = like.examples;
  return tensor;
}

function checkSameIndices(own: Tensor | null, others: Tensor | null): void {
  if (own === null || others === null) return;
  const [a, b] = [numbersOf(own), numbersOf(others)];
  const at = a.findIndex((index, i) => index !== b[i]);
  if (at < 0) return;
  throw new GradshapeError(
    'EXAMPLES_MIXED',
    `asExamples: row ${at} of the two tensors is example ${a[at]} and example ${b[at]} of their data sets; expected the same examples in the same order.`,
  );
}

/** A view of a tensor's numbers that neither shows them to a loss nor changes them. */
export function numbersOf(tensor: Tensor): HostArray {
  return new hostArrays[tensor.dtype](tensor.engine.memory.wasm.buffer, addressOf(tensor), tensor.size);
}
