import { createHash } from 'node:crypto';
import { GradshapeError } from 'gradshape';
import {
  type FindOptions,
  findFile,
  gunzipIfNeeded,
  obtainFile,
  readWhole,
  verify,
  type WantedFile,
} from './files.js';
import { combineHashes, type LabelledSet, type Splits } from './set.js';
import { readTar } from './tar.js';

/** Labels 0 to 9. */
export const CIFAR10_CLASSES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
];

const SIDE = 32;
const PLANE = SIDE * SIDE;
/** A label byte, then the red, green and blue plane. */
const RECORD = 1 + 3 * PLANE;
const FILE_BYTES = 10_000 * RECORD;

/** Published md5s. */
const TRAIN_FILES: Record<string, string> = {
  'data_batch_1.bin': '5dd7e06a14cb22eb9f671a540d1b7c25',
  'data_batch_2.bin': '5ea93a67294ea407fff1d09f752e9692',
  'data_batch_3.bin': '942cd6a4bcdd0dd3c604fbe906cb4421',
  'data_batch_4.bin': 'ae636b3ba5c66a11e91e8cb52e771fcb',
  'data_batch_5.bin': '53f37980c15c3d472c316c40844f3f0d',
};
const TEST_FILE = 'test_batch.bin';
const TEST_MD5 = '803d5f7f4d78ea53de84dbe85f74fb6d';
/** md5 of the first 1,000 records of test_batch.bin, which tells how much of an inexact test set is the real one. */
const TEST_HEAD_MD5 = '371f65da31ad652f5e24b3699a3e6515';
const TEST_HEAD = 1_000;

const ARCHIVE = 'cifar-10-binary.tar.gz';
const URL = `https://www.cs.toronto.edu/~kriz/${ARCHIVE}`;
const SET = 'CIFAR-10';
const FOLDER = 'cifar-10-batches-bin';

/** CIFAR-10. `exact` is false when the test images are not the published ones. */
export interface Cifar10 extends Splits {
  exact: boolean;
  /** How many test images, from the first on, are known to be the published ones. */
  exactTest: number;
}

export interface Cifar10Options extends FindOptions {
  /**
   * A file of records to test on in place of test_batch.bin, whatever its checksum (such as one rebuilt from JPEGs). The returned
   * set says that it is not exact; results on it must say so too.
   */
  inexactTest?: string;
}

/**
 * CIFAR-10 (Krizhevsky 2009) in its binary form: 50,000 training and 10,000 test images of 32 x 32 pixels, 10 classes, given as NHWC.
 *
 * The six .bin files (plain or .gz), else the archive cifar-10-binary.tar.gz, are looked for in the data folder and its subfolder
 * `cifar-10-batches-bin` and in the user cache; else the archive is downloaded (170 MB). The md5s of all files are verified.
 *
 * @throws GradshapeError DATA_NOT_FOUND, DATA_CORRUPT, DATA_CHECKSUM, DATA_UNREADABLE, DATA_CACHE, LABEL_OUT_OF_RANGE
 */
export async function loadCifar10(options: Cifar10Options = {}): Promise<Cifar10> {
  const { inexactTest } = options;
  const digests = inexactTest === undefined ? { ...TRAIN_FILES, [TEST_FILE]: TEST_MD5 } : TRAIN_FILES;
  const files = await obtainFiles(digests, options);
  const train = cifarSet(
    Object.keys(TRAIN_FILES).map((name) => files.get(name)!),
    'the training batches',
  );
  const hashes = Object.values(TRAIN_FILES);
  if (inexactTest === undefined) {
    const test = cifarSet([files.get(TEST_FILE)!], TEST_FILE);
    return { train, test, hash: combineHashes(...hashes, TEST_MD5), exact: true, exactTest: test.y.length };
  }

  const content = gunzipIfNeeded(await readWhole(inexactTest), inexactTest, FILE_BYTES);
  const md5 = digest(content);
  const exact = md5 === TEST_MD5;
  const test = cifarSet([content], inexactTest);
  const head = digest(content.subarray(0, TEST_HEAD * RECORD)) === TEST_HEAD_MD5 ? TEST_HEAD : 0;
  return {
    train,
    test,
    hash: combineHashes(...hashes, md5),
    exact,
    exactTest: exact ? test.y.length : head,
  };
}

