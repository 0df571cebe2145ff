import {
  checkSeed,
  type Engine,
  GradshapeError,
  type GroupedSum,
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

/** Counts draw where nothing else does: a bit of the counter's third word, above the step's high bits and below the grid's. */
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
 * sampling of that one would take as long as the rest of the step. The generator is hidden by a dither, uniform whole numbers of
 * 16 bits besides the noise: without it, rounded noise is even more often than odd. It makes the noise at most 0.02 % larger,
 * and can't cost privacy: it is independent of everything. Single values reach out to 9.3 standard deviations; if they ended
 * earlier, who saw a larger one would know that it was not noise alone.
 * @param vector f32, any shape
 * @throws NOISE_INVALID
 * @example addNoise(gradient, { std: 4 * 1.1, noise: seededNoise(1), step: 0 });
 */
export function addNoise(vector: Tensor, options: AddNoiseOptions): Tensor {
  return addDraws(vector, options, 0);
}

/**
 * The same for a settled sum of gradients, whose `part` becomes the noisy sum: where it was taken over groups, what the noise is
 * added to is its float64, so that rounding to float32 comes after the noise.
 */
export function addNoiseToSum(sum: GroupedSum, options: AddNoiseOptions): void {
  const { part, overGroups } = sum;
  if (overGroups === null || options.std === 0) {
    addNoise(sum.rounded(), options);
    return;
  }
  const { kernels } = part.engine;
  const grid = options.noise?.kind === 'seeded' ? 0 : noiseGrid(options.std);
  kernels.fill(part.address, 0, part.size);
  addNoise(part, options);
  kernels.addFromF64(part.address, overGroups.address, part.address, grid, part.size);
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

/** The smallest grid whose steps float32 can count: the smallest normal number. */
const smallestGrid = 1.1754943508222875e-38;

function addOnGrid(engine: Engine, at: number, count: number, draws: Draws): void {
  const { key, step, high, from, rounds, std } = draws;
  const grid = noiseGrid(std);
  if (grid < smallestGrid) {
    throw new GradshapeError(
      'NOISE_INVALID',
      `addNoise: std is ${std}; secure noise is rounded to a grid of std · 2⁻²⁰, which float32 has for 1.3e-32 or more. Use that, or 0 for none.`,
    );
  }
  const { kernels } = engine;
  engine.scope(() => {
    const scratch = engine.allocate([kernels.gaussianOnGridScratchBytes() / 4], 'i32', 'noise');
    kernels.addGaussianOnGrid(at, at, count, scratch.address, key, 0, step, high, from, rounds, std, grid);
  });
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
