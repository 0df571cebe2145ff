// What DP-SGD promises: the statement, all accountants side by side, ε per epoch, the noise for a target ε
import path from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  type AccountantName,
  AUTHORS_ORDERS,
  calibrateNoiseMultiplier,
  createAccountant,
  formatStatement,
  formatUpperBound,
  GradshapeError,
  type GroupCertificate,
  groupCertificate,
  type PrivacyPhase,
  type PrivacyPlan,
  privacyPlan,
  type Sampling,
} from 'gradshape';
import { runMain } from './harness/experiment.js';
import { makeFolder } from './harness/files.js';
import { parse, wholeNumber } from './harness/options.js';
import {
  digits,
  epsilonText,
  finite,
  isFinitePoint,
  lineFigure,
  type Report,
  replaceInfinity,
  type Series,
  type Table,
  terminalReport,
  writeReport,
} from './report/index.js';

interface Options {
  n: number;
  batch: number;
  epochs: number;
  noise: number;
  delta: number;
  sampling: Sampling;
  accountant: AccountantName;
  targetEpsilon?: number;
  poisons?: number[];
  json?: boolean;
  out: string;
}

const ACCOUNTANTS = ['rdp', 'pld', 'gdp'] as const;
const GROUPS = [1, 2, 5, 10];

await runMain(async () => {
  const command = new Command('node experiments/privacy.js')
    .description(
      'States what DP-SGD with these settings promises: in words, by every accountant, epoch by epoch, and against groups\n' +
        'of poisons. With --target-epsilon it finds the noise multiplier first.',
    )
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)')
    .option('--n <N>', 'training examples', wholeNumber, 60000)
    .option('--batch <B>', 'batch size, or the expected one with Poisson sampling', wholeNumber, 600)
    .option('--epochs <E>', 'passes over the data', wholeNumber, 15)
    .option('--noise <σ>', 'noise multiplier: noise standard deviation over clip norm', number, 1.1)
    .option('--delta <δ>', 'δ of the guarantee', number, 1e-5)
    .addOption(
      new Option(
        '--sampling <kind>',
        'how batches are drawn; nominal-poisson is how papers account shuffling',
      )
        .choices(['poisson', 'fixed-size', 'shuffled', 'nominal-poisson'])
        .default('poisson'),
    )
    .option('--target-epsilon <ε>', 'find the noise multiplier for this ε (then --noise is not used)', number)
    .addOption(new Option('--accountant <name>', 'whose ε the target is').choices(ACCOUNTANTS).default('pld'))
    .option('--poisons <k,…>', `group sizes for the group certificate (default: ${GROUPS})`, wholeNumbers)
    .option('--json', 'print the statement as JSON, and nothing else')
    .option('--out <DIR>', 'folder for the report', path.join('results', 'privacy'));
  parse(command, process.argv.slice(2));
  const options = command.opts<Options>();
  if (options.batch > options.n) {
    throw new GradshapeError(
      'BATCH_SIZE_OUT_OF_RANGE',
      `--batch is ${options.batch}, and there are ${options.n} examples (--n); expected a batch of 1 to ${options.n}.`,
    );
  }

  const calibrations = options.targetEpsilon === undefined ? [] : calibrate(options, options.targetEpsilon);
  const noise = calibrations.find(({ name }) => name === options.accountant)?.sigma ?? options.noise;
  const plan = planOf(options, noise);
  const phases = plan.phases();
  // What it would promise: whoever trains must take noise and sampling from a secure source, as makePrivate does.
  const statement = plan.statement(options.delta);
  const groups = (options.poisons ?? GROUPS).map((size) =>
    groupCertificate(phases, { size, delta: options.delta }),
  );
  if (options.json) {
    console.log(JSON.stringify({ ...statement, groups, calibrations }, replaceInfinity, 2));
    return 0;
  }

  const perEpoch = epochs(options.epochs).map((epoch) => ({
    epoch,
    epsilons: ACCOUNTANTS.map((name) => epsilon(name, plan.phases(plan.stepsAfter(epoch)), options.delta)),
  }));
  const tables = [
    ...(calibrations.length > 0 ? [calibrationTable(options, calibrations)] : []),
    accountantsTable(phases, options.delta),
    epochTable(perEpoch),
    groupTable(groups),
  ];
  const figures = [
    lineFigure({
      title: 'ε by epoch',
      x: { label: 'epoch' },
      y: { label: `ε at δ = ${formatUpperBound(options.delta)}` },
      series: ACCOUNTANTS.map((name, i) => ({
        name: name.toUpperCase(),
        points: perEpoch.map(({ epoch, epsilons }) => ({ x: epoch, y: epsilons[i]! })).filter(isFinitePoint),
      })),
      caption: 'RDP and PLD are upper bounds; GDP is an approximation, which may be below the truth.',
    }),
    lineFigure({
      title: 'ε by noise multiplier',
      x: { label: 'noise multiplier σ', scale: 'log' },
      y: {
        label: `ε at δ = ${formatUpperBound(options.delta)}, after ${options.epochs} epoch${options.epochs === 1 ? '' : 's'}`,
      },
      series: noiseCurves(options, noise > 0 ? noise : 1),
    }),
  ];
  const report: Report = {
    figures,
    tables,
    summary: statement.says,
    csvRows: perEpoch.map(({ epoch, epsilons }) => ({
      epoch,
      ...Object.fromEntries(ACCOUNTANTS.map((name, i) => [`epsilon_${name}`, finite(epsilons[i]!)])),
      delta: options.delta,
      noise_multiplier: noise,
    })),
  };
  console.log(`${formatStatement(statement)}\n`);
  console.log(terminalReport({ tables }));
  makeFolder(options.out);
  const facts = {
    title: 'What the training promises',
    description: 'Differential privacy of DP-SGD, by every accountant.',
    paperFigure: undefined,
    warnings: [],
    settings: [['command', ['node experiments/privacy.js', ...process.argv.slice(2)].join(' ')] as const],
    failures: [],
  };
  const files = await writeReport(options.out, '', report, facts, []);
  console.log(`\nreport  ${files.html}\ntable   ${files.csv}`);
  return 0;
});

