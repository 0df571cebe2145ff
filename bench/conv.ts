import {
  conv2d,
  createEngineSync,
  defineOp,
  type Engine,
  opTable,
  type PerExampleRule,
  type Shape,
  sizeOf,
} from 'gradshape';
import { peakTask } from './gemm.js';
import { type Figure, median, medians, type Setting } from './measure.js';

type Layer = readonly [batch: number, height: number, width: number, channels: number, out: number];

/** 3×3 layers, padding 'same': W4's, then those of the paper's networks for CIFAR-10 and Fashion-MNIST. */
const layers: readonly Layer[] = [
  [100, 32, 32, 32, 32],
  [100, 32, 32, 3, 32],
  [100, 16, 16, 32, 64],
  [100, 16, 16, 64, 64],
  [100, 32, 32, 3, 16],
  [100, 32, 32, 16, 32],
  [100, 28, 28, 1, 16],
  [100, 28, 28, 16, 32],
];

/** The peak is sampled for as long as a convolution takes, so that other processes' share of the core falls on both. */
const peakRounds = 50;

const rule = opTable.conv2d.perExample[1];
type Attributes = typeof rule extends PerExampleRule<infer A> ? A : never;

/** What a layer's pass computes, by the figure's name; `examples` are the examples' own filter gradients. */
function passes(engine: Engine, layer: Layer, algorithm: 'auto' | 'direct'): Record<string, () => void> {
  const [batch, height, width, channels, out] = layer;
  const random = (shape: Shape) =>
    engine.block(
      Float32Array.from({ length: sizeOf(shape) }, () => Math.random() - 0.5),
      shape,
    );
  const x = random([batch, height, width, channels]);
  const filter = random([3, 3, channels, out]);
  const bias = random([out]);
  const dOutput = random([batch, height, width, out]);
  const sliding = { stride: [1, 1], dilation: [1, 1], padding: 'same', groups: 1, algorithm } as const;
  const inputGradient = defineOp<object>(opTable.conv2dInputGradient as never);
  const filterGradient = defineOp<object>(opTable.conv2dFilterGradient as never);
  const use = {
    ...{ engine, kernels: engine.kernels, inputs: [x, filter, bias], output: dOutput, dOutput, saved: [] },
    ...{ attributes: { ...sliding, activation: 'none' } as Attributes, argument: 1, batch },
  };
  const rows = random([batch, filter.size]);
  return {
    forward: () => conv2d(x, filter, bias, { ...sliding, activation: 'relu' }),
    input: () => inputGradient([dOutput, filter], { ...sliding, shape: x.shape }),
    filter: () => filterGradient([x, dOutput], { ...sliding, shape: filter.shape }),
    examples: () => rule.instantiate(use, rows.address, filter.size, false),
  };
}

/**
 * GFLOP/s of convolutions, counting the operations of a direct one whatever the algorithm, each sampled in turn with the
 * micro-kernel's peak: conv/… as the engine runs them, conv-direct/… without Winograd's algorithm.
 */
export async function convSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const figures: Figure[] = [];
  const peaks: number[] = [];
  for (const layer of layers) {
    for (const [family, algorithm] of [
      ['conv', 'auto'],
      ['conv-direct', 'direct'],
    ] as const) {
      const nameOf = (pass: string): string => `${family}/${pass}/${layer.join('x')}`;
      const engine = createEngineSync({ kernels });
      const asked = Object.entries(passes(engine, layer, algorithm)).filter(([pass]) => wanted(nameOf(pass)));
      if (asked.length === 0) continue;
      const scoped = asked.map(([pass, task]) => [pass, () => engine.scope(() => void task())] as const);
      const peak = peakTask(engine);
      const peaksTask = (): void => {
        for (let round = 0; round < peakRounds; round++) peak.task();
      };
      const times = await medians({ peak: peaksTask, ...Object.fromEntries(scoped) });
      peaks.push((peakRounds * peak.flops) / times.peak! / 1e6);
      const [batch, height, width, channels, out] = layer;
      const flops = 2 * batch * height * width * 9 * channels * out;
      for (const [pass] of asked) {
        figures.push({ name: nameOf(pass), unit: 'GFLOP/s', value: flops / times[pass]! / 1e6 });
      }
    }
  }
  if (peaks.length > 0) figures.unshift({ name: 'conv/peak', unit: 'GFLOP/s', value: median(peaks) });
  return figures;
}
