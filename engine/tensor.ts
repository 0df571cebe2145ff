import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import type { Owner } from './memory.js';

/** f32 for numbers, i32 for labels and indices, f64 for norms. */
export type DType = 'f32' | 'i32' | 'f64';

/** The length of each axis, outermost first; [] is a single number. */
export type Shape = readonly number[];

/** The host-side array of a dtype. */
export type HostArray = Float32Array | Int32Array | Float64Array;

export const hostArrays = { f32: Float32Array, i32: Int32Array, f64: Float64Array } as const;

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
  readonly source?: { readonly count: number; readonly origins?: readonly object[] } | null;
}

/** A batch that was copied from a data set, whose rows' norms are known once for all. All aliases of its bytes share it. */
export interface Gathered {
  /** f64: the squared norm of every example of the set. */
  readonly squaredNorms: () => Tensor;
  /** i32: which examples the rows are. */
  readonly indices: Tensor;
  /** How many numbers the batch has. */
  readonly size: number;
  /** Until somebody takes a view or an address, through which the rows could change. */
  intact: boolean;
  /** How often somebody did. */
  changes: number;
}

// What the engine does with tensors and its users can't: not exported from the package. Set by the class below.

/** The address, for code that is known neither to tell of the examples nor to change the numbers. */
export let addressOf: (tensor: Tensor) => number;
/** Moves the tensor to another place; for scopes that hand their result to the parent. */
export let moveTo: (tensor: Tensor, address: number, owner: Owner) => void;
/** Says whose rows these are; `mixed` where they were computed from several examples of a batch. */
export let markExamples: (tensor: Tensor, examples: Examples | null, mixed?: boolean) => void;
/** Says that the tensor is a batch copied from a data set, its indices, or made of its bytes. */
export let markGathered: (tensor: Tensor, gathered: Gathered | null) => void;
/** What is known of a tensor's rows, where they are still a data set's. */
export let knownRows: (tensor: Tensor) => Gathered | null;
/** Whether it is a tensor itself: a Proxy of one could say anything of its examples. */
export let isTensor: (value: unknown) => value is Tensor;
/** How often a batch copied from a data set, or an alias of it, may have been changed in place. */
export let changesOf: (tensor: Tensor) => number;
/** Whether a tensor was computed from several examples of a batch. */
export let isMixed: (tensor: Tensor) => boolean;
/** A tensor of the same bytes, or of some of them from `offset` on: what changes in one has changed in the other. */
export let aliasOf: (tensor: Tensor, shape: Shape, offset?: number) => Tensor;

/** For numbers that were read where they may not be. */
export function readError(tensor: Tensor): GradshapeError {
  return new GradshapeError(
    'EXAMPLES_READ',
    `${tensor.toString()}: its numbers, which are examples' or were computed from them, were read inside a loss under perExample, ` +
      'where every example must be treated alone. Compute with operations instead (defineOp makes one of your own, which may read what ' +
      'it is given), put what an example needs into the batch before, or read them after, outside the loss.',
  );
}

/**
 * A shape, a dtype and an address in the engine's memory. Its numbers are read through views made on demand, since
 * views detach whenever the memory grows. It is good as long as its block is not freed and its scope has not ended.
 *
 * A loss under `perExample` must treat each example alone. There, outside of operations, the numbers and the address of a tensor
 * that depends on the batch can't be had (`EXAMPLES_READ`): a program that saw them could make one example's loss of another's.
 */
export class Tensor {
  readonly size: number;
  /** The number of the recording in which this tensor depends on a watched one; 0 for none. */
  recording = 0;
  #location: number;
  #holder: Owner;
  #examples: Examples | null = null;
  #gathered: Gathered | null = null;
  #mixed = false;

