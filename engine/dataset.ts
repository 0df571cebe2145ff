import { examplesOf } from './batch.js';
import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import type { Block } from './memory.js';
import { checkSeed } from './random.js';
import {
  type BlockTensor,
  markExamples,
  markGathered,
  readError,
  type Shape,
  showShape,
  sizeOf,
  type Tensor,
} from './tensor.js';

/** Labelled examples as plain values, row by row. */
export interface LabelledSet {
  /** count · (product of shape) numbers. Bytes stay bytes in memory, and are scaled when a batch is read. */
  readonly x: Uint8Array | Float32Array;
  /** Class labels from 0. */
  readonly y: ArrayLike<number>;
  /** The shape of one example: [28, 28, 1], or [features]. */
  readonly shape: Shape;
  /** What numbers are multiplied by when a batch is read. @default 1 */
  readonly scale?: number;
}

/** A set made of a base, examples added to it, and labels that may differ from the base's. */
export interface ComposedSet {
  /** The base: its numbers are shared, not copied, when it is a data set of the same engine. */
  readonly base: LabelledSet | Dataset;
  /** Examples after the base's. */
  readonly added: readonly LabelledSet[];
  /** All labels, the base's and the added ones', where the base's were changed. */
  readonly y?: ArrayLike<number>;
}

/** What tells a batch's examples apart for randomness. */
export interface BatchOptions {
  /** The run's seed: needed by dropout. */
  readonly seed?: number;
  /** The step, counted from 0. @default 0 */
  readonly step?: number;
  /** The group that each example's gradient is summed in, where the lot's drawing decides it: see `lotGroups`. */
  readonly groups?: Int32Array;
}

/** A batch: tensors whose axis 0 is the examples. */
export interface Batch {
  /** f32 [batch, ...shape] */
  readonly x: Tensor;
  /** i32 [batch] */
  readonly y: Tensor;
}

/** Examples whose norms are computed at a time. */
const normChunk = 256;
/** Six words a segment: first example, count, address, dtype, scale, offset. */
const segmentWords = 6;

interface Segment {
  /** Stands for these examples in every set that has them. */
  readonly identity: object;
  readonly block: Block;
  readonly dtype: 'u8' | 'f32';
  readonly count: number;
  readonly scale: number;
  readonly owned: boolean;
}

let sharedSegments: (set: Dataset) => Segment[];

/**
 * Examples in the engine's memory, as one or several segments of bytes or floats; batches are gathered by index.
 * Made by `engine.dataset`, freed by `free()`.
 */
export class Dataset {
  readonly count: number;
  readonly #segments: readonly Segment[];
  #norms: BlockTensor | null = null;

  static {
    // For a set composed on top of this one. Nobody else may reach the numbers: their norms are computed once.
    sharedSegments = (set) => set.#segments.map((segment) => ({ ...segment, owned: false }));
  }

  constructor(
    readonly engine: Engine,
    readonly shape: Shape,
    segments: readonly Segment[],
    private readonly labels: BlockTensor,
    private readonly table: BlockTensor,
  ) {
    this.count = labels.size;
    this.#segments = segments;
  }

  /** What the examples come from, for telling sets apart that share a base: an object for each part, the same in every set. */
  get origins(): readonly object[] {
    return this.#segments.map(({ identity }) => identity);
  }

  /** A copy of all labels. @throws EXAMPLES_READ inside a loss under `perExample` */
  get y(): Int32Array {
    if (this.engine.recorder.examplesApart) throw readError(this.labels);
    return this.labels.values() as Int32Array;
  }

