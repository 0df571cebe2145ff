// What cold-start times: a process that loads the library and does one DP step.
import { createEngineSync, crossEntropy, dense, privateStep, sequential, sgd } from 'gradshape';

const engine = createEngineSync({ kernels: process.argv[2] === 'relaxed' ? 'relaxed' : 'base' });
const model = sequential(dense(784, 2));
const params = model.init(engine, { seed: 1 });
const data = engine.dataset({
  x: new Uint8Array(300 * 784),
  y: new Int32Array(300),
  shape: [784],
  scale: 1 / 255,
});
const step = privateStep({
  params,
  optimizer: sgd({ learningRate: 0.1 }),
  clipNorm: 1,
  noiseMultiplier: 1,
  expectedBatchSize: 300,
});
engine.scope(() => {
  step.accumulate(
    (p, b) => crossEntropy(model.apply(p, b.x), b.y),
    data.batch(Int32Array.from({ length: 300 }, (_, i) => i)),
  );
});
step.finish();
