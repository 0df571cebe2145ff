import { checkSeed, GradshapeError, permutation, publicGenerator } from '../engine/index.js';
import { checkWhole } from './checks.js';

export interface BatchesOptions {
  /** Examples in the set. */
  readonly count: number;
  readonly batchSize: number;
  /** What becomes of a last batch that is smaller than the others. @default 'keep' */
  readonly lastBatch?: 'keep' | 'drop';
}

export interface ShuffleOptions extends BatchesOptions {
  readonly seed: number;
  /** Counted from 0; each has its own order. @default 0 */
  readonly epoch?: number;
}

/**
 * The indices of one epoch's batches: each example once, in an order drawn from the seed's `order` stream.
 * @returns views of one Int32Array, one a batch
 * @throws DATA_EMPTY, BATCH_SIZE_INVALID, SEED_INVALID
 * @example for (const indices of shuffledBatches({ count: 10_800, batchSize: 300, seed: 1, epoch: 0 })) { }
 */
export function shuffledBatches({ seed, epoch = 0, ...options }: ShuffleOptions): Int32Array[] {
  checkBatches('shuffledBatches', options);
  checkSeed('shuffledBatches', seed);
  checkWhole('EPOCH_INVALID', 'shuffledBatches: epoch', epoch, 0);
  return split(permutation(options.count, publicGenerator(seed, 'order', epoch)), options);
}

/**
 * The same in the set's order, without shuffling.
 * @throws DATA_EMPTY, BATCH_SIZE_INVALID
 */
export function sequentialBatches(options: BatchesOptions): Int32Array[] {
  checkBatches('sequentialBatches', options);
  const order = new Int32Array(options.count);
  for (let i = 0; i < order.length; i++) order[i] = i;
  return split(order, options);
}

function checkBatches(caller: string, { count, batchSize, lastBatch = 'keep' }: BatchesOptions): void {
  checkWhole('DATA_EMPTY', `${caller}: count`, count, 1);
  checkWhole('BATCH_SIZE_INVALID', `${caller}: batchSize`, batchSize, 1);
  if (batchSize > count) {
    throw new GradshapeError(
      'BATCH_SIZE_INVALID',
      `${caller}: batchSize is ${batchSize}, but there are ${count} examples; expected at most ${count}.`,
    );
  }
  if (lastBatch !== 'keep' && lastBatch !== 'drop') {
    throw new GradshapeError(
      'BATCH_SIZE_INVALID',
      `${caller}: lastBatch is '${String(lastBatch)}'; expected 'keep' or 'drop'.`,
    );
  }
}

function split(order: Int32Array, { count, batchSize, lastBatch = 'keep' }: BatchesOptions): Int32Array[] {
  const batches = lastBatch === 'keep' ? Math.ceil(count / batchSize) : Math.floor(count / batchSize);
  return Array.from({ length: batches }, (_, i) => order.subarray(i * batchSize, (i + 1) * batchSize));
}
