import { createEngineSync, type Engine } from 'gradshape';
import { type Figure, median, medians, type Setting } from './measure.js';

type Layout = 'nn' | 'nt' | 'tn';
type Product = readonly [Layout, m: number, n: number, k: number];

/** Squares, and what training has: forward, input gradient and weight gradient of the bench's models. */
const products: readonly Product[] = [
  ['nn', 256, 256, 256],
  ['nn', 512, 512, 512],
  ['nn', 1024, 1024, 1024],
  ['nt', 512, 512, 512],
  ['tn', 512, 512, 512],
  ['nn', 100, 256, 784],
  ['nt', 100, 784, 256],
  ['tn', 784, 256, 100],
  ['nn', 100, 128, 256],
  ['nt', 100, 256, 128],
  ['tn', 256, 128, 100],
  ['nn', 100, 10, 128],
  ['tn', 128, 10, 100],
  ['nn', 100, 100, 600],
  ['tn', 600, 100, 100],
  ['nn', 300, 2, 784],
  ['tn', 784, 2, 300],
];

/** Depth of the peak's panels: with 4 rows and 8 columns they stay in L1. */
const peakDepth = 256;
const peakRepeats = 200;
const peakFlops = 2 * 4 * 8 * peakDepth * peakRepeats;

/** The micro-kernel alone on panels that stay in L1: the ceiling of everything that multiplies matrices. */
export function peakTask(engine: Engine): { task: () => void; flops: number } {
  const panels = engine.block(new Float32Array(16 * peakDepth + 1024).fill(0.5));
  const c = panels.address;
  const a = c + 4096;
  const b = a + 4 * peakDepth * 8;
  return { task: () => engine.kernels.gemmPeak(c, a, b, peakDepth, peakRepeats), flops: peakFlops };
}

/** GFLOP/s of whole products, packing included, each sampled in turn with the peak. */
export async function gemmSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const engine = createEngineSync({ kernels });
  const peak = peakTask(engine);
  const figures: Figure[] = [];
  const peaks: number[] = [];
  for (const [layout, m, n, k] of products) {
    const name = `gemm/${layout}/${m}x${n}x${k}`;
    if (!wanted(name) && !wanted('peak')) continue;
    const random = (size: number) =>
      engine.block(Float32Array.from({ length: size }, () => Math.random() - 0.5));
    const a = random(m * k);
    const b = random(k * n);
    const c = random(m * n);
    const [transA, transB] = [layout === 'tn', layout === 'nt'];
    const product = (): void =>
      engine.kernels.gemm(
        transA ? 1 : 0,
        transB ? 1 : 0,
        m,
        n,
        k,
        a.address,
        transA ? m : k,
        b.address,
        transB ? k : n,
        c.address,
        n,
        0,
        0,
        0,
        engine.gemmScratch,
      );
    const times = await medians({ peak: peak.task, product });
    const gigaflops = (flops: number, ms: number): number => flops / ms / 1e6;
    peaks.push(gigaflops(peak.flops, times.peak!));
    figures.push({ name, unit: 'GFLOP/s', value: gigaflops(2 * m * n * k, times.product!) });
    for (const block of [a, b, c]) block.free();
  }
  if (peaks.length > 0) figures.unshift({ name: 'peak', unit: 'GFLOP/s', value: median(peaks) });
  return figures.filter(({ name }) => wanted(name));
}
