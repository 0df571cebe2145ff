import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { GradshapeError } from 'gradshape';
import { type Report, type RunFacts, terminalReport, writeReport } from '../report/report.js';
import { makeFolder } from './files.js';
import { Ledger, type LedgerEntry } from './ledger.js';
import { type OptionsDefinition, parseOptions, type RunOptions, type Size, UsageExit } from './options.js';
import { duration, Progress } from './progress.js';
import { inShard, type PlannedTrial, runGrid, type TrialFailure } from './run-grid.js';
import {
  type FullSpec,
  fullSpec,
  hashShared,
  type SharedArrays,
  type SpecInput,
  shortSpec,
  type Trial,
  trialKey,
} from './trial.js';

/** A finished trial as a report sees it. */
export interface TrialResult<Spec extends object = object, Result = unknown> {
  key: string;
  spec: FullSpec<Spec>;
  result: Result;
  seconds: number;
  versions: LedgerEntry['versions'];
  /** The shell command that runs this trial alone. */
  command: string;
}

/** An experiment: a grid of specs for one kind of trial, and what to make of the results. */
export interface Experiment<
  Spec extends object = object,
  Result = unknown,
  Shared extends SharedArrays = SharedArrays,
> extends OptionsDefinition {
  /** `import.meta.url` of the experiment's file. */
  script: string;
  /** What it reproduces, such as 'Figure 4 (a, b)'. */
  paperFigure?: string;
  /** What the paper says there, in a sentence. */
  claim?: string;
  trial: Trial<Spec, Result, Shared>;
  grid(size: Size, options: RunOptions): readonly SpecInput<Spec>[];
  /** Gets the finished trials in the order of the grid; after Ctrl-C or in a shard, not all of them. */
  report(results: TrialResult<Spec, Result>[], options: RunOptions): Report | Promise<Report>;
}

/** Experiments whose files were imported rather than run: `list.js` reads them. */
export const imported: Experiment[] = [];

/**
 * Runs an experiment from the command line and sets the exit code: 0, 1 (a trial failed, or an error), 2 (usage),
 * 130 (Ctrl-C). Does nothing but note the experiment when its file is imported, as workers do.
 */
export async function runExperiment<Spec extends object, Result, Shared extends SharedArrays>(
  experiment: Experiment<Spec, Result, Shared>,
): Promise<void> {
  const untyped = experiment as unknown as Experiment;
  if (isMainThread && isEntry(experiment.script)) await runMain(() => run(untyped, process.argv.slice(2)));
  else imported.push(untyped);
}

function isEntry(script: string): boolean {
  const entry = process.argv[1];
  if (entry === undefined) return false;
  return (
    fs.realpathSync(createRequire(script).resolve(path.resolve(entry))) ===
    fs.realpathSync(fileURLToPath(script))
  );
}

/** Runs a script's body: its number becomes the exit code, a GradshapeError one line on stderr, no stack. */
export async function runMain(body: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await body();
  } catch (error) {
    if (error instanceof UsageExit) process.exitCode = error.exitCode;
    else {
      console.error(error instanceof GradshapeError ? `error ${error.code}: ${error.message}` : error);
      process.exitCode = 1;
    }
  }
}

