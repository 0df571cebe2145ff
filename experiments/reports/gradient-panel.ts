import { formatSummary, type Summary, summarize, type TrialResult } from '../harness/index.js';
import { gradientSeries } from '../paper/index.js';
import { type Comparison, type CsvRow, type Figure, lineFigure, type Table } from '../report/index.js';
import type { GradientsEpoch, GradientsResult, GradientsSpec } from '../trials/gradients.js';

export type GradientTrial = TrialResult<GradientsSpec, GradientsResult>;

/** A line of a figure: the trials of one setting, one a seed. */
export interface Arm {
  readonly name: string;
  readonly trials: readonly GradientTrial[];
  /** Where the authors' gradient files have the same run. */
  readonly paper?: { readonly experiment: string; readonly task: string; readonly value: string };
}

/** Figures, comparisons and a table of arms that belong together. */
export interface Panel {
  readonly title: string;
  readonly arms: readonly Arm[];
  /** An arm with clean examples in the poisons' place: what it shows as well is no attack's doing. */
  readonly control?: Arm | undefined;
  /** Also compares single epochs, from 1. */
  readonly epochs?: readonly number[];
  readonly logRatio?: boolean;
}

type Pick = (epoch: GradientsEpoch) => number | null;
const ratio: Pick = ({ paper }) => paper.ratio;
const cosine: Pick = ({ paper }) => paper.cosine;

const numbersOf = (values: readonly (number | null)[]): number[] => values.filter((value) => value !== null);
const meanOf = (values: readonly number[]): number => values.reduce((sum, v) => sum + v, 0) / values.length;

/** A trial's mean over its epochs, from the given one on (0 is the first); null where it has no value. */
export function epochMean({ result }: GradientTrial, pick: Pick, from = 0): number | null {
  const values = numbersOf(result.epochs.slice(from).map(pick));
  return values.length === 0 ? null : meanOf(values);
}

/** Over the arm's seeds. */
export function summaryOf(arm: Arm, of: (trial: GradientTrial) => number | null): Summary | null {
  const values = numbersOf(arm.trials.map(of));
  return values.length === 0 ? null : summarize(values);
}

const text = (summary: Summary | null, digits: number): string | null =>
  summary === null ? null : formatSummary(summary, digits);

export const at = (trial: GradientTrial, epoch: number): GradientsEpoch => trial.result.epochs.at(epoch)!;

/** An arm's mean over seeds, epoch by epoch. */
export function curve({ name, trials }: Arm, pick: Pick, suffix = '') {
  const epochs = Math.max(...trials.map(({ result }) => result.epochs.length));
  const points = Array.from({ length: epochs }, (_, epoch) => {
    const values = numbersOf(trials.map(({ result }) => pick(result.epochs[epoch]!)));
    if (values.length === 0) return [];
    const { mean, low, high } = summarize(values);
    return [{ x: epoch + 1, y: mean, low, high }];
  });
  return { name: `${name}${suffix}`, points: points.flat() };
}

function everyArm({ arms, control }: Panel): readonly Arm[] {
  return control === undefined ? arms : [...arms, control];
}

/** The authors' values of an arm, as far as ours go. */
function paperPoints(arm: Arm) {
  if (arm.paper === undefined) return [];
  const { experiment, task, value } = arm.paper;
  const last = Math.max(...arm.trials.map(({ result }) => result.epochs.length));
  return gradientSeries().filter(
    (row) => row.experiment === experiment && row.task === task && row.value === value && row.epoch <= last,
  );
}

export function panelFigures(panel: Panel): Figure[] {
  const arms = everyArm(panel);
  const stationary = arms[0]?.trials[0]?.result.stationaryRatio;
  const reference = (of: (point: { ratio: number; cosine: number }) => number) =>
    arms.flatMap((arm) =>
      paperPoints(arm)
        .filter(({ epoch }) => epoch === 1 || epoch % 5 === 0)
        .map((point) => ({ x: point.epoch, y: of(point), series: arm.name })),
    );
  const definition =
    'The paper’s definition: output kernel, means over batches of the groups’ mean gradients.';
  const usable = arms.filter(({ trials }) => trials.length > 0);
  return [
    lineFigure({
      title: `${panel.title}: length of the mean poison gradient over the clean one’s`,
      x: { label: 'epoch' },
      y: { label: 'ratio', ...(panel.logRatio && { scale: 'log' }) },
      series: usable.map((arm) => curve(arm, ratio)),
      reference: reference((point) => point.ratio),
      caption: `${definition} Stationarity alone makes it N_clean/N_poison = ${stationary?.toFixed(1)}.`,
    }),
    lineFigure({
      title: `${panel.title}: cosine between them`,
      x: { label: 'epoch' },
      y: { label: 'cosine' },
      series: usable.map((arm) => curve(arm, cosine)),
      reference: reference((point) => point.cosine),
      caption: `${definition} Stationarity alone makes it −1.`,
    }),
    lineFigure({
      title: `${panel.title}: median norm of the examples’ own gradients`,
      x: { label: 'epoch' },
      y: { label: 'norm', scale: 'log' },
      series: usable.flatMap((arm) => [
        curve(arm, ({ exampleNorms }) => exampleNorms.poison[1] ?? null, ', poisons'),
        ...(arm === usable[0]
          ? [curve(arm, ({ exampleNorms }) => exampleNorms.clean[1] ?? null, ', clean')]
          : []),
      ]),
      caption:
        'All parameters, each example at its own step. This is what tells poisons from clean examples; ratio and cosine do not.',
    }),
  ];
}

