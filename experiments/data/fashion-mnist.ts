import { GradshapeError } from 'gradshape';
import { type FindOptions, gunzipIfNeeded, obtainFile, verify, type WantedFile } from './files.js';
import { combineHashes, type LabelledSet, type Splits, shareSet } from './set.js';

/** Labels 0 to 9. */
export const FASHION_MNIST_CLASSES = [
  'T-shirt/top',
  'Trouser',
  'Pullover',
  'Dress',
  'Coat',
  'Sandal',
  'Shirt',
  'Sneaker',
  'Bag',
  'Ankle boot',
];

/** The unzipped files; the published ones and Debian's differ in the gzip header alone. */
const FILES = {
  trainImages: {
    name: 'train-images-idx3-ubyte',
    bytes: 47_040_016,
    sha256: 'c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888',
  },
  trainLabels: {
    name: 'train-labels-idx1-ubyte',
    bytes: 60_008,
    sha256: 'bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9',
  },
  testImages: {
    name: 't10k-images-idx3-ubyte',
    bytes: 7_840_016,
    sha256: '5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b',
  },
  testLabels: {
    name: 't10k-labels-idx1-ubyte',
    bytes: 10_008,
    sha256: '0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34',
  },
};

/** Where the published .gz files are. */
const MIRRORS = [
  'https://storage.googleapis.com/tensorflow/tf-keras-datasets',
  'https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion',
  'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com',
];

/**
 * Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): 60,000 training and 10,000 test images of 28 x 28 grey pixels, 10 classes.
 *
 * Each file, plain or .gz, is looked for in the data folder and its subfolder `fashion-mnist`, in the place of Debian's package
 * dataset-fashion-mnist, and in the user cache, and else downloaded. The checksums of the unzipped bytes are verified.
 *
 * @throws GradshapeError DATA_NOT_FOUND, DATA_CORRUPT, DATA_CHECKSUM, DATA_UNREADABLE, DATA_CACHE
 */
export async function loadFashionMnist(options: FindOptions = {}): Promise<Splits> {
  const read = async (part: 'train' | 'test'): Promise<LabelledSet> => {
    const images = await obtainFile(wanted(FILES[`${part}Images`]), options);
    const labels = await obtainFile(wanted(FILES[`${part}Labels`]), options);
    return shareSet({
      x: images.values,
      y: Int32Array.from(labels.values),
      shape: [...images.shape.slice(1), 1],
      scale: 1 / 255,
      classes: FASHION_MNIST_CLASSES,
    });
  };
  const train = await read('train');
  const test = await read('test');
  return { train, test, hash: combineHashes(...Object.values(FILES).map((file) => file.sha256)) };
}

function wanted(file: { name: string; bytes: number; sha256: string }): WantedFile<IdxArray> {
  return {
    set: 'Fashion-MNIST',
    folder: 'fashion-mnist',
    names: [`${file.name}.gz`, file.name],
    folders: ['/usr/share/datasets/fashion-mnist'],
    urls: MIRRORS.map((mirror) => `${mirror}/${file.name}.gz`),
    hint:
      'Install the package dataset-fashion-mnist (Debian, Ubuntu), or get the four .gz files of ' +
      'github.com/zalandoresearch/fashion-mnist and give their folder with --data.',
    read: (bytes, path) => {
      const content = gunzipIfNeeded(bytes, path, file.bytes);
      verify(content, { bytes: file.bytes, algorithm: 'sha256', digest: file.sha256 }, path);
      return readIdx(content, path);
    },
  };
}

/** An array of bytes from an IDX file. */
export interface IdxArray {
  shape: number[];
  values: Uint8Array;
}

/**
 * Reads an IDX file of unsigned bytes: two zero bytes, the type (8), the rank, big-endian dimensions, values.
 *
 * @throws GradshapeError DATA_CORRUPT
 */
export function readIdx(content: Uint8Array, path: string): IdxArray {
  const rank = content[3] ?? 0;
  const start = 4 + 4 * rank;
  if (content[0] !== 0 || content[1] !== 0 || content[2] !== 8 || rank === 0 || content.length < start) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: not an IDX file of unsigned bytes (its first bytes are not 0, 0, 8).`,
    );
  }
  const view = new DataView(content.buffer, content.byteOffset, start);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((product, n) => product * n, 1);
  if (content.length !== start + size) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: its header announces [${shape}], ${size} bytes, but ${content.length - start} follow.`,
    );
  }
  return { shape, values: content.subarray(start) };
}
