// Smoke runs of the experiments on attacks and filters, from the command line.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { flipLabels } from 'gradshape';
import ndarray from 'ndarray';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { imageGrid } from '../experiments/report/index.js';
import { distinctPoisons } from '../experiments/tasks/distinct.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'gradshape-'));
test.after(() => rmSync(out, { recursive: true, force: true }));

const shows: Record<string, RegExp[]> = {
  'indiscriminate-slab': [/<svg role="img"/, /Figure 4 \(d\)/, /src="data:image\/png;base64,iVBOR/],
  defences: [/poison removed/, /src="data:image\/png;base64,iVBOR/],
  'indiscriminate-crafters': [/clipping saves/, /back-gradient/, /src="data:image\/png;base64,iVBOR/],
  'poison-clusters': [/<svg role="img"/, /Figure 8/],
};
for (const [name, patterns] of Object.entries(shows)) {
  test(`${name} --smoke`, () => {
    const args = [`experiments/${name}.js`, '--smoke', '--out', join(out, name)];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
    assert.is(status, 0, stderr);
    assert.match(stdout, /What came out/);
    const page = readFileSync(join(out, name, 'report.html'), 'utf8');
    for (const pattern of patterns) assert.match(page, pattern);
    assert.not.match(page, /NaN|undefined/);
    assert.ok(readFileSync(join(out, name, 'results.csv'), 'utf8').split('\r\n').length > 2);
  });
}

test('distinct poisons are counted by pixels and label; a grid shows them', () => {
  const base = { x: Uint8Array.of(0, 255, 0, 255, 9, 9), y: [0, 0, 1], shape: [1, 2, 1], scale: 1 / 255 };
  const distinct = distinctPoisons(flipLabels(base, { ratio: 1, seed: 1 }));
  assert.equal(
    distinct.map(({ label, copies, pixels }) => [label, copies, ...Buffer.from(pixels, 'base64')]),
    [
      [1, 2, 0, 255],
      [0, 1, 9, 9],
    ],
  );
  const { html } = imageGrid('Poisons', 'All', [
    { pixels: ndarray(Uint8Array.of(0, 255), [1, 2]), caption: '2 × “coat” & more' },
  ]);
  assert.match(html, /width="8" height="4"/);
  assert.match(html, /&amp; more/);
});

test.run();
