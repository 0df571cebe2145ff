// Smoke runs of the experiments on what privacy costs, from the command line; what the private CNN's trial counts.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createAccountant } from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fullSpec, type Trial } from '../experiments/harness/trial.js';
import { type PrivateCnnSpec, privateCnn } from '../experiments/trials/private-cnn.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'gradshape-'));
test.after(() => rmSync(out, { recursive: true, force: true }));

// Side by side: most of a smoke run's time is its start.
const runs = ['utility-epsilon', 'private-cnn'].map((name) => {
  const args = [`experiments/${name}.js`, '--smoke', '--workers', '1', '--out', join(out, name)];
  const ended = new Promise<[error: Error | null, stdout: string]>((resolve) => {
    execFile(process.execPath, args, { cwd: root }, (error, stdout) => resolve([error, stdout]));
  });
  return { name, ended };
});
for (const { name, ended } of runs) {
  test(`${name} --smoke`, async () => {
    const [error, stdout] = await ended;
    assert.is(error, null);
    assert.match(stdout, /What came out/);
    const page = readFileSync(join(out, name, 'report.html'), 'utf8');
    assert.match(page, /<svg role="img"/);
    assert.not.match(page, /NaN|undefined/);
    assert.ok(readFileSync(join(out, name, 'results.csv'), 'utf8').split('\r\n').length > 1);
  });
}

test('the private CNN keeps held-out images from training, and within its target', async () => {
  const spec: Partial<PrivateCnnSpec> = { data: 'dress-coat', heldOut: 6000, epochs: 1, batchSize: 600 };
  const full = fullSpec(privateCnn as unknown as Trial, { ...spec, seed: 1 }) as Parameters<
    typeof privateCnn.run
  >[0];
  const shared = await privateCnn.shared!({}, [full]);
  const { datasetSize, stepsPerEpoch, noiseMultiplier, weights, average } = await privateCnn.run(full, {
    ...{ kernels: 'base', shared, memo: new Map() },
  });
  assert.is(datasetSize, 4800);
  assert.is(stepsPerEpoch, 8);
  const phase = { samplingRate: 600 / 4800, noiseMultiplier, steps: 8 };
  const { epsilon } = createAccountant('pld', [{ mechanism: 'poissonSampledGaussian', ...phase }]).epsilon(
    1e-5,
  );
  assert.ok(epsilon <= 3 && epsilon > 2.98, `ε = ${epsilon}`);
  assert.is(weights.length, 1);
  assert.is(average.length, 1);
});

test.run();
