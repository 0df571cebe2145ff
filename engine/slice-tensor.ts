import { bytesPerElement, type Examples, sizeOf, Tensor } from './tensor.js';

/** Rows from…to−1 of a tensor's axis 0, as a view. `examples`: what they are, where the tensor's rows are examples. */
export function sliceRows(tensor: Tensor, from: number, to: number, examples: Examples | null): Tensor {
  const row = tensor.shape.slice(1);
  const start = tensor.address + from * sizeOf(row) * bytesPerElement(tensor.dtype);
  const view = new Tensor(tensor.engine, [to - from, ...row], tensor.dtype, start, tensor.owner);
  view.examples = examples;
  return view;
}

/** Which examples the rows from…to−1 are. */
export function sliceExamples(examples: Examples, from: number, to: number): Examples {
  return {
    ...examples,
    indices: examples.indices && sliceRows(examples.indices, from, to, null),
    groups: examples.groups?.subarray(from, to) ?? null,
  };
}

/** Both: the rows, which know who they are. */
export function sliceTensor(tensor: Tensor, from: number, to: number): Tensor {
  return sliceRows(tensor, from, to, tensor.examples && sliceExamples(tensor.examples, from, to));
}
