import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type Mode, modes, w4Step } from './cnn-steps.js';
import { type Figure, medians, type Setting } from './measure.js';

const script = fileURLToPath(new URL('cnn-steps.js', import.meta.url));

/** Steps of W4 in ms, and the peak resident memory of a process that does three of them in MB. */
export async function cnnSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  const asked = modes.filter((mode) => wanted(`step/W4/${mode}`));
  const times = await medians(Object.fromEntries(asked.map((mode) => [mode, w4Step(mode, kernels)])));
  return [
    ...asked.map((mode) => ({ name: `step/W4/${mode}`, unit: 'ms', value: times[mode]! }) as const),
    ...modes
      .filter((mode) => wanted(`memory/W4/${mode}`))
      .map((mode) => ({ name: `memory/W4/${mode}`, unit: 'MB', value: peakMemory(mode, kernels) }) as const),
  ];
}

function peakMemory(mode: Mode, kernels: string): number {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, mode, kernels], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`node ${script} ${mode} failed: ${stderr}`);
  return Number(stdout);
}
