// The privacy command: what it prints, and how it refuses.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const script = fileURLToPath(new URL('../experiments/privacy.js', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'gradshape-privacy-'));
const run = (...options: string[]) => spawnSync(process.execPath, [script, ...options], { encoding: 'utf8' });

test.after(() => rmSync(folder, { recursive: true }));

test('statement, accountants and epochs, with a report', () => {
  const options = '--n 60000 --batch 600 --epochs 5 --noise 1.1 --delta 1e-5'.split(' ');
  const { stdout, status, stderr } = run(...options, '--out', folder);
  assert.is(status, 0, stderr);
  for (const text of ['-differentially private', 'Not covered', 'RDP', 'PLD', 'GDP', 'sampled-group']) {
    assert.match(stdout, text);
  }
  // The truth by an inverse Laplace transform of the composed loss, in Python: 1.0825917.
  const pld = Number(/PLD +│ +([\d.]+) +│ bound/.exec(stdout)![1]);
  assert.ok(pld >= 1.0825917 && pld < 1.0825917 * 1.001, String(pld));
  assert.match(readFileSync(join(folder, 'report.html'), 'utf8'), '<svg');
  assert.is(readFileSync(join(folder, 'results.csv'), 'utf8').trim().split('\n').length, 6);
});

test('a target is kept, as JSON', () => {
  const { stdout, status } = run('--target-epsilon', '2', '--epochs', '10', '--poisons', '1', '--json');
  assert.is(status, 0);
  const answer = JSON.parse(stdout);
  assert.ok(answer.epsilon <= 2 && answer.epsilon > 1.99, String(answer.epsilon));
  assert.is(answer.calibrations.length, 3);
  assert.is(answer.private, true);
});

test('every kind of sampling states its relation', () => {
  for (const [sampling, relation] of [
    ['fixed-size', 'replace-one'],
    ['shuffled', 'zero-out-one'],
    ['nominal-poisson', 'add-or-remove-one'],
  ] as const) {
    const answer = JSON.parse(run('--sampling', sampling, '--poisons', '1', '--json').stdout);
    assert.is(answer.relation, relation);
    assert.is(answer.private, sampling !== 'nominal-poisson');
  }
});

test('no noise is said, bad input is refused with its range', () => {
  assert.match(run('--noise', '0', '--json').stdout, 'Not private');
  // Nobody made this training, and with such a δ it would protect nobody.
  const promise = JSON.parse(run('--json').stdout);
  assert.is(promise.private, true);
  assert.match(promise.says[1], /^This is what the plan promises: it holds for a training/);
  assert.is(JSON.parse(run('--delta', '2e-5', '--json').stdout).private, false);
  const { status, stderr } = run('--delta', '2', '--out', join(folder, 'none'));
  assert.is(status, 1);
  assert.match(stderr, 'DELTA_OUT_OF_RANGE: delta must be strictly between 0 and 1; given: 2.');
  assert.is(existsSync(join(folder, 'none')), false);
});

test('a batch larger than the set is named', () => {
  const { stderr, status } = run('--n', '100', '--batch', '200', '--out', join(folder, 'none'));
  assert.is(status, 1);
  assert.match(stderr, 'BATCH_SIZE_OUT_OF_RANGE: --batch is 200, and there are 100 examples');
});

test.run();
