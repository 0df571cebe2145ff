import { rowsOf } from './rows.js';

/** What a row of the authors' gradient files belongs to; `value` is α, the patch's side, or how the model was trained. */
interface GradientRun {
  readonly experiment: string;
  readonly task: string;
  readonly value: string;
}

/** An epoch of one of the authors' gradient files (one seed). */
export interface GradientPoint extends GradientRun {
  readonly epoch: number;
  readonly ratio: number;
  readonly cosine: number;
}

/** The same over a run's epochs. */
export interface GradientSummary extends GradientRun {
  readonly meanRatio: number;
  readonly firstRatio: number;
  readonly meanCosine: number;
  readonly firstCosine: number;
}

/** A number of the paper's text about gradients, and what the authors' files have in its place. */
export interface GradientText {
  readonly experiment: string;
  readonly quantity: string;
  readonly model: string;
  readonly paper: number;
  readonly repository: number;
}

const runOf = (row: Record<string, string>): GradientRun => ({
  experiment: row.experiment!,
  task: row.task!,
  value: row.value!,
});

export function gradientSeries(): GradientPoint[] {
  return rowsOf('gradient-series.csv').map((row) => ({
    ...runOf(row),
    epoch: Number(row.epoch),
    ratio: Number(row.magnitude_ratio),
    cosine: Number(row.cosine),
  }));
}

export function gradientSummaries(): GradientSummary[] {
  return rowsOf('gradient-summary.csv').map((row) => ({
    ...runOf(row),
    meanRatio: Number(row.ratio_mean),
    firstRatio: Number(row.ratio_first),
    meanCosine: Number(row.cos_mean),
    firstCosine: Number(row.cos_first),
  }));
}

export function gradientTexts(): GradientText[] {
  return rowsOf('gradient-text.csv').map((row) => ({
    experiment: row.experiment!,
    quantity: row.quantity!,
    model: row.model!,
    paper: Number(row.paper_value),
    repository: Number(row.repo_value),
  }));
}

/** Accuracies per epoch: `backdoor` is null where there is no patch. */
export interface AccuracyPoint {
  readonly experiment: string;
  readonly value: string;
  readonly epoch: number;
  readonly accuracy: number;
  readonly backdoor: number | null;
}

export function accuracyPoints(): AccuracyPoint[] {
  return rowsOf('gradient-accuracy.csv').map((row) => ({
    experiment: row.experiment!,
    value: row.value!,
    epoch: Number(row.epoch),
    accuracy: Number(row.accuracy),
    backdoor: row.backdoor_accuracy ? Number(row.backdoor_accuracy) : null,
  }));
}
