import { Bench } from 'tinybench';

/** One figure of the benchmark, as it goes to the JSON file. */
export interface Figure {
  readonly name: string;
  readonly unit: 'GFLOP/s' | 'ns' | 'ms' | 'MB';
  readonly value: number;
}

/** What a suite needs to know of the run. */
export interface Setting {
  readonly kernels: 'base' | 'relaxed';
  /** Whether a figure was asked for (`--only`). */
  wanted(name: string): boolean;
}

/** Iterations are capped by time, and by count for tasks over 50 ms. */
const taskTime = 150;
const slowTask = 50;
const slowIterations = 7;

/**
 * Median milliseconds of each task, sampled in turn over several rounds, so that a slow moment of the machine falls on all of
 * them alike: ratios within one call are fair.
 */
export async function medians(
  tasks: Readonly<Record<string, () => void>>,
  rounds = 3,
): Promise<Record<string, number>> {
  const samples: Record<string, number[]> = {};
  for (let round = 0; round < rounds; round++) {
    for (const [name, task] of Object.entries(tasks)) {
      const start = performance.now();
      task();
      const slow = performance.now() - start > slowTask;
      const bench = new Bench(
        slow
          ? { time: 0, iterations: Math.ceil(slowIterations / rounds), warmup: false, retainSamples: true }
          : {
              time: taskTime,
              iterations: 3,
              warmupTime: taskTime / 3,
              warmupIterations: 3,
              retainSamples: true,
            },
      );
      bench.add(name, task);
      await bench.run();
      const { result } = bench.tasks[0]!;
      if (!('latency' in result))
        throw new Error(`${name}: the benchmark did not complete`, { cause: result });
      samples[name] = (samples[name] ?? []).concat(result.latency.samples ?? [result.latency.p50]);
    }
  }
  return Object.fromEntries(Object.entries(samples).map(([name, all]) => [name, median(all)]));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
