import { formatSummary } from '../harness/index.js';
import { gradientTexts } from '../paper/index.js';
import type { Comparison, Report } from '../report/index.js';
import {
  type Arm,
  epochMean,
  type GradientTrial,
  type Panel,
  panelComparisons,
  panelsReport,
  summaryOf,
} from './gradient-panel.js';

const titles = { 'label-flip': 'Label flip, 40 %', slab: 'Slab, 40 %' } as const;
const papers = { 'label-flip': 'label_flip', slab: 'slab' } as const;
type Attack = keyof typeof titles;

const clipName = (clipNorm: number | null): string => (clipNorm === null ? 'vanilla' : `C = ${clipNorm}`);

/** Figure 4 (c, f). */
export function indiscriminateGradientsReport(trials: readonly GradientTrial[]): Report {
  const panels = (['label-flip', 'slab'] as const).map((attack) => ({ attack, ...panelOf(trials, attack) }));
  const { comparisons: _, ...rest } = panelsReport(panels, trials);
  return {
    summary: [
      'Stationarity alone makes the ratio N_clean/N_poison = 2.5 and the cosine −1, whatever the attack, and whatever the shaping.',
      ...panels.flatMap(summary),
    ],
    ...rest,
    comparisons: panels.flatMap((panel) => [...textComparisons(panel), ...panelComparisons(panel)]),
  };
}

function panelOf(all: readonly GradientTrial[], attack: Attack): Panel {
  const trials = all.filter(({ spec }) => spec.attack === attack && spec.control === 'none');
  const clips = [...new Set(trials.map(({ spec }) => spec.clipNorm))];
  const arms = clips.map((clipNorm): Arm => {
    const value = clipNorm === null ? 'vanilla' : clipNorm === 4 ? 'dp_clip4' : undefined;
    return {
      name: clipName(clipNorm),
      trials: trials.filter(({ spec }) => spec.clipNorm === clipNorm),
      ...(value && { paper: { experiment: 'indiscriminate_40pct', task: papers[attack], value } }),
    };
  });
  const random = all.filter(({ spec }) => spec.control === 'random');
  const control = { name: 'control: random clean images', trials: random };
  return { title: titles[attack], arms: random.length > 0 ? [...arms, control] : arms };
}

/** The text's mean ratios. */
function textComparisons({ attack, arms, title }: Panel & { attack: Attack }): Comparison[] {
  return gradientTexts()
    .filter(({ experiment }) => experiment === `${papers[attack]}_40`)
    .flatMap(({ model, paper }): Comparison[] => {
      const arm = arms.find(({ name }) => name === (model === 'vanilla' ? 'vanilla' : 'C = 4'));
      const of = (trial: GradientTrial) => epochMean(trial, (epoch) => epoch.paper.ratio);
      const ours = arm && summaryOf(arm, of);
      if (!arm || !ours) return [];
      return [
        {
          ...{ what: `${title}, ${arm.name}: mean ratio`, paper, ours, kind: 'level', digits: 3 },
          ...{ source: 'text', trials: arm.trials },
        },
      ];
    });
}

function summary({ title, arms }: Panel): string[] {
  return arms.map((arm) => {
    const number = (pick: Parameters<typeof epochMean>[1], digits: number) => {
      const found = summaryOf(arm, (trial) => epochMean(trial, pick));
      return found === null ? '–' : formatSummary(found, digits);
    };
    const clipped = number(({ shareClipped }) => shareClipped.poison, 2);
    const clean = number(({ shareClipped }) => shareClipped.clean, 2);
    return (
      `${title}, ${arm.name}: ratio ${number((e) => e.paper.ratio, 2)}, cosine ${number((e) => e.paper.cosine, 3)}; ` +
      `clipped: ${clipped} of the poisons, ${clean} of the clean images.`
    );
  });
}
