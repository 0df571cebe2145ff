import { runExperiment, type Size } from './harness/index.js';
import { craftersReport } from './reports/crafters.js';
import { type DefenceSpec, defence } from './trials/defence.js';

type Attack = Partial<DefenceSpec> & Pick<DefenceSpec, 'attack'>;

/** Every crafter that wants to lower the accuracy on all images. */
const attacks = (iterations: number): Attack[] => [
  { attack: 'label flip' },
  { attack: 'ranked label flip' },
  { attack: 'slab' },
  { attack: 'influence', iterations },
  { attack: 'back-gradient', iterations },
  { attack: 'watermark' },
];

const plans: Record<Size, { attacks: readonly Attack[]; ratios: readonly number[]; epochs: number }> = {
  smoke: { attacks: attacks(1).filter(({ attack }) => attack !== 'slab'), ratios: [0.01], epochs: 1 },
  quick: { attacks: attacks(10), ratios: [0.4], epochs: 20 },
  full: { attacks: attacks(20), ratios: [0.05, 0.1, 0.2, 0.4], epochs: 40 },
};

await runExperiment({
  script: import.meta.url,
  name: 'indiscriminate-crafters',
  title: 'Indiscriminate poisons of every crafter, at one budget',
  description:
    'Logistic regression on Fashion-MNIST dress against coat with added poisons of each attack that wants to lower the accuracy on all ' +
    'images: random and loss-ranked label flips, slab, influence function, back-gradient, watermark; without defence, and with gradients clipped.',
  trial: defence,
  seeds: { smoke: 1, quick: 5, full: 10 },
  sizes: {
    smoke: 'one epoch at 1 %, without slab, in seconds',
    quick: 'all at 40 %, 20 epochs, in two minutes',
    full: 'from 5 to 40 %, 40 epochs',
  },
  grid(size, { seeds }) {
    const plan = plans[size];
    const configurations: Partial<DefenceSpec>[] = [
      { attack: 'none', ratio: 0 },
      ...plan.attacks.flatMap((attack) =>
        plan.ratios.flatMap((ratio) => [null, 4].map((clipNorm) => ({ ...attack, ratio, clipNorm }))),
      ),
    ];
    return configurations.flatMap((configuration) =>
      seeds.map((seed) => ({ ...configuration, epochs: plan.epochs, seed })),
    );
  },
  report: craftersReport,
});