  /**
   * The examples of these indices, in the open scope: x f32 [batch, ...shape] (scaled), y i32 [batch].
   * @throws INDEX_OUT_OF_RANGE, SEED_INVALID
   */
  batch(indices: ArrayLike<number>, { seed, step = 0, groups }: BatchOptions = {}): Batch {
    const { engine } = this;
    const n = indices.length;
    if (seed !== undefined) checkSeed('batch', seed);
    if (!(Number.isSafeInteger(step) && step >= 0)) {
      throw new GradshapeError('STEP_INVALID', `batch: step is ${step}; expected a whole number from 0.`);
    }
    if (this.#segments.some(({ block }) => !block.alive)) {
      throw new GradshapeError(
        'TENSOR_USED_LATE',
        'batch: the data set, or the base that it shares, was freed; free a base after the sets composed on it.',
      );
    }
    for (let i = 0; i < n; i++) {
      const index = indices[i]!;
      if (!(Number.isInteger(index) && index >= 0 && index < this.count)) {
        throw new GradshapeError(
          'INDEX_OUT_OF_RANGE',
          `batch: index ${index} at position ${i}; expected whole numbers from 0 to ${this.count - 1}.`,
        );
      }
    }
    checkGroups(groups, n);
    const ids = new Int32Array(indices);
    const at = engine.tensor(ids, [n], 'i32');
    const x = engine.allocate([n, ...this.shape], 'f32', 'batch');
    const y = engine.allocate([n], 'i32', 'batch');
    if (n > 0) {
      const { kernels } = engine;
      kernels.gatherRows(
        x.address,
        at.address,
        n,
        sizeOf(this.shape),
        this.table.address,
        this.#segments.length,
      );
      kernels.gatherI32(y.address, at.address, n, this.labels.address);
    }
    const random = seed === undefined ? null : { seed, step };
    const examples = examplesOf({ indices: at, random, groups: groups ?? null, source: this }, ids);
    for (const tensor of [x, y, at]) markExamples(tensor, examples);
    const gathered = {
      squaredNorms: () => this.squaredNorms(),
      indices: at,
      size: x.size,
      intact: true,
      changes: 0,
    };
    markGathered(x, gathered);
    markGathered(at, gathered);
    return { x, y };
  }

  /** ‖x‖² of every example, f64 [count]: what the ghost norms of a first layer need, computed once. */
  private squaredNorms(): Tensor {
    this.#norms ??= this.computeSquaredNorms();
    return this.#norms;
  }

  private computeSquaredNorms(): BlockTensor {
    const { engine, count } = this;
    const norms = engine.allocateBlock([count], 'f64', 'the norms of the data set');
    const size = sizeOf(this.shape);
    for (let from = 0; from < count; from += normChunk) {
      const n = Math.min(normChunk, count - from);
      engine.scope(() => {
        const { x } = this.batch(Int32Array.from({ length: n }, (_, i) => from + i));
        engine.kernels.rowSquaredNorms(norms.address + from * 8, x.address, n, size, 0);
      });
    }
    return norms;
  }

  /** Frees the set's memory; a base that it shares with another set stays. */
  free(): void {
    for (const segment of this.#segments) if (segment.owned) segment.block.free();
    this.labels.free();
    this.table.free();
    this.#norms?.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/** `engine.dataset`: see there. */
export function createDataset(engine: Engine, set: LabelledSet | ComposedSet): Dataset {
  const composed: ComposedSet = set !== undefined && 'base' in set ? set : { base: set, added: [] };
  const { base, added } = composed;
  if (base instanceof Dataset && base.engine !== engine) {
    throw new GradshapeError(
      'ENGINE_MISMATCH',
      'engine.dataset: the base lives in another engine; expected one of this engine, or plain values.',
    );
  }
  const parts = base instanceof Dataset ? added : [base, ...added];
  parts.forEach(checkParts);
  const { shape } = base;
  for (const part of parts) checkSet(part, shape);
  const baseLabels = base instanceof Dataset ? [base.y] : [];
  const ownLabels = [...baseLabels, ...parts.map((part) => part.y)].flatMap((y) => Array.from(y));
  checkLabels(ownLabels, ownLabels.length);
  const labels = composed.y ?? ownLabels;
  checkLabels(labels, ownLabels.length);
  const segments = base instanceof Dataset ? [...sharedSegments(base)] : [];
  const tables: BlockTensor[] = [];
  try {
    for (const part of parts) segments.push(upload(engine, part));
    tables.push(engine.allocateBlock([labels.length], 'i32', 'engine.dataset'));
    tables.push(segmentTable(engine, segments));
  } catch (error) {
    for (const { block, owned } of segments) if (owned) block.free();
    for (const table of tables) table.free();
    throw error;
  }
  const [y, table] = tables as [BlockTensor, BlockTensor];
  y.view().set(labels);
  return new Dataset(engine, shape, segments, y, table);
}

function checkGroups(groups: Int32Array | undefined, count: number): void {
  if (groups === undefined) return;
  if (groups instanceof Int32Array && groups.length === count && groups.every((group) => group >= 0)) return;
  throw new GradshapeError(
    'GROUPS_INVALID',
    `batch: groups is ${groups instanceof Int32Array ? `an Int32Array of ${groups.length}` : String(groups)} for ${count} examples; expected an Int32Array with a ` +
      'whole number from 0 for each, such as sampler.lot(step).groups.',
  );
}

function checkParts(set: LabelledSet | undefined): void {
  const missing = (['x', 'y', 'shape'] as const).find((name) => typeof set?.[name]?.length !== 'number');
  if (missing === undefined) return;
  throw new GradshapeError(
    'DATA_INVALID',
    `engine.dataset: ${missing} is ${String(set?.[missing])}; expected { x, y, shape }: numbers row by row, labels, and the shape of one example.`,
  );
}

function checkSet(set: LabelledSet, shape: Shape): void {
  const size = sizeOf(set.shape);
  if (showShape(set.shape) !== showShape(shape)) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `engine.dataset: added examples have shape ${showShape(set.shape)}; the base's have ${showShape(shape)}.`,
    );
  }
  if (set.y.length === 0 || size === 0) {
    throw new GradshapeError(
      'DATA_EMPTY',
      `engine.dataset: ${set.y.length} examples of shape ${showShape(set.shape)}; expected at least one number in at least one example.`,
    );
  }
  if (set.x.length !== set.y.length * size) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `engine.dataset: ${set.x.length} numbers and ${set.y.length} labels, for examples of shape ${showShape(set.shape)}; ` +
        `expected ${set.y.length} · ${size} = ${set.y.length * size} numbers.`,
    );
  }
  const { scale = 1 } = set;
  if (!Number.isFinite(scale)) {
    throw new GradshapeError(
      'DATA_NOT_FINITE',
      `engine.dataset: scale is ${scale}; expected a finite number.`,
    );
  }
  const most = set.x instanceof Uint8Array ? 255 : Math.abs(scale) > 1 ? largest(set.x) : 0;
  if (Math.fround(most * Math.abs(scale)) === Infinity && most < Infinity) {
    throw new GradshapeError(
      'DATA_NOT_FINITE',
      `engine.dataset: ${most} · ${scale} is beyond f32; expected a scale that keeps the numbers finite.`,
    );
  }
}