function number(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || Number.isNaN(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

function wholeNumbers(text: string): number[] {
  return text.split(',').map(wholeNumber);
}

/** What steps and batches these settings make; the clip norm, whatever it is, does not matter to ε. */
function planOf({ n, batch, epochs, sampling, accountant }: Options, noiseMultiplier: number): PrivacyPlan {
  return privacyPlan({
    ...{ datasetSize: n, batchSize: batch, epochs, sampling, accountant },
    ...{ noiseMultiplier, clipNorm: 1 },
  });
}

function epsilon(name: AccountantName, phases: PrivacyPhase[], delta: number): number {
  return createAccountant(name, phases).epsilon(delta).epsilon;
}

interface NamedCalibration {
  name: AccountantName;
  sigma: number;
  epsilon: number;
}

function calibrate(options: Options, targetEpsilon: number): NamedCalibration[] {
  return ACCOUNTANTS.map((name) => {
    const target = { targetEpsilon, targetDelta: options.delta, accountant: name };
    const { value, guarantee } = calibrateNoiseMultiplier(target, (sigma) => planOf(options, sigma).phases());
    return { name, sigma: value, epsilon: guarantee.epsilon };
  });
}

/** All epochs up to twenty of them, else twenty evenly spaced ones. */
function epochs(last: number): number[] {
  const rows = Math.min(last, 20);
  return Array.from({ length: rows }, (_, i) => Math.round(((i + 1) * last) / rows));
}

function noiseCurves(options: Options, noise: number): Series[] {
  const sigmas = Array.from({ length: 13 }, (_, i) => Number((noise * 2 ** ((i - 6) / 4)).toPrecision(3)));
  return ACCOUNTANTS.map((name) => ({
    name: name.toUpperCase(),
    points: sigmas
      .map((sigma) => ({
        x: sigma,
        y: epsilon(name, planOf(options, sigma).phases(), options.delta),
      }))
      .filter(isFinitePoint),
  }));
}

function calibrationTable({ targetEpsilon }: Options, calibrations: NamedCalibration[]): Table {
  return {
    title: `Noise multiplier for ε ≤ ${targetEpsilon}`,
    note: 'Rounded up; never overshoots. That of GDP keeps an approximation within the target, not a bound.',
    columns: ['accountant', 'noise multiplier', 'ε'],
    rows: calibrations.map(({ name, sigma, epsilon }) => ({
      cells: [name.toUpperCase(), String(sigma), epsilonText(epsilon)],
    })),
  };
}

function accountantsTable(phases: PrivacyPhase[], delta: number): Table {
  const rows = [
    ...ACCOUNTANTS.map((name) => ({ label: name.toUpperCase(), accountant: createAccountant(name, phases) })),
    {
      label: "RDP, the paper's way (classic conversion, the authors' orders)",
      accountant: createAccountant('rdp', phases, { conversion: 'classic', orders: AUTHORS_ORDERS }),
    },
  ];
  return {
    title: `Accountants, δ = ${formatUpperBound(delta)}`,
    columns: ['accountant', 'ε', 'kind', 'Rényi order'],
    rows: rows.map(({ label, accountant }) => {
      const { epsilon, kind, order } = accountant.epsilon(delta);
      return { cells: [label, epsilonText(epsilon), kind, order === undefined ? null : digits(order)] };
    }),
  };
}

function epochTable(rows: { epoch: number; epsilons: number[] }[]): Table {
  return {
    title: 'ε by epoch',
    columns: ['epoch', ...ACCOUNTANTS.map((name) => name.toUpperCase())],
    rows: rows.map(({ epoch, epsilons }) => ({ cells: [epoch, ...epsilons.map(epsilonText)] })),
  };
}

function groupTable(groups: GroupCertificate[]): Table {
  return {
    title: 'Against groups of examples, such as k poisons',
    columns: ['k', 'ε', 'found by'],
    rows: groups.map(({ size, epsilon, method }) => ({ cells: [size, epsilonText(epsilon), method] })),
  };
}
