// One step of DP-SGD on four real images, by hand: Abadi et al. 2016, "Deep Learning with Differential Privacy", Algorithm 1.
import {
  addNoise,
  type Batch,
  clipFactors,
  createEngine,
  crossEntropy,
  dense,
  flatten,
  type Parameters,
  perExample,
  seededNoise,
  sequential,
  sgd,
} from 'gradshape';
import { loadDressCoat } from './data/index.js';

/** The paper's symbols. */
const L = 4; // lot size: how many examples a step takes
const C = 4; // clip norm: the longest gradient an example may have
const σ = 0.5; // noise multiplier: the noise's standard deviation is σ·C
const η = 0.1; // learning rate

const engine = await createEngine();
const data = engine.dataset(loadDressCoat().train);
const model = sequential(flatten(), dense(784, 2));
const θ = model.init(engine, { seed: 1 });
const loss = (p: Parameters, batch: Batch) => crossEntropy(model.apply(p, batch.x), batch.y);

console.log('One step of DP-SGD (Abadi et al. 2016, Algorithm 1)');
console.log(
  `L = ${L} images, C = ${C}, σ = ${σ}, η = ${η}; logistic regression with ${θ.size} parameters θ\n`,
);

engine.scope(() => {
  // Take a random sample L_t. Here: the first four images, dresses (0) and coats (1).
  const batch = data.batch([0, 1, 2, 3]);

  // Compute gradient: for each i in L_t, g_t(x_i) = ∇_θ ℒ(θ_t, x_i). They are never formed: norms and sums are enough.
  const g = perExample(loss, θ, batch, { strategy: 'ghost' });
  const norms = g.norms();

  // Clip gradient: ḡ_t(x_i) = g_t(x_i) / max(1, ‖g_t(x_i)‖₂ / C), that is, times a factor of at most 1.
  const factors = clipFactors(norms, { clipNorm: C });
  const labels = batch.y.values();
  console.log('  i  label   loss ℒ   ‖g(xᵢ)‖₂   clip factor   ‖ḡ(xᵢ)‖₂');
  norms.values().forEach((norm, i) => {
    const factor = factors.values()[i]!;
    const cells = [
      g.losses.values()[i]!.toFixed(4),
      norm.toFixed(4),
      factor.toFixed(4),
      (norm * factor).toFixed(4),
    ];
    console.log(
      `  ${i + 1}  ${labels[i] === 0 ? 'dress' : 'coat '}  ${cells[0]}    ${cells[1]}        ${cells[2]}     ${cells[3]}`,
    );
  });

  // Add noise: g̃_t = (1/L) · (Σᵢ ḡ_t(x_i) + N(0, σ²C²I)), once for the whole lot. Divided by L in the update.
  const [sum] = g.weightedSums([factors]);
  const clippedSum = sum!.values();
  addNoise(sum!, { std: σ * C, noise: seededNoise(1), step: 0 });
  const noisySum = sum!.values();
  const noise = noisySum.map((value, j) => value - clippedSum[j]!);
  console.log(`\n‖Σ ḡ(xᵢ)‖₂            ${length(clippedSum).toFixed(4)}   (at most L·C = ${L * C})`);
  console.log(
    `‖noise‖₂              ${length(noise).toFixed(4)}   (expected σ·C·√${θ.size} = ${(σ * C * Math.sqrt(θ.size)).toFixed(4)})`,
  );
  console.log(`‖Σ ḡ(xᵢ) + noise‖₂    ${length(noisySum).toFixed(4)}`);

  // Descent: θ_{t+1} = θ_t − η·g̃_t.
  const before = θ.values();
  sgd({ learningRate: η }).update(θ, sum!, L);
  const update = θ.values().map((value, j) => value - before[j]!);
  console.log(`‖θ₊ − θ‖₂             ${length(update).toFixed(4)}   (η/L times the line above)`);
});

console.log(
  '\nThe noise drowns four images: privacy needs a crowd. With L = 300 the same noise meets a sum up to 75 times as long.',
);
console.log(
  'The noise here is seeded, so that you see the same numbers twice; it protects nobody. Private training uses secureNoise().',
);

function length(vector: ArrayLike<number>): number {
  return Math.sqrt(Array.from(vector).reduce((total, x) => total + x * x, 0));
}
