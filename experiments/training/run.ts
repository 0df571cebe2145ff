import { createEngine, type Dataset, evaluate, formatUpperBound, GradshapeError } from 'gradshape';
import { resolveKernels } from '../harness/experiment.js';
import { makeFolder } from '../harness/files.js';
import { moveAside, readCheckpoint, readRun, writeCheckpoint, writeRun } from './folder.js';
import type { TrainCommand } from './options.js';
import { privateTrainer } from './private.js';
import { epochLine, TrainingProgress } from './progress.js';
import { type EpochRow, writeTrainingReport } from './report.js';
import { loadSets, type TrainingSets } from './sets.js';
import type { EpochEnd, Trainer } from './trainer.js';
import { vanillaTrainer } from './vanilla.js';

/** Trains as the command line says; returns the exit code: 0, or 130 after Ctrl-C. */
export async function runTraining(command: TrainCommand): Promise<number> {
  const { out } = command;
  const before = command.resume ? readRun(command) : undefined;
  const checkpoint = before && readCheckpoint(out);
  if (before === undefined) moveAside(out);
  makeFolder(out);
  const asked = before?.settings ?? command.settings;
  const sets = await loadSets(asked, command.data);
  if (before !== undefined && before.hash !== sets.hash) {
    throw new GradshapeError(
      'DATA_CHANGED',
      `the run in ${out} was on other data (SHA-256 ${before.hash.slice(0, 12)}, now ${sets.hash.slice(0, 12)}); expected the same files.`,
    );
  }
  const engine = await createEngine({ kernels: resolveKernels(asked.kernels) });
  const data = {
    train: engine.dataset(sets.train),
    test: engine.dataset(sets.test),
    validation: sets.validation && engine.dataset(sets.validation),
    inexactTest: sets.inexactTest && engine.dataset(sets.inexactTest),
  };
  const make = asked.clip === undefined ? vanillaTrainer : privateTrainer;
  const trainer = make(engine, asked, data.train, sets.train.classes.length, checkpoint);
  const { settings, model } = trainer;
  const rows = (before?.epochs ?? []).filter(({ epoch }) => epoch <= (trainer.epoch ?? 0) + 1);
  checkEpsilons(out, trainer, rows);
  const say = (text: string) => console.error(text);
  say(
    `${settings.model} (${model.parameterCount.toLocaleString('en-US')} parameters) on ${settings.set}: ` +
      `${data.train.count.toLocaleString('en-US')} training and ${data.test.count.toLocaleString('en-US')} test examples`,
  );
  for (const note of [...sets.notes, ...trainer.notes]) say(note);

  const aborted = await loop(trainer, data, rows, out, sets);
  if (rows.length > 0) await writeTrainingReport(out, trainer, sets, rows, aborted);
  trainer.free();
  if (aborted) say('Stopped. Go on with the same --out and --resume.');
  return aborted ? 130 : 0;
}

/** ε by epoch is one curve, at one δ by one accountant: those that the run began with. Error: RUN_CHANGED. */
function checkEpsilons(out: string, { privacy, settings }: Trainer, rows: readonly EpochRow[]): void {
  const last = rows.at(-1);
  if (privacy === undefined || last === undefined) return;
  const expected = privacy.epsilonAfter(last.epoch);
  // To rounding: another Node may have another logarithm.
  const { epsilon = Number.NaN } = last;
  if (epsilon === expected || Math.abs(epsilon - expected) < 1e-6 * expected) return;
  throw new GradshapeError(
    'RUN_CHANGED',
    `run.json in ${out} says ε = ${epsilon} after epoch ${last.epoch}, and with its δ = ${formatUpperBound(settings.delta)} and accountant ${settings.accountant} that is ${expected}: it was ` +
      'changed since. Expected it as the run wrote it; for another δ, start a new run.',
  );
}

interface RunData {
  readonly train: Dataset;
  readonly test: Dataset;
  readonly validation: Dataset | undefined;
  readonly inexactTest: Dataset | undefined;
}

/** The training itself; adds a row an epoch. Returns whether it was stopped by a signal. */
async function loop(
  trainer: Trainer,
  data: RunData,
  rows: EpochRow[],
  out: string,
  { hash }: TrainingSets,
): Promise<boolean> {
  const { settings, steps, privacy } = trainer;
  const progress = new TrainingProgress(settings.epochs, steps);
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  const note = () => writeRun(out, { settings, hash, epochs: rows });
  let rate = 0;
  let epochStart = performance.now();
  const onEpoch = (end: EpochEnd): void => {
    // First of all: nothing must be known of a private model that a resumed run would make, and count, anew.
    writeCheckpoint(out, trainer.save());
    const results = evaluateAll(trainer, data);
    const seconds = (performance.now() - epochStart) / 1000;
    epochStart = performance.now();
    const { epoch, loss, epsilon } = end;
    const row: EpochRow = {
      ...{ epoch: epoch + 1, trainLoss: loss, ...results },
      ...(epsilon !== undefined && { epsilon }),
      seconds,
    };
    const at = rows.findIndex((other) => other.epoch === row.epoch);
    if (at < 0) rows.push(row);
    else rows[at] = { ...row, seconds: rows[at]!.seconds };
    note();
    progress.say(epochLine(row, settings.epochs, rate, privacy?.label));
  };
  note();
  try {
    for await (const done of trainer.run(stop.signal, onEpoch)) {
      rate = done.examplesPerSecond;
      progress.step(done);
    }
  } finally {
    progress.stop();
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
  if (trainer.epoch !== undefined) writeCheckpoint(out, trainer.save());
  return stop.signal.aborted;
}

function evaluateAll({ model, params }: Trainer, { test, validation, inexactTest }: RunData) {
  const { loss, accuracy } = evaluate(model, params, test);
  const accuracyOn = (set: Dataset | undefined) =>
    set === undefined ? null : evaluate(model, params, set).accuracy;
  return {
    testLoss: loss,
    testAccuracy: accuracy,
    validationAccuracy: accuracyOn(validation),
    inexactTestAccuracy: accuracyOn(inexactTest),
  };
}
