import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import type { Owner } from './memory.js';

/** f32 for numbers, i32 for labels and indices, f64 for norms. */
export type DType = 'f32' | 'i32' | 'f64';

/** The length of each axis, outermost first; [] is a single number. */
export type Shape = readonly number[];

/** The host-side array of a dtype. */
export type HostArray = Float32Array | Int32Array | Float64Array;

const hostArrays = { f32: Float32Array, i32: Int32Array, f64: Float64Array } as const;

/** @throws DTYPE_MISMATCH */
export function checkDType(caller: string, dtype: DType): void {
  if (Object.hasOwn(hostArrays, dtype)) return;
  throw new GradshapeError(
    'DTYPE_MISMATCH',
    `${caller}: dtype is '${String(dtype)}'; expected 'f32', 'i32' or 'f64'.`,
  );
}

export function bytesPerElement(dtype: DType): number {
  return dtype === 'f64' ? 8 : 4;
}

/** How many elements a shape holds: 1 for []. */
export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const n of shape) size *= n;
  return size;
}

/** @throws SHAPE_INVALID */
export function checkShape(caller: string, shape: Shape): void {
  if (!Array.isArray(shape)) {
    throw new GradshapeError(
      'SHAPE_INVALID',
      `${caller}: the shape is ${String(shape)}; expected an array, such as [2, 3].`,
    );
  }
  for (const n of shape) {
    if (Number.isSafeInteger(n) && n >= 0) continue;
    throw new GradshapeError(
      'SHAPE_INVALID',
      `${caller}: the shape is ${showShape(shape)}; expected whole numbers of at least 0.`,
    );
  }
}

/** '[2, 3]', for messages. */
export function showShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}

/** Whether two shapes have the same axes. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}

/** What axis 0 is when it is the examples of a batch: who they are, for randomness that belongs to an example. */
export interface Examples {
  /** Their indices in the data set, i32 [count], or null where the batch did not come from one. */
  readonly indices: Tensor | null;
  /** Seed and step of the run, for dropout; null where none were given. */
  readonly random: { readonly seed: number; readonly step: number } | null;
  /** The group that each example is summed in, one number an example. @default see `Grouping` */
  readonly groups?: Int32Array | null;
  /** The data set that they come from. */
  readonly source?: { readonly count: number } | null;
}

/** Rows that were copied from a data set, whose norms are known once for all. */
export interface Gathered {
  /** f64: the squared norm of every example of the set. */
  readonly squaredNorms: () => Tensor;
  /** i32: which examples the rows are. */
  readonly indices: Tensor;
  /** Until somebody takes a view or a slice, through which the rows could change, or changes them in place. */
  intact: boolean;
}

/**
 * A shape, a dtype and an address in the engine's memory. Its numbers are read through views made on demand, since
 * views detach whenever the memory grows. It is good as long as its block is not freed and its scope has not ended.
 */
export class Tensor {
  readonly size: number;
  /** Set when axis 0 is the examples of a batch. */
  examples: Examples | null = null;
  /** Set when the rows are a data set's as they are. */
  gathered: Gathered | null = null;
  /** The number of the recording in which this tensor depends on a watched one; 0 for none. */
  recording = 0;

  constructor(
    readonly engine: Engine,
    readonly shape: Shape,
    readonly dtype: DType,
    private location: number,
    private holder: Owner,
  ) {
    this.size = sizeOf(shape);
  }

  get rank(): number {
    return this.shape.length;
  }

  get owner(): Owner {
    return this.holder;
  }

  /** Byte offset in the linear memory. Throws `TENSOR_USED_LATE` when the bytes are no longer this tensor's. */
  get address(): number {
    if (!this.holder.alive) {
      throw new GradshapeError(
        'TENSOR_USED_LATE',
        `a tensor of shape ${showShape(this.shape)} is used too late: ${this.holder.ended}.`,
      );
    }
    return this.location;
  }

  /** Moves the tensor to another place; for scopes that hand their result to the parent. */
  moveTo(address: number, owner: Owner): void {
    this.location = address;
    this.holder = owner;
  }

  /** A live view of the numbers: only good until the next operation, since growing memory detaches it. */
  view(): HostArray {
    this.changed();
    return this.window();
  }

  /** Says that the numbers may change in place: what was known of them no longer holds. */
  changed(): void {
    if (this.gathered !== null) this.gathered.intact = false;
  }

  /** A copy of the numbers, row by row. */
  values(): HostArray {
    return this.window().slice();
  }

  private window(): HostArray {
    return new hostArrays[this.dtype](this.engine.memory.wasm.buffer, this.address, this.size);
  }

  /** The only number of a tensor of one element. */
  item(): number {
    if (this.size !== 1) {
      throw new GradshapeError(
        'NOT_A_SCALAR',
        `item(): the tensor has shape ${showShape(this.shape)}; expected one element. Use values() for more.`,
      );
    }
    return this.window()[0]!;
  }

  toString(): string {
    return `Tensor ${this.dtype} ${showShape(this.shape)}`;
  }
}

/** A tensor that owns its bytes: parameters, optimizer state, attack variables. Free it, or declare it with `using`. */
export class BlockTensor extends Tensor {
  free(): void {
    (this.owner as { free?: () => void }).free?.();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
