import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Figure, median, type Setting } from './measure.js';

const starts = 7;
const firstStep = fileURLToPath(new URL('first-step.js', import.meta.url));

/** Milliseconds from process start to the first DP step done, and of an empty process, in turn. */
export async function coldStartSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  if (!wanted('cold-start')) return [];
  const timed = (args: readonly string[]): number => {
    const start = performance.now();
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`node ${args.join(' ')} failed: ${stderr}`);
    return performance.now() - start;
  };
  const whole: number[] = [];
  const empty: number[] = [];
  for (let i = 0; i < starts; i++) {
    empty.push(timed(['--eval', '0']));
    whole.push(timed([firstStep, kernels]));
  }
  return [
    { name: 'cold-start', unit: 'ms', value: median(whole) },
    { name: 'cold-start/empty-node', unit: 'ms', value: median(empty) },
  ];
}
