import { GradshapeError, type LabelledSet, type Shape, sizeOf } from '../engine/index.js';
import { type PoisonedSet, type PoisonSpec, withAdded, withRelabelled } from './poisoned-set.js';
import { sha256 } from './sha256.js';
import { verifyPoison } from './verify.js';

// The file: "GSPOISON", 32 bytes SHA-256 of all that follows, 4 bytes length of the header (little-endian), the header
// (JSON), then labels of the poisons (i32), their indices (i32) and, if examples were added, the distinct ones' numbers and
// which of them each poison is (i32).

const magic = 'GSPOISON';
const hashAt = magic.length;
const bodyAt = hashAt + 32;

interface Header {
  readonly version: 1;
  readonly spec: PoisonSpec;
  readonly base: { readonly sha256: string; readonly count: number; readonly shape: Shape };
  /** Poisons. */
  readonly count: number;
  /** Distinct added examples and how their numbers are held; null when labels changed in place. */
  readonly rows: { readonly count: number; readonly dtype: 'u8' | 'f32'; readonly scale: number } | null;
}

/**
 * A poisoned set as the bytes of one file that describes itself: what made it (spec with seed and budget), the base's
 * hash, labels, indices and the poisons themselves, each distinct one once. The base is not in it.
 * @example const file = await savePoison(flipLabels(set, { ratio: 0.4, seed: 1 }));
 */
export async function savePoison(set: PoisonedSet): Promise<Uint8Array<ArrayBuffer>> {
  const { base, poison, spec } = set;
  const added = set.added[0];
  const labels = poison.map((i) => set.y[i]!);
  const { distinct, which } = added ? distinctRows(added) : { distinct: new Uint8Array(0), which: [] };
  const header: Header = {
    version: 1,
    spec,
    base: { sha256: await baseHash(base), count: base.y.length, shape: base.shape },
    count: poison.length,
    rows: added
      ? {
          count: distinct.length / sizeOf(base.shape),
          dtype: distinct instanceof Uint8Array ? 'u8' : 'f32',
          scale: added.scale ?? 1,
        }
      : null,
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const parts = [
    new Uint8Array(Uint32Array.of(json.length).buffer),
    json,
    ...[labels, poison, Int32Array.from(which), distinct].map(bytesOf),
  ];
  const body = joined(parts);
  const hash = await sha256(body);
  const digest = Uint8Array.from(hash.match(/../g)!, (pair) => Number.parseInt(pair, 16));
  return joined([new TextEncoder().encode(magic), digest, body]);
}

/**
 * The poisoned set of a file and its base, checked: the hash, that the base is the one it was made for, the budget and
 * the constraints of the attack (`verifyPoison`).
 * @throws POISON_FILE_INVALID, POISON_HASH_MISMATCH, POISON_BASE_MISMATCH, BUDGET_EXCEEDED, INFEASIBLE
 * @example
 * const file = await savePoison(flipLabels(set, { ratio: 0.4, seed: 1 }));
 * const poisoned = await loadPoison(file, set);
 */
export async function loadPoison(bytes: Uint8Array, base: LabelledSet): Promise<PoisonedSet> {
  const head = new TextDecoder().decode(bytes.subarray(0, hashAt));
  if (head !== magic || bytes.length < bodyAt + 4) throw invalid('it does not begin like one');
  const body = new Uint8Array(bytes.subarray(bodyAt));
  const stored = Array.from(bytes.subarray(hashAt, bodyAt), (b) => b.toString(16).padStart(2, '0')).join('');
  const hash = await sha256(body);
  if (hash !== stored) {
    throw new GradshapeError(
      'POISON_HASH_MISMATCH',
      `loadPoison: the content's SHA-256 is ${hash}, and the file says ${stored}: it was changed or damaged. Craft it anew from its spec.`,
    );
  }
  const length = new DataView(body.buffer).getUint32(0, true);
  const header = headerOf(body.subarray(4, 4 + length));
  const sameBase =
    header.base.count === base.y.length &&
    String(header.base.shape) === String(base.shape) &&
    header.base.sha256 === (await baseHash(base));
  if (!sameBase) {
    throw new GradshapeError(
      'POISON_BASE_MISMATCH',
      `loadPoison: the poisons were made for another base set, of ${header.base.count} examples and hash ${header.base.sha256}.`,
    );
  }
  const set = setOf(header, body.slice(4 + length), base);
  verifyPoison(set);
  return set;
}

/** The hash that a poison file knows its base by: of numbers, labels, shape and scale. */
export async function baseHash({ x, y, shape, scale = 1 }: LabelledSet): Promise<string> {
  const facts = new TextEncoder().encode(JSON.stringify({ shape, scale, type: x.constructor.name }));
  return sha256(joined([facts, bytesOf(Int32Array.from(y)), bytesOf(x)]));
}

function headerOf(bytes: Uint8Array): Header {
  let header: Partial<Header>;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw invalid('its header is not JSON');
  }
  const { version, spec, base, count, rows } = header;
  if (version !== 1 || !spec || !base || !Number.isInteger(count) || rows === undefined) {
    throw invalid('its header lacks version 1, spec, base, count or rows');
  }
  return header as Header;
}