async function run(experiment: Experiment, argv: readonly string[]): Promise<number> {
  const options = parseOptions(experiment, argv);
  const { trial } = experiment;
  const kernels = resolveKernels(options.kernels);
  const specs = experiment.grid(options.size, options).map((spec) => fullSpec(trial, spec));
  if (specs.length === 0)
    throw new GradshapeError('GRID_EMPTY', `${experiment.name}: these options leave no trial to run.`);
  makeFolder(options.out);
  const shared =
    (await trial.shared?.(options.data === undefined ? {} : { data: options.data }, specs)) ?? {};
  const hashes = hashShared(shared);
  const whole = new Map<string, PlannedTrial>();
  for (const spec of specs) {
    const key = trialKey(trial, spec, kernels, hashes);
    whole.set(key, { key, spec });
  }
  const planned = [...whole.values()].filter(
    ({ key }) => options.shard === undefined || inShard(key, options.shard),
  );

  const suffix = options.shard ? `.shard-${options.shard.index}-of-${options.shard.count}` : '';
  const say = (text: string) => console.error(text);
  const file = path.join(options.out, `ledger${suffix}.jsonl`);
  const ledger = await Ledger.open(file, trial, { fresh: options.fresh, say });
  const before = planned.filter(({ key }) => ledger.entries.has(key)).length;
  const workers = Math.min(options.workers, planned.length - before);
  say(
    `${experiment.name} --${options.size}: ${planned.length} trials` +
      `${before > 0 ? `, ${before} done before` : ''}${workers > 0 ? `, ${workers} worker(s)` : ''}`,
  );

  const commandOf = (spec: FullSpec<object>) => trialCommand(trial, spec, kernels, options.data);
  const versions = { node: process.versions.node, gradshape: packageVersion(), kernels };
  const progress = new Progress(planned.length, before);
  const interrupt = listenForInterrupts((text) => progress.say(text));
  const start = performance.now();
  let failures: TrialFailure[];
  let failed = 0;
  try {
    failures = await runGrid({
      trial,
      planned,
      ledger,
      shared,
      kernels,
      versions,
      workers,
      stop: interrupt.stop,
      stopNow: interrupt.stopNow,
      onDone: (failure) => {
        progress.tick(failure !== undefined);
        if (failure) progress.say(failureText(failure, commandOf(failure.spec), ++failed === 1));
      },
    });
  } finally {
    progress.stop();
    interrupt.off();
    await ledger.close();
  }

  const results: TrialResult[] = planned.flatMap(({ key, spec }) => {
    const entry = ledger.entries.get(key);
    if (entry === undefined) return [];
    const { result, seconds, versions } = entry;
    return [{ key, spec, result, seconds, versions, command: commandOf(spec) }];
  });
  const rerun = rerunCommand(experiment.script, argv);
  const missing = planned.length - results.length;
  const wall = duration((performance.now() - start) / 1000);
  say(
    `${results.length} of ${planned.length} trials done, ${results.length - before} of them now, in ${wall}`,
  );

  const warnings: string[] = [];
  if (missing > 0)
    warnings.push(
      `${missing} of ${planned.length} trials are missing (${failures.length} failed). Go on with: ${rerun}`,
    );
  if (options.shard)
    warnings.push(
      `This is shard ${options.shard.index} of ${options.shard.count} only. Put them together with: node experiments/merge.js ${quote(options.out)}`,
    );
  const facts: RunFacts = {
    title: experiment.title,
    description: experiment.description,
    paperFigure: experiment.paperFigure,
    warnings,
    settings: settings(experiment, options, kernels, hashes, results, rerun),
    failures: failures.map((failure) => ({ command: commandOf(failure.spec), message: failure.message })),
  };
  if (results.length > 0) {
    const report = await reportOf(experiment, results, options, warnings);
    console.log(terminalReport(report));
    const files = await writeReport(options.out, suffix, report, facts, results);
    console.log(`\nreport  ${files.html}\ntable   ${files.csv}`);
  }
  for (const warning of warnings) say(warning);
  if (interrupt.stop.aborted) return 130;
  return failures.length > 0 ? 1 : 0;
}

/** The experiment's report; where trials are missing and it can't do without, the table of those there are. */
async function reportOf(
  experiment: Experiment,
  results: TrialResult[],
  options: RunOptions,
  warnings: string[],
): Promise<Report> {
  try {
    return await experiment.report(results, options);
  } catch (error) {
    if (warnings.length === 0) throw error;
    warnings.push(
      `Too many trials are missing for figures and tables (${(error as Error).message}): the CSV has those that are done.`,
    );
    return {};
  }
}

