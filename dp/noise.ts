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

/**
 * Adds N(0, std²) to each coordinate, in place, and returns the vector.
 * @param vector f32, any shape
 * @throws NOISE_INVALID
 * @example addNoise(gradient, { std: 4 * 1.1, noise: seededNoise(1), step: 0 });
 */
export function addNoise(
  vector: Tensor,
  { std, noise = secureNoise(), step = 0, ranges = [{ from: 0, to: vector.size }] }: AddNoiseOptions,
): Tensor {
  checkNoise('addNoise: std', std);
  if (std === 0) return vector;
  vector.changed();
  const { engine } = vector;
  const key = noise.key(engine);
  const stepHigh = Math.floor(step / 4294967296);
  for (const { from, to } of ranges) {
    // Each range has its own stretch of the stream: freezing other parameters leaves its noise as it was.
    const at = vector.address + from * 4;
    engine.kernels.addGaussian(at, at, to - from, key, 0, step >>> 0, stepHigh, from, noise.rounds, std);
  }
  return vector;
}

/** @throws NOISE_INVALID */
export function checkNoise(what: string, value: number): void {
  if (Number.isFinite(value) && value >= 0) return;
  throw new GradshapeError('NOISE_INVALID', `${what} is ${value}; expected a finite number of at least 0.`);
}
