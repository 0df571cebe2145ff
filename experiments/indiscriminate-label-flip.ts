import { runExperiment, type Size, someOf } from './harness/index.js';
import { labelFlipReport } from './reports/label-flip.js';
import { type LabelFlipSpec, labelFlip } from './trials/label-flip.js';

/** How gradients are shaped: what an arm of the experiment differs in. */
type Arm = Pick<LabelFlipSpec, 'clipNorm' | 'noiseStd'>;

type Configuration = Arm & Pick<LabelFlipSpec, 'ratio'> & Partial<Pick<LabelFlipSpec, 'learningRate'>>;

const paperRate = labelFlip.defaults.learningRate;
const vanilla: Arm = { clipNorm: null, noiseStd: 0 };
const clipNorms = [8, 4, 2, 1, 0.1];
const clips: Arm[] = clipNorms.map((clipNorm) => ({ clipNorm, noiseStd: 0 }));
/** The paper's noise, and more, where it begins to matter; all at C = 4. */
const noiseStds = [1e-7, 1e-5, 1e-3, 1e-1, 1, 4, 10, 40];
const noises: Arm[] = noiseStds.map((noiseStd) => ({ clipNorm: 4, noiseStd }));

interface Plan {
  readonly clipRatios: readonly number[];
  readonly noiseRatios: readonly number[];
  /** Learning rates beside the paper's 0.01, among which validation chooses. */
  readonly learningRates: readonly number[];
  readonly tuned: readonly Arm[];
  readonly tunedRatios: readonly number[];
  readonly epochs: number;
}

const paperRatios = [0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3, 0.4];
const plans: Record<Size, Plan> = {
  smoke: {
    clipRatios: [0, 0.4],
    noiseRatios: [0.4],
    learningRates: [],
    tuned: [],
    tunedRatios: [],
    epochs: 2,
  },
  quick: {
    clipRatios: [0, 0.2, 0.4],
    noiseRatios: [0.4],
    learningRates: [0.001, 0.003, 0.03],
    tuned: [vanilla, { clipNorm: 4, noiseStd: 0 }],
    tunedRatios: [0.4],
    epochs: 40,
  },
  full: {
    clipRatios: paperRatios,
    noiseRatios: paperRatios,
    learningRates: [0.001, 0.003, 0.03],
    tuned: [vanilla, ...clips],
    tunedRatios: [0, 0.1, 0.2, 0.3, 0.4],
    epochs: 40,
  },
};

await runExperiment({
  script: import.meta.url,
  name: 'indiscriminate-label-flip',
  title: 'Random label flips against gradient shaping',
  description:
    'Logistic regression on Fashion-MNIST dress against coat, trained with (DP-)Adam on 10,800 images and added copies with the ' +
    'opposite label; gradients clipped, or clipped and noised (Hong et al. 2020, §6.2).',
  paperFigure: 'Figure 4 (a, b)',
  claim:
    'Gradient shaping halves what 40 % flipped labels cost: RAD 0.028 without, 0.011 with C = 4; noise brings no more.',
  trial: labelFlip,
  seeds: { smoke: 1, quick: 5, full: 20 },
  sizes: {
    smoke: 'two epochs at 0 and 40 %, in seconds',
    quick: 'ratios 0 to 40 %, every clip norm and noise, in a minute',
    full: "the paper's grid of ratios, learning rates for every clip norm",
  },
  options: [
    someOf('--ratios <shares>', 'poisons as a share of the clean images', paperRatios),
    someOf('--clips <norms>', 'clip norms, none for vanilla', ['none', ...clipNorms]),
    someOf('--noises <stds>', 'standard deviations of the noise', [0, ...noiseStds]),
    someOf('--rates <rates>', 'learning rates', [paperRate, 0.001, 0.003, 0.03]),
  ],
  grid(size, { seeds, own }) {
    const { clipRatios, noiseRatios, learningRates, tuned, tunedRatios, epochs } = plans[size];
    const configurations = [
      ...clipRatios.flatMap((ratio) => [vanilla, ...clips].map((arm) => ({ ...arm, ratio }))),
      ...noiseRatios.flatMap((ratio) => noises.map((arm) => ({ ...arm, ratio }))),
      ...tunedRatios.flatMap((ratio) =>
        tuned.flatMap((arm) => learningRates.map((learningRate) => ({ ...arm, ratio, learningRate }))),
      ),
    ];
    const wanted = own as Record<'ratios' | 'clips' | 'noises' | 'rates', unknown[]>;
    const isWanted = ({ ratio, clipNorm, noiseStd, learningRate = paperRate }: Configuration): boolean =>
      wanted.ratios.includes(ratio) &&
      wanted.clips.includes(clipNorm ?? 'none') &&
      wanted.noises.includes(noiseStd) &&
      wanted.rates.includes(learningRate);
    // What the report compares, whatever else is chosen.
    const isCompared = ({ ratio, clipNorm, noiseStd, learningRate = paperRate }: Configuration): boolean =>
      [0, 0.4].includes(ratio) &&
      [null, 4].includes(clipNorm) &&
      noiseStd === 0 &&
      learningRate === paperRate;
    const chosen = configurations.filter((one) => isWanted(one) || isCompared(one));
    return seeds.flatMap((seed) => chosen.map((configuration) => ({ ...configuration, epochs, seed })));
  },
  report: labelFlipReport,
});
