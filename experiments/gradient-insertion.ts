import { Option, runExperiment, type Size, type SpecInput, someOf, wholeNumber } from './harness/index.js';
import { insertionReport } from './reports/gradient-insertion.js';
import { type GradientsSpec, gradients } from './trials/gradients.js';

type Setting = Partial<GradientsSpec>;

/** One model's part of the grid. */
interface Plan {
  readonly setting: Setting;
  readonly sizes: readonly number[];
  readonly seeds: number;
}

const common: Setting = {
  ...{ attack: 'patch', task: 'fashion-mnist', optimizer: 'sgd', learningRate: 0.01, batchSize: 100 },
  count: 600,
};
const mlp: Setting = { ...common, model: 'mlp', pretrainRate: 0.04 };
const badnet: Setting = { ...common, model: 'badnet', pretrainRate: 0.02 };
/** From the embedded images, so that it runs anywhere. */
const small: Setting = { task: 'dress-coat', pretrainEpochs: 1, epochs: 1 };
const paperSizes = [1, 4, 7, 10, 14];
const plans: Record<Size, readonly Plan[]> = {
  smoke: [
    {
      setting: { ...mlp, ...small, trainCount: 1000, count: 10 },
      sizes: [4],
      seeds: 1,
    },
    { setting: { ...badnet, ...small, trainCount: 200, count: 2 }, sizes: [4], seeds: 1 },
  ],
  quick: [
    {
      setting: { ...badnet, trainCount: 6000, count: 60, pretrainEpochs: 4, epochs: 5 },
      sizes: [4],
      seeds: 1,
    },
    { setting: { ...mlp, pretrainEpochs: 6, epochs: 5 }, sizes: [1, 4, 14], seeds: 1 },
  ],
  full: [
    // About as many steps, and as good a model, as the authors' 80 epochs of plain SGD at 0.01: 0.905.
    {
      setting: { ...badnet, pretrainEpochs: 20, pretrainRate: 0.004, epochs: 40 },
      sizes: paperSizes,
      seeds: 3,
    },
    { setting: { ...mlp, pretrainEpochs: 30, epochs: 20 }, sizes: paperSizes, seeds: 5 },
  ],
};

await runExperiment({
  script: import.meta.url,
  name: 'gradient-insertion',
  title: 'Gradients of backdoor insertions',
  description:
    'One training image in a hundred is copied with a white square in the corner and the label coat; a clean model is re-trained on all, ' +
    'and the mean poison gradient compared with the clean one’s. The paper’s text has an MLP, its code a convolutional network (Hong et al. 2020, §3.3).',
  paperFigure: 'Figure 1 (right), Figure 2 (bottom)',
  claim:
    'The mean poison gradient starts out a hundred times as long as the clean one and opposite to it; both signs fade as the backdoor is learned, but for the smallest patch.',
  trial: gradients,
  seeds: { smoke: 1, quick: 1, full: 5 },
  sizes: {
    smoke: 'one epoch each on a few images',
    quick: 'the MLP with three sizes of the square; BadNet on 6,000 images',
    full: 'all sizes, both models, all images',
  },
  options: [
    someOf('--models <names>', 'models', ['mlp', 'badnet']),
    someOf('--patches <sides>', 'sides of the square', paperSizes),
    new Option('--epochs <N>', 'epochs of re-training instead of the size’s own').argParser(wholeNumber),
  ],
  grid(size, { seeds, own }) {
    const { models, patches, epochs } = own as { models: string[]; patches: number[]; epochs?: number };
    return plans[size]
      .filter(({ setting }) => models.includes(setting.model!))
      .flatMap(({ setting, sizes, seeds: most }) => {
        const chosen = { ...setting, ...(epochs && { epochs }) };
        return seeds
          .slice(0, most)
          .flatMap((seed): SpecInput<GradientsSpec>[] => [
            ...sizes
              .filter((side) => patches.includes(side))
              .map((side) => ({ ...chosen, size: side, seed })),
            { ...chosen, control: 'hard', seed },
          ]);
      });
  },
  report: insertionReport,
});