const because =
  'Near a stationary point N_c·g_c + N_p·g_p = 0: the cosine goes to −1 and the ratio to N_c/N_p for any group of ' +
  'examples that the model does not fit, poisoned or not.';

export function panelComparisons(panel: Panel): Comparison[] {
  const { control } = panel;
  return panel.arms.flatMap((arm) => {
    const points = paperPoints(arm);
    if (points.length === 0 || arm.trials.length === 0) return [];
    const compare = (
      what: string,
      paper: number,
      of: (trial: GradientTrial) => number | null,
      kind: Comparison['kind'],
      digits: number,
    ): Comparison[] => {
      const ours = summaryOf(arm, of);
      const without = control === undefined ? null : summaryOf(control, of);
      if (ours === null) return [];
      const explained = without === null ? {} : { artefact: { because, control: without } };
      const what_ = `${panel.title}, ${arm.name}: ${what}`;
      return [
        {
          what: what_,
          paper,
          ours,
          kind,
          digits,
          source: 'repository, one seed',
          trials: arm.trials,
          ...explained,
        },
      ];
    };
    const last = points.length;
    return [
      ...compare(
        `mean ratio, epochs 1–${last}`,
        meanOf(points.map((p) => p.ratio)),
        (t) => epochMean(t, ratio),
        'level',
        2,
      ),
      ...compare(
        `mean cosine, epochs 1–${last}`,
        meanOf(points.map((p) => p.cosine)),
        (t) => epochMean(t, cosine),
        'effect',
        3,
      ),
      ...(panel.epochs ?? [])
        .filter((epoch) => epoch <= last)
        .flatMap((epoch) => [
          ...compare(
            `ratio, epoch ${epoch}`,
            points[epoch - 1]!.ratio,
            (t) => ratio(at(t, epoch - 1)),
            'level',
            2,
          ),
          ...compare(
            `cosine, epoch ${epoch}`,
            points[epoch - 1]!.cosine,
            (t) => cosine(at(t, epoch - 1)),
            'effect',
            3,
          ),
        ]),
    ];
  });
}

/** Both definitions side by side, after the first five epochs (where there are more). */
export function panelTable(panel: Panel): Table {
  const rows = everyArm(panel)
    .filter(({ trials }) => trials.length > 0)
    .map((arm) => {
      const from = arm.trials[0]!.result.epochs.length > 5 ? 5 : 0;
      const late = (pick: Pick, digits: number) =>
        text(
          summaryOf(arm, (trial) => epochMean(trial, pick, from)),
          digits,
        );
      const last = (pick: Pick) =>
        text(
          summaryOf(arm, (trial) => pick(at(trial, -1))),
          3,
        );
      const cells = [
        arm.name,
        arm.trials[0]!.result.stationaryRatio.toFixed(1),
        late(ratio, 1),
        late(cosine, 3),
        late(({ whole }) => whole.ratio, 1),
        late(({ whole }) => whole.correctedRatio, 1),
        late(({ whole }) => whole.correctedCosine, 2),
        late(({ perStep }) => perStep.ratio, 1),
        late(({ whole }) => whole.residual, 2),
        last(({ test }) => test),
        last(({ poison }) => poison),
        last(({ backdoor }) => backdoor),
      ];
      return { cells, trials: arm.trials };
    });
  const columns = [
    ...[
      '',
      'N_c/N_p',
      'ratio',
      'cosine',
      'ratio, all parameters',
      'size corrected',
      'its cosine',
      'ratio per step',
    ],
    ...['residual', 'test accuracy', 'poisons learned', 'backdoor'],
  ];
  return {
    title: panel.title,
    note:
      'Ratio and cosine by the paper’s definition, then over all parameters and all examples of an epoch, freed of group sizes, and as a mean over steps; ' +
      'means over the epochs after the fifth, where there are more. Residual: what is left of the two groups’ pulls, 0 where they cancel. Accuracies after the last epoch.',
    columns,
    rows,
  };
}

/** One row an epoch and trial. */
export function gradientRows(trials: readonly GradientTrial[]): CsvRow[] {
  return trials.flatMap(({ spec, result, key }) => {
    const { seed, ...rest } = spec;
    return result.epochs.map((e, epoch) => ({
      ...rest,
      seed: seed.init,
      epoch: epoch + 1,
      cleanNorm: e.paper.norms.clean,
      poisonNorm: e.paper.norms.poison,
      ratio: e.paper.ratio,
      cosine: e.paper.cosine,
      wholeRatio: e.whole.ratio,
      wholeCosine: e.whole.cosine,
      correctedRatio: e.whole.correctedRatio,
      correctedCosine: e.whole.correctedCosine,
      residual: e.whole.residual,
      stepRatio: e.perStep.ratio,
      stepCosine: e.perStep.cosine,
      medianCleanNorm: e.exampleNorms.clean[1] ?? null,
      medianPoisonNorm: e.exampleNorms.poison[1] ?? null,
      clippedClean: e.shareClipped.clean,
      clippedPoison: e.shareClipped.poison,
      test: e.test,
      clean: e.clean,
      poison: e.poison,
      backdoor: e.backdoor,
      key,
    }));
  });
}

/** All parts of several panels. */
export function panelsReport(panels: readonly Panel[], trials: readonly GradientTrial[]) {
  const there = panels.filter(({ arms }) => arms.some((arm) => arm.trials.length > 0));
  return {
    figures: there.flatMap(panelFigures),
    comparisons: there.flatMap(panelComparisons),
    tables: there.map(panelTable),
    csvRows: gradientRows(trials),
  };
}
