import type { Sequential } from 'gradshape';
import { packageVersion } from '../harness/experiment.js';
import { duration } from '../harness/progress.js';
import { lineFigure } from '../report/figure.js';
import { type Report, terminalReport, writeReport } from '../report/report.js';
import type { RunSettings } from './options.js';
import type { TrainingSets } from './sets.js';

/** An epoch's results; epochs count from 1. */
export interface EpochRow {
  epoch: number;
  /** Mean over the epoch's examples, each before its update. */
  trainLoss: number;
  testLoss: number;
  testAccuracy: number;
  validationAccuracy: number | null;
  /** On test images that are not the published ones. */
  inexactTestAccuracy: number | null;
  seconds: number;
}

const best = (rows: readonly EpochRow[], of: (row: EpochRow) => number): EpochRow =>
  rows.reduce((a, b) => (of(b) > of(a) ? b : a));

/** The learning curve on the terminal, as CSV, and as a page. */
export async function writeTrainingReport(
  out: string,
  settings: RunSettings,
  model: Sequential,
  sets: TrainingSets,
  rows: readonly EpochRow[],
  aborted: boolean,
): Promise<void> {
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
  const report: Report = {
    summary: [
      `Test accuracy ${last.testAccuracy.toFixed(4)} after epoch ${last.epoch}.`,
      ...(validated
        ? [`${validated.testAccuracy.toFixed(4)} at epoch ${validated.epoch}, which validation chooses.`]
        : []),
      `Best on the test set itself: ${bestOnTest.testAccuracy.toFixed(4)} at epoch ${bestOnTest.epoch} (a number that has seen the test set).`,
      ...sets.notes,
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
        series: [line('training', (row) => row.trainLoss), line('test', (row) => row.testLoss)],
        caption: 'Training: the mean over the epoch, each example before its update.',
      }),
    ],
    tables: [
      {
        title: 'Learning curve',
        columns: ['epoch', 'training loss', 'test loss', ...accuracies.map(([name]) => name), 'seconds'],
        rows: rows.map((row) => ({
          cells: [
            row.epoch,
            ...[row.trainLoss, row.testLoss, ...accuracies.map(([, of]) => of(row))].map((value) =>
              value.toFixed(4),
            ),
            row.seconds.toFixed(1),
          ],
        })),
      },
    ],
    csvRows: rows.map((row) => ({ ...row })),
  };
  const shown = Object.entries(settings).map(([name, value]): [string, string] => [name, String(value)]);
  const facts = {
    title: `Training: ${settings.model} on ${settings.set}`,
    description: String(model),
    paperFigure: undefined,
    warnings: aborted ? [`Stopped in epoch ${last.epoch + 1} of ${settings.epochs}.`] : [],
    settings: [
      ...shown,
      ['parameters', model.parameterCount.toLocaleString('en-US')],
      ['data (SHA-256)', sets.hash.slice(0, 12)],
      ['time', duration(rows.reduce((sum, { seconds }) => sum + seconds, 0))],
      ['Node', process.versions.node],
      ['gradshape', packageVersion()],
    ] as [string, string][],
    failures: [],
  };
  console.log(terminalReport(report));
  const files = await writeReport(out, '', report, facts, []);
  console.log(`\nreport  ${files.html}\ntable   ${files.csv}`);
}