function largest(x: Float32Array): number {
  let most = 0;
  for (let i = 0; i < x.length; i++) if (Math.abs(x[i]!) > most) most = Math.abs(x[i]!);
  return most;
}

function checkLabels(labels: ArrayLike<number>, count: number): void {
  if (labels.length !== count) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `engine.dataset: ${labels.length} labels for ${count} examples.`,
    );
  }
  for (let i = 0; i < count; i++) {
    const label = labels[i]!;
    if (!Number.isInteger(label) || label < 0 || label > 0x7fffffff) {
      throw new GradshapeError(
        'LABEL_OUT_OF_RANGE',
        `engine.dataset: label ${label} of example ${i}; expected a whole number from 0.`,
      );
    }
  }
}

function upload(engine: Engine, set: LabelledSet): Segment {
  const { x, y, scale = 1, shape } = set;
  const count = y.length;
  const purpose = `engine.dataset of ${count} examples`;
  if (x instanceof Uint8Array) {
    const block = engine.memory.block(x.length, purpose);
    new Uint8Array(engine.memory.wasm.buffer, block.address, x.length).set(x);
    return { identity: {}, block, dtype: 'u8', count, scale, owned: true };
  }
  const block = engine.memory.block(x.length * 4, purpose);
  new Float32Array(engine.memory.wasm.buffer, block.address, x.length).set(x);
  const bad = engine.kernels.firstNonFinite(block.address, x.length);
  if (bad >= 0) {
    block.free();
    const size = sizeOf(shape);
    throw new GradshapeError(
      'DATA_NOT_FINITE',
      `engine.dataset: ${x[bad]} in example ${Math.floor(bad / size)}, element ${bad % size}; expected finite numbers.`,
    );
  }
  return { identity: {}, block, dtype: 'f32', count, scale, owned: true };
}

function segmentTable(engine: Engine, segments: readonly Segment[]): BlockTensor {
  const table = engine.allocateBlock([segments.length, segmentWords], 'i32', 'engine.dataset');
  const words = table.view() as Int32Array;
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  let first = 0;
  segments.forEach(({ block, dtype, count, scale }, i) => {
    const row = i * segmentWords;
    words.set([first, count, block.address, dtype === 'u8' ? 0 : 1], row);
    floats.set([scale, 0], row + 4);
    first += count;
  });
  return table;
}
