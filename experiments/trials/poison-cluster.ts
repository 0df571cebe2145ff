import { choose, flipLabels, type PoisonedSet, publicGenerator, rowsOf } from 'gradshape';
import { kmeans } from 'ml-kmeans';
import { PCA } from 'ml-pca';
import { defineTrial, remember } from '../harness/index.js';
import { type Images, images, sharedImages } from '../tasks/dress-coat.js';
import { craftedSlab } from './slab.js';

export interface PoisonClusterSpec {
  readonly attack: 'label flip' | 'slab';
  readonly ratio: number;
  /** Slab: steps of online learning. */
  readonly iterations: number;
  /** How many clusters k-means looks for. */
  readonly clusters: number;
  /** What the principal components are those of. */
  readonly components: 'union' | 'clean';
}

export type Group = 'clean dress' | 'clean coat' | 'poison';

export interface PoisonClusterResult {
  /** Share of the variance that the two components hold. */
  readonly explained: readonly number[];
  /** How many of each group are in each cluster. */
  readonly clusters: readonly Readonly<Record<Group, number>>[];
  /** Some of the points, at random, for the figure. */
  readonly points: readonly {
    readonly x: number;
    readonly y: number;
    readonly group: Group;
    readonly cluster: number;
  }[];
}

const shown = 900;

/** E10 of the paper: clean images and poisons in two principal components, and k-means there. */
export const poisonCluster = defineTrial<PoisonClusterSpec, PoisonClusterResult, Images>({
  module: import.meta.url,
  name: 'poison-cluster',
  version: 2,
  description: 'PCA and k-means of clean images and poisons, dress against coat',
  defaults: { attack: 'slab', ratio: 0.4, iterations: 30, clusters: 2, components: 'union' },
  shared: () => sharedImages(),
  async run(spec, context) {
    const { attack, ratio, iterations, clusters, components, seed } = spec;
    const base = images(context.shared, 'train');
    const poisoned =
      attack === 'slab'
        ? (await craftedSlab(context, ratio, 1, { iterations })).poisoned
        : flipLabels(base, { ratio, seed: seed.data });
    const data = attack === 'slab' ? 0 : seed.data;
    const key = `components ${attack} ${ratio} ${iterations} ${components} ${data}`;
    const { points, explained } = remember(context.memo, key, () => projected(poisoned, components));
    const found = kmeans(points, clusters, {
      initialization: 'kmeans++',
      seed: seed.init,
      maxIterations: 200,
    });
    const groups = groupsOf(poisoned);
    const counts = Array.from({ length: clusters }, () => ({ 'clean dress': 0, 'clean coat': 0, poison: 0 }));
    groups.forEach((group, i) => {
      counts[found.clusters[i]!]![group]++;
    });
    const some = choose(Math.min(shown, points.length), points.length, publicGenerator(seed.data, 'data'));
    return {
      explained,
      clusters: counts,
      points: Array.from(some, (i) => ({
        x: round(points[i]![0]!),
        y: round(points[i]![1]!),
        group: groups[i]!,
        cluster: found.clusters[i]!,
      })),
    };
  },
});

const round = (value: number): number => Math.round(value * 1000) / 1000;

/** The examples in two principal components, and the share of the variance of those they were fitted on that each holds. */
function projected(
  poisoned: PoisonedSet,
  components: PoisonClusterSpec['components'],
): { points: number[][]; explained: number[] } {
  const { x, y, size } = rowsOf(poisoned);
  const rows = Array.from({ length: y.length }, (_, i) => Array.from(x.subarray(i * size, (i + 1) * size)));
  const fitted = components === 'union' ? rows : rows.slice(0, poisoned.base.y.length);
  const pca = new PCA(fitted, { method: 'NIPALS', nCompNIPALS: 2 });
  const points = pca.predict(rows, { nComponents: 2 }).to2DArray();
  const column = (of: readonly number[][], j: number) => of.map((row) => row[j]!);
  const total = fitted[0]!.reduce((sum, _, j) => sum + spread(column(fitted, j)), 0);
  const own = points.slice(0, fitted.length);
  return { points, explained: [0, 1].map((j) => spread(column(own, j)) / total) };
}

function spread(values: readonly number[]): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return values.reduce((sum, value) => sum + (value - mean) * (value - mean), 0);
}

function groupsOf({ base, y, poison }: PoisonedSet): Group[] {
  const poisons = new Set(poison);
  return Array.from({ length: base.y.length + poisons.size }, (_, i) =>
    poisons.has(i) ? 'poison' : y[i] === 0 ? 'clean dress' : 'clean coat',
  );
}
