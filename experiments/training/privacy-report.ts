import path from 'node:path';
import { formatLowerBound, formatStatement, formatUpperBound, saveModel } from 'gradshape';
import { replaceFile } from '../harness/files.js';
import {
  type CsvRow,
  type Figure,
  htmlText,
  isFinitePoint,
  lineFigure,
  type Report,
  replaceInfinity,
} from '../report/index.js';
import type { RunSettings } from './options.js';
import type { EpochRow } from './report.js';
import type { Trainer, TrainingPrivacy } from './trainer.js';

/** What a private run's report has beside the learning curve. */
interface PrivacyReport extends Required<Pick<Report, 'summary' | 'figures' | 'sections'>> {
  /** In each row of the CSV. */
  readonly csv: CsvRow;
  readonly facts: readonly [string, string][];
  /** In plain words, for the terminal. */
  readonly statement: string;
}

export function privacyReport(
  privacy: TrainingPrivacy,
  { clip, delta }: RunSettings,
  rows: readonly EpochRow[],
): PrivacyReport {
  const { noiseMultiplier, noiseStd, label } = privacy;
  const statement = privacy.statement();
  return {
    summary: [
      `Clip norm ${clip}, noise multiplier ${noiseMultiplier}, noise standard deviation ${formatLowerBound(noiseStd, 5)} on the sum of gradients.`,
      statement.says[0]!,
      'Test and validation examples are no part of the training: what is said of them has no guarantee. Training losses, and choices made by any of ' +
        'these numbers (an early stop, the best epoch, the best of several runs), leak, and ε does not cover them.',
    ],
    figures: epsilonFigures(rows, `${label} at δ = ${formatUpperBound(delta)}`),
    sections: [
      { title: 'What is promised', html: htmlText(statement.says) },
      { title: 'What is not covered', html: htmlText(statement.notCovered) },
    ],
    csv: { delta, noiseMultiplier, noiseStd },
    facts: [['noise standard deviation', formatLowerBound(noiseStd, 5)]],
    statement: formatStatement(statement),
  };
}

/** None without noise: ε is ∞ from the first step. */
function epsilonFigures(rows: readonly EpochRow[], label: string): Figure[] {
  const points = (x: (row: EpochRow) => number, y: (row: EpochRow) => number) =>
    rows.filter(({ epsilon }) => isFinitePoint({ y: epsilon! })).map((row) => ({ x: x(row), y: y(row) }));
  if (!rows.some(({ epsilon }) => isFinitePoint({ y: epsilon! }))) return [];
  return [
    lineFigure({
      title: 'Accuracy by ε',
      x: { label },
      y: { label: 'test accuracy', format: '.3f' },
      series: [
        {
          name: 'test accuracy',
          points: points(
            (row) => row.epsilon!,
            (row) => row.testAccuracy,
          ),
        },
      ],
      caption: 'A point an epoch: what was learned, against what had been spent by then.',
    }),
    lineFigure({
      title: 'ε by epoch',
      x: { label: 'epoch' },
      y: { label },
      series: [
        {
          name: label,
          points: points(
            (row) => row.epoch,
            (row) => row.epsilon!,
          ),
        },
      ],
    }),
  ];
}

/** The statement as JSON, and the model: weights without a trace of the training. Errors: those of `fileError`. */
export function writePrivacy(out: string, { model, params }: Trainer, privacy: TrainingPrivacy): void {
  const statement = path.join(out, 'statement.json');
  const weights = path.join(out, 'model.safetensors');
  replaceFile(statement, `${JSON.stringify(privacy.statement(), replaceInfinity, 2)}\n`);
  replaceFile(weights, saveModel(model, params));
  console.log(`promise ${statement}\nmodel   ${weights}`);
}
