import { runExperiment, type Size, type SpecInput } from './harness/index.js';
import { decisionBoundaryReport } from './reports/decision-boundary.js';
import { type DecisionBoundarySpec, decisionBoundary } from './trials/decision-boundary.js';

type Arm = Pick<DecisionBoundarySpec, 'clipNorm' | 'noiseMultiplier' | 'learningRate'>;

/** Clipped steps are short: at the small rate the private models are far from done. */
const rates = [0.1, 0.5];
const vanilla = { clipNorm: null, noiseMultiplier: 0 };
const clipped = { clipNorm: 1, noiseMultiplier: 0 };
const papers = { clipNorm: 1, noiseMultiplier: 1 };
const noisier = { clipNorm: 1, noiseMultiplier: 4 };
const every: Arm[] = rates.flatMap((learningRate) =>
  [vanilla, clipped, papers, noisier].map((arm) => ({ ...arm, learningRate })),
);
const plans: Record<Size, { arms: readonly Arm[]; epochs: number }> = {
  smoke: { arms: [vanilla, papers].map((arm) => ({ ...arm, learningRate: 0.5 })), epochs: 5 },
  quick: { arms: every, epochs: 100 },
  full: { arms: every, epochs: 100 },
};

await runExperiment({
  script: import.meta.url,
  name: 'decision-boundary',
  title: 'Decision boundaries of private and vanilla training',
  description:
    'A perceptron with two hidden layers on two moons (700 training points, 300 test points), vanilla, clipped, and clipped and noised: ' +
    'its confidence over the plane (Hong et al. 2020, Appendix D). Moon noise, layers, rate, batch and epochs are not in the paper: they are ours.',
  paperFigure: 'Figure 10',
  claim: 'The private model’s boundary is more complex, with a narrow band of uncertainty.',
  trial: decisionBoundary,
  seeds: { smoke: 1, quick: 10, full: 50 },
  sizes: {
    smoke: 'five epochs',
    quick: 'four ways of training, two learning rates',
    full: 'the same, more seeds',
  },
  grid(size, { seeds }) {
    const { arms, epochs } = plans[size];
    return seeds.flatMap((seed): SpecInput<DecisionBoundarySpec>[] =>
      arms.map((arm) => ({ ...arm, epochs, seed })),
    );
  },
  report: decisionBoundaryReport,
});