  static {
    addressOf = (tensor) => tensor.#place();
    markExamples = (tensor, examples, mixed = false) => {
      tensor.#examples = examples;
      tensor.#mixed = mixed;
    };
    moveTo = (tensor, address, owner) => {
      tensor.#location = address;
      tensor.#holder = owner;
    };
    markGathered = (tensor, gathered) => {
      tensor.#gathered = gathered;
    };
    knownRows = (tensor) => {
      const known = tensor.#gathered;
      if (!known?.intact || !known.indices.#holder.alive || tensor.dtype !== 'f32') return null;
      return tensor.size === known.size && tensor.shape[0] === known.indices.size ? known : null;
    };
    isTensor = (value): value is Tensor => value instanceof Tensor && #location in value;
    changesOf = (tensor) => tensor.#gathered?.changes ?? 0;
    isMixed = (tensor) => tensor.#mixed;
    aliasOf = (tensor, shape, offset = 0) => {
      const alias = new Tensor(tensor.engine, shape, tensor.dtype, tensor.#place() + offset, tensor.#holder);
      alias.#gathered = tensor.#gathered;
      return alias;
    };
  }

  constructor(
    readonly engine: Engine,
    readonly shape: Shape,
    readonly dtype: DType,
    location: number,
    holder: Owner,
  ) {
    this.size = sizeOf(shape);
    this.#location = location;
    this.#holder = holder;
  }

  get rank(): number {
    return this.shape.length;
  }

  get owner(): Owner {
    return this.#holder;
  }

  /** Set when axis 0 is the examples of a batch. In a loss under `perExample` only operations set it. */
  get examples(): Examples | null {
    return this.#examples;
  }

  set examples(examples: Examples | null) {
    if (examples === this.#examples) return;
    const { recorder } = this.engine;
    if (!recorder.maySetExamples(this)) {
      throw new GradshapeError(
        'EXAMPLES_READ',
        `the examples of ${this.toString()} were set inside a loss under perExample; expected them to be what operations make them. ` +
          'Put a tensor whose rows belong to the examples into the batch: { ...batch, mine: asExamples(mine, batch.x) }.',
      );
    }
    this.#examples = examples;
    this.#mixed = examples === null; // its numbers are still the batch's
    recorder.lendResult([], this);
  }

  /**
   * Byte offset in the linear memory.
   * @throws TENSOR_USED_LATE when the bytes are no longer this tensor's; EXAMPLES_READ
   */
  get address(): number {
    if (this.#examples !== null || this.#gathered !== null || this.#mixed) this.#shown(true);
    return this.#place();
  }

  #place(): number {
    if (!this.#holder.alive) {
      throw new GradshapeError(
        'TENSOR_USED_LATE',
        `a tensor of shape ${showShape(this.shape)} is used too late: ${this.#holder.ended}.`,
      );
    }
    return this.#location;
  }

  /** Its numbers are about to be seen, or, where `writable`, changed. */
  #shown(writable: boolean): void {
    const { recorder } = this.engine;
    if (recorder.inside > 0) return;
    if ((this.#examples !== null || this.#mixed) && !recorder.mayRead(this)) throw readError(this);
    if (writable) this.changed();
  }

  /** A live view of the numbers: only good until the next operation, since growing memory detaches it. @throws EXAMPLES_READ */
  view(): HostArray {
    this.#shown(true);
    return this.#window();
  }

  /** Says that the numbers may change in place: what was known of them no longer holds. */
  changed(): void {
    if (this.#gathered === null) return;
    this.#gathered.intact = false;
    this.#gathered.changes++;
  }

  /** A copy of the numbers, row by row. @throws EXAMPLES_READ */
  values(): HostArray {
    this.#shown(false);
    return this.#window().slice();
  }

  #window(): HostArray {
    return new hostArrays[this.dtype](this.engine.memory.wasm.buffer, this.#place(), this.size);
  }

  /** The only number of a tensor of one element. @throws NOT_A_SCALAR, EXAMPLES_READ */
  item(): number {
    if (this.size !== 1) {
      throw new GradshapeError(
        'NOT_A_SCALAR',
        `item(): the tensor has shape ${showShape(this.shape)}; expected one element. Use values() for more.`,
      );
    }
    this.#shown(false);
    return this.#window()[0]!;
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