function setOf({ spec, count, rows }: Header, data: Uint8Array, base: LabelledSet): PoisonedSet {
  const size = sizeOf(base.shape);
  const bytesEach = rows?.dtype === 'u8' ? 1 : 4;
  const expected = rows === null ? 8 * count : 12 * count + rows.count * size * bytesEach;
  if (data.length !== expected) throw invalid(`it holds ${data.length} bytes of data; expected ${expected}`);
  const ints = (at: number): Int32Array => new Int32Array(data.slice(at, at + 4 * count).buffer);
  const labels = ints(0);
  const indices = ints(4 * count);
  if (rows === null) return withRelabelled(base, indices, labels, spec);
  const which = ints(8 * count);
  const tail = data.slice(12 * count);
  const distinct = rows.dtype === 'u8' ? tail : new Float32Array(tail.buffer);
  const x = rows.dtype === 'u8' ? new Uint8Array(count * size) : new Float32Array(count * size);
  which.forEach((row, i) => {
    if (!(row >= 0 && row < rows.count))
      throw invalid(`poison ${i} is distinct example ${row} of ${rows.count}`);
    x.set(distinct.subarray(row * size, (row + 1) * size), i * size);
  });
  const { scale } = rows;
  return withAdded(base, { x, y: labels, shape: base.shape, ...(scale === 1 ? {} : { scale }) }, spec);
}

/** Each distinct example once, in the order of first appearance, and which one each example is. */
function distinctRows({ x, y, shape }: LabelledSet): {
  distinct: Uint8Array | Float32Array;
  which: number[];
} {
  const size = sizeOf(shape);
  const seen = new Map<string, number>();
  const firsts: number[] = [];
  const which = Array.from({ length: y.length }, (_, i) => {
    const key = keyOf(bytesOf(x.subarray(i * size, (i + 1) * size)));
    const known = seen.get(key);
    if (known !== undefined) return known;
    seen.set(key, firsts.length);
    firsts.push(i);
    return firsts.length - 1;
  });
  const distinct =
    x instanceof Uint8Array ? new Uint8Array(firsts.length * size) : new Float32Array(firsts.length * size);
  firsts.forEach((from, i) => {
    distinct.set(x.subarray(from * size, (from + 1) * size), i * size);
  });
  return { distinct, which };
}

/** A string of these bytes; a function takes only so many arguments. */
function keyOf(bytes: Uint8Array): string {
  let key = '';
  for (let at = 0; at < bytes.length; at += 4096)
    key += String.fromCharCode(...bytes.subarray(at, at + 4096));
  return key;
}

function bytesOf(array: Uint8Array | Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function invalid(what: string): GradshapeError {
  return new GradshapeError(
    'POISON_FILE_INVALID',
    `loadPoison: this is no poison file: ${what}. Expected the bytes that savePoison made.`,
  );
}
