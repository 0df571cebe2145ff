import { finishedSeeds, formatInterval, formatSummary, pairedDifference } from '../harness/index.js';
import { type Comparison, type Figure, lineFigure, type Report, type Table } from '../report/index.js';
import { type Arm, at, curve, type GradientTrial, gradientRows, summaryOf } from './gradient-panel.js';

/** What the paper's Appendix E says, of the vanilla model. */
const claims = [
  { attack: 'label-flip', what: 'clean', kind: 'above', bound: 0.8 },
  { attack: 'label-flip', what: 'poison', kind: 'below', bound: 0.3 },
  { attack: 'slab', what: 'clean', kind: 'below', bound: 0.8 },
  { attack: 'slab', what: 'poison', kind: 'above', bound: 0.9 },
] as const;

const attacks = ['label-flip', 'slab'] as const;
type Attack = (typeof attacks)[number];
const titles = { 'label-flip': 'Label flip, 40 %', slab: 'Slab, 40 %' } as const;
const groups = ['clean', 'poison', 'test'] as const;
const labels = { clean: 'clean training images', poison: 'poisons', test: 'test images' } as const;

const clipName = (clipNorm: number | null): string => (clipNorm === null ? 'vanilla' : `C = ${clipNorm}`);

/** Figure 11. */
export function trainingAccuracyReport(trials: readonly GradientTrial[]): Report {
  const { finished } = finishedSeeds(trials);
  const arms = [...new Set(finished.map(({ spec }) => `${spec.attack} ${spec.clipNorm}`))].map((key): Arm => {
    const own = finished.filter(({ spec }) => `${spec.attack} ${spec.clipNorm}` === key);
    return { name: clipName(own[0]!.spec.clipNorm), trials: own };
  });
  return {
    summary: attacks.flatMap((attack) => [
      ...armsOf(arms, attack).map(lastEpoch),
      ...clippingSays(arms, attack),
    ]),
    figures: attacks.flatMap((attack) => figuresOf(arms, attack)),
    comparisons: claims.flatMap((claim) => boundOf(arms, claim)),
    tables: [table(arms)],
    csvRows: gradientRows(trials),
  };
}

const armsOf = (arms: readonly Arm[], attack: string) =>
  arms.filter(({ trials: [first] }) => first!.spec.attack === attack);

function figuresOf(all: readonly Arm[], attack: Attack): Figure[] {
  const arms = armsOf(all, attack);
  if (arms.length === 0) return [];
  return [
    lineFigure({
      title: `${titles[attack]}: accuracy while training`,
      x: { label: 'epoch' },
      y: { label: 'accuracy', format: '.0%' },
      series: arms.flatMap((arm) =>
        groups.map((group) => curve(arm, (epoch) => epoch[group], `, ${labels[group]}`)),
      ),
      caption: 'Accuracy on poisons: how many are given the label that they carry.',
    }),
  ];
}

/** The text's bounds, after the last epoch. */
function boundOf(arms: readonly Arm[], { attack, what, kind, bound }: (typeof claims)[number]): Comparison[] {
  const arm = armsOf(arms, attack).find(({ name }) => name === 'vanilla');
  const ours = arm && summaryOf(arm, (trial) => at(trial, -1)[what]);
  if (!arm || !ours) return [];
  const named = `${titles[attack]}, vanilla: accuracy on ${labels[what]}, last epoch, ${kind}`;
  return [{ what: named, paper: bound, ours, kind, digits: 3, source: 'text, a bound', trials: arm.trials }];
}

function lastEpoch(arm: Arm): string {
  const said = groups.map(
    (group) => `${formatSummary(summaryOf(arm, (trial) => at(trial, -1)[group])!, 3)} on ${labels[group]}`,
  );
  return `${titles[arm.trials[0]!.spec.attack as Attack]}, ${arm.name}, accuracy after the last epoch: ${said.join(', ')}.`;
}

/** What clipping does to the fit of either group. */
function clippingSays(all: readonly Arm[], attack: Attack): string[] {
  const arms = armsOf(all, attack);
  const plain = arms.find(({ name }) => name === 'vanilla');
  return arms
    .filter((arm) => arm !== plain)
    .flatMap((arm) =>
      (['clean', 'poison'] as const).map((what) => {
        const difference = pairedDifference(
          arm.trials.map((trial) => at(trial, -1)[what] ?? 0),
          plain!.trials.map((trial) => at(trial, -1)[what] ?? 0),
        );
        return `${titles[attack]}, ${arm.name} minus vanilla, accuracy on ${labels[what]}, last epoch: ${formatInterval(difference, 3)}.`;
      }),
    );
}

function table(arms: readonly Arm[]): Table {
  return {
    title: 'Accuracy after the last epoch',
    note: 'Mean and 95 % interval over seeds. On poisons: how many are given the label that they carry.',
    columns: ['attack', '', ...groups.map((group) => labels[group])],
    rows: arms.map((arm) => ({
      cells: [
        titles[arm.trials[0]!.spec.attack as Attack],
        arm.name,
        ...groups.map((group) => formatSummary(summaryOf(arm, (trial) => at(trial, -1)[group])!, 3)),
      ],
      trials: arm.trials,
    })),
  };
}
