// A run's folder: settings and results so far, and the checkpoint it goes on from.
import fs from 'node:fs';
import path from 'node:path';
import { GradshapeError } from 'gradshape';
import { fileError, replaceFile } from '../harness/files.js';
import { replaceInfinity } from '../report/index.js';
import { flagOf, type RunSettings, type TrainCommand } from './options.js';
import type { EpochRow } from './report.js';

/** What lies beside the checkpoint. */
export interface RunFile {
  readonly settings: RunSettings;
  /** Of the data; a run must not go on with other data. */
  readonly hash: string;
  readonly epochs: readonly EpochRow[];
}

const checkpointFile = (out: string): string => path.join(out, 'checkpoint.safetensors');
const runFile = (out: string): string => path.join(out, 'run.json');

export function writeRun(out: string, run: RunFile): void {
  replaceFile(runFile(out), `${JSON.stringify(run, replaceInfinity, 2)}\n`);
}

export function writeCheckpoint(out: string, bytes: Uint8Array): void {
  replaceFile(checkpointFile(out), bytes);
}

/** An earlier run's folder gets a number behind its name: hours of training are not to be overwritten. */
export function moveAside(out: string): void {
  if (!fs.existsSync(checkpointFile(out))) return;
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

/** What the run to go on with was, with the options that may change. Errors: RESUME_NOT_FOUND, RESUME_OPTIONS. */
export function readRun({ out, given, settings }: TrainCommand): RunFile {
  const run = parseRun(out);
  const changeable =
    run.settings.clip === undefined ? ['epochs'] : ['epochs', 'targetEpsilon', 'physicalBatch'];
  const fixed = given.filter((name) => !changeable.includes(name));
  if (fixed.length > 0) {
    throw new GradshapeError(
      'RESUME_OPTIONS',
      `--resume keeps the run's options; ${fixed.map(flagOf).join(', ')} can't be changed. Leave them out, or start a new run in another --out.`,
    );
  }
  const changed = Object.fromEntries(Object.entries(settings).filter(([name]) => given.includes(name)));
  return { ...run, settings: { ...run.settings, ...changed } };
}

function parseRun(out: string): RunFile {
  try {
    const text = fs.readFileSync(runFile(out), 'utf8');
    const run = JSON.parse(text, (name, value) =>
      name === 'epsilon' && value === 'Infinity' ? Number.POSITIVE_INFINITY : value,
    );
    const { settings, hash, epochs } = (run ?? {}) as Partial<RunFile>;
    if (typeof settings?.set !== 'string' || typeof hash !== 'string' || !Array.isArray(epochs)) {
      throw new Error('its run.json is damaged: expected settings, hash and epochs');
    }
    return run;
  } catch (error) {
    throw new GradshapeError(
      'RESUME_NOT_FOUND',
      `there is no run to go on with in ${out} (${(error as Error).message}). Name its folder with --out.`,
      { cause: error },
    );
  }
}

export function readCheckpoint(out: string): Uint8Array {
  try {
    return fs.readFileSync(checkpointFile(out));
  } catch (error) {
    throw new GradshapeError(
      'RESUME_NOT_FOUND',
      `there is no checkpoint in ${out}: the run ended before its first. Start it again without --resume.`,
      { cause: error },
    );
  }
}
