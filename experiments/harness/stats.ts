import { GradshapeError } from 'gradshape';
// @ts-expect-error jstat ships no types
import jstat from 'jstat';
import { canonicalJson, type FullSpec } from './trial.js';

/** Mean over seeds with its 95 % Student-t interval; with one value there is no interval, and std, low and high are null. */
export interface Summary {
  n: number;
  mean: number;
  /** Sample standard deviation (n − 1). */
  std: number | null;
  low: number | null;
  high: number | null;
}

/** Quantile of Student's t: tQuantile(0.975, 4) = 2.776. */
export function tQuantile(p: number, degreesOfFreedom: number): number {
  return jstat.studentt.inv(p, degreesOfFreedom);
}

/** Mean, sample standard deviation and 95 % interval of the mean. Error: STATS_EMPTY. */
export function summarize(values: readonly number[]): Summary {
  const n = values.length;
  if (n === 0) throw new GradshapeError('STATS_EMPTY', 'summarize got no values; give at least one.');
  const mean = values.reduce((sum, v) => sum + v, 0) / n;
  if (n === 1) return { n, mean, std: null, low: null, high: null };
  const std = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) * (v - mean), 0) / (n - 1));
  const half = (tQuantile(0.975, n - 1) * std) / Math.sqrt(n);
  return { n, mean, std, low: mean - half, high: mean + half };
}

/**
 * Summary of the differences a − b, pair by pair. Pair what shares its seeds: what the arms have in common cancels,
 * and the interval is narrower than that of two separate means. Errors: STATS_UNPAIRED, STATS_EMPTY.
 */
export function pairedDifference(a: readonly number[], b: readonly number[]): Summary {
  if (a.length !== b.length) {
    throw new GradshapeError(
      'STATS_UNPAIRED',
      `pairedDifference got ${a.length} and ${b.length} values; give as many, in the same order of seeds.`,
    );
  }
  return summarize(a.map((v, i) => v - b[i]!));
}

/** Groups in the order of first appearance. */
export function groupBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, Item[]> {
  const groups = new Map<Key, Item[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [item]);
    else group.push(item);
  }
  return groups;
}

/**
 * The trials of the seeds that have every configuration which some seed has, and how many seeds are left out. What is
 * paired seed by seed needs this first: a shard, or a run that was stopped, has other seeds in each arm.
 */
export function finishedSeeds<Item extends { spec: FullSpec<object> }>(
  trials: readonly Item[],
): { finished: Item[]; left: number } {
  const configuration = ({ spec: { seed: _, ...rest } }: Item) => canonicalJson(rest);
  const configurations = new Set(trials.map(configuration)).size;
  const seeds = [...groupBy(trials, ({ spec }) => canonicalJson(spec.seed)).values()];
  const whole = seeds.filter((group) => new Set(group.map(configuration)).size === configurations);
  return { finished: whole.flat(), left: seeds.length - whole.length };
}

/** '0.9416 ± 0.0015', or '0.9416' for a single value. */
export function formatSummary({ mean, high }: Summary, digits = 4): string {
  return high === null ? signed(mean, digits) : `${signed(mean, digits)} ± ${(high - mean).toFixed(digits)}`;
}

/** '−0.0031 [−0.0045, −0.0017]', or '−0.0031' for a single value. */
export function formatInterval({ mean, low, high }: Summary, digits = 4): string {
  if (low === null || high === null) return signed(mean, digits);
  return `${signed(mean, digits)} [${signed(low, digits)}, ${signed(high, digits)}]`;
}

function signed(value: number, digits: number): string {
  return value.toFixed(digits).replace('-', '−');
}
