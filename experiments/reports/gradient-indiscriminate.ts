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
    summary: panels.flatMap(summary),
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
  const controls = all.filter(({ spec }) => spec.control !== 'none' && spec.clipNorm === null);
  const hard = controls.filter(({ spec }) => spec.control === 'hard');
  const random = controls.filter(({ spec }) => spec.control === 'random');
  return {
    title: titles[attack],
    arms: random.length > 0 ? [...arms, { name: 'control: random clean images', trials: random }] : arms,
    control: hard.length > 0 ? { name: 'control: the hardest clean images', trials: hard } : undefined,
  };
}

/** The text's mean ratios. */
function textComparisons({ attack, arms, control, title }: Panel & { attack: Attack }): Comparison[] {
  return gradientTexts()
    .filter(({ experiment }) => experiment === `${papers[attack]}_40`)
    .flatMap(({ model, paper }): Comparison[] => {
      const arm = arms.find(({ name }) => name === (model === 'vanilla' ? 'vanilla' : 'C = 4'));
      const of = (trial: GradientTrial) => epochMean(trial, (epoch) => epoch.paper.ratio);
      const ours = arm && summaryOf(arm, of);
      const without = control && summaryOf(control, of);
      if (!arm || !ours) return [];
      const because =
        'Where the two groups’ pulls cancel, the ratio is N_c/N_p = 2.5 whatever the attack; clipping moves the point, not the ratio.';
      return [
        {
          ...{ what: `${title}, ${arm.name}: mean ratio`, paper, ours, kind: 'level', digits: 3 },
          ...{ source: 'text', trials: arm.trials },
          ...(without && { artefact: { because, control: without } }),
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
