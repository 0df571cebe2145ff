// Ten steps of DP-SGD on logistic regression, 784 to 2, batch 32: the same program on every runtime.
import {
  createEngine,
  crossEntropy,
  dense,
  privateStep,
  seededNoise,
  sequential,
  sgd,
  supportsRelaxedSimd,
} from 'gradshape';

const examples = 64;
const features = 784;

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
  return { x, y, shape: [features], scale: 1 / 255 };
}

function bytesToHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** The parameters' bits after ten steps, as little-endian f32 in hexadecimal, and the mean loss of each step. */
export async function tenSteps(kernels) {
  const engine = await createEngine({ kernels });
  const model = sequential(dense(features, 2));
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

/** The same with each build of the kernels that this runtime takes. */
export async function allBuilds() {
  return { base: await tenSteps('base'), relaxed: supportsRelaxedSimd() ? await tenSteps('relaxed') : null };
}
