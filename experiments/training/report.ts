import { packageVersion } from '../harness/experiment.js';
import { duration } from '../harness/progress.js';
import { epsilonText, lineFigure, type Report, terminalReport, writeReport } from '../report/index.js';
import { privacyOptions } from './options.js';
import { privacyReport, writePrivacy } from './privacy-report.js';
import type { TrainingSets } from './sets.js';
import type { Trainer } from './trainer.js';

/** An epoch's results; epochs count from 1. */
export interface EpochRow {
  epoch: number;
  /** Mean over the epoch's examples, each before its update; null where it must not be known. */
  trainLoss: number | null;
  testLoss: number;
  testAccuracy: number;
  validationAccuracy: number | null;
  /** On test images that are not the published ones. */
  inexactTestAccuracy: number | null;
  /** Spent so far, by the run's accountant; in private runs. */
  epsilon?: number;
  seconds: number;
}

const best = (rows: readonly EpochRow[], of: (row: EpochRow) => number): EpochRow =>
  rows.reduce((a, b) => (of(b) > of(a) ? b : a));

/** The learning curve on the terminal, as CSV, and as a page. */
export async function writeTrainingReport(
  out: string,
  trainer: Trainer,
  sets: TrainingSets,
  rows: readonly EpochRow[],
  aborted: boolean,
): Promise<void> {
  const { settings, model, privacy } = trainer;
  const own = privacy && privacyReport(privacy, settings, rows);
  const last = rows.at(-1)!;
  const bestOnTest = best(rows, (row) => row.testAccuracy);
  const validated = sets.validation && best(rows, (row) => row.validationAccuracy!);
  const accuracies: [string, (row: EpochRow) => number][] = [['test accuracy', (row) => row.testAccuracy]];
  if (sets.validation) accuracies.push(['validation accuracy', (row) => row.validationAccuracy!]);
  if (sets.inexactTest) accuracies.push(['accuracy, inexact test images', (row) => row.inexactTestAccuracy!]);
  // A few epochs get a tick each.
  const epochAxis = {
    label: 'epoch',
    scale: rows.length <= 20 ? ('category' as const) : ('linear' as const),
  };
  const line = (name: string, of: (row: EpochRow) => number) => ({
    name,
    points: rows.map((row) => ({ x: row.epoch, y: of(row) })),
  });
  // A secure run doesn't know its training losses; a seeded one does, and they are not private.
  const losses: [string, (row: EpochRow) => number][] = [['test', (row) => row.testLoss]];
  if (rows.every(({ trainLoss }) => trainLoss !== null))
    losses.unshift([privacy ? 'training (not private)' : 'training', (row) => row.trainLoss!]);
  const report: Report = {
    summary: [
      `Test accuracy ${last.testAccuracy.toFixed(4)} after epoch ${last.epoch}.`,
      ...(validated
        ? [`${validated.testAccuracy.toFixed(4)} at epoch ${validated.epoch}, which validation chooses.`]
        : []),
      `Best on the test set itself: ${bestOnTest.testAccuracy.toFixed(4)} at epoch ${bestOnTest.epoch} (a number that has seen the test set).`,
      ...sets.notes,
      ...(own?.summary ?? []),
    ],
    figures: [
      lineFigure({
        title: 'Accuracy',
        x: epochAxis,
        y: { label: 'accuracy', format: '.3f' },
        series: accuracies.map(([name, of]) => line(name, of)),
      }),
      lineFigure({
        title: 'Loss',
        x: epochAxis,
        y: { label: 'mean cross-entropy', format: '.3f' },
        series: losses.map(([name, of]) => line(name, of)),
        ...(losses.length > 1 && {
          caption: 'Training: the mean over the epoch, each example before its update.',
        }),
      }),
      ...(own?.figures ?? []),
    ],
    tables: [
      {
        title: 'Learning curve',
        columns: [
          'epoch',
          ...losses.map(([name]) => name.replace(/^\w+/, '$& loss')),
          ...accuracies.map(([name]) => name),
          ...(privacy ? [privacy.label] : []),
          'seconds',
        ],
        rows: rows.map((row) => ({
          cells: [
            row.epoch,
            ...[...losses, ...accuracies].map(([, of]) => of(row).toFixed(4)),
            ...(row.epsilon === undefined ? [] : [epsilonText(row.epsilon)]),
            row.seconds.toFixed(1),
          ],
        })),
      },
    ],
    sections: own?.sections ?? [],
    csvRows: rows.map(({ seconds, ...row }) => ({ ...row, ...own?.csv, seconds })),
  };
  const shown = Object.entries(settings)
    .filter(([name]) => privacy !== undefined || !(privacyOptions as readonly string[]).includes(name))
    .map(([name, value]): [string, string] => [name, String(value)]);
  const facts = {
    title: `Training: ${settings.model} on ${settings.set}`,
    description: String(model),
    paperFigure: undefined,
    warnings: aborted ? [`Stopped in epoch ${last.epoch + 1} of ${settings.epochs}.`] : [],
    settings: [
      ...shown,
      ...(own?.facts ?? []),
      ['parameters', model.parameterCount.toLocaleString('en-US')],
      ['data (SHA-256)', sets.hash.slice(0, 12)],
      ['time', duration(rows.reduce((sum, { seconds }) => sum + seconds, 0))],
      ['Node', process.versions.node],
      ['gradshape', packageVersion()],
    ] as [string, string][],
    failures: [],
  };
  console.log(terminalReport(report));
  if (own) console.log(`\n${own.statement}`);
  const files = await writeReport(out, '', report, facts, []);
  console.log(`\nreport  ${files.html}\ntable   ${files.csv}`);
  if (privacy) writePrivacy(out, trainer, privacy);
}
