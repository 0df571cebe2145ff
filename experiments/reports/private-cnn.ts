import { type AccountantName, GradshapeError, type PrivacyPhase } from 'gradshape';
import { formatSummary, summarize, type TrialResult } from '../harness/index.js';
import { lineFigure, type Report, type Table } from '../report/index.js';
import type { PrivateCnnResult, PrivateCnnSpec } from '../trials/private-cnn.js';
import { accountants, delta, epsilonOf, shownEpsilon, someEpochs } from './epsilons.js';

type Trial = TrialResult<PrivateCnnSpec, PrivateCnnResult>;
type Which = 'weights' | 'average';

/** What was published for Fashion-MNIST at δ = 1e-5. */
const published = [
  {
    who: 'Papernot et al. 2021',
    model: 'tanh CNN',
    epsilon: 2.7,
    accuracy: 0.861,
    source: '“Tempered Sigmoid Activations for Deep Learning with Differential Privacy”, arXiv:2007.14191',
  },
  {
    who: 'Tramèr & Boneh 2021',
    model: 'tanh CNN',
    epsilon: 3,
    accuracy: 0.86,
    source: 'github.com/ftramer/Handcrafted-DP: batch 2048, learning rate 4, σ = 2.15, C = 0.1, 40 epochs',
  },
  {
    who: 'Tramèr & Boneh 2021',
    model: 'linear, on ScatterNet features',
    epsilon: 3,
    accuracy: 0.897,
    source: 'the same; no convolution is trained',
  },
];

/** The tanh CNN on Fashion-MNIST beside what was published: accuracy against ε, over seeds. */
export function privateCnnReport(trials: readonly Trial[]): Report {
  const [first] = trials;
  if (first === undefined) {
    throw new GradshapeError(
      'RESULT_MISSING',
      'private-cnn: no trial is finished; run the experiment first.',
    );
  }
  const { spec, result } = first;
  const epsilonAfter = (epochs: number, accountant: AccountantName): number => {
    const phase: PrivacyPhase = {
      mechanism: 'poissonSampledGaussian',
      samplingRate: spec.batchSize / result.datasetSize,
      noiseMultiplier: result.noiseMultiplier,
      steps: epochs * result.stepsPerEpoch,
    };
    return epsilonOf(accountant, phase);
  };
  const accuracies = (which: Which, epoch = spec.epochs) =>
    summarize(trials.map((trial) => trial.result[which][epoch - 1]!));
  const curve = (which: Which) =>
    someEpochs(spec.epochs, 10).map((epoch) => {
      const { mean, low, high } = accuracies(which, epoch);
      return { x: epsilonAfter(epoch, 'pld'), y: mean, low, high };
    });
  const [rdp, pld, gdp] = accountants.map((name) => shownEpsilon(epsilonAfter(spec.epochs, name)));
  const full = spec.data === 'fashion-mnist';
  const networks = full ? published.filter(({ model }) => model === 'tanh CNN') : [];
  return {
    summary: [
      `Test accuracy after the last epoch at ε = ${pld}, δ = ${delta}: ${formatSummary(accuracies('average'))} with averaged weights, ` +
        `${formatSummary(accuracies('weights'))} with the last weights (${trials.length} seeds).`,
      full
        ? 'Published for this network: 0.861 at ε = 2.7 and 0.860 at ε = 3. Theirs are by RDP, ours by PLD, which allows less noise for the same ε.'
        : 'A trial of the machinery, on two of the classes.',
      'No epoch is chosen on test data. The settings were chosen on held-out training images, a search that ε does not count. The noise is ' +
        'seeded so that the result can be had again: this very run protects nobody.',
    ],
    figures: [
      lineFigure({
        title: 'Accuracy as ε is spent',
        x: { label: `ε (PLD) at δ = ${delta}, epoch by epoch` },
        y: { label: 'test accuracy', format: '.2f' },
        series: [
          { name: 'averaged weights', points: curve('average') },
          { name: 'last weights', points: curve('weights') },
          ...networks.map(({ who, epsilon, accuracy }) => ({
            name: who,
            points: [{ x: epsilon, y: accuracy }],
          })),
        ],
      }),
    ],
    tables: [
      {
        title: 'Settings and ε',
        columns: [
          ...['data', 'epochs', 'batch (expected)', 'q', 'steps', 'C', 'learning rate', 'momentum', 'decay'],
          ...['σ', 'ε RDP', 'ε PLD', 'ε GDP (approx.)', 'seconds an epoch'],
        ],
        rows: [
          {
            cells: [
              ...[spec.data, spec.epochs, spec.batchSize, shownEpsilon(spec.batchSize / result.datasetSize)],
              ...[spec.epochs * result.stepsPerEpoch, spec.clipNorm, spec.learningRate, spec.momentum],
              ...[spec.decay, shownEpsilon(result.noiseMultiplier), rdp!, pld!, gdp!],
              summarize(trials.map(({ seconds }) => seconds / spec.epochs)).mean.toFixed(1),
            ],
          },
        ],
        note: 'Poisson sampling, SGD with momentum, flat clipping. σ is the least that keeps ε (PLD) within the target.',
      },
      {
        title: 'Seed by seed, after the last epoch',
        columns: ['noise seed', 'averaged weights', 'last weights'],
        rows: [
          ...trials.map((trial) => ({
            cells: [
              trial.spec.seed.noise,
              trial.result.average.at(-1)!.toFixed(4),
              trial.result.weights.at(-1)!.toFixed(4),
            ],
            trials: [trial],
          })),
          {
            cells: [
              'mean, 95 % interval',
              formatSummary(accuracies('average')),
              formatSummary(accuracies('weights')),
            ],
          },
        ],
      },
      ...(full ? [publishedTable()] : []),
    ],
    csvRows: trials.flatMap(({ spec: { seed, ...rest }, result: one, seconds, key }) =>
      one.weights.map((weights, i) => ({
        ...rest,
        ...Object.fromEntries(Object.entries(seed).map(([name, value]) => [`seed_${name}`, value])),
        ...{ noiseMultiplier: one.noiseMultiplier, epoch: i + 1, weights, average: one.average[i]! },
        ...{ seconds, key },
      })),
    ),
  };
}

function publishedTable(): Table {
  return {
    title: 'Published, Fashion-MNIST at δ = 1e-5',
    columns: ['', 'model', 'ε', 'test accuracy', 'source'],
    rows: published.map(({ who, model, epsilon, accuracy, source }) => ({
      cells: [who, model, epsilon, accuracy.toFixed(3), source],
    })),
  };
}
