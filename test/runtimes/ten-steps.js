// Ten steps of DP-SGD, batch 32, on logistic regression or a convolutional network: the same program on every runtime.
import {
  conv2d,
  createEngine,
  crossEntropy,
  dense,
  flatten,
  groupNorm,
  maxPool2d,
  privateStep,
  seededNoise,
  sequential,
  sgd,
  supportsRelaxedSimd,
  tanh,
} from 'gradshape';

const examples = 64;
const features = 784;

/** The second convolution takes Winograd's algorithm; the first can't. */
const networks = {
  lr: () => sequential(flatten(), dense(features, 2)),
  cnn: () =>
    sequential(
      conv2d(1, 8, 3, { padding: 'same' }),
      tanh(),
      conv2d(8, 8, 3, { padding: 'same' }),
      groupNorm(2, 8),
      maxPool2d(4),
      flatten(),
      dense(392, 2),
    ),
};

/** Bytes from a linear congruential generator; the label is the sign of a difference between two halves of an example. */
function syntheticSet() {
  let state = 1;
  const x = new Uint8Array(examples * features).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
  const y = Int32Array.from({ length: examples }, (_, i) => {
    const image = x.subarray(i * features, (i + 1) * features);
    const sum = (from, to) => image.subarray(from, to).reduce((a, b) => a + b, 0);
    return sum(0, features / 2) > sum(features / 2, features) ? 1 : 0;
  });
  return { x, y, shape: [28, 28, 1], scale: 1 / 255 };
}

function bytesToHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The parameters' bits after ten steps, as little-endian f32 in hexadecimal, and the mean loss of each step. */
export async function tenSteps(kernels, network) {
  const engine = await createEngine({ kernels });
  const model = networks[network]();
  const params = model.init(engine, { seed: 7 });
  const data = engine.dataset(syntheticSet());
  const step = privateStep({
    params,
    optimizer: sgd({ learningRate: 0.05 }),
    clipNorm: 4,
    noiseMultiplier: 0.01,
    expectedBatchSize: 32,
    noise: seededNoise(7),
  });
  const losses = [];
  for (let i = 0; i < 10; i++) {
    const batch = Array.from({ length: 32 }, (_, j) => (i * 32 + j) % examples);
    engine.scope(() => {
      const loss = step.accumulate((p, b) => crossEntropy(model.apply(p, b.x), b.y), data.batch(batch));
      losses.push(loss.values().reduce((a, b) => a + b, 0) / 32);
    });
    step.finish();
  }
  return { parameters: bytesToHex(new Uint8Array(params.values().buffer)), losses };
}

/** Both networks with base kernels, and the first with the relaxed ones where this runtime takes them. */
export async function allRuns() {
  return {
    base: await tenSteps('base', 'lr'),
    cnn: await tenSteps('base', 'cnn'),
    relaxed: supportsRelaxedSimd() ? await tenSteps('relaxed', 'lr') : null,
  };
}
