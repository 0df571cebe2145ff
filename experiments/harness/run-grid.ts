import { Worker } from 'node:worker_threads';
import type { Ledger, LedgerEntry } from './ledger.js';
import type { FullSpec, SharedArrays, Trial } from './trial.js';
import type { WorkerReply, WorkerSetup } from './worker.js';

/** A trial to run: its full spec and its key. */
export interface PlannedTrial {
  key: string;
  spec: FullSpec<object>;
}

export interface TrialFailure extends PlannedTrial {
  message: string;
  code: string | undefined;
  stack: string | undefined;
}

export interface GridRun {
  trial: Trial;
  /** Trials to run; those whose key the ledger holds are skipped. */
  planned: readonly PlannedTrial[];
  ledger: Ledger;
  shared: SharedArrays;
  kernels: 'base' | 'relaxed';
  versions: LedgerEntry['versions'];
  workers: number;
  /** Aborted: no new trial starts, the running ones finish. */
  stop: AbortSignal;
  /** Aborted: running trials are given up too. */
  stopNow: AbortSignal;
  onDone(failure?: TrialFailure): void;
}

/** Shard `index` (from 1) of `count` owns a key or not: independent of the grid, so shards may differ in size a little. */
export function inShard(key: string, { index, count }: { index: number; count: number }): boolean {
  return Number.parseInt(key.slice(0, 12), 16) % count === index - 1;
}

/**
 * Runs what the ledger lacks on worker threads and writes each result to the ledger as it comes.
 * A failing trial, or one that takes its worker down, is reported and costs no other. When the ledger can't be written,
 * the run ends at once with the ledger's error.
 */
export async function runGrid(run: GridRun): Promise<TrialFailure[]> {
  const queue = run.planned.filter(({ key }) => !run.ledger.entries.has(key));
  const failures: TrialFailure[] = [];
  const broken = new AbortController();
  const stopNow = AbortSignal.any([run.stopNow, broken.signal]);
  const setup: WorkerSetup = {
    module: run.trial.module,
    trial: run.trial.name,
    kernels: run.kernels,
    shared: run.shared,
  };

  const drain = async () => {
    let worker: Worker | undefined;
    const start = () => {
      const fresh = new Worker(new URL('./worker.js', import.meta.url), { workerData: setup });
      fresh.on('error', () => {}); // told by `ask`; between two trials it concerns nobody
      fresh.on('exit', () => {
        if (worker === fresh) worker = undefined;
      });
      return fresh;
    };
    try {
      while (queue.length > 0 && !run.stop.aborted && !stopNow.aborted) {
        const task = queue.shift()!;
        worker ??= start();
        const reply = await ask(worker, task.spec, stopNow);
        if (reply === 'stopped') return;
        if (reply.ok) {
          const { key, spec } = task;
          const { name, version } = run.trial;
          const result = JSON.parse(reply.json);
          run.ledger.append({
            key,
            trial: name,
            version,
            spec,
            result,
            versions: run.versions,
            seconds: reply.seconds,
          });
          run.onDone();
        } else {
          if (reply.code === 'WORKER_DIED') worker = undefined;
          const { message, code, stack } = reply;
          failures.push({ ...task, message, code, stack });
          run.onDone(failures.at(-1));
        }
      }
    } catch (error) {
      broken.abort();
      throw error;
    } finally {
      await worker?.terminate();
    }
  };
  const slots = Array.from({ length: Math.min(run.workers, queue.length) }, drain);
  const ends = await Promise.allSettled(slots);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return failures;
}

/** Sends a spec and waits for the answer, the worker's death, or the signal to give up. */
function ask(worker: Worker, spec: FullSpec<object>, stopNow: AbortSignal): Promise<WorkerReply | 'stopped'> {
  return new Promise((resolve) => {
    const settle = (reply: WorkerReply | 'stopped') => {
      worker.off('message', settle).off('error', onError).off('exit', onExit);
      stopNow.removeEventListener('abort', onStop);
      resolve(reply);
    };
    const died = (message: string, stack?: string) =>
      settle({ ok: false, message, code: 'WORKER_DIED', stack });
    const onError = (error: Error) => died(`the worker died: ${error.message}`, error.stack);
    const onExit = (code: number) =>
      died(`the worker ended with exit code ${code} in the middle of the trial`);
    const onStop = () => settle('stopped');
    worker.on('message', settle).on('error', onError).on('exit', onExit);
    stopNow.addEventListener('abort', onStop);
    worker.postMessage(spec);
  });
}
