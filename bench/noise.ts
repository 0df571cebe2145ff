import { addNoise, createEngineSync, secureNoise, seededNoise } from 'gradshape';
import { type Figure, medians, type Setting } from './measure.js';

/** As many draws as the W3 model has parameters. */
const draws = 235146;

/** Nanoseconds a Gaussian draw, added to a vector. */
export async function noiseSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const sources = { seeded: seededNoise(1), secure: secureNoise() };
  const names = Object.keys(sources).filter((kind) => wanted(`noise/${kind}`)) as (keyof typeof sources)[];
  if (names.length === 0) return [];
  const engine = createEngineSync({ kernels });
  const vector = engine.allocateBlock([draws], 'f32', 'bench');
  let step = 0;
  const times = await medians(
    Object.fromEntries(
      names.map((kind) => [
        kind,
        () => void addNoise(vector, { std: 1, noise: sources[kind], step: step++ }),
      ]),
    ),
  );
  return names.map((kind) => ({ name: `noise/${kind}`, unit: 'ns', value: (times[kind]! / draws) * 1e6 }));
}
