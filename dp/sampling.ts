import { checkSeed, type Engine, GradshapeError, writeKey, writeKeyWords } from '../engine/index.js';
import { shuffledBatches } from '../nn/index.js';
import { type GroupedLot, groupsByPosition, groupsBySecret } from './lot-groups.js';

/** Draws the batches of a private training. */
export interface Sampler {
  readonly kind: 'poisson' | 'fixed-size' | 'shuffled';
  /** Whether nobody can know who was drawn: then, and only then, sampling may amplify privacy. */
  readonly source: 'secure' | 'seeded' | 'public';
  /** The indices of a step's batch, which may be none. A seeded sampler gives the same ones for the same step. */
  draw(step: number): Int32Array;
  /**
   * The same batch as a step sums it: in groups of at most 320, of which one example more or less changes one (docs/arithmetic.md).
   * Give its `groups` to `data.batch`. What is drawn in secret is grouped in secret, at random.
   */
  lot(step: number): GroupedLot;
}

export interface SecretSamplerOptions {
  readonly engine: Engine;
  /** Examples in the set. */
  readonly count: number;
  /** For experiments; default: each draw is keyed afresh by `crypto.getRandomValues`. */
  readonly seed?: number;
}

/** Words fetched from the kernel at a time. */
const wordsAtOnce = 4096;

/** 32-bit words of ChaCha's keystream under the `sampler` stream: 20 rounds and a fresh key, or 8 rounds and the seed's. */
class Words {
  private readonly key: Uint32Array<ArrayBuffer> | null;
  private words: Uint32Array = new Uint32Array(0);
  private next = 0;
  private block = 0;

  constructor(
    private readonly engine: Engine,
    private readonly seed: number | undefined,
    private readonly step: number,
    private readonly use = 0,
  ) {
    this.key = seed === undefined ? crypto.getRandomValues(new Uint32Array(8)) : null;
  }

  word(): number {
    if (this.next === this.words.length) {
      this.words = this.fetch();
      this.next = 0;
    }
    return this.words[this.next++]!;
  }

  /** Whole numbers 0 … n − 1, each as likely: words beyond the last full multiple of n are thrown away. */
  below(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % n;
    }
  }

  /** The next `wordsAtOnce` words, where no single ones were asked for. */
  fetch(): Uint32Array {
    const { engine, seed, step, use } = this;
    const words = engine.scope(() => {
      const out = engine.allocate([wordsAtOnce], 'i32', 'a sampler');
      const key = this.key === null ? writeKey(engine, seed!, 'sampler') : writeKeyWords(engine, this.key);
      const high = Math.floor(step / 4294967296);
      const rounds = this.key === null ? 8 : 20;
      engine.kernels.randomBits(out.address, wordsAtOnce, key, this.block, step >>> 0, high, use, rounds);
      return new Uint32Array(engine.memory.wasm.buffer, out.address, wordsAtOnce).slice();
    });
    this.block += wordsAtOnce / 16;
    return words;
  }
}

/**
 * Poisson sampling: each example is in a batch with probability q, independently of all others and other steps; batches
 * differ in size, and may be empty. Exact to 2⁻⁶⁴.
 * @throws SAMPLING_RATE_OUT_OF_RANGE, DATASET_SIZE_OUT_OF_RANGE, SEED_INVALID
 * @example poissonSampler({ engine, count: 10_800, samplingRate: 1 / 36 }).draw(0)
 */
