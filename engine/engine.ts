import { kernelSource } from '#kernels';
import { type ComposedSet, createDataset, type Dataset, type LabelledSet } from './dataset.js';
import { GradshapeError } from './errors.js';
import {
  chooseBuild,
  instantiate,
  type KernelBuild,
  type KernelExports,
  type KernelSource,
} from './kernels.js';
import { LinearMemory } from './memory.js';
import { Scopes } from './scope.js';
import { Recorder } from './tape.js';
import {
  BlockTensor,
  bytesPerElement,
  checkDType,
  checkShape,
  type DType,
  type Shape,
  showShape,
  sizeOf,
  Tensor,
} from './tensor.js';

export interface EngineOptions {
  /** Which build of the kernels: `'base'` gives the same bits on every runtime. @default 'base' */
  readonly kernels?: KernelBuild | 'auto';
  /** Bytes the engine may take in all. @default 4 GB */
  readonly memoryLimit?: number;
  /** The kernels themselves, where the runtime can't load them from the package: a compiled module or a wasm file's bytes. */
  readonly module?: KernelSource;
}

/** Kernels, memory, open scopes and the tape: everything that tensors live in. */
export class Engine {
  readonly memory: LinearMemory;
  readonly kernels: KernelExports;
  readonly scopes: Scopes;
  readonly recorder = new Recorder();
  /** Scratch space of the matrix product, as long as the engine lives. */
  readonly gemmScratch: number;

  constructor(
    module: WebAssembly.Module,
    readonly build: KernelBuild,
    memoryLimit?: number,
  ) {
    this.memory = new LinearMemory(memoryLimit);
    this.kernels = instantiate(module, this.memory.wasm);
    this.scopes = new Scopes(this.memory);
    this.gemmScratch = this.memory.block(this.kernels.gemmScratchBytes(), 'createEngine').address;
  }

  /**
   * Runs `body` in a scope: every tensor made inside is freed when it ends, but those it returns (alone, in an array or
   * in a plain object), which move to the enclosing scope. `body` must be synchronous.
   * @throws ASYNC_SCOPE, NO_SCOPE
   */
  scope<T>(body: () => T): T {
    return this.scopes.run(body);
  }

  /** An uninitialised tensor in the open scope. `purpose` is for errors. */
  allocate(shape: Shape, dtype: DType = 'f32', purpose = 'a tensor'): Tensor {
    const scope = this.scopes.current;
    if (scope === null) {
      throw new GradshapeError(
        'NO_SCOPE',
        `${purpose} of shape ${showShape(shape)} needs a scope: call it inside engine.scope(() => …), or make a block with engine.block(…).`,
      );
    }
    checkShape(purpose, shape);
    const address = this.memory.arenaAllocate(sizeOf(shape) * bytesPerElement(dtype), purpose, shape);
    return new Tensor(this, shape, dtype, address, scope);
  }

  /**
   * A tensor in the open scope with these numbers, row by row. Default shape: one axis.
   * @example engine.tensor([1, 2, 3, 4, 5, 6], [2, 3])
   */
  tensor(values: ArrayLike<number> | number, shape?: Shape, dtype: DType = 'f32'): Tensor {
    const { array, dims } = checkedValues('engine.tensor', values, shape, dtype);
    const tensor = this.allocate(dims, dtype, 'engine.tensor');
    tensor.view().set(array);
    return tensor;
  }

  /** The same in a block of its own, which lives until `free()` (or the end of a `using` declaration). */
  block(values: ArrayLike<number> | number, shape?: Shape, dtype: DType = 'f32'): BlockTensor {
    const { array, dims } = checkedValues('engine.block', values, shape, dtype);
    const tensor = this.allocateBlock(dims, dtype, 'engine.block');
    tensor.view().set(array);
    return tensor;
  }

