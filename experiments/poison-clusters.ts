import { runExperiment, type Size } from './harness/index.js';
import { poisonClustersReport } from './reports/poison-clusters.js';
import { type PoisonClusterSpec, poisonCluster } from './trials/poison-cluster.js';

const plans: Record<Size, { clusters: readonly number[]; iterations: number }> = {
  smoke: { clusters: [2], iterations: 30 },
  quick: { clusters: [2, 3], iterations: 30 },
  full: { clusters: [2, 3, 4, 5], iterations: 30 },
};
const attacks = ['label flip', 'slab'] as const;
const components = ['union', 'clean'] as const;

await runExperiment({
  script: import.meta.url,
  name: 'poison-clusters',
  title: 'Where poisons lie among the clean images',
  description:
    'Clean dresses and coats and 4,320 poisons (40 %) in two principal components, clustered by k-means (Hong et al. 2020, §7.1).',
  paperFigure: 'Figure 8',
  trial: poisonCluster,
  seeds: { smoke: 1, quick: 1, full: 1 },
  sizes: {
    smoke: 'label flips in two clusters, in seconds',
    quick: 'two and three clusters, in a minute',
    full: 'up to five clusters',
  },
  grid(size, { seeds }) {
    const { clusters, iterations } = plans[size];
    const parts = size === 'smoke' ? (['union'] as const) : components;
    return seeds.flatMap((seed) =>
      (size === 'smoke' ? attacks.slice(0, 1) : attacks).flatMap((attack) =>
        parts.flatMap((part) =>
          clusters.map((count): Partial<PoisonClusterSpec> & { seed: number } => ({
            attack,
            components: part,
            clusters: count,
            iterations,
            seed,
          })),
        ),
      ),
    );
  },
  report: poisonClustersReport,
});
