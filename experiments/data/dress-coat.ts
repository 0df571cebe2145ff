import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { brotliDecompressSync } from 'node:zlib';
import { GradshapeError } from 'gradshape';
import { type LabelledSet, type Splits, selectRows } from './set.js';

/** The embedded file, made by make-dress-coat.ts: images, then one label byte an image, training part before test part. */
export const DRESS_COAT_FILE = fileURLToPath(new URL('./dress-coat.bin.br', import.meta.url));
/** SHA-256 of its unzipped bytes. */
export const DRESS_COAT_SHA256 = '94cbbec2c0b22f9ba63a69799f0a843533e229fe11242a7626f530dbd5de769a';

const IMAGE_BYTES = 28 * 28;
const TRAIN_IMAGES = 12_000;
const TEST_IMAGES = 2_000;
/** The paper trains on this many a class; the other 600 a class are for validation. */
const TRAIN_PER_CLASS = 5_400;

/** The dress-against-coat task. */
export interface DressCoat extends Splits {
  /** Clean images that are never trained on: they choose learning rate and epoch. */
  validation: LabelledSet;
}

/**
 * The paper's binary task, embedded in this repository: Fashion-MNIST's classes 3 (dress, label 0) and 4 (coat, label 1), in
 * their original order. The first 5,400 images of each class are for training (10,800), the other 1,200 for validation; 2,000 are
 * for testing. Arrays are on shared memory: load once, and hand the value to workers.
 *
 * @throws GradshapeError DATA_UNREADABLE, DATA_CORRUPT, DATA_CHECKSUM
 */
export function loadDressCoat(): DressCoat {
  const bytes = readEmbedded();
  const all = split(bytes);
  const training: number[] = [];
  const validation: number[] = [];
  const seen = [0, 0];
  all.train.y.forEach((label, i) => {
    (seen[label]!++ < TRAIN_PER_CLASS ? training : validation).push(i);
  });
  return {
    train: selectRows(all.train, training),
    validation: selectRows(all.train, validation),
    test: selectRows(all.test, Array.from(all.test.y.keys())),
    hash: DRESS_COAT_SHA256,
  };
}

function readEmbedded(): Uint8Array {
  let packed: Uint8Array;
  try {
    packed = readFileSync(DRESS_COAT_FILE);
  } catch (error) {
    throw new GradshapeError(
      'DATA_UNREADABLE',
      `Can't read ${DRESS_COAT_FILE}, which is part of this repository: ${(error as Error).message}.`,
      { cause: error },
    );
  }
  const expected = (TRAIN_IMAGES + TEST_IMAGES) * (IMAGE_BYTES + 1);
  let bytes: Uint8Array;
  try {
    bytes = brotliDecompressSync(packed, { chunkSize: expected, maxOutputLength: expected });
  } catch (error) {
    throw damaged('DATA_CORRUPT', `the brotli stream can't be read (${(error as Error).message})`, error);
  }
  const digest = createHash('sha256').update(bytes).digest('hex');
  if (digest !== DRESS_COAT_SHA256) {
    throw damaged(
      'DATA_CHECKSUM',
      `wrong sha256 of the unzipped bytes: expected ${DRESS_COAT_SHA256}, got ${digest}`,
    );
  }
  return bytes;
}

/** Views of the file's parts. */
function split(bytes: Uint8Array): { train: LabelledSet; test: LabelledSet } {
  const images = TRAIN_IMAGES + TEST_IMAGES;
  const part = (from: number, to: number): LabelledSet => ({
    x: bytes.subarray(from * IMAGE_BYTES, to * IMAGE_BYTES),
    y: Int32Array.from(bytes.subarray(images * IMAGE_BYTES + from, images * IMAGE_BYTES + to)),
    shape: [28, 28, 1],
    scale: 1 / 255,
    classes: ['dress', 'coat'],
  });
  return { train: part(0, TRAIN_IMAGES), test: part(TRAIN_IMAGES, images) };
}

function damaged(code: string, what: string, cause?: unknown): GradshapeError {
  const message = `${DRESS_COAT_FILE}: ${what}. Restore the file (git checkout) or make it anew with make-dress-coat.js.`;
  return new GradshapeError(code, message, { cause });
}
