/**
 * The adapter between tensors and `ndarray`, the ecosystem's view type; for hosts only, since ndarray makes code from
 * strings, which Workers and strict pages forbid. Nothing else of the library imports it.
 */
import ndarray from 'ndarray';
import type { DType, Engine, Tensor } from './engine/index.js';

type Numbers = Float32Array | Float64Array | Int32Array;
type TypedArray =
  | Numbers
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Uint32Array;

export interface ToNdarrayOptions {
  /** Copies the numbers, so that the array outlives the tensor. @default false */
  readonly copy?: boolean;
}

/**
 * The tensor as an ndarray of the same shape. Without `copy` it is a live view: writing to one writes to the other,
 * and it is good until the engine's memory next grows (any operation may do that; its length is 0 from then on) or the
 * tensor's scope ends.
 * @throws TENSOR_USED_LATE
 */
export function toNdarray(tensor: Tensor, { copy = false }: ToNdarrayOptions = {}): ndarray.NdArray<Numbers> {
  return ndarray<Numbers>(copy ? tensor.values() : tensor.view(), [...tensor.shape]);
}

export interface FromNdarrayOptions {
  /** @default 'i32' for an int32 array, 'f32' for any other */
  readonly dtype?: DType;
}

/**
 * A tensor in the open scope with the array's numbers, row by row; the array may be strided (transposed, sliced,
 * stepped, reversed). One copy, straight into the engine's memory.
 * @throws NO_SCOPE, MEMORY_LIMIT
 */
export function fromNdarray(
  engine: Engine,
  array: ndarray.NdArray<ndarray.Data<number>>,
  { dtype = array.dtype === 'int32' ? 'i32' : 'f32' }: FromNdarrayOptions = {},
): Tensor {
  const tensor = engine.allocate([...array.shape], dtype, 'fromNdarray');
  const out = tensor.view();
  if (ArrayBuffer.isView(array.data) && isRowMajor(array)) {
    out.set(array.data.subarray(array.offset, array.offset + array.size));
  } else {
    copyStrided(out, array);
  }
  return tensor;
}

/** The array's numbers row by row (C order), in an array of their type; without a copy where they lie so already. */
export function rowMajor<Data extends TypedArray>(array: ndarray.NdArray<Data>): Data {
  const { data, offset, size } = array;
  if (isRowMajor(array)) return data.subarray(offset, offset + size) as Data;
  const out = new (data.constructor as new (length: number) => Data)(size);
  copyStrided(out, array);
  return out;
}

function isRowMajor({ shape, stride }: ndarray.NdArray): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return false;
    expected *= shape[axis]!;
  }
  return true;
}

function copyStrided(out: TypedArray, array: ndarray.NdArray<ndarray.Data<number>>): void {
  const { shape, stride } = array;
  const at = shape.map(() => 0);
  let index = array.offset;
  for (let i = 0; i < out.length; i++) {
    out[i] = 'get' in array.data ? array.data.get(index) : array.data[index]!;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index += stride[axis]!;
      if (++at[axis]! < shape[axis]!) break;
      index -= stride[axis]! * shape[axis]!;
      at[axis] = 0;
    }
  }
}
