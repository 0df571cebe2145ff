import { GradshapeError } from 'gradshape';
import { rowMajor } from 'gradshape/ndarray';
import ndarray, { type NdArray } from 'ndarray';
import { readWhole } from './files.js';
import { fromArrays, type LabelledSet, shareSet } from './set.js';

export type NpyValues =
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array;

const TYPES = {
  u1: Uint8Array,
  b1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  u4: Uint32Array,
  i4: Int32Array,
  f4: Float32Array,
  f8: Float64Array,
  i8: BigInt64Array,
};

/**
 * Reads NumPy's NPY format, versions 1 to 3 (NEP 1): little-endian numbers of the types b1, u1, i1, u2, i2, u4, i4, i8, f4, f8 in C
 * or Fortran order, left as they lie. i8 becomes float64 (labels and counts are far below 2^53).
 *
 * @param path what errors call the file
 * @throws GradshapeError DATA_CORRUPT, DATA_UNSUPPORTED (big-endian, other types)
 */
export function readNpy(bytes: Uint8Array, path: string): NdArray<NpyValues> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const magic = String.fromCharCode(...bytes.subarray(0, 6));
  const version = bytes[6] ?? 0;
  if (magic !== '\x93NUMPY' || version < 1 || version > 3 || bytes.length < 12) {
    throw new GradshapeError('DATA_CORRUPT', `${path}: not an NPY file of version 1 to 3.`);
  }
  const headerStart = version === 1 ? 10 : 12;
  const start = headerStart + (version === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = Buffer.from(bytes.subarray(headerStart, start)).toString('utf8');
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(header)?.[1];
  const dimensions = /'shape':\s*\(([\d\s,]*)\)/.exec(header)?.[1];
  if (start > bytes.length || order === undefined || dimensions === undefined) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: the NPY header is damaged or truncated: ${header.trim()}`,
    );
  }
  const type = /^[<|]?(\w\d)$/.exec(descr ?? '')?.[1];
  if (type === undefined || !(type in TYPES)) {
    throw new GradshapeError(
      'DATA_UNSUPPORTED',
      `${path}: element type ${descr ?? '(structured)'} is not supported; expected little-endian ` +
        `${Object.keys(TYPES).join(', ')}. Save it with .astype('<f4') or .astype('<i4').`,
    );
  }
  const shape = (dimensions.match(/\d+/g) ?? []).map(Number);
  const count = shape.reduce((product, n) => product * n, 1);
  const Type = TYPES[type as keyof typeof TYPES];
  const needed = count * Type.BYTES_PER_ELEMENT;
  if (bytes.length - start !== needed) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: shape [${shape}] of ${type} needs ${needed} bytes after the header, got ${bytes.length - start}.`,
    );
  }
  // A copy, because typed arrays must begin at a multiple of their element's size.
  const buffer = new Uint8Array(bytes.subarray(start)).buffer;
  const stored = new Type(buffer);
  const values = stored instanceof BigInt64Array ? Float64Array.from(stored, Number) : stored;
  if (order === 'False') return ndarray<NpyValues>(values, shape);
  // In Fortran order the first axis lies closest: the transpose of an array in C order.
  return ndarray<NpyValues>(values, shape.toReversed()).transpose(...[...shape.keys()].reverse());
}

export interface NpyOptions {
  /** Shape of one example; default: that of the file without its first axis. */
  shape?: number[];
  /** Class names; default: `'0'` to the largest label. */
  classes?: string[];
  /** Factor from stored values to what a model sees; default 1 (8-bit images want 1/255). */
  scale?: number;
}

/**
 * Reads a set from two NPY files: examples `[count, ...shape]`, and integer labels `[count]` or `[count, 1]`.
 *
 * @throws GradshapeError DATA_UNREADABLE, SHAPE_MISMATCH, and what `readNpy` and `fromArrays` throw
 */
export async function loadNpy(xPath: string, yPath: string, options: NpyOptions = {}): Promise<LabelledSet> {
  const x = readNpy(await readWhole(xPath), xPath);
  const y = readNpy(await readWhole(yPath), yPath);
  if (x.shape.length === 0 || x.shape[0] !== y.size) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${xPath} has shape [${x.shape}], ${yPath} has shape [${y.shape}]; expected [count, ...] and [count].`,
    );
  }
  const rest = x.shape.slice(1);
  return shareSet(
    fromArrays({
      ...options,
      x: rowMajor(x),
      y: rowMajor(y),
      shape: options.shape ?? (rest.length > 0 ? rest : [1]),
      name: `${xPath}, ${yPath}`,
    }),
  );
}
