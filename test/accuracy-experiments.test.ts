// Smoke runs of the main job and of what privacy costs, from the command line; parts of a grid; what the private CNN counts.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createAccountant, privacyPlan } from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LedgerEntry } from '../experiments/harness/ledger.js';
import { fullSpec, type Trial } from '../experiments/harness/trial.js';
import type { Table } from '../experiments/report/index.js';
import { privateCnnReport } from '../experiments/reports/private-cnn.js';
import { utilityEpsilonReport } from '../experiments/reports/utility-epsilon.js';
import { type PrivateCnnSpec, privateCnn } from '../experiments/trials/private-cnn.js';
import { utilityEpsilon } from '../experiments/trials/utility-epsilon.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'gradshape-'));
test.after(() => rmSync(out, { recursive: true, force: true }));

const seeds = { data: 1, init: 1, order: 1, noise: 1 };

const run = (name: string, folder: string, ...args: string[]) =>
  spawnSync(process.execPath, [`experiments/${name}.js`, '--smoke', '--out', join(out, folder), ...args], {
    cwd: root,
    encoding: 'utf8',
  });

const ledger = (folder: string): LedgerEntry[] =>
  readFileSync(join(out, folder, 'ledger.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

/** The trials' configurations, smallest first. */
const configurations = (folder: string): string[] =>
  ledger(folder)
    .map(({ spec }) => `${spec.ratio} ${spec.clipNorm} ${spec.noiseStd}`)
    .sort();

function assertReport(folder: string): void {
  const page = readFileSync(join(out, folder, 'report.html'), 'utf8');
  assert.match(page, /<svg role="img"/);
  assert.not.match(page, /NaN|undefined/);
  assert.not.match(page, /(src|href)="https?:/);
}

test('indiscriminate-label-flip --smoke: every clip norm and noise, a table, a CSV and a page', () => {
  const { status, stdout, stderr } = run('indiscriminate-label-flip', 'flip');
  assert.is(status, 0, stderr);
  assert.match(stdout, /What came out/);
  assert.match(stdout, /accuracy at 40 %, C = 4 minus vanilla/);
  assertReport('flip');
  // Six clip norms at 0 and 40 %, eight noises at 40 %: a header, and a line each.
  assert.is(ledger('flip').length, 20);
  assert.is(
    readFileSync(join(out, 'flip', 'results.csv'), 'utf8')
      .trim()
      .split('\r\n').length,
    21,
  );
  // Two epochs tell dresses from coats, flipped labels or not.
  for (const { result } of ledger('flip')) {
    const { test: accuracies } = result as { test: number[] };
    assert.is(accuracies.length, 2);
    assert.ok(accuracies[1]! > 0.7 && accuracies[1]! < 0.98, `${accuracies}`);
  }
});

test('a part of the grid runs by itself, with what the report compares', () => {
  const args = ['--ratios', '0.4', '--clips', 'none,1', '--noises', '0'];
  const { status, stderr } = run('indiscriminate-label-flip', 'part', ...args);
  assert.is(status, 0, stderr);
  const compared = ['0 4 0', '0 null 0', '0.4 4 0', '0.4 null 0'];
  assert.equal(configurations('part'), [...compared, '0.4 1 0'].sort());
  assertReport('part');
});

test('a value that no grid has is named with those there are', () => {
  const { status, stderr } = run('indiscriminate-label-flip', 'none', '--clips', '3');
  assert.is(status, 2);
  assert.match(stderr, /There is no '3'; there are none, 8, 4, 2, 1, 0.1/);
});

test('utility-epsilon --smoke, on the embedded images alone', () => {
  const { status, stdout, stderr } = run('utility-epsilon', 'utility', '--sets', 'dress-coat');
  assert.is(status, 0, stderr);
  assert.match(stdout, /What came out/);
  assert.match(stdout, 'these very runs protect nobody');
  assertReport('utility');
});

test('private-cnn --smoke, on the embedded images alone', () => {
  const { status, stdout, stderr } = run('private-cnn', 'cnn', '--workers', '1');
  assert.is(status, 0, stderr);
  assert.match(stdout, /What came out/);
  assertReport('cnn');
});

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

test('the report counts the steps that were made, where an epoch is no whole number of them', () => {
  // 20 epochs of 60,000 / 2048 are 586 steps and not 20 · 30; their ε by PLD is 2.9998 (that of 600: 3.037).
  const spec = { ...privateCnn.defaults, epochs: 20, batchSize: 2048, seed: seeds };
  const curve = Array.from({ length: 20 }, (_, i) => i / 20);
  const result = {
    noiseMultiplier: 1.3945,
    datasetSize: 60_000,
    stepsPerEpoch: 30,
    weights: curve,
    average: curve,
  };
  const versions = { node: '20', gradshape: '0', kernels: 'base' } as const;
  const report = privateCnnReport([{ spec, result, versions, key: 'k', seconds: 1, command: 'c' }]);
  const [{ columns, rows }] = report.tables as [Table];
  const cell = (column: string) => Number(rows[0]!.cells[columns.indexOf(column)]);
  assert.is(cell('steps'), 586);
  assert.ok(Math.abs(cell('ε PLD') - 2.9998) < 1e-3, `ε = ${cell('ε PLD')}`);
  assert.ok(cell('σ') <= 1.3945);
});

test('utility reports print no ε below that of the plan, epoch by epoch', () => {
  // 4,008 examples in batches of 100: 30 epochs are 1,203 steps and not 30 · 41.
  for (const noiseMultiplier of [0.6, 1, 1.5, 2]) {
    const spec = {
      ...utilityEpsilon.defaults,
      data: 'location30',
      model: 'lr',
      batchSize: 100,
      epochs: 30,
      seed: seeds,
    } as const;
    const result = { test: Array.from({ length: 30 }, (_, i) => i / 30), datasetSize: 4008 };
    const versions = { node: '20', gradshape: '0', kernels: 'base' } as const;
    const trial = { versions, result, key: 'k', seconds: 1, command: 'c' };
    const report = utilityEpsilonReport([{ ...trial, spec: { ...spec, noiseMultiplier } }]);
    const plan = privacyPlan({ datasetSize: 4008, batchSize: 100, epochs: 30, clipNorm: 1, noiseMultiplier });
    assert.is(plan.steps, 1203);
    const { columns, rows } = report.tables!.find(({ title }) => title === 'Location-30, LR')!;
    for (const accountant of ['rdp', 'pld'] as const) {
      const printed = Number(rows[0]!.cells[columns.indexOf(`ε ${accountant.toUpperCase()}`)]);
      const { epsilon } = plan.accountantAfter(1203, accountant).epsilon(1e-5);
      assert.ok(printed >= epsilon && printed < epsilon * 1.0002, `${printed} for ${epsilon}`);
    }
  }
});

test.run();
