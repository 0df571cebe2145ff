import { formatSummary } from '../harness/index.js';
import type { Report } from '../report/index.js';
import {
  type Arm,
  epochMean,
  type GradientTrial,
  type Panel,
  panelsReport,
  summaryOf,
} from './gradient-panel.js';

const papers = { lr: 'lr_scratch_fmnist34', mlp: 'mlp_retrain_fmnist' } as const;
const titles = { lr: 'LR from scratch, dress against coat', mlp: 'MLP re-trained, ten classes' } as const;

/** Figures 1 (left, middle) and 2 (top). */
export function collisionReport(trials: readonly GradientTrial[]): Report {
  const panels = (['lr', 'mlp'] as const).map((model) => panelOf(trials, model));
  return { summary: panels.flatMap(summary), ...panelsReport(panels, trials) };
}

function panelOf(all: readonly GradientTrial[], model: 'lr' | 'mlp'): Panel {
  const trials = all.filter(({ spec }) => spec.model === model);
  const attacked = trials.filter(({ spec }) => spec.control === 'none');
  // A part of the set has another N_c/N_p than the paper's.
  const whole = trials.every(({ spec }) => spec.trainCount === null);
  const alphas = [...new Set(attacked.map(({ spec }) => spec.alpha))].sort((a, b) => a - b);
  const arms = alphas.map(
    (alpha): Arm => ({
      name: `α = ${alpha}`,
      trials: attacked.filter(({ spec }) => spec.alpha === alpha),
      ...(whole && {
        paper: { experiment: 'collision', task: papers[model], value: alpha === 1 ? '1.0' : String(alpha) },
      }),
    }),
  );
  const controls = (control: string) => trials.filter(({ spec }) => spec.control === control);
  const random = { name: 'control: random clean images', trials: controls('random') };
  return {
    title: titles[model],
    arms: random.trials.length > 0 ? [...arms, random] : arms,
    control: { name: 'control: the hardest clean dresses', trials: controls('hard') },
  };
}

function summary({ title, arms, control }: Panel): string[] {
  const late = (arm: Arm | undefined, pick: 'ratio' | 'cosine', digits: number) => {
    const found =
      arm && summaryOf(arm, (t) => epochMean(t, (e) => e.paper[pick], t.result.epochs.length > 5 ? 5 : 0));
    return found ? formatSummary(found, digits) : 'not run';
  };
  const strongest = arms.filter(({ trials }) => trials[0]?.spec.control === 'none').at(-1);
  if (strongest === undefined) return [];
  const epochs = strongest.trials[0]!.result.epochs.length > 5 ? ', after epoch 5' : '';
  const expected = strongest.trials[0]!.result.stationaryRatio.toFixed(0);
  return [
    `${title}, ${strongest.name}${epochs}: ratio ${late(strongest, 'ratio', 1)}, cosine ${late(strongest, 'cosine', 3)}; ` +
      `stationarity alone makes ${expected} and −1.`,
    `${title}, as many hard but clean images, rightly labelled, in the poisons’ place: ratio ${late(control, 'ratio', 1)}, cosine ${late(control, 'cosine', 3)}.`,
  ];
}
