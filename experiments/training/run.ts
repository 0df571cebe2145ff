import fs from 'node:fs';
import path from 'node:path';
import {
  adam,
  constantRate,
  cosineDecay,
  createEngine,
  type Dataset,
  type Engine,
  evaluate,
  GradshapeError,
  loadTraining,
  namedModel,
  type Optimizer,
  type Parameters,
  privateStep,
  type Sequential,
  saveTraining,
  secureNoise,
  seededNoise,
  sgd,
  type TrainingPosition,
  type TrainingStep,
  train,
  vanillaStep,
} from 'gradshape';
import type { LabelledSet } from '../data/index.js';
import { resolveKernels } from '../harness/experiment.js';
import { fileError, makeFolder, replaceFile } from '../harness/files.js';
import type { RunSettings, TrainCommand } from './options.js';
import { rateText, TrainingProgress } from './progress.js';
import { type EpochRow, writeTrainingReport } from './report.js';
import { loadSets } from './sets.js';

/** What lies beside the checkpoint. */
interface RunFile {
  readonly settings: RunSettings;
  /** Of the data; a run must not go on with other data. */
  readonly hash: string;
  readonly epochs: readonly EpochRow[];
}

interface RunState {
  readonly model: Sequential;
  readonly params: Parameters;
  readonly optimizer: Optimizer;
  position: TrainingPosition | undefined;
}

/** Trains as the command line says; returns the exit code: 0, or 130 after Ctrl-C. */
export async function runTraining(command: TrainCommand): Promise<number> {
  const { out } = command;
  const before = command.resume ? readRun(command) : undefined;
  if (before === undefined) moveAside(out);
  makeFolder(out);
  const settings =
    before === undefined
      ? command.settings
      : { ...before.settings, ...(command.given.includes('epochs') && { epochs: command.settings.epochs }) };
  const sets = await loadSets(settings, command.data);
  if (before !== undefined && before.hash !== sets.hash) {
    throw new GradshapeError(
      'DATA_CHANGED',
      `the run in ${out} was on other data (SHA-256 ${before.hash.slice(0, 12)}, now ${sets.hash.slice(0, 12)}); expected the same files.`,
    );
  }
  const engine = await createEngine({ kernels: resolveKernels(settings.kernels) });
  const data = {
    train: engine.dataset(sets.train),
    test: engine.dataset(sets.test),
    validation: sets.validation && engine.dataset(sets.validation),
    inexactTest: sets.inexactTest && engine.dataset(sets.inexactTest),
  };
  const state = before === undefined ? begin(engine, settings, sets.train) : goOn(engine, out);
  const rows = (before?.epochs ?? []).filter(({ epoch }) => epoch <= (state.position?.epoch ?? 0) + 1);
  const say = (text: string) => console.error(text);
  say(
    `${settings.model} (${state.model.parameterCount.toLocaleString('en-US')} parameters) on ${settings.set}: ` +
      `${data.train.count.toLocaleString('en-US')} training and ${data.test.count.toLocaleString('en-US')} test examples`,
  );
  for (const note of sets.notes) say(note);
  if (settings.clip !== undefined) say(privacyNote(settings));

  const write = () => writeRun(out, state, settings, { settings, hash: sets.hash, epochs: rows });
  const aborted = await loop(state, settings, data, rows, write);
  if (state.position !== undefined) write();
  if (rows.length > 0) await writeTrainingReport(out, settings, state.model, sets, rows, aborted);
  if (aborted) say('Stopped. Go on with the same --out and --resume.');
  return aborted ? 130 : 0;
}

interface RunData {
  readonly train: Dataset;
  readonly test: Dataset;
  readonly validation: Dataset | undefined;
  readonly inexactTest: Dataset | undefined;
}

/** The training itself; adds a row an epoch. Returns whether it was stopped by a signal. */
async function loop(
  state: RunState,
  settings: RunSettings,
  data: RunData,
  rows: EpochRow[],
  write: () => void,
): Promise<boolean> {
  const { model, params } = state;
  const { epochs, batchSize, learningRate } = settings;
  const stepsAnEpoch = Math.ceil(data.train.count / batchSize);
  const progress = new TrainingProgress(epochs, stepsAnEpoch);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const step = stepOf(state, settings);
  let rate = 0;
  let epochStart = performance.now();
  const run = train({
    ...{ model, params, data: data.train, step, epochs, batchSize, seed: settings.seed, signal: stop.signal },
    schedule:
      settings.schedule === 'cosine'
        ? cosineDecay({ learningRate, steps: epochs * stepsAnEpoch })
        : constantRate(learningRate),
    ...(state.position && { start: state.position }),
    onEpoch: ({ epoch, loss }) => {
      const test = evaluate(model, params, data.test);
      const accuracyOn = (set: Dataset | undefined) => set && evaluate(model, params, set).accuracy;
      const validation = accuracyOn(data.validation);
      const inexact = accuracyOn(data.inexactTest);
      const seconds = (performance.now() - epochStart) / 1000;
      epochStart = performance.now();
      const row: EpochRow = {
        epoch: epoch + 1,
        trainLoss: loss,
        testLoss: test.loss,
        testAccuracy: test.accuracy,
        validationAccuracy: validation ?? null,
        inexactTestAccuracy: inexact ?? null,
        seconds,
      };
      const at = rows.findIndex((other) => other.epoch === row.epoch);
      if (at < 0) rows.push(row);
      else rows[at] = { ...row, seconds: rows[at]!.seconds };
      write();
      progress.say(
        `epoch ${row.epoch}/${epochs}  loss ${loss.toFixed(4)}  test accuracy ${test.accuracy.toFixed(4)} (loss ${test.loss.toFixed(4)})` +
          `${validation === undefined ? '' : `  validation ${validation.toFixed(4)}`}` +
          `${inexact === undefined ? '' : `  inexact test images ${inexact.toFixed(4)}`}  ${seconds.toFixed(1)} s, ${rateText(rate)} examples/s`,
      );
    },
  });
  try {
    for await (const report of run) {
      state.position = report.position;
      rate = report.examplesPerSecond;
      progress.step(report);
    }
  } finally {
    progress.stop();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    step.free();
  }
  return stop.signal.aborted;
}

