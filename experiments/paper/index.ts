import { rowsOf } from './rows.js';

export * from './gradients.js';

/** A DP-trained model's best test accuracy under attack, as the authors' result files have it (one seed). */
export interface IndiscriminateResult {
  readonly attack: string;
  readonly ratio: number;
  readonly clipNorm: number;
  readonly noiseStd: number;
  readonly accuracy: number;
  readonly rad: number;
}

/** The clean accuracy that the authors' RAD is relative to. */
export const PAPER_CLEAN_ACCURACY = 0.954;

/** All results of `indiscriminate-dp.csv`. */
export function indiscriminateResults(): IndiscriminateResult[] {
  return rowsOf('indiscriminate-dp.csv').map((row) => ({
    attack: row.attack!,
    ratio: Number(row.ratio),
    clipNorm: Number(row.clip),
    noiseStd: Number(row.noise_std),
    accuracy: Number(row.best_accuracy),
    rad: Number(row.rad),
  }));
}

/** A number of `indiscriminate-text-and-jax.csv`: RAD and, where there is one, accuracy. */
export interface TextResult {
  readonly attack: string;
  readonly model: string;
  /** null for vanilla. */
  readonly clipNorm: number | null;
  readonly source: string;
  readonly accuracy: number | null;
  readonly rad: number;
}

/** The text's and the JAX runs' numbers at 40 %. */
export function textResults(): TextResult[] {
  return rowsOf('indiscriminate-text-and-jax.csv')
    .filter((row) => row.ratio === '0.4')
    .map((row) => ({
      attack: row.attack!,
      model: row.model!,
      clipNorm: row.clip === '' ? null : Number(row.clip),
      source: row.source!,
      accuracy: row.accuracy === '' ? null : Number(row.accuracy),
      rad: Number(row.rad),
    }));
}
