/**
 * Makes the embedded dress-against-coat file from the full Fashion-MNIST (Debian's package dataset-fashion-mnist, or wherever
 * loadFashionMnist finds it):
 *
 *   node experiments/data/make-dress-coat.js
 *
 * The unzipped bytes are always the same; the packed ones may differ between versions of brotli. Takes about half a minute.
 */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { brotliCompressSync, constants } from 'node:zlib';
import { DRESS_COAT_FILE, DRESS_COAT_SHA256 } from './dress-coat.js';
import { loadFashionMnist } from './fashion-mnist.js';
import type { LabelledSet } from './set.js';

const DRESS = 3;
const COAT = 4;

/** Images and labels of the two classes, in the set's order. */
function pick({ x, y }: LabelledSet): { images: Uint8Array; labels: Uint8Array } {
  const rows = [...y.keys()].filter((i) => y[i] === DRESS || y[i] === COAT);
  const size = x.length / y.length;
  const images = new Uint8Array(rows.length * size);
  rows.forEach((row, i) => {
    images.set(x.subarray(row * size, (row + 1) * size), i * size);
  });
  return { images, labels: Uint8Array.from(rows, (row) => (y[row] === COAT ? 1 : 0)) };
}

const full = await loadFashionMnist();
const train = pick(full.train);
const test = pick(full.test);
const bytes = Buffer.concat([train.images, test.images, train.labels, test.labels]);
const digest = createHash('sha256').update(bytes).digest('hex');

const packed = brotliCompressSync(bytes, {
  params: {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
  },
});
writeFileSync(DRESS_COAT_FILE, packed);
console.log(`${DRESS_COAT_FILE}: ${bytes.length} bytes, packed ${packed.length}`);
console.log(
  `sha256 ${digest}${digest === DRESS_COAT_SHA256 ? '' : ` (dress-coat.ts expects ${DRESS_COAT_SHA256})`}`,
);
