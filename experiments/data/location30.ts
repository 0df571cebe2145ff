import { GradshapeError } from 'gradshape';
import { type FindOptions, gunzipIfNeeded, obtainFile, verify } from './files.js';
import type { LabelledSet } from './set.js';
import { readTar } from './tar.js';

const ARCHIVE = 'dataset_location.tgz';
const URL = `https://github.com/privacytrustlab/datasets/raw/169de9de00de049dd2e571cf7279e64698ac046a/${ARCHIVE}`;
/** The one file in the archive: a record a line, `"label",f1,...,f446`. */
const MEMBER = 'bangkok';
const MEMBER_BYTES = 4_492_469;
const MEMBER_SHA256 = '2ca8f7fc231251e089823e44d39f2d1eed124574cc351c7f80368cfe631dd718';
const COUNT = 5_010;
const FEATURES = 446;
const CLASSES = 30;

/** Location-30 as one set; it has no test part of its own. */
export interface Location30 extends LabelledSet {
  /** SHA-256 (hex) of the content, for trial keys. */
  hash: string;
}

/**
 * Location-30 (Shokri et al. 2017; check-ins by Yang et al.): 5,010 users, 446 features that are 0 or 1, 30 classes.
 *
 * The authors' archive dataset_location.tgz, or the file `bangkok` in it, is looked for in the data folder and its subfolder
 * `location30` and in the user cache; else the archive is downloaded (0.3 MB). The SHA-256 of the content is verified.
 *
 * @throws GradshapeError DATA_NOT_FOUND, DATA_CORRUPT, DATA_CHECKSUM, DATA_UNREADABLE, DATA_CACHE
 */
export async function loadLocation30(options: FindOptions = {}): Promise<Location30> {
  const content = await obtainFile(
    {
      set: 'Location-30',
      folder: 'location30',
      names: [ARCHIVE, MEMBER],
      urls: [URL],
      hint: `Get ${URL} and give its folder with --data.`,
      read: readContent,
    },
    options,
  );
  const x = new Uint8Array(new SharedArrayBuffer(COUNT * FEATURES));
  const y = new Int32Array(new SharedArrayBuffer(COUNT * 4));
  // The checksum stands for the form: what is read here is known to the byte.
  const lines = Buffer.from(content.buffer, content.byteOffset, content.length)
    .toString('latin1')
    .split('\n');
  for (let i = 0; i < COUNT; i++) {
    const [label, ...features] = lines[i]!.split(',');
    y[i] = Number(label!.slice(1, -1)) - 1;
    x.set(features.map(Number), i * FEATURES);
  }
  return {
    x,
    y,
    shape: [FEATURES],
    scale: 1,
    classes: Array.from({ length: CLASSES }, (_, i) => String(i + 1)),
    hash: MEMBER_SHA256,
  };
}

function readContent(bytes: Uint8Array, path: string): Uint8Array {
  const unzipped = gunzipIfNeeded(bytes, path, 2 * MEMBER_BYTES);
  const content = unzipped === bytes ? bytes : readTar(unzipped, path).get(MEMBER);
  if (!content) throw new GradshapeError('DATA_CORRUPT', `${path}: the archive holds no file ${MEMBER}.`);
  verify(content, { bytes: MEMBER_BYTES, algorithm: 'sha256', digest: MEMBER_SHA256 }, path);
  return content;
}
