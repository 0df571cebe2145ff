// The convolutional workload W4 of the benchmark. As a script (node bench/cnn-steps.js <mode> <kernels>) it does three
// steps and prints the process's peak resident memory in MB.
import { fileURLToPath } from 'node:url';
import { conv2d, createEngineSync, dense, flatten, maxPool2d, relu, sequential, sgd } from 'gradshape';
import { stepTask } from './step-task.js';

export const modes = ['vanilla', 'materialize', 'ghost', 'loop'] as const;
export type Mode = (typeof modes)[number];

const batchSize = 100;
const examples = 600;
const conv = (inputs: number, outputs: number) => [conv2d(inputs, outputs, 3, { padding: 'same' }), relu()];

const model = sequential(
  ...[...conv(3, 32), ...conv(32, 32), maxPool2d(2)],
  ...[...conv(32, 64), ...conv(64, 64), maxPool2d(2)],
  ...[flatten(), dense(4096, 256), relu(), dense(256, 10)],
);

/** One training step of W4 on 32 × 32 × 3 images, batch 100, the gather included; DP steps clip and add noise. */
export function w4Step(mode: Mode, kernels: 'base' | 'relaxed'): () => void {
  const engine = createEngineSync({ kernels });
  const data = engine.dataset({
    x: Uint8Array.from({ length: examples * 3072 }, () => Math.random() * 256),
    y: Int32Array.from({ length: examples }, () => Math.random() * 10),
    shape: [32, 32, 3],
    scale: 1 / 255,
  });
  return stepTask(mode, { model, batchSize, optimizer: () => sgd({ learningRate: 0.01 }) }, data);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , mode, kernels] = process.argv;
  const step = w4Step(mode as Mode, kernels as 'base' | 'relaxed');
  for (let i = 0; i < 3; i++) step();
  console.log(process.resourceUsage().maxRSS / 1000);
}
