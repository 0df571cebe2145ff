import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { type AccountantName, modelNames, nearestName, type Sampling, type Strategy } from 'gradshape';
import { parse, UsageExit, wholeNumber } from '../harness/options.js';
import { setNames } from './sets.js';

const optimizerNames = ['sgd', 'momentum', 'nesterov', 'adam', 'adamw'] as const;
export type OptimizerName = (typeof optimizerNames)[number];

const samplings: readonly Sampling[] = ['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'];
const accountants: readonly AccountantName[] = ['pld', 'rdp', 'gdp'];

/** What decides a run's numbers: kept beside its checkpoint. */
export interface RunSettings {
  set: string;
  testSet?: string;
  label: string;
  header: boolean;
  shape?: number[];
  scale?: number;
  holdout: number;
  limit?: number;
  inexactTest?: string;
  model: string;
  optimizer: OptimizerName;
  learningRate: number;
  momentum: number;
  weightDecay: number;
  schedule: 'constant' | 'cosine';
  batchSize: number;
  epochs: number;
  seed: number;
  clip?: number;
  /** Noise multiplier; with a target, the one that was found. */
  noise: number;
  targetEpsilon?: number;
  delta: number;
  sampling: Sampling;
  accountant: AccountantName;
  physicalBatch?: number;
  secure: boolean;
  strategy: Strategy;
  audit: boolean;
  kernels: 'base' | 'relaxed' | 'auto';
}

/** Options that mean something only beside a clip norm. */
export const privacyOptions: readonly (keyof RunSettings)[] = [
  ...(['noise', 'targetEpsilon', 'delta', 'sampling', 'accountant', 'physicalBatch', 'secure'] as const),
  ...(['strategy', 'audit'] as const),
];

export interface TrainCommand {
  readonly settings: RunSettings;
  readonly out: string;
  readonly data: string | undefined;
  readonly resume: boolean;
  /** Options given on the command line, which a resumed run can't change. */
  readonly given: readonly string[];
}

const examples = `
Examples
  $ node experiments/train.js
      logistic regression on the dresses and coats that come with the repository: seconds
  $ node experiments/train.js --set fashion-mnist --model badnet --optimizer sgd --learning-rate 0.01 --epochs 80
      a convolutional network of the paper, in the paper's way
  $ node experiments/train.js --set fashion-mnist --model fashion-tanh-cnn --optimizer momentum --learning-rate 1 \\
      --batch-size 512 --clip 0.1 --noise 1
      DP-SGD: each example's gradient is clipped to norm 0.1, and noise of standard deviation 1 × 0.1 is added
  $ node experiments/train.js --clip 1 --target-epsilon 3 --secure
      a private model: the least noise that keeps within ε = 3, and a statement of what is promised
  $ node experiments/train.js --set flowers.csv --label species --model mlp --epochs 20
      your own data: a CSV file with a header, one column of labels, all others numbers
  $ node experiments/train.js --set images.npy,labels.npy --scale 1/255 --model cifar-cnn
      your own data: two NPY files, [count, height, width, channels] and [count]
  $ node experiments/train.js --resume --epochs 100
      goes on where the run in results/train stopped, to the same bits as if it never had; a private run's account goes on, too

Of a private run, ε covers the weights. Losses, accuracies on examples that must stay private, and what is chosen by them (an early stop, the
best epoch, the best of several runs) leak, and ε does not cover them.

Ctrl-C stops after the step at hand, and leaves a checkpoint and a report.`;

const defaultRates: Record<OptimizerName, number> = {
  sgd: 0.05,
  momentum: 0.01,
  nesterov: 0.01,
  adam: 0.001,
  adamw: 0.001,
};

