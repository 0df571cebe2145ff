import { runExperiment, type Size, type SpecInput } from './harness/index.js';
import { indiscriminateGradientsReport } from './reports/gradient-indiscriminate.js';
import { type GradientsSpec, gradients } from './trials/gradients.js';

type Setting = Partial<GradientsSpec>;

interface Plan {
  readonly clips: readonly (number | null)[];
  readonly epochs: number;
  readonly iterations: number;
}

const plans: Record<Size, Plan> = {
  smoke: { clips: [null, 4], epochs: 2, iterations: 5 },
  quick: { clips: [null, 4, 1], epochs: 40, iterations: 30 },
  full: { clips: [null, 8, 4, 2, 1, 0.1], epochs: 40, iterations: 30 },
};

await runExperiment({
  script: import.meta.url,
  name: 'gradient-indiscriminate',
  title: 'Gradients under indiscriminate attack, with and without clipping',
  description:
    'Logistic regression on dress against coat with 40 % label flips or slab poisons added, vanilla and clipped; how the mean poison ' +
    'gradient, as the step takes it, lies to the mean clean one (Hong et al. 2020, §6.2).',
  paperFigure: 'Figure 4 (c, f)',
  claim:
    'Clipping (C = 4) changes the ratio of poison to clean gradients: 2.527 to 2.221 under label flips, 2.497 to 3.645 under slab, and so helps against the first only.',
  trial: gradients,
  seeds: { smoke: 1, quick: 5, full: 20 },
  sizes: {
    smoke: 'two epochs',
    quick: 'vanilla and two clip norms',
    full: 'every clip norm',
  },
  grid(size, { seeds }) {
    const { clips, epochs, iterations } = plans[size];
    const common: Setting = { count: 4320, epochs, iterations };
    const settings: Setting[] = [
      ...clips.map((clipNorm): Setting => ({ ...common, attack: 'slab', clipNorm })),
      ...clips.map((clipNorm): Setting => ({ ...common, attack: 'label-flip', clipNorm })),
      { ...common, attack: 'label-flip', control: 'random' },
    ];
    return seeds.flatMap((seed): SpecInput<GradientsSpec>[] =>
      settings.map((setting) => ({ ...setting, seed })),
    );
  },
  report: indiscriminateGradientsReport,
});
