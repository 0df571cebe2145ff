import { parentPort, workerData } from 'node:worker_threads';
import { type FullSpec, importTrial, runTrial, type SharedArrays } from './trial.js';

/** What a worker gets when it starts. */
export interface WorkerSetup {
  module: string;
  trial: string;
  kernels: 'base' | 'relaxed';
  shared: SharedArrays;
}

/** What it answers to a spec. */
export type WorkerReply =
  | { ok: true; json: string; seconds: number }
  | { ok: false; message: string; code: string | undefined; stack: string | undefined };

const { module, trial: name, kernels, shared } = workerData as WorkerSetup;
const context = { kernels, shared, memo: new Map<string, unknown>() };
const trial = await importTrial(module, name);

parentPort?.on('message', async (spec: FullSpec<object>) => {
  parentPort?.postMessage(await answer(spec));
});

async function answer(spec: FullSpec<object>): Promise<WorkerReply> {
  try {
    return { ok: true, ...(await runTrial(trial, spec, context)) };
  } catch (error) {
    const thrown: NodeJS.ErrnoException = error instanceof Error ? error : new Error(String(error));
    const { message, stack, code } = thrown;
    return { ok: false, message, code, stack };
  }
}
