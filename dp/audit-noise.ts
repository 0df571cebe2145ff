/** Whether a step's noise can be known: from another step that is made in the same way, from an earlier step, or from other coordinates. */
import { publicGenerator } from '../engine/index.js';
import { type Audited, pushOne, weightFor } from './audit-games.js';

/** The weight has side² coordinates. */
const side = 45;
/** Steps of each of the two, of whose noises a coordinate's signature is made: more than chance repeats, on whatever grid they are. */
const steps = 4;

/**
 * Two steps are made in the same way, and get the same example: it pushes one coordinate. True if the noise of any two of their updates is
 * the same on all others; or if coordinates have the same noise, up to its sign, in all updates: as where it is copied, or missing.
 * Independent Gaussian noise does neither in as long as anybody audits.
 */
export function noiseRepeats(audited: Audited, seed: number): boolean {
  const coins = publicGenerator(seed, 'poison', 2);
  const updates: Float32Array[] = [];
  for (let twin = 0; twin < 2; twin++) {
    const params = weightFor(audited, side, 'matmul');
    const step = audited.makeStep(params);
    try {
      const start = params.values();
      const pushed = (coins.next() >>> 0) % params.size;
      for (let t = 0; t < steps; t++) {
        pushOne(audited, step, side, pushed);
        step.finish();
        const update = params.values();
        update[pushed] = Number.NaN;
        updates.push(update);
        params.load(start);
      }
    } finally {
      step.free();
      params.free();
    }
  }
  // Where nothing moves at all there is nothing to know; the canaries say whether it is the noise that is missing.
  if (updates.every((update) => update.every((x) => !(Math.abs(x) > 0)))) return false;
  return updates.some((a, i) => updates.some((b, j) => i < j && sameNoise(a, b))) || copies(updates);
}

const sameNoise = (a: Float32Array, b: Float32Array): boolean =>
  a.every((x, i) => x === b[i] || Number.isNaN(x) || Number.isNaN(b[i]));

/** Whether far more pairs of coordinates agree in all updates than would if updates were independent of each other. */
function copies(updates: readonly Float32Array[]): boolean {
  const whole = Array.from(updates[0]!.keys()).filter((i) =>
    updates.every((update) => !Number.isNaN(update[i])),
  );
  const pairs = (keyOf: (i: number) => string | number): number => {
    const seen = new Map<string | number, number>();
    let agree = 0;
    for (const i of whole) {
      const before = seen.get(keyOf(i)) ?? 0;
      agree += before;
      seen.set(keyOf(i), before + 1);
    }
    return agree;
  };
  const all = (whole.length * (whole.length - 1)) / 2;
  const byChance = updates.reduce(
    (product, update) => (product * pairs((i) => Math.abs(update[i]!))) / all,
    all,
  );
  return pairs((i) => updates.map((update) => Math.abs(update[i]!)).join()) > 10 + 10 * byChance;
}
