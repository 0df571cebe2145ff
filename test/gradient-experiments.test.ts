// Smoke runs of the experiments on gradients, from the command line; two moons; what decides a boundary's length.
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GradshapeError } from 'gradshape';
import { rowMajor } from 'gradshape/ndarray';
import ndarray from 'ndarray';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cleanCopies } from '../experiments/attacks/clean-copies.js';
import { twoMoons } from '../experiments/data/two-moons.js';
import {
  accuracyPoints,
  gradientSeries,
  gradientSummaries,
  gradientTexts,
} from '../experiments/paper/index.js';
import { overall } from '../experiments/report/overall.js';
import { confidencePixels } from '../experiments/reports/decision-boundary.js';
import { boundaryLength, centres, field } from '../experiments/trials/decision-boundary.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = mkdtempSync(join(tmpdir(), 'gradshape-'));
test.after(() => rmSync(out, { recursive: true, force: true }));

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function node(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, args, { cwd: root }, (_, stdout, stderr) =>
      resolve({ status: child.exitCode, stdout, stderr }),
    );
  });
}

const experiments = [
  'gradient-collision',
  'gradient-insertion',
  'gradient-indiscriminate',
  'training-accuracy',
  'decision-boundary',
];
// Side by side: most of a smoke run's time is its start.
const runs = new Map(
  experiments.map((name) => [
    name,
    node(`experiments/${name}.js`, '--smoke', '--workers', '1', '--out', join(out, name)),
  ]),
);
for (const [name, run] of runs) {
  test(`${name} --smoke`, async () => {
    const { status, stdout, stderr } = await run;
    assert.is(status, 0, stderr);
    assert.match(stdout, /What came out/);
    const page = readFileSync(join(out, name, 'report.html'), 'utf8');
    assert.match(page, /<svg role="img"/);
    if (name === 'decision-boundary') assert.match(page, /<image [^>]*"data:image\/png;base64,iVBOR/);
    assert.not.match(page, /NaN|undefined/);
    assert.ok(readFileSync(join(out, name, 'results.csv'), 'utf8').split('\r\n').length > 2);
  });
}

test('report.js puts their ledgers on one page, in the paper’s order, and says what is not run', async () => {
  const { stdout: said } = await node('experiments/report.js', '--results', out);
  const page = readFileSync(join(out, 'report.html'), 'utf8');
  const places = [
    'Figure 1 (left',
    'Figure 1 (right',
    'Figure 4 (a',
    'Figure 4 (c',
    'Figure 10',
    'Figure 11',
  ];
  const found = places.map((figure) => page.indexOf(`<h2>${figure}`));
  assert.ok(
    found.every((at, i) => at > (found[i - 1] ?? 0)),
    `${found}`,
  );
  assert.match(page, /Verdict: undecided/);
  assert.match(page, /Not run, or not enough of it: node experiments\/indiscriminate-label-flip.js/);
  assert.match(page, /<svg role="img"/);
  assert.match(said, /training-accuracy +│ undecided/);
  const { status, stderr } = await node('experiments/report.js', '--results', join(out, 'none'));
  assert.is(status, 1);
  assert.match(stderr, /LEDGER_NOT_FOUND/);
});

test('one verdict for a figure', () => {
  assert.is(overall([]), 'undecided');
  assert.is(overall(['reproduced', 'undecided']), 'reproduced');
  assert.is(overall(['reproduced', 'artefact']), 'artefact');
  assert.is(overall(['not reproduced', 'not reproduced']), 'not reproduced');
  assert.is(overall(['not reproduced', 'reproduced']), 'partly');
  assert.is(overall(['partly']), 'partly');
  assert.is(overall(['undecided']), 'undecided');
});

test('two moons: half circles with Gaussian noise, classes in turn, the same for the same seed', () => {
  const exact = twoMoons({ count: 400, noise: 0, seed: 3 });
  for (let i = 0; i < 400; i++) {
    const [x, y] = [exact.x[2 * i]!, exact.x[2 * i + 1]!];
    assert.is(exact.y[i], i % 2);
    const [u, v] = i % 2 === 0 ? [x, y] : [1 - x, 0.5 - y];
    assert.ok(Math.abs(u * u + v * v - 1) < 1e-6 && v >= -1e-6, `point ${i}`);
  }
  const [a, b, c] = [1, 1, 2].map((seed) => twoMoons({ count: 20_000, noise: 0.3, seed }));
  assert.equal(a, b);
  assert.not.equal(a!.x, c!.x);
  // Noise moves the radius' mean square to 1 + 2 · 0.3²: E‖c + n‖² = 1 + 2σ².
  let total = 0;
  for (let i = 0; i < 20_000; i += 2) total += a!.x[2 * i]! ** 2 + a!.x[2 * i + 1]! ** 2;
  assert.ok(Math.abs(total / 10_000 - 1.18) < 0.03, `${total / 10_000}`);
  const mean = Float64Array.from(a!.x).reduce((sum, value) => sum + value, 0) / 20_000;
  assert.ok(Math.abs(mean - 0.75) < 0.02, 'the moons are centred on (½, ¼)');
  for (const bad of [
    { count: 0, seed: 1 },
    { count: 1.5, seed: 1 },
    { count: 5, noise: -1, seed: 1 },
    { count: 5, seed: -1 },
  ]) {
    assert.throws(
      () => twoMoons(bad),
      (error: unknown) => error instanceof GradshapeError,
    );
  }
});

test('a straight boundary is as long as the field is wide', () => {
  const cells = 40;
  const heights = centres(cells).pick(null, null, 1);
  const upper = ndarray(
    rowMajor(heights).map((y) => (y > 0 ? 1 : 0)),
    [cells, cells],
  );
  assert.ok(Math.abs(boundaryLength(upper) - (field.to[0] - field.from[0])) < 1e-9);
  assert.ok(Math.abs(boundaryLength(upper.transpose(1, 0)) - (field.to[1] - field.from[1])) < 1e-9);
  upper.data.fill(1);
  assert.is(boundaryLength(upper), 0);
});

test('a picture of probabilities: the upper row on top, each in its colour', () => {
  const pixels = confidencePixels(ndarray([0, 0.5, 1, 0.125, 0.25, 0.75], [2, 3]));
  assert.equal(pixels.shape, [2, 3, 3]);
  const [blue, lightBlue, white, lightOrange, orange] = [
    [19, 75, 133],
    [137, 187, 221],
    [243, 238, 234],
    [243, 165, 91],
    [127, 59, 8],
  ];
  const between = [78, 131, 177];
  assert.equal([...rowMajor(pixels)], [between, lightBlue, lightOrange, blue, white, orange].flat());
});

test('clean copies keep their labels', () => {
  const base = {
    x: Uint8Array.from([1, 2, 3, 4, 5, 6]),
    y: Int32Array.from([0, 1, 0]),
    shape: [2],
    scale: 0.1,
  };
  const { added, y, poison } = cleanCopies(base, [2, 1]);
  assert.equal([...added[0]!.x], [5, 6, 3, 4]);
  assert.equal([...y], [0, 1, 0, 0, 1]);
  assert.equal([...poison], [3, 4]);
  assert.is(added[0]!.scale, 0.1);
});

test("the authors' numbers are read whole", () => {
  assert.ok(
    [...gradientSeries(), ...gradientSummaries()].every((row) =>
      Number.isFinite('ratio' in row ? row.ratio : row.meanRatio),
    ),
  );
  const lr = gradientSummaries().find(
    ({ task, value }) => task === 'lr_scratch_fmnist34' && value === '1.0',
  )!;
  assert.is(lr.meanRatio, 109.476);
  assert.is(
    gradientTexts().find(({ experiment, model }) => experiment === 'label_flip_40' && model === 'vanilla')!
      .paper,
    2.527,
  );
  assert.is(accuracyPoints().filter(({ backdoor }) => backdoor !== null).length, 200);
});

test.run();