export function poissonSampler(options: SecretSamplerOptions & { readonly samplingRate: number }): Sampler {
  const { engine, count, seed, samplingRate } = options;
  checkCount('poissonSampler', count);
  checkOwnSeed('poissonSampler', seed);
  if (!(samplingRate > 0 && samplingRate <= 1)) {
    throw new GradshapeError(
      'SAMPLING_RATE_OUT_OF_RANGE',
      `poissonSampler: samplingRate is ${samplingRate}; expected a number in (0, 1].`,
    );
  }
  const scaled = samplingRate * 4294967296;
  const whole = Math.floor(scaled);
  const fraction = Math.floor((scaled - whole) * 4294967296);
  const expected = samplingRate * count;
  return {
    lot(step) {
      const words = new Words(engine, seed, step, 2);
      return groupsBySecret(this.draw(step), expected, () => words.word());
    },
    kind: 'poisson',
    source: seed === undefined ? 'secure' : 'seeded',
    draw(step) {
      const words = new Words(engine, seed, step);
      const edge = new Words(engine, seed, step, 1);
      const drawn: number[] = [];
      for (let from = 0; from < count; from += wordsAtOnce) {
        const chunk = words.fetch();
        const n = Math.min(wordsAtOnce, count - from);
        for (let i = 0; i < n; i++) {
          const word = chunk[i]!;
          // At the edge, one time in four billion, a second word decides about the rest of q.
          if (word < whole || (word === whole && edge.word() < fraction)) drawn.push(from + i);
        }
      }
      return Int32Array.from(drawn);
    },
  };
}

/**
 * Fixed-size batches: each step draws `batchSize` of the examples without replacement, every subset as likely (Floyd's
 * algorithm, in Bentley 1987). Steps are independent of each other.
 * @throws BATCH_SIZE_OUT_OF_RANGE, DATASET_SIZE_OUT_OF_RANGE, SEED_INVALID
 * @example fixedSizeSampler({ engine, count: 10, batchSize: 4 }).draw(0).length; // 4
 */
export function fixedSizeSampler(options: SecretSamplerOptions & { readonly batchSize: number }): Sampler {
  const { engine, count, seed, batchSize } = options;
  checkCount('fixedSizeSampler', count);
  checkOwnSeed('fixedSizeSampler', seed);
  if (!(Number.isSafeInteger(batchSize) && batchSize >= 1 && batchSize <= count)) {
    throw new GradshapeError(
      'BATCH_SIZE_OUT_OF_RANGE',
      `fixedSizeSampler: batchSize is ${batchSize}; expected a whole number from 1 to ${count}.`,
    );
  }
  return {
    kind: 'fixed-size',
    source: seed === undefined ? 'secure' : 'seeded',
    lot(step) {
      const words = new Words(engine, seed, step, 2);
      return groupsBySecret(this.draw(step), batchSize, () => words.word());
    },
    draw(step) {
      const words = new Words(engine, seed, step);
      const drawn = new Set<number>();
      for (let last = count - batchSize; last < count; last++) {
        const pick = words.below(last + 1);
        drawn.add(drawn.has(pick) ? last : pick);
      }
      return Int32Array.from(drawn).sort();
    },
  };
}

/**
 * Shuffled epochs, as ordinary training has them: every example is in one batch of each epoch. The order is public, and amplifies
 * nothing; so it may come from a seed, and be known.
 * @throws BATCH_SIZE_INVALID, DATA_EMPTY, SEED_INVALID
 * @example shuffledSampler({ count: 10, batchSize: 4, seed: 1 }).draw(2).length; // 2
 */
export function shuffledSampler(options: {
  readonly count: number;
  readonly batchSize: number;
  readonly seed: number;
}): Sampler {
  const { count, batchSize, seed } = options;
  const batchesOf = (epoch: number): Int32Array[] => shuffledBatches({ count, batchSize, seed, epoch });
  let current = { epoch: 0, batches: batchesOf(0) };
  const perEpoch = current.batches.length;
  return {
    kind: 'shuffled',
    source: 'public',
    lot(step) {
      return groupsByPosition(this.draw(step));
    },
    draw(step) {
      const epoch = Math.floor(step / perEpoch);
      if (epoch !== current.epoch) current = { epoch, batches: batchesOf(epoch) };
      return current.batches[step % perEpoch]!;
    },
  };
}

function checkCount(caller: string, count: number): void {
  if (Number.isSafeInteger(count) && count >= 1) return;
  throw new GradshapeError(
    'DATASET_SIZE_OUT_OF_RANGE',
    `${caller}: count is ${count}; expected a whole number from 1.`,
  );
}

function checkOwnSeed(caller: string, seed: number | undefined): void {
  if (seed !== undefined) checkSeed(caller, seed);
}
