import { runExperiment, type Size, type SpecInput } from './harness/index.js';
import { trainingAccuracyReport } from './reports/training-accuracy.js';
import { type GradientsSpec, gradients } from './trials/gradients.js';

const plans: Record<Size, { clips: readonly (number | null)[]; epochs: number; iterations: number }> = {
  smoke: { clips: [null], epochs: 2, iterations: 5 },
  quick: { clips: [null, 4], epochs: 40, iterations: 30 },
  full: { clips: [null, 8, 4, 2, 1, 0.1], epochs: 40, iterations: 30 },
};

await runExperiment({
  script: import.meta.url,
  name: 'training-accuracy',
  title: 'Training accuracy under indiscriminate attack',
  description:
    'Logistic regression on dress against coat with 40 % label flips or slab poisons added: accuracy on the clean training images, on the ' +
    'poisons and on test images, epoch by epoch (Hong et al. 2020, Appendix E).',
  paperFigure: 'Figure 11',
  claim:
    'Under label flips the model fits the clean images (above 80 %) and not the poisons (below 30 %); under slab it is the other way round (below 80 %, above 90 %).',
  trial: gradients,
  seeds: { smoke: 1, quick: 5, full: 20 },
  sizes: { smoke: 'two epochs', quick: 'vanilla and C = 4', full: 'every clip norm' },
  grid(size, { seeds }) {
    const { clips, ...rest } = plans[size];
    const settings = clips.flatMap((clipNorm) =>
      (['slab', 'label-flip'] as const).map(
        (attack): Partial<GradientsSpec> => ({ ...rest, attack, clipNorm, count: 4320 }),
      ),
    );
    return seeds.flatMap((seed): SpecInput<GradientsSpec>[] =>
      settings.map((setting) => ({ ...setting, seed })),
    );
  },
  report: trainingAccuracyReport,
});