function stepOf({ params, optimizer }: RunState, settings: RunSettings): TrainingStep {
  const { clip, noise, secure, seed, strategy, batchSize } = settings;
  if (clip === undefined) return vanillaStep({ params, optimizer });
  return privateStep({
    params,
    optimizer,
    clipNorm: clip,
    noiseMultiplier: noise,
    expectedBatchSize: batchSize,
    noise: secure ? secureNoise() : seededNoise(seed),
    strategy,
  });
}

function begin(engine: Engine, settings: RunSettings, { shape, classes }: LabelledSet): RunState {
  const model = namedModel(settings.model, shape, classes.length);
  const params = model.init(engine, { seed: settings.seed });
  return { model, params, optimizer: optimizerOf(settings), position: undefined };
}

function optimizerOf({ optimizer, learningRate, momentum, weightDecay }: RunSettings): Optimizer {
  switch (optimizer) {
    case 'sgd':
      return sgd({ learningRate, weightDecay });
    case 'momentum':
    case 'nesterov':
      return sgd({ learningRate, weightDecay, momentum, nesterov: optimizer === 'nesterov' });
    default:
      return adam({ learningRate, weightDecay, decoupled: optimizer === 'adamw' });
  }
}

/** What clipping and noise make of this run. */
function privacyNote({ clip, noise, secure }: RunSettings): string {
  if (noise === 0) return `Clipped to norm ${clip}, no noise: ε = ∞.`;
  const sizes = `Clipped to norm ${clip}, noise multiplier ${noise} (standard deviation ${clip! * noise} on the sum).`;
  return secure
    ? `${sizes} The batches are a shuffled pass over the data; for a stated ε, train with a privacy plan.`
    : `${sizes} Seeded noise, which who knows the seed can subtract: an experiment, not a private model.`;
}

const checkpointFile = (out: string): string => path.join(out, 'checkpoint.safetensors');
const runFile = (out: string): string => path.join(out, 'run.json');

function writeRun(out: string, state: RunState, { seed }: RunSettings, run: RunFile): void {
  const { model, params, optimizer, position } = state;
  replaceFile(runFile(out), `${JSON.stringify(run, null, 2)}\n`);
  replaceFile(checkpointFile(out), saveTraining({ model, params, optimizer, seed, position: position! }));
}

/** An earlier run's folder gets a number behind its name: hours of training are not to be overwritten. */
function moveAside(out: string): void {
  if (!fs.existsSync(runFile(out))) return;
  const folder = path.resolve(out);
  let n = 1;
  while (fs.existsSync(`${folder}-${n}`)) n++;
  try {
    fs.renameSync(folder, `${folder}-${n}`);
  } catch (error) {
    throw fileError(error, out);
  }
  console.error(`The earlier run in ${out} is now in ${out}-${n}.`);
}

function readRun({ out, given }: TrainCommand): RunFile {
  const fixed = given.filter((name) => name !== 'epochs');
  if (fixed.length > 0) {
    throw new GradshapeError(
      'RESUME_OPTIONS',
      `--resume keeps the run's options; ${fixed.join(', ')} can't be changed. Leave them out, or start a new run in another --out.`,
    );
  }
  try {
    return JSON.parse(fs.readFileSync(runFile(out), 'utf8'));
  } catch (error) {
    throw new GradshapeError(
      'RESUME_NOT_FOUND',
      `there is no run to go on with in ${out} (${(error as Error).message}). Name its folder with --out.`,
      { cause: error },
    );
  }
}

function goOn(engine: Engine, out: string): RunState {
  let bytes: Uint8Array;
  try {
    bytes = fs.readFileSync(checkpointFile(out));
  } catch (error) {
    throw new GradshapeError(
      'RESUME_NOT_FOUND',
      `there is no checkpoint in ${out}: the run ended before its first. Start it again without --resume.`,
      { cause: error },
    );
  }
  return loadTraining(bytes, engine);
}
