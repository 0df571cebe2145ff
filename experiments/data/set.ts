import { createHash } from 'node:crypto';
import { GradshapeError } from 'gradshape';

/**
 * A labelled data set as a plain value. It fits `engine.dataset(set)`, survives `postMessage`, and, where its arrays lie on a
 * SharedArrayBuffer (those of all loaders here do), reaches a worker without being copied.
 */
export interface LabelledSet {
  /** Examples one after another, `y.length * product(shape)` values; images are NHWC. Never written to. */
  x: Uint8Array | Float32Array;
  /** One label an example, an integer in `[0, classes.length)`. */
  y: Int32Array;
  /** Shape of one example, such as `[28, 28, 1]`. */
  shape: number[];
  /** What a model sees is `x * scale`: 1/255 for 8-bit images, else 1. */
  scale: number;
  /** Class names; label i means `classes[i]`. */
  classes: string[];
}

/** Bound on labels where no class names are given: a label of 10^9 is a mistake, not a class. */
const MOST_CLASSES = 65_536;

/** A set that comes in parts. */
export interface Splits {
  train: LabelledSet;
  test: LabelledSet;
  /** SHA-256 (hex) of the content, for trial keys. */
  hash: string;
}

/** What `fromArrays` takes. Numbers beyond float32's range count as not finite. */
export interface ArraySource {
  /** Examples one after another. Bytes and float32 are kept as they are, anything else becomes float32. */
  x: ArrayLike<number>;
  /** One integer label an example. */
  y: ArrayLike<number>;
  /** Shape of one example; default: flat, `[x.length / y.length]`. */
  shape?: number[];
  /** Class names; default: `'0'` to the largest label. */
  classes?: string[];
  /** Factor from stored values to what a model sees; default 1 (8-bit images want 1/255). */
  scale?: number;
  /** What errors call the set; default `'data'`. */
  name?: string;
}

/**
 * Checks a user's own arrays and makes a set of them.
 *
 * @throws GradshapeError DATA_INVALID (x or y is missing), DATA_EMPTY, SHAPE_MISMATCH, DATA_NOT_FINITE (with row and column),
 *   LABEL_OUT_OF_RANGE
 */
export function fromArrays(source: ArraySource): LabelledSet {
  const missing = (['x', 'y'] as const).find((part) => typeof source?.[part]?.length !== 'number');
  if (missing !== undefined) {
    throw new GradshapeError(
      'DATA_INVALID',
      `${source?.name ?? 'data'}: ${missing} is ${String(source?.[missing])}; expected { x, y }: arrays of the examples' ` +
        'numbers, one example after another, and of one label an example.',
    );
  }
  const { x, y, scale = 1, name = 'data' } = source;
  const count = y.length;
  if (count === 0 || x.length === 0) {
    throw new GradshapeError(
      'DATA_EMPTY',
      `${name}: the set is empty (${x.length} values, ${count} labels); at least one example is needed.`,
    );
  }
  const shape = source.shape ?? [x.length / count];
  const size = shape.reduce((product, n) => product * n, 1);
  if (!shape.every((n) => Number.isInteger(n) && n > 0) || size * count !== x.length) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${name}: ${count} labels and shape [${shape}] need ${count} x ${size} = ${count * size} values in x, ` +
        `got ${x.length}. Give one label an example, and the shape of one example without the count.`,
    );
  }
  if (!Number.isFinite(scale)) {
    throw new GradshapeError('DATA_NOT_FINITE', `${name}: scale must be a finite number, got ${scale}.`);
  }

  const values = x instanceof Uint8Array || x instanceof Float32Array ? x : Float32Array.from(x);
  if (values instanceof Float32Array) {
    let bad = 0;
    while (bad < values.length && Number.isFinite(values[bad])) bad++;
    if (bad < values.length) {
      throw new GradshapeError(
        'DATA_NOT_FINITE',
        `${name}: x holds ${x[bad]} in row ${Math.floor(bad / size)}, column ${bad % size} (both from 0); ` +
          'every value must be a finite float32. Remove or fill in such rows first.',
      );
    }
  }

  const limit = source.classes?.length ?? MOST_CLASSES;
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const label = y[i]!;
    if (label > largest) largest = label;
    if (!Number.isInteger(label) || label < 0 || label >= limit) {
      throw new GradshapeError(
        'LABEL_OUT_OF_RANGE',
        `${name}: the label of row ${i} (from 0) is ${label}; labels must be integers from 0 to ${limit - 1}.`,
      );
    }
  }
  const classes = source.classes ?? Array.from({ length: largest + 1 }, (_, i) => String(i));
  return { x: values, y: y instanceof Int32Array ? y : Int32Array.from(y), shape, scale, classes };
}

/** The rows `indices` of a set, in that order, as a set of its own on shared memory. */
export function selectRows(set: LabelledSet, indices: ArrayLike<number>): LabelledSet {
  const size = set.x.length / set.y.length;
  const x = sharedLike(set.x, indices.length * size);
  const y = sharedLike(set.y, indices.length);
  for (let i = 0; i < indices.length; i++) {
    const row = indices[i]!;
    if (!(row >= 0 && row < set.y.length)) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `Row ${row} does not exist: the set has ${set.y.length} rows.`,
      );
    }
    x.set(set.x.subarray(row * size, (row + 1) * size), i * size);
    y[i] = set.y[row]!;
  }
  return { ...set, x, y };
}

/** The same set on shared memory, so that workers get it without a copy. What is shared already stays as it is. */
export function shareSet(set: LabelledSet): LabelledSet {
  return { ...set, x: shared(set.x), y: shared(set.y) };
}

/** SHA-256 (hex) of everything training sees of a set: type, shape, scale, number of classes, values, labels. */
export function hashSet(set: LabelledSet): string {
  const { x, y, shape, scale, classes } = set;
  const type = x instanceof Uint8Array ? 'u8' : 'f32';
  return createHash('sha256')
    .update(JSON.stringify({ type, count: y.length, shape, scale, classes: classes.length }))
    .update(x)
    .update(y)
    .digest('hex');
}

/** One hash for several, in order. */
export function combineHashes(...hashes: string[]): string {
  return createHash('sha256').update(hashes.join('\n')).digest('hex');
}

/** A new array of the same type on shared memory. */
function sharedLike<T extends Uint8Array | Float32Array | Int32Array>(like: T, length: number): T {
  const buffer = new SharedArrayBuffer(length * like.BYTES_PER_ELEMENT);
  if (like instanceof Uint8Array) return new Uint8Array(buffer) as T;
  return (like instanceof Float32Array ? new Float32Array(buffer) : new Int32Array(buffer)) as T;
}

function shared<T extends Uint8Array | Float32Array | Int32Array>(array: T): T {
  if (array.buffer instanceof SharedArrayBuffer) return array;
  const copy = sharedLike(array, array.length);
  copy.set(array);
  return copy;
}
