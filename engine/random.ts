import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';
import type { RandomGenerator } from 'pure-rand/types/RandomGenerator';
import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';

/** What randomness is for. Streams of one seed are independent of each other, so that paired runs share what they should. */
export type Stream = keyof typeof streamNumbers;

const streamNumbers = { data: 1, poison: 2, init: 3, order: 4, dropout: 5, noise: 6, sampler: 7 } as const;

/** Where the ChaCha key lies in the engine's reserved bytes; kernels read it during the call. */
const keyAddress = 64;
const keyWords = 8;

/** A seed is a whole number that JavaScript holds exactly. @throws SEED_INVALID */
export function checkSeed(caller: string, seed: number): void {
  if (Number.isSafeInteger(seed) && seed >= 0) return;
  throw new GradshapeError(
    'SEED_INVALID',
    `${caller}: the seed is ${String(seed)}; expected a whole number from 0 to ${Number.MAX_SAFE_INTEGER}.`,
  );
}

function low(n: number): number {
  return n >>> 0;
}

function high(n: number): number {
  return Math.floor(n / 4294967296) >>> 0;
}

/** Writes the key of (seed, stream) where kernels read it, and returns its address. */
export function writeKey(engine: Engine, seed: number, stream: Stream): number {
  return writeKeyWords(engine, [low(seed), high(seed), streamNumbers[stream], 0, 0, 0, 0, 0]);
}

/** Writes a 256-bit key, eight words, where kernels read it, and returns its address. */
export function writeKeyWords(engine: Engine, words: ArrayLike<number>): number {
  new Uint32Array(engine.memory.wasm.buffer, keyAddress, keyWords).set(words);
  return keyAddress;
}

/**
 * A generator for public discrete choices (orders, splits, which examples to poison), the same for the same
 * (seed, stream, step) everywhere. Never for noise.
 */
export function publicGenerator(seed: number, stream: Stream, step = 0): RandomGenerator {
  checkSeed(stream, seed);
  const words = [low(seed), high(seed), streamNumbers[stream], step];
  let hash = 0;
  const state = words.map((word) => {
    hash = mix(hash ^ word);
    return hash;
  });
  return xoroshiro128plusFromState(state);
}

/** The finaliser of MurmurHash3 with an odd constant added: spreads near seeds over all 32 bits. */
function mix(word: number): number {
  let h = (word + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** 0 … n − 1 in random order (Fisher and Yates). */
export function permutation(n: number, generator: RandomGenerator): Int32Array {
  const order = new Int32Array(n);
  for (let i = 0; i < n; i++) order[i] = i; // Int32Array.from takes ten times as long
  for (let i = n - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    const swap = order[i]!;
    order[i] = order[j]!;
    order[j] = swap;
  }
  return order;
}

/** `count` of 0 … n − 1 without replacement, in random order. */
export function choose(count: number, n: number, generator: RandomGenerator): Int32Array {
  return permutation(n, generator).slice(0, count);
}