/** The first Ctrl-C (or SIGTERM) lets running trials finish; one more, a second later or after, gives them up. */
function listenForInterrupts(say: (text: string) => void) {
  const stop = new AbortController();
  const stopNow = new AbortController();
  let first = 0;
  const onSignal = () => {
    if (!stop.signal.aborted) {
      first = performance.now();
      say('\nstopping: the running trials finish and are kept (Ctrl-C again gives them up)');
      stop.abort();
    } else if (performance.now() - first > 1000) {
      // npm passes on a Ctrl-C that the terminal has sent us already: only a later one is meant.
      stopNow.abort();
    }
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const off = () => process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  return { stop: stop.signal, stopNow: stopNow.signal, off };
}

/** 'auto' is relaxed where this runtime compiles the relaxed kernels, else base. */
export function resolveKernels(asked: 'base' | 'relaxed' | 'auto'): 'base' | 'relaxed' {
  if (asked === 'base') return 'base';
  const file = createRequire(import.meta.url).resolve('gradshape/kernels/relaxed.wasm');
  if (WebAssembly.validate(fs.readFileSync(file))) return 'relaxed';
  if (asked === 'auto') return 'base';
  throw new GradshapeError(
    'KERNELS_UNSUPPORTED',
    `Node ${process.versions.node} has no relaxed SIMD; use --kernels base or auto, or a newer Node.`,
  );
}

export function packageVersion(): string {
  return createRequire(import.meta.url)('gradshape/package.json').version;
}

/** The command that runs one trial alone. */
export function trialCommand(trial: Trial, spec: FullSpec<object>, kernels: string, data?: string): string {
  const file = fileURLToPath(trial.module);
  const known = path.basename(path.dirname(file)) === 'trials' && path.basename(file, '.js') === trial.name;
  const name = known ? trial.name : path.relative(process.cwd(), file);
  const words = ['--trial', name, '--spec', JSON.stringify(shortSpec(trial, spec))];
  if (kernels !== 'base') words.push('--kernels', kernels);
  if (data !== undefined) words.push('--data', data);
  return `node experiments/trial.js ${words.map(quote).join(' ')}`;
}

function rerunCommand(script: string, argv: readonly string[]): string {
  const file = path.relative(process.cwd(), fileURLToPath(script));
  return ['node', file, ...argv.filter((word) => word !== '--fresh')].map(quote).join(' ');
}

function quote(word: string): string {
  return /^[\w./:=,+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The first failure shows where in the code; those after it would repeat that. */
function failureText({ code, message, stack }: TrialFailure, command: string, first: boolean): string {
  const named = code === undefined ? message : `${code}: ${message}`;
  return `trial failed: ${first && code === undefined && stack !== undefined ? stack : named}\n  ${command}`;
}

function settings(
  experiment: Experiment,
  options: RunOptions,
  kernels: string,
  hashes: Record<string, string>,
  results: readonly TrialResult[],
  command: string,
): [string, string][] {
  const distinct = (pick: (v: LedgerEntry['versions']) => string) =>
    [...new Set(results.map(({ versions }) => pick(versions)))].join(', ');
  const data = Object.entries(hashes).map(([name, hash]) => `${name} ${hash.slice(0, 12)}`);
  const seconds = results.reduce((sum, r) => sum + r.seconds, 0);
  const own = Object.entries(options.own).map(([name, value]): [string, string] => [name, String(value)]);
  return [
    ['command', command],
    ['size', options.size],
    ['seeds', options.seeds.join(', ')],
    ...own,
    ['trials', `${results.length}, ${duration(seconds)} of computing, one thread each`],
    ['trial', `${experiment.trial.name}, version ${experiment.trial.version}`],
    ['kernels', kernels],
    ['Node', distinct((v) => v.node)],
    ['gradshape', distinct((v) => v.gradshape)],
    ['data (SHA-256)', data.join(', ') || 'none'],
    ['written', new Date().toISOString().slice(0, 16).replace('T', ' ')],
  ];
}
