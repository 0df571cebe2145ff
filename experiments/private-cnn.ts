import { runExperiment, type Size } from './harness/index.js';
import { privateCnnReport } from './reports/private-cnn.js';
import { type PrivateCnnSpec, privateCnn } from './trials/private-cnn.js';

/** The full size's settings are the trial's defaults. */
const sizes: Record<Size, Partial<PrivateCnnSpec>> = {
  smoke: { data: 'dress-coat', epochs: 1, batchSize: 512 },
  quick: { epochs: 10 },
  full: {},
};

await runExperiment({
  script: import.meta.url,
  name: 'private-cnn',
  title: 'A private CNN: Fashion-MNIST at ε ≤ 3',
  description:
    'The tanh CNN of Papernot et al. (2021) by DP-SGD with momentum on Poisson-sampled batches, noise calibrated to ε = 3 at δ = 1e-5; ' +
    'last and averaged weights, by epoch and accountant.',
  trial: privateCnn,
  seeds: { smoke: 1, quick: 2, full: 3 },
  sizes: {
    smoke: 'one epoch of dress against coat',
    quick: 'ten epochs of all Fashion-MNIST, noise for ten: two minutes on two idle cores',
    full: 'all epochs',
  },
  grid: (size, { seeds }) => seeds.map((seed) => ({ ...sizes[size], seed })),
  report: privateCnnReport,
});
