import { runExperiment, type Size } from './harness/index.js';
import { defencesReport } from './reports/defences.js';
import { type DefenceSpec, defence, filters } from './trials/defence.js';

const attacks: Partial<DefenceSpec>[] = [
  { attack: 'label flip', ratio: 0.4 },
  { attack: 'slab', ratio: 0.4 },
  { attack: 'backdoor', ratio: 0.05 },
];
const moreAttacks: Partial<DefenceSpec>[] = [
  { attack: 'ranked label flip', ratio: 0.4 },
  { attack: 'influence', ratio: 0.4, iterations: 20 },
  { attack: 'back-gradient', ratio: 0.4, iterations: 20 },
  { attack: 'watermark', ratio: 0.4 },
  { attack: 'clean-label backdoor', ratio: 0.05 },
];
const clean: Partial<DefenceSpec> = { attack: 'none', ratio: 0 };
const shapers: Partial<DefenceSpec>[] = [
  { clipNorm: 4 },
  { clipNorm: 0.1 },
  { clipNorm: 4, noiseStd: 10 },
  { clipNorm: 1, noiseStd: 10 },
];

const plans: Record<
  Size,
  { attacks: typeof attacks; filters: readonly DefenceSpec['filter'][] } & Pick<
    DefenceSpec,
    'epochs' | 'iterations'
  >
> = {
  smoke: { attacks: attacks.slice(2), filters: ['sphere', 'loss'], epochs: 1, iterations: 1 },
  quick: { attacks, filters, epochs: 20, iterations: 30 },
  full: { attacks: [clean, ...attacks, ...moreAttacks], filters, epochs: 40, iterations: 30 },
};

await runExperiment({
  script: import.meta.url,
  name: 'defences',
  title: 'Filters and shapers side by side',
  description:
    'Logistic regression on Fashion-MNIST dress against coat with flipped labels, slab poisons or a backdoor: filters take examples ' +
    'out before training, shapers clip and noise gradients during it. What each removes, and what accuracy is left ' +
    '(the table of existing defences of Hong et al. 2020, and what it leaves open).',
  trial: defence,
  seeds: { smoke: 1, quick: 3, full: 10 },
  sizes: {
    smoke: 'two filters on the backdoor, one epoch, in seconds',
    quick: 'three attacks, eight filters, four shapers, 20 epochs, in two minutes',
    full: 'also on clean data and five more attacks, 40 epochs',
  },
  grid(size, { seeds }) {
    const plan = plans[size];
    const defended = (attack: Partial<DefenceSpec>) => [
      attack,
      ...plan.filters.map((filter) => ({ ...attack, filter })),
      ...shapers.map((shaper) => ({ ...attack, ...shaper })),
    ];
    const configurations = [clean, ...plan.attacks.flatMap(defended)];
    return configurations.flatMap((configuration) =>
      seeds.map((seed) => ({ epochs: plan.epochs, iterations: plan.iterations, ...configuration, seed })),
    );
  },
  report: defencesReport,
});
