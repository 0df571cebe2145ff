import {
  checkSeed,
  type Engine,
  GradshapeError,
  type Range,
  type Tensor,
  writeKey,
  writeKeyWords,
} from '../engine/index.js';

/**
 * Where Gaussian noise comes from. `secure` noise is keyed by the runtime's cryptographic generator at each use and
 * can't be repeated; `seeded` noise is for experiments, and a run with it is never private: who knows the seed can
 * subtract it.
 */
export interface NoiseSource {
  readonly kind: 'secure' | 'seeded';
  /** ChaCha's rounds. */
  readonly rounds: number;
  /** Writes the key for a step's noise where the kernels read it, and returns its address. */
  key(engine: Engine): number;
}

/** Noise keyed by `crypto.getRandomValues`, afresh for each step, through ChaCha20. Never part of a checkpoint. */
export function secureNoise(): NoiseSource {
  return {
    kind: 'secure',
    rounds: 20,
    key: (engine) => writeKeyWords(engine, crypto.getRandomValues(new Uint32Array(8))),
  };
}

/**
 * Noise that is a function of seed, step and coordinate alone, through ChaCha8: for experiments.
 * @throws SEED_INVALID
 */
export function seededNoise(seed: number): NoiseSource {
  checkSeed('seededNoise', seed);
  return { kind: 'seeded', rounds: 8, key: (engine) => writeKey(engine, seed, 'noise') };
}

export interface AddNoiseOptions {
  /** Standard deviation of each coordinate: clip norm × noise multiplier. */
  readonly std: number;
  /** @default secureNoise() */
  readonly noise?: NoiseSource;
  /** The step, so that seeded noise differs from step to step. @default 0 */
  readonly step?: number;
  /** Stretches of the vector that get noise. @default all of it */
  readonly ranges?: readonly Range[];
}

/** One step's draws don't meet: each use of a key has its bit in the counter's third word, above the step's high bits. */
const secondDraw = 0x80000000;
const countDraw = 0x40000000;

/**
 * Adds N(0, std²) to each coordinate, in place, and returns the vector.
 *
 * Secure noise resists attacks on floating point. Where a float ends tells how large the numbers were that it was summed
 * from, and so, through a textbook Gaussian, what was below the noise (Mironov 2012); summing several draws hides the
 * generator, not the grid (Holohan & Braghin 2021; Haney et al. 2022). So here everything is a whole number: the vector is
 * rounded to a grid of powers of two, a million times finer than the noise (`noiseGrid`), the noise is rounded to the same grid,
 * and their sum is exact. Rounding x + N with x on the grid is x + round(N): privacy is the Gaussian's own, so that all
 * accountants hold, under sampling too, which for the discrete Gaussian (Canonne, Kamath & Steinke 2020) they would not; exact
 * sampling of that one would take as long as the rest of the step. Each noise is the sum of two draws: a single one ends at
 * 6.7 standard deviations, and who saw a larger value would know that it was not noise alone.
 * @param vector f32, any shape
 * @throws NOISE_INVALID
 * @example addNoise(gradient, { std: 4 * 1.1, noise: seededNoise(1), step: 0 });
 */
export function addNoise(vector: Tensor, options: AddNoiseOptions): Tensor {
  return addDraws(vector, options, 0);
}

/** The same for the numbers that a rule releases beside the gradient, with draws of their own. */
export function addCountNoise(vector: Tensor, options: AddNoiseOptions): Tensor {
  return addDraws(vector, options, countDraw);
}

function addDraws(
  vector: Tensor,
  { std, noise = secureNoise(), step = 0, ranges = [{ from: 0, to: vector.size }] }: AddNoiseOptions,
  use: number,
): Tensor {
  checkNoise('addNoise: std', std);
  if (std === 0) return vector;
  vector.changed();
  const { engine } = vector;
  const key = noise.key(engine);
  const high = (Math.floor(step / 4294967296) | use) >>> 0;
  const add = noise.kind === 'secure' ? addOnGrid : addPlain;
  for (const { from, to } of ranges) {
    // Each range has its own stretch of the stream: freezing other parameters leaves its noise as it was.
    add(engine, vector.address + from * 4, to - from, {
      key,
      step: step >>> 0,
      high,
      from,
      rounds: noise.rounds,
      std,
    });
  }
  return vector;
}

interface Draws {
  readonly key: number;
  readonly step: number;
  readonly high: number;
  readonly from: number;
  readonly rounds: number;
  readonly std: number;
}

function addPlain(engine: Engine, at: number, count: number, draws: Draws): void {
  const { key, step, high, from, rounds, std } = draws;
  engine.kernels.addGaussian(at, at, count, key, 0, step, high, from, rounds, std);
}

/** Coordinates at a time: both draws stay in the cache. A multiple of 64, the draws of four blocks. */
const piece = 16384;

function addOnGrid(engine: Engine, at: number, count: number, draws: Draws): void {
  const { key, step, high, from, rounds, std } = draws;
  const grid = noiseGrid(std);
  const half = std * Math.sqrt(0.5);
  engine.scope(() => {
    const pair = engine.allocate([2, piece], 'f32', 'noise');
    for (let start = 0; start < count; start += piece) {
      const n = Math.min(piece, count - start);
      const block = start / 16;
      for (const [i, word] of [high, (high | secondDraw) >>> 0].entries()) {
        const out = pair.address + i * piece * 4;
        engine.kernels.addGaussian(out, 0, n, key, block, step, word, from, rounds, half);
      }
      const { buffer } = engine.memory.wasm;
      sumOnGrid(
        new Float32Array(buffer, at + start * 4, n),
        new Float32Array(buffer, pair.address, n),
        new Float32Array(buffer, pair.address + piece * 4, n),
        grid,
      );
    }
  });
}

/** Added and taken off again, it leaves a number's whole part, rounded to the nearest; Math.round takes ten times as long. */
const rounding = 1.5 * 4503599627370496;

/** values += a + b, each rounded to the grid. Exact in float64 while a sum has less than 2⁵¹ grid steps, then float32's. */
function sumOnGrid(values: Float32Array, a: Float32Array, b: Float32Array, grid: number): void {
  const perGrid = 1 / grid;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]! * perGrid + rounding - rounding;
    const first = a[i]! * perGrid + rounding - rounding;
    const second = b[i]! * perGrid + rounding - rounding;
    values[i] = (value + first + second) * grid;
  }
}

/**
 * The grid of secure noise: the largest power of two that is at most std · 2⁻²⁰. Rounding a vector of n numbers to it moves what
 * two neighbouring data sets differ by by at most grid · √n, which `privateStep` takes off the clip norm.
 * @example noiseGrid(4); // 0.000003814697265625
 */
export function noiseGrid(std: number): number {
  checkNoise('noiseGrid: std', std);
  let grid = 1;
  while (grid > std) grid /= 2;
  while (grid * 2 <= std) grid *= 2;
  return grid / 1048576;
}

/** @throws NOISE_INVALID */
export function checkNoise(what: string, value: number): void {
  if (Number.isFinite(value) && value >= 0) return;
  throw new GradshapeError('NOISE_INVALID', `${what} is ${value}; expected a finite number of at least 0.`);
}
