import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';

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

function rowsOf(file: string): Record<string, string>[] {
  return parse(readFileSync(fileURLToPath(new URL(file, import.meta.url))), { columns: true });
}

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
      source: row.source!,
      accuracy: row.accuracy === '' ? null : Number(row.accuracy),
      rad: Number(row.rad),
    }));
}