  /** A block of zeros. */
  allocateBlock(shape: Shape, dtype: DType, purpose: string): BlockTensor {
    checkShape(purpose, shape);
    const bytes = sizeOf(shape) * bytesPerElement(dtype);
    const block = this.memory.block(bytes, `${purpose} of shape ${showShape(shape)}`);
    new Uint8Array(this.memory.wasm.buffer, block.address, bytes).fill(0);
    return new BlockTensor(this, shape, dtype, block.address, block);
  }

  /** Every element the same. */
  full(shape: Shape, value: number): Tensor {
    const tensor = this.allocate(shape);
    this.kernels.fill(tensor.address, value, tensor.size);
    return tensor;
  }

  /**
   * Puts labelled examples in memory, to gather batches from. Bytes stay bytes; floats are checked to be finite.
   * A composed set shares its base's numbers when the base is a data set of this engine.
   * @throws DATA_INVALID, SHAPE_MISMATCH, DATA_EMPTY, DATA_NOT_FINITE, LABEL_OUT_OF_RANGE, MEMORY_LIMIT
   * @example const data = engine.dataset({ x: pixels, y: labels, shape: [28, 28, 1], scale: 1 / 255 });
   */
  dataset(set: LabelledSet | ComposedSet): Dataset {
    return createDataset(this, set);
  }
}

/** Typed arrays hold numbers; of all else it must be seen, or what is none would become NaN. @throws DTYPE_MISMATCH */
function checkNumbers(caller: string, array: ArrayLike<number>): void {
  if (typeof array?.length !== 'number') {
    throw new GradshapeError(
      'DTYPE_MISMATCH',
      `${caller}: the values are ${String(array)}; expected a number or an array of numbers.`,
    );
  }
  if (ArrayBuffer.isView(array)) return;
  for (let i = 0; i < array.length; i++) {
    if (typeof array[i] === 'number') continue;
    throw new GradshapeError(
      'DTYPE_MISMATCH',
      `${caller}: ${String(array[i])} at position ${i} is no number. Flatten nested arrays, row by row, and give the shape.`,
    );
  }
}

function checkedValues(
  caller: string,
  values: ArrayLike<number> | number,
  shape: Shape | undefined,
  dtype: DType,
): { array: ArrayLike<number>; dims: Shape } {
  checkDType(caller, dtype);
  const array = typeof values === 'number' ? [values] : values;
  checkNumbers(caller, array);
  const dims = shape ?? (typeof values === 'number' ? [] : [array.length]);
  checkShape(caller, dims);
  if (array.length !== sizeOf(dims)) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${caller}: ${array.length} numbers were given for shape ${showShape(dims)}, which holds ${sizeOf(dims)}.`,
    );
  }
  if (dtype === 'i32' && !(array instanceof Int32Array)) {
    for (let i = 0; i < array.length; i++) {
      if (array[i] === (array[i]! | 0)) continue;
      throw new GradshapeError(
        'DTYPE_MISMATCH',
        `${caller}: ${array[i]} at position ${i} can't be i32; expected whole numbers of 32 bits.`,
      );
    }
  }
  return { array, dims };
}

/**
 * Loads the kernels and makes an engine.
 * @throws NO_RELAXED_SIMD, UNKNOWN_KERNEL_BUILD, MEMORY_LIMIT
 * @example const engine = await createEngine({ kernels: 'auto', memoryLimit: 100e6 });
 */
export async function createEngine(options: EngineOptions = {}): Promise<Engine> {
  const build = chooseBuild(options.kernels ?? 'base');
  const source = options.module ?? kernelSource(build);
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(source);
  return new Engine(module, build, options.memoryLimit);
}

/** `createEngine` without waiting; browsers allow it for small modules only, or with a compiled `module`. */
export function createEngineSync(options: EngineOptions = {}): Engine {
  const build = chooseBuild(options.kernels ?? 'base');
  const source = options.module ?? kernelSource(build);
  const module = source instanceof WebAssembly.Module ? source : new WebAssembly.Module(source);
  return new Engine(module, build, options.memoryLimit);
}
