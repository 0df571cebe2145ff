import { groupBy, type TrialResult } from '../harness/index.js';
import type { Figure, Report, Table } from '../report/index.js';
import type { Group, PoisonClusterResult, PoisonClusterSpec } from '../trials/poison-cluster.js';

type Trial = TrialResult<PoisonClusterSpec, PoisonClusterResult>;

const groups: readonly Group[] = ['clean dress', 'clean coat', 'poison'];
const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/** The share of poisons in the cluster that holds the largest share of the poisons, and what share of it is poison. */
function poisonCluster({ clusters }: PoisonClusterResult): { caught: number; purity: number } {
  const total = clusters.reduce((sum, { poison }) => sum + poison, 0);
  const most = clusters.reduce((a, b) => (b.poison > a.poison ? b : a));
  const size = groups.reduce((sum, group) => sum + most[group], 0);
  return { caught: most.poison / total, purity: most.poison / size };
}

/** Figure 8: where poisons lie, and whether clusters tell them apart. */
export function poisonClustersReport(trials: readonly Trial[]): Report {
  const drawn = [...groupBy(trials, ({ spec }) => `${spec.attack} ${spec.components}`).values()].map(
    ([first]) => first!,
  );
  return {
    summary: [
      ...trials.filter((trial) => drawn.includes(trial)).map(sentence),
      'The paper gives neither the number of clusters nor what the components were fitted on; all that were tried are in the table.',
    ],
    figures: drawn.map(scatter),
    tables: [clusterTable(trials)],
  };
}

function sentence({ spec, result }: Trial): string {
  const { caught, purity } = poisonCluster(result);
  return (
    `${spec.attack}, ${spec.clusters} clusters, components of the ${spec.components} images: one cluster holds ${percent(caught)} of the poisons, ` +
    `and ${percent(purity)} of that cluster is poison.`
  );
}

function scatter({ spec, result }: Trial): Figure {
  const { attack, components } = spec;
  return {
    title: `Figure 8: ${attack}, clean images and poisons in two principal components`,
    caption: `Components of the ${components === 'union' ? 'clean images and the poisons' : 'clean images'}; a random sample of ${result.points.length} points. Shapes: clusters of k-means.`,
    spec: {
      width: 560,
      height: 400,
      data: { values: result.points.map((point) => ({ ...point, cluster: String(point.cluster + 1) })) },
      mark: { type: 'point', opacity: 0.75, size: 34 },
      encoding: {
        x: { field: 'x', type: 'quantitative', axis: { title: 'first component' } },
        y: { field: 'y', type: 'quantitative', axis: { title: 'second component' } },
        color: {
          field: 'group',
          type: 'nominal',
          scale: {
            domain: [...groups],
            range: ['var(--series-1, #0067a5)', 'var(--series-3, #00795c)', 'var(--series-2, #c8500a)'],
          },
          legend: { title: null },
        },
        shape: { field: 'cluster', type: 'nominal', legend: { title: 'cluster' } },
      },
    },
  };
}

function clusterTable(trials: readonly Trial[]): Table {
  return {
    title: 'What the clusters hold',
    columns: ['attack', 'components of', 'cluster', ...groups, 'poison in the cluster', 'variance explained'],
    rows: trials.flatMap((trial) =>
      trial.result.clusters.map((counts, i) => {
        const size = groups.reduce((sum, group) => sum + counts[group], 0);
        return {
          cells: [
            trial.spec.attack,
            trial.spec.components,
            `${i + 1} of ${trial.spec.clusters}`,
            ...groups.map((group) => counts[group]),
            percent(size === 0 ? 0 : counts.poison / size),
            trial.result.explained.map(percent).join(' + '),
          ],
          trials: [trial],
        };
      }),
    ),
  };
}
