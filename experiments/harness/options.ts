import os from 'node:os';
import path from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';

export { Option };

export type Size = 'smoke' | 'quick' | 'full';

/** The options every experiment has; `own` holds the experiment's. */
export interface RunOptions {
  size: Size;
  /** 1 … N. */
  seeds: number[];
  workers: number;
  shard: { index: number; count: number } | undefined;
  out: string;
  data: string | undefined;
  kernels: 'base' | 'relaxed' | 'auto';
  fresh: boolean;
  own: Record<string, unknown>;
}

export interface OptionsDefinition {
  name: string;
  title: string;
  description: string;
  /** Seeds a size runs by default. Default: smoke 1, quick 5, full 20. */
  seeds?: Partial<Record<Size, number>>;
  /** What each size runs, for --help. */
  sizes?: Partial<Record<Size, string>>;
  options?: readonly Option[];
}

const SIZES: readonly Size[] = ['smoke', 'quick', 'full'];
const SEEDS = { smoke: 1, quick: 5, full: 20 };
const SIZE_TEXTS = { smoke: 'seconds', quick: 'a minute or two', full: "the paper's grid" };

/** Thrown after the usage message (or the help) has been printed; `exitCode` is 0 for help and 2 for a mistake. */
export class UsageExit extends Error {
  constructor(readonly exitCode: number) {
    super('usage');
  }
}

/** Parses an experiment's command line. Error: UsageExit, after a short message with the nearest option's name. */
export function parseOptions(definition: OptionsDefinition, argv: readonly string[]): RunOptions {
  const seeds = { ...SEEDS, ...definition.seeds };
  const command = new Command(`node experiments/${definition.name}.js`)
    .description(`${definition.title}\n\n${definition.description}`)
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)');
  for (const size of SIZES) {
    const text = definition.sizes?.[size] ?? SIZE_TEXTS[size];
    const mark = size === 'quick' ? ', the default' : '';
    const others = SIZES.filter((other) => other !== size);
    command.addOption(new Option(`--${size}`, `${text} (${seeds[size]} seeds${mark})`).conflicts(others));
  }
  command
    .option('--seeds <N>', 'run seeds 1 to N', wholeNumber)
    .option('--workers <N>', 'worker threads', wholeNumber, os.availableParallelism())
    .option('--shard <i/n>', 'run part i of n only; `merge.js` puts the parts together', shard)
    .option('--out <DIR>', 'folder for the ledger and the report', path.join('results', definition.name))
    .option('--data <DIR>', 'folder with data sets, searched first')
    .addOption(
      new Option('--kernels <build>', 'WebAssembly build; relaxed is faster and may differ in the last bits')
        .choices(['base', 'relaxed', 'auto'])
        .default('base'),
    )
    .option('--fresh', 'move the earlier results aside and start over (default: go on where they stop)');
  for (const option of definition.options ?? []) command.addOption(option);

  parse(command, argv);
  const { smoke, full, workers, out, data, kernels, fresh, quick: _, ...rest } = command.opts();
  const { seeds: count, shard: part, ...own } = rest;
  const size: Size = smoke ? 'smoke' : full ? 'full' : 'quick';
  return {
    size,
    seeds: Array.from({ length: count ?? seeds[size] }, (_, i) => i + 1),
    workers,
    shard: part,
    out,
    data,
    kernels,
    fresh: fresh ?? false,
    own,
  };
}

/** Parses with commander; prints what is wrong in a line or two. Error: UsageExit. */
export function parse(command: Command, argv: readonly string[]): void {
  try {
    command.allowExcessArguments(false).exitOverride().parse(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError) throw new UsageExit(error.exitCode === 0 ? 0 : 2);
    throw error;
  }
}

/** An option that takes some of the choices, comma-separated; by default all. */
export function someOf<Choice extends string | number>(
  flags: string,
  description: string,
  choices: readonly Choice[],
): Option {
  const choose = (text: string): Choice[] =>
    text.split(',').map((name) => {
      const choice = choices.find((known) => String(known) === name.trim());
      if (choice !== undefined) return choice;
      throw new InvalidArgumentError(`There is no '${name}'; there are ${choices.join(', ')}.`);
    });
  return new Option(flags, `${description}, comma-separated`).argParser(choose).default(choices, 'all');
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError('Expected a whole number from 1 up.');
  return value;
}

function shard(text: string): { index: number; count: number } {
  const match = /^(\d+)\/(\d+)$/.exec(text);
  const [index, count] = [Number(match?.[1]), Number(match?.[2])];
  if (!(index >= 1 && index <= count))
    throw new InvalidArgumentError('Expected i/n with 1 ≤ i ≤ n, such as 1/4.');
  return { index, count };
}
