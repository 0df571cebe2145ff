import { GradshapeError, publicGenerator } from 'gradshape';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { fromArrays, type LabelledSet } from './set.js';

export interface TwoMoonsOptions {
  /** Points, half of them (rounded up) of class 0. */
  readonly count: number;
  /** Standard deviation of the Gaussian noise on both coordinates. @default 0.1 */
  readonly noise?: number;
  readonly seed: number;
}

/**
 * Two interleaving half circles in the plane: class 0 is (cos t, sin t), class 1 (1 − cos t, ½ − sin t), t uniform in
 * [0, π], plus noise; classes alternate.
 * @throws GradshapeError DATA_EMPTY, NOISE_INVALID, SEED_INVALID
 */
export function twoMoons({ count, noise = 0.1, seed }: TwoMoonsOptions): LabelledSet {
  if (!Number.isSafeInteger(count) || count < 1) {
    throw new GradshapeError(
      'DATA_EMPTY',
      `twoMoons: count is ${count}; expected a whole number of points from 1.`,
    );
  }
  if (!(Number.isFinite(noise) && noise >= 0)) {
    throw new GradshapeError('NOISE_INVALID', `twoMoons: noise is ${noise}; expected a number from 0.`);
  }
  const generator = publicGenerator(seed, 'data');
  // In (0, 1]: its logarithm is finite.
  const uniform = () => (uniformInt(generator, 0, 0x3fffffff) + 1) / 0x40000000;
  const x = new Float32Array(2 * count);
  const y = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const t = Math.PI * uniform();
    const label = i % 2;
    const [across, up] = label === 0 ? [Math.cos(t), Math.sin(t)] : [1 - Math.cos(t), 0.5 - Math.sin(t)];
    // Box and Muller (1958).
    const radius = noise * Math.sqrt(-2 * Math.log(uniform()));
    const angle = 2 * Math.PI * uniform();
    x.set([across + radius * Math.cos(angle), up + radius * Math.sin(angle)], 2 * i);
    y[i] = label;
  }
  return fromArrays({ x, y, shape: [2], classes: ['upper', 'lower'], name: 'two moons' });
}
