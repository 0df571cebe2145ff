import { GradshapeError, type Shape, showShape, sizeOf } from '../engine/index.js';

// The format (https://github.com/huggingface/safetensors): 8 bytes, the header's length as a little-endian u64; the
// header, a JSON object of tensor names to dtype, shape and data_offsets, with __metadata__ of strings to strings; the data.

/** A tensor in a file. */
export interface StoredTensor {
  readonly shape: Shape;
  readonly values: Float32Array;
}

export interface Safetensors {
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

interface HeaderEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

const lengthBytes = 8;
const alignment = 8;

/** f32 tensors as the bytes of a safetensors file. */
export function writeSafetensors({ metadata, tensors }: Safetensors): Uint8Array<ArrayBuffer> {
  let end = 0;
  const entries = [...tensors].map(([name, { shape, values }]): [string, HeaderEntry] => {
    const begin = end;
    end += values.byteLength;
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const json = new TextEncoder().encode(
    JSON.stringify({ __metadata__: metadata, ...Object.fromEntries(entries) }),
  );
  const headerBytes = Math.ceil(json.length / alignment) * alignment;
  const bytes = new Uint8Array(lengthBytes + headerBytes + end);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.fill(0x20, lengthBytes, lengthBytes + headerBytes);
  bytes.set(json, lengthBytes);
  let at = lengthBytes + headerBytes;
  for (const { values } of tensors.values()) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
    at += values.byteLength;
  }
  return bytes;
}

function invalid(what: string): GradshapeError {
  return new GradshapeError(
    'CHECKPOINT_INVALID',
    `safetensors: ${what}. The file is damaged or of another kind; expected a whole safetensors file of F32 tensors.`,
  );
}

/**
 * Reads a safetensors file of f32 tensors; values are copies.
 * @throws CHECKPOINT_INVALID when bytes are missing, too many, or not what the header says; DTYPE_MISMATCH for other dtypes
 */
export function readSafetensors(bytes: Uint8Array): Safetensors {
  const { header, dataStart } = readHeader(bytes);
  const { __metadata__: metadata = {}, ...rest } = header;
  const tensors = new Map<string, StoredTensor>();
  const entries = Object.entries(rest).map(([name, entry]) => ({ name, ...checkedEntry(name, entry) }));
  let end = 0;
  for (const { data_offsets: offsets } of [...entries].sort(
    (a, b) => a.data_offsets[0] - b.data_offsets[0],
  )) {
    if (offsets[0] !== end) throw invalid(`its tensors leave a gap or overlap at byte ${end}`);
    end = offsets[1];
  }
  if (dataStart + end !== bytes.length) {
    throw invalid(`it has ${bytes.length} bytes, and the header asks for ${dataStart + end}`);
  }
  for (const { name, shape, data_offsets: offsets } of entries) {
    // A copy, for alignment; not by slice, which of a Node Buffer is a view.
    const data = new Uint8Array(bytes.subarray(dataStart + offsets[0], dataStart + offsets[1]));
    tensors.set(name, { shape, values: new Float32Array(data.buffer) });
  }
  return { metadata: checkedMetadata(metadata), tensors };
}

function readHeader(bytes: Uint8Array): { header: Record<string, unknown>; dataStart: number } {
  if (bytes.length < lengthBytes) throw invalid(`it has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = Number(view.getBigUint64(0, true));
  const dataStart = lengthBytes + headerBytes;
  if (dataStart > bytes.length) {
    throw invalid(`it has ${bytes.length} bytes, and its header alone asks for ${dataStart}`);
  }
  let header: unknown;
  try {
    header = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(lengthBytes, dataStart)),
    );
  } catch {
    throw invalid('its header is not JSON');
  }
  if (header === null || typeof header !== 'object' || Array.isArray(header)) {
    throw invalid('its header is not a JSON object');
  }
  return { header: header as Record<string, unknown>, dataStart };
}

function checkedEntry(name: string, entry: unknown): HeaderEntry {
  const { dtype, shape, data_offsets: offsets } = (entry ?? {}) as Partial<HeaderEntry>;
  const whole = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((n) => Number.isSafeInteger(n) && n >= 0);
  if (typeof dtype !== 'string' || !whole(shape) || !whole(offsets) || offsets.length !== 2) {
    throw invalid(`its header's entry for '${name}' lacks dtype, shape or data_offsets`);
  }
  if (dtype !== 'F32') {
    throw new GradshapeError(
      'DTYPE_MISMATCH',
      `safetensors: '${name}' is ${dtype}; expected F32. Convert it with the tool that wrote it.`,
    );
  }
  if (offsets[1] - offsets[0] !== sizeOf(shape) * 4) {
    throw invalid(`'${name}' has ${offsets[1] - offsets[0]} bytes for shape ${showShape(shape)}`);
  }
  return { dtype, shape, data_offsets: offsets };
}

function checkedMetadata(metadata: unknown): Record<string, string> {
  const strings =
    metadata !== null &&
    typeof metadata === 'object' &&
    Object.values(metadata).every((value) => typeof value === 'string');
  if (!strings) throw invalid('its __metadata__ is not an object of strings');
  return metadata as Record<string, string>;
}
