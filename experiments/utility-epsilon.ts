import { runExperiment, type Size, someOf } from './harness/index.js';
import { utilityEpsilonReport } from './reports/utility-epsilon.js';
import { type UtilitySpec, utilityEpsilon } from './trials/utility-epsilon.js';

type Task = Pick<UtilitySpec, 'data' | 'model' | 'batchSize' | 'learningRate'>;

/** Learning rates chosen once, at σ = 1, on seed 1: a search that no ε below counts. */
const tasks: readonly Task[] = [
  { data: 'dress-coat', model: 'lr', batchSize: 300, learningRate: 0.01 },
  { data: 'dress-coat', model: 'mlp', batchSize: 300, learningRate: 0.002 },
  { data: 'fashion-mnist', model: 'lr', batchSize: 600, learningRate: 0.01 },
  { data: 'fashion-mnist', model: 'mlp', batchSize: 600, learningRate: 0.002 },
  { data: 'location30', model: 'lr', batchSize: 100, learningRate: 0.01 },
  { data: 'location30', model: 'mlp', batchSize: 100, learningRate: 0.005 },
];

interface Plan {
  /** null: vanilla; 0: clipping alone. */
  readonly noises: Readonly<Record<string, readonly (number | null)[]>>;
  readonly epochs: (task: Task) => number;
  readonly tasks: (task: Task) => boolean;
}

const many = [null, 0, 0.5, 0.6, 0.8, 1, 1.5, 2, 4, 8];
const plans: Record<Size, Plan> = {
  smoke: {
    noises: { lr: [null, 1], mlp: [] },
    epochs: () => 2,
    tasks: ({ data }) => data === 'dress-coat',
  },
  quick: {
    noises: { lr: [null, 0, 0.6, 1, 2, 4], mlp: [null, 0.6, 1.5, 4] },
    epochs: ({ data, model }) =>
      data === 'fashion-mnist' ? (model === 'lr' ? 4 : 2) : model === 'lr' ? 10 : 5,
    tasks: () => true,
  },
  full: {
    noises: { lr: many, mlp: many },
    epochs: ({ data }) => (data === 'fashion-mnist' ? 15 : 30),
    tasks: () => true,
  },
};

await runExperiment({
  script: import.meta.url,
  name: 'utility-epsilon',
  title: 'What privacy costs: accuracy against ε',
  description:
    'LR and MLP trained with DP-Adam on Poisson-sampled batches (C = 1) of dress against coat, the whole of Fashion-MNIST, and Location-30; ' +
    'ε by every accountant at δ = 1e-5.',
  paperFigure: 'Figure 12',
  trial: utilityEpsilon,
  seeds: { smoke: 1, quick: 3, full: 10 },
  options: [someOf('--sets <names>', 'data sets', [...new Set(tasks.map(({ data }) => data))])],
  sizes: {
    smoke: 'two epochs of LR on dress against coat',
    quick: 'six noises, few epochs, in a minute or two',
    full: 'ten noises, all epochs, for an hour',
  },
  grid(size, { seeds, own }) {
    const { noises, epochs, tasks: chosen } = plans[size];
    return seeds.flatMap((seed) =>
      tasks
        .filter((task) => chosen(task) && (own.sets as string[]).includes(task.data))
        .flatMap((task) =>
          noises[task.model]!.map((noiseMultiplier) => ({
            ...task,
            noiseMultiplier,
            epochs: epochs(task),
            seed,
          })),
        ),
    );
  },
  report: utilityEpsilonReport,
});