/** The content of the named .bin files, from files of their own or from the archive. */
async function obtainFiles(
  digests: Record<string, string>,
  options: FindOptions,
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const [name, md5] of Object.entries(digests)) {
    const content = await findFile(wantedBatch(name, md5), options);
    if (content) files.set(name, content);
  }
  const missing = Object.keys(digests).filter((name) => !files.has(name));
  if (missing.length === 0) return files;
  return obtainFile(wantedArchive(digests, missing), options);
}

function wantedBatch(name: string, md5: string): WantedFile<Uint8Array> {
  return {
    set: SET,
    folder: FOLDER,
    names: [name, `${name}.gz`],
    urls: [],
    hint: '',
    read: (bytes, path) => {
      const content = gunzipIfNeeded(bytes, path, FILE_BYTES);
      verifyBatch(content, name, md5, path);
      return content;
    },
  };
}

function wantedArchive(
  digests: Record<string, string>,
  missing: string[],
): WantedFile<Map<string, Uint8Array>> {
  const names = Object.keys(digests);
  return {
    set: SET,
    folder: FOLDER,
    names: [ARCHIVE],
    urls: [URL],
    hint:
      `Get ${URL} and give its folder with --data, packed or unpacked ` +
      `(of the unpacked files, ${missing.length === names.length ? 'none' : `${missing.join(', ')} not`} found). ` +
      'To test on another file, name it with inexactTest (--inexact-test FILE).',
    read: (bytes, path) => {
      const members = readTar(gunzipIfNeeded(bytes, path, 7 * FILE_BYTES), path);
      for (const [name, md5] of Object.entries(digests)) {
        const content = members.get(name);
        if (!content) throw new GradshapeError('DATA_CORRUPT', `${path}: the archive holds no ${name}.`);
        verifyBatch(content, name, md5, `${path} (${name})`);
      }
      return members;
    },
  };
}

function verifyBatch(content: Uint8Array, name: string, md5: string, path: string): void {
  try {
    verify(content, { bytes: FILE_BYTES, algorithm: 'md5', digest: md5 }, path);
  } catch (error) {
    if (name !== TEST_FILE || !(error instanceof GradshapeError)) throw error;
    throw new GradshapeError(
      error.code,
      `${error.message} To test on it all the same, name it with inexactTest (--inexact-test FILE).`,
      { cause: error },
    );
  }
}

/**
 * Images and labels of CIFAR-10 records (label byte, then 1,024 bytes each of red, green, blue, row by row), as one NHWC set.
 *
 * @throws GradshapeError DATA_CORRUPT when a file is not a whole number of records, DATA_EMPTY, LABEL_OUT_OF_RANGE
 */
export function cifarSet(files: Uint8Array[], path: string): LabelledSet {
  for (const file of files) {
    if (file.length % RECORD !== 0) {
      throw new GradshapeError(
        'DATA_CORRUPT',
        `${path}: ${file.length} bytes are not a whole number of CIFAR-10 records of ${RECORD} bytes.`,
      );
    }
  }
  const count = files.reduce((total, file) => total + file.length / RECORD, 0);
  if (count === 0) throw new GradshapeError('DATA_EMPTY', `${path}: no records; at least one is needed.`);
  const x = new Uint8Array(new SharedArrayBuffer(count * 3 * PLANE));
  const y = new Int32Array(new SharedArrayBuffer(count * 4));
  let i = 0;
  let to = 0;
  for (const file of files) {
    for (let at = 0; at < file.length; at += RECORD) {
      const label = file[at]!;
      if (label >= CIFAR10_CLASSES.length) {
        throw new GradshapeError(
          'LABEL_OUT_OF_RANGE',
          `${path}: the label of record ${i} (from 0) is ${label}; labels are 0 to ${CIFAR10_CLASSES.length - 1}.`,
        );
      }
      y[i++] = label;
      for (let pixel = at + 1; pixel <= at + PLANE; pixel++) {
        x[to++] = file[pixel]!;
        x[to++] = file[pixel + PLANE]!;
        x[to++] = file[pixel + 2 * PLANE]!;
      }
    }
  }
  return { x, y, shape: [SIDE, SIDE, 3], scale: 1 / 255, classes: CIFAR10_CLASSES };
}

function digest(content: Uint8Array): string {
  return createHash('md5').update(content).digest('hex');
}