/** Parses the command line. Error: UsageExit, after a message with the nearest name. */
export function parseCommand(argv: readonly string[]): TrainCommand {
  const command = new Command('node experiments/train.js')
    .description('Trains a model on a data set, and reports its learning curve.')
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)')
    .addHelpText('after', examples);
  const group = (heading: string, ...options: Option[]): void => {
    for (const option of options) command.addOption(option.helpGroup(heading));
  };
  group(
    'Data:',
    option('--set <name>', `${setNames.join(', ')}; or a file.csv; or x.npy,y.npy`).default('dress-coat'),
    option('--test-set <files>', 'your own test set, in the same form'),
    option('--holdout <share>', 'without a test set: the share of examples kept for testing', share).default(
      0.2,
    ),
    option(
      '--label <column>',
      "a CSV file's label column: its name, or its place from 0 (-1: the last)",
    ).default('-1'),
    option('--no-header', 'the CSV file has no line of names'),
    option('--shape <sizes>', 'shape of one example, such as 28,28,1 (default: as in the file)', sizes),
    option('--scale <factor>', 'what your values are multiplied by, such as 1/255 (default: 1)', factor),
    option('--limit <N>', 'train on the first N examples only', wholeNumber),
    option('--data <DIR>', 'folder with data sets, searched first'),
    option('--inexact-test <file>', 'CIFAR-10: test on this file of records, whatever its checksum'),
  );
  group(
    'Model and training:',
    option('--model <name>', modelNames.join(', '), oneOf(modelNames)).default('lr'),
    option('--optimizer <name>', optimizerNames.join(', '), oneOf(optimizerNames)).default('adam'),
    option('--learning-rate <η>', 'default: 0.05 for sgd, 0.01 with momentum, 0.001 for adam', positive),
    option('--momentum <μ>', 'of momentum and nesterov', share).default(0.9),
    option('--weight-decay <λ>', 'an L2 penalty; for adamw, decoupled from the gradient', atLeast0).default(
      0,
    ),
    option(
      '--schedule <name>',
      'of the learning rate: constant, or cosine down to 0',
      oneOf(['constant', 'cosine']),
    ).default('constant'),
    option('--batch-size <N>', 'examples a step', wholeNumber).default(100),
    option('--epochs <N>', 'passes over the training set', wholeNumber).default(5),
    option('--seed <N>', 'of the initial weights, the order, dropout and noise', wholeNumber).default(1),
  );
  group(
    'Differential privacy:',
    option('--clip <C>', "clip each example's gradient to this norm; makes the training DP-SGD", positive),
    option(
      '--noise <σ>',
      'noise multiplier: noise of standard deviation σ × C on the sum of gradients; 0 is clipping alone, ε = ∞',
      atLeast0,
    ).default(0),
    option(
      '--target-epsilon <ε>',
      'find the least noise that keeps within this ε (with gdp: approximately), instead of --noise',
      positive,
    ),
    option('--delta <δ>', 'δ of the guarantee: well below one in the number of examples', share).default(
      1e-5,
    ),
    option(
      '--sampling <kind>',
      'how batches are drawn: poisson, fixed-size, shuffled, or nominal-poisson (shuffled, accounted as papers do)',
      oneOf(samplings),
    ).default('poisson'),
    option('--accountant <name>', 'whose ε is shown, and kept to: pld, rdp, gdp', oneOf(accountants)).default(
      'pld',
    ),
    option('--physical-batch <N>', 'at most so many examples in memory at once: the same bits', wholeNumber),
    option(
      '--secure',
      'sampling and noise from the system’s cryptographic generator: without it a run can be repeated, and is not private',
    ).default(false),
    option(
      '--strategy <name>',
      'how per-example gradients are made: ghost, materialize, loop',
      oneOf(['ghost', 'materialize', 'loop']),
    ).default('ghost'),
    option(
      '--audit',
      'audit what is promised before training, with canaries in place of the data: prints the ε that it proves, beside the one promised',
    ).default(false),
  );
  group(
    'The run:',
    option('--out <DIR>', 'folder for checkpoint and report').default(path.join('results', 'train')),
    option(
      '--resume',
      'go on with the run in --out; only --epochs can be changed, and of a private run --target-epsilon and --physical-batch',
    ).default(false),
    option(
      '--kernels <build>',
      'WebAssembly build: base, relaxed, auto',
      oneOf(['base', 'relaxed', 'auto']),
    ).default('base'),
  );
  parse(command, argv);
  const { out, data, resume, ...rest } = command.opts();
  const settings = rest as RunSettings;
  settings.learningRate ??= defaultRates[settings.optimizer];
  const given = Object.keys(rest).filter((name) => command.getOptionValueSource(name) === 'cli');
  // A run that goes on has its clip norm already.
  if (!resume) checkPrivacy(settings, given);
  return { settings, out, data, resume, given };
}

/** Options that say nothing, or two things. Error: UsageExit. */
function checkPrivacy({ clip, noise }: RunSettings, given: readonly string[]): void {
  const idle = privacyOptions.filter((name) => given.includes(name) && !(name === 'noise' && noise === 0));
  if (clip === undefined && idle.length > 0) {
    console.error(
      `error: ${idle.map(flagOf).join(', ')} without a clip norm: there is no DP-SGD; give --clip, too.`,
    );
    throw new UsageExit(2);
  }
  if (given.includes('noise') && given.includes('targetEpsilon')) {
    console.error('error: --target-epsilon finds the noise that --noise gives; give one of them.');
    throw new UsageExit(2);
  }
}

/** targetEpsilon: --target-epsilon. */
export const flagOf = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

function option<T>(flags: string, description: string, parser?: (text: string) => T): Option {
  const made = new Option(flags, description);
  return parser === undefined ? made : made.argParser(parser);
}

/** One of some names, with the nearest in the message for another. */
function oneOf(names: readonly string[]): (text: string) => string {
  return (text) => {
    if (names.includes(text)) return text;
    const near = nearestName(text, names);
    throw new InvalidArgumentError(
      `${near === undefined ? '' : `Did you mean ${near}? `}There are ${names.join(', ')}.`,
    );
  };
}

function number(text: string, holds: (value: number) => boolean, expected: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isFinite(value) && holds(value)) return value;
  throw new InvalidArgumentError(`Expected ${expected}.`);
}

const positive = (text: string): number => number(text, (value) => value > 0, 'a number above 0');
const atLeast0 = (text: string): number => number(text, (value) => value >= 0, 'a number of at least 0');
const share = (text: string): number =>
  number(text, (value) => value > 0 && value < 1, 'a number between 0 and 1');

function factor(text: string): number {
  const [over, under = '1', ...more] = text.split('/');
  if (more.length > 0) throw new InvalidArgumentError('Expected a number, or a fraction such as 1/255.');
  return positive(over!) / positive(under);
}

function sizes(text: string): number[] {
  return text.split(',').map(wholeNumber);
}
