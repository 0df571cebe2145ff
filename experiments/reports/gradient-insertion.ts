import { formatSummary } from '../harness/index.js';
import { accuracyPoints } from '../paper/index.js';
import { type Comparison, lineFigure, type Report } from '../report/index.js';
import {
  type Arm,
  at,
  curve,
  type GradientTrial,
  type Panel,
  panelsReport,
  summaryOf,
} from './gradient-panel.js';

const titles = { badnet: 'BadNet (as the authors’ code)', mlp: 'MLP (as the paper’s text)' } as const;

/** Figures 1 (right) and 2 (bottom). */
export function insertionReport(trials: readonly GradientTrial[]): Report {
  const panels = (['mlp', 'badnet'] as const).map((model) => panelOf(trials, model));
  const there = panels.filter(({ arms }) => arms.length > 0);
  const { figures, comparisons, ...rest } = panelsReport(there, trials);
  return {
    summary: there.flatMap(summary),
    figures: [
      ...figures,
      ...there.map(({ title, arms }) =>
        lineFigure({
          title: `${title}: how many patched test images are taken for coats`,
          x: { label: 'epoch' },
          y: { label: 'backdoor accuracy', format: '.0%' },
          series: arms.map((arm) => curve(arm, ({ backdoor }) => backdoor)),
          caption: 'All test images, coats included.',
        }),
      ),
    ],
    comparisons: [...comparisons, ...there.flatMap(backdoorComparisons)],
    ...rest,
  };
}

function panelOf(all: readonly GradientTrial[], model: 'mlp' | 'badnet'): Panel {
  const trials = all.filter(({ spec }) => spec.model === model);
  const whole = trials.every(({ spec }) => spec.trainCount === null);
  const attacked = trials.filter(({ spec }) => spec.control === 'none');
  const sizes = [...new Set(attacked.map(({ spec }) => spec.size))].sort((a, b) => a - b);
  const arms = sizes.map(
    (size): Arm => ({
      name: `${size} × ${size}`,
      trials: attacked.filter(({ spec }) => spec.size === size),
      // The authors' clean norm of patch 14 is not on the others' scale.
      ...(model === 'badnet' &&
        whole &&
        size !== 14 && {
          paper: { experiment: 'insertion', task: 'cnn_badnet_retrain_fmnist', value: String(size) },
        }),
    }),
  );
  const hard = trials.filter(({ spec }) => spec.control === 'hard');
  return {
    title: titles[model],
    arms,
    control: hard.length > 0 ? { name: 'control: the hardest clean coats', trials: hard } : undefined,
    epochs: [1, 20],
    logRatio: true,
  };
}

function backdoorComparisons({ title, arms }: Panel): Comparison[] {
  return arms.flatMap((arm) => {
    if (arm.paper === undefined) return [];
    const epoch = arm.trials[0]!.result.epochs.length;
    const point = accuracyPoints().find(
      (row) =>
        row.experiment === 'insertion_cnn_retrain' && row.value === arm.paper!.value && row.epoch === epoch,
    );
    const ours = summaryOf(arm, (trial) => at(trial, -1).backdoor);
    if (point?.backdoor == null || ours === null) return [];
    const what = `${title}, ${arm.name}: backdoor accuracy, epoch ${epoch}`;
    return [
      {
        what,
        paper: point.backdoor,
        ours,
        kind: 'level',
        source: 'repository, one seed',
        trials: arm.trials,
      },
    ];
  });
}

function summary({ title, arms, control }: Panel): string[] {
  const say = (arm: Arm) => {
    const number = (pick: Parameters<typeof summaryOf>[1], digits: number) => {
      const found = summaryOf(arm, pick);
      return found === null ? '–' : formatSummary(found, digits);
    };
    const epochs = arm.trials[0]!.result.epochs.length;
    return (
      `${title}, ${arm.name}: ratio ${number((t) => at(t, 0).paper.ratio, 1)} in the first epoch, ${number((t) => at(t, -1).paper.ratio, 2)} in epoch ${epochs}; ` +
      `cosine ${number((t) => at(t, 0).paper.cosine, 2)} and ${number((t) => at(t, -1).paper.cosine, 2)}; ` +
      `at the end backdoor ${number((t) => at(t, -1).backdoor, 3)}, test accuracy ${number((t) => at(t, -1).test, 3)} ` +
      `(${number((t) => t.result.startTest, 3)} before).`
    );
  };
  return [...arms, ...(control ? [control] : [])].map(say);
}
