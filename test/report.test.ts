import { decode } from 'fast-png';
import ndarray from 'ndarray';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  finishedSeeds,
  formatInterval,
  formatSummary,
  groupBy,
  pairedDifference,
  summarize,
  tQuantile,
} from '../experiments/harness/stats.js';
import {
  type Comparison,
  disagreements,
  imageGrid,
  lineFigure,
  pngAddress,
  type RunFacts,
  reportPage,
  terminalTable,
  toCsv,
  verdict,
} from '../experiments/report/index.js';

const near = (a: number, b: number, tolerance: number) =>
  assert.ok(Math.abs(a - b) <= tolerance, `${a} is not within ${tolerance} of ${b}`);

test("Student's t quantiles are the tables'", () => {
  // NIST/SEMATECH e-Handbook 1.3.6.7.2, upper 0.025; closed forms for 1 and 2 degrees of freedom.
  const table = { 1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 19: 2.093, 30: 2.042, 99: 1.984 };
  for (const [df, t] of Object.entries(table)) near(tQuantile(0.975, Number(df)), t, 5e-4);
  near(tQuantile(0.975, 1), Math.tan(Math.PI * 0.475), 1e-8);
  near(tQuantile(0.975, 2), 0.95 / Math.sqrt((1 - 0.95 * 0.95) / 2), 1e-8);
});

test('summaries are the closed forms', () => {
  const s = summarize([1, 2, 3, 4, 5]);
  assert.is(s.mean, 3);
  near(s.std!, Math.sqrt(2.5), 1e-15);
  near(s.high! - s.mean, 2.7764451 * Math.sqrt(2.5 / 5), 1e-7);
  near(s.mean - s.low!, s.high! - s.mean, 1e-15);
  assert.equal(summarize([0.5]), { n: 1, mean: 0.5, std: null, low: null, high: null });
  assert.throws(
    () => summarize([]),
    (e: { code: string }) => e.code === 'STATS_EMPTY',
  );
});

test("paired differences: Student's own sleep data (1908)", () => {
  // Hours gained by ten patients under two drugs; 95 % interval 0.7001142 … 2.4598858 (R: t.test(paired = TRUE)).
  const dextro = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0];
  const laevo = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4];
  const { mean, low, high } = pairedDifference(laevo, dextro);
  near(mean, 1.58, 1e-12);
  near(low!, 0.7001142, 1e-7);
  near(high!, 2.4598858, 1e-7);
  assert.throws(
    () => pairedDifference([1], []),
    (e: { code: string }) => e.code === 'STATS_UNPAIRED',
  );
});

test('what is paired by seed has all seeds in all arms', () => {
  const trial = (seed: number, clipNorm: number | null) => ({
    spec: { clipNorm, seed: { data: seed, init: seed, order: seed, noise: seed } },
  });
  const all = [trial(1, null), trial(1, 4), trial(2, null), trial(2, 4)];
  assert.equal(finishedSeeds(all), { finished: all, left: 0 });
  // Two seeds with as many trials, in different arms: neither is whole.
  const shard = [trial(1, null), trial(2, 4), trial(3, null), trial(3, 4)];
  assert.equal(finishedSeeds(shard), { finished: shard.slice(2), left: 2 });
  assert.equal(finishedSeeds(shard.slice(0, 2)), { finished: [], left: 2 });
});

test('numbers are written with their interval, and a real minus', () => {
  const s = { n: 5, mean: -0.0031, std: 0.001, low: -0.0045, high: -0.0017 };
  assert.is(formatInterval(s), '−0.0031 [−0.0045, −0.0017]');
  assert.is(formatSummary(s), '−0.0031 ± 0.0014');
  assert.is(formatSummary(summarize([0.25]), 2), '0.25');
});

test('groups keep their order', () => {
  assert.equal(
    [...groupBy([3, 1, 4, 2], (n) => n % 2)],
    [
      [1, [3, 1]],
      [0, [4, 2]],
    ],
  );
});

const comparison = (
  paper: number,
  low: number,
  high: number,
  kind: Comparison['kind'] = 'effect',
): Comparison => ({
  what: 'effect',
  paper,
  ours: { n: 5, mean: (low + high) / 2, std: 1, low, high },
  kind,
});

test('the verdict follows the rule', () => {
  assert.is(verdict(comparison(0.2, 0.1, 0.3)), 'reproduced');
  assert.is(verdict(comparison(0.5, 0.1, 0.3)), 'partly');
  assert.is(verdict(comparison(-0.5, 0.1, 0.3)), 'not reproduced');
  assert.is(verdict(comparison(-0.1, -0.2, 0.4)), 'undecided');
  assert.is(verdict(comparison(0, -0.2, 0.4)), 'reproduced');
  assert.is(verdict(comparison(0.5, 0.1, 0.3, 'level')), 'not reproduced');
  assert.is(verdict({ ...comparison(0.5, 0, 0), ours: summarize([0.5]) }), 'undecided');
});

test('a bound is reproduced by an interval beyond it, partly by a mean beyond it', () => {
  assert.is(verdict(comparison(0.8, 0.85, 0.95, 'above')), 'reproduced');
  assert.is(verdict(comparison(0.8, 0.75, 0.95, 'above')), 'partly');
  assert.is(verdict(comparison(0.8, 0.6, 0.95, 'above')), 'not reproduced');
  assert.is(verdict(comparison(0.8, 0.85, 0.95, 'below')), 'not reproduced');
  assert.is(verdict(comparison(0.3, 0.05, 0.1, 'below')), 'reproduced');
});

test('an artefact is what the control run shows as well', () => {
  const explained = (paper: number, ours: [number, number], control: [number, number]): Comparison => ({
    ...comparison(paper, ...ours),
    artefact: { because: 'It needs no attack.', control: comparison(paper, ...control).ours },
  });
  // The control's interval holds the paper's value.
  assert.is(verdict(explained(108, [107, 112], [100, 120])), 'artefact');
  // It holds ours, which reproduces the paper's.
  assert.is(verdict(explained(108, [105, 112.4], [108.5, 120])), 'artefact');
  // Ours reproduces nothing: that the control is no better is no explanation.
  assert.is(verdict(explained(108, [118, 122], [117, 124])), 'partly');
  // It does neither: the other rules decide.
  assert.is(verdict(explained(108, [107, 112], [20, 30])), 'reproduced');
  assert.is(verdict(explained(108, [120, 130], [20, 30])), 'partly');
  // One seed of the control shows nothing.
  const single = {
    ...explained(108, [107, 112], [0, 0]),
    artefact: { because: '', control: summarize([108]) },
  };
  assert.is(verdict(single), 'reproduced');
  assert.match(
    disagreements([explained(108, [107, 112], [100, 120])])[0]!,
    /an artefact: the control .* It needs no attack/,
  );
});

test('where we disagree is said with the numbers', () => {
  const said = disagreements([
    comparison(0.2, 0.1, 0.3),
    comparison(0.5, 0.1, 0.3),
    comparison(-0.5, 0.1, 0.3),
  ]);
  assert.equal(said, [
    'effect: the paper has 0.5000, ours is 0.2000 [0.1000, 0.3000] (5 seeds); the sign agrees, but the paper’s value lies above our interval.',
    'effect: the paper has −0.5000, ours is 0.2000 [0.1000, 0.3000] (5 seeds); the sign is the other, and the paper’s value lies below our interval.',
  ]);
});

test('CSV quotes what needs it and keeps numbers exact', () => {
  const text = toCsv([
    { a: 0.1 + 0.2, b: 'x,"y"' },
    { a: null, c: true },
  ]);
  assert.is(text, 'a,b,c\r\n0.30000000000000004,"x,""y""",\r\n,,true\r\n');
});

const facts: RunFacts = {
  title: 'Poison & <shape>',
  description: 'What it is.',
  paperFigure: 'Figure 4',
  warnings: ['3 trials are missing.'],
  settings: [['command', 'node experiments/x.js --quick']],
  failures: [{ command: `node experiments/trial.js --spec '{"seed":1}'`, message: 'asked to <fail>' }],
};
const figure = lineFigure({
  title: 'Accuracy & ratio',
  x: { label: 'ratio', format: '.0%' },
  y: { label: 'accuracy' },
  series: [
    {
      name: 'vanilla',
      points: [
        { x: 0, y: 0.95, low: 0.94, high: 0.96 },
        { x: 0.4, y: 0.94, low: null, high: null },
      ],
    },
    {
      name: 'clip norm 4',
      points: [
        { x: 0, y: 0.95 },
        { x: 0.4, y: 0.945 },
      ],
    },
  ],
  reference: [{ x: 0.4, y: 0.9415, series: 'vanilla' }],
});
const table = { title: 'Accuracies', columns: ['shaper', 'accuracy'], rows: [{ cells: ['vanilla', -0.5] }] };

test('the page is one file that asks for nothing', async () => {
  const page = await reportPage(
    { figures: [figure], tables: [table], comparisons: [comparison(1, 0, 3)] },
    facts,
  );
  assert.match(page, '<svg');
  assert.match(page, "default-src 'none'");
  assert.not.match(page, /<script|<link|<iframe|<img|@import|url\(\s*['"]?[^#)'"]|\ssrc\s*=/i);
  assert.not.match(page, /href\s*=\s*["']?(?!#)/i);
  // What is left of http are the names of XML vocabularies, which nothing loads.
  assert.not.match(page.replace(/xmlns(:\w+)?="[^"]*"/g, ''), /https?:\/\//);
  assert.not.match(page, /NaN|undefined|\[object/);
});

test('the page says what was run, what failed, what is missing; text is escaped', async () => {
  const page = await reportPage({ summary: ['a < b'], tables: [table] }, facts);
  for (const text of [
    'Poison &amp; &lt;shape&gt;',
    '3 trials are missing.',
    'asked to &lt;fail&gt;',
    'a &lt; b',
    '−0.5',
  ]) {
    assert.match(page, text);
  }
  assert.match(page, 'node experiments/x.js --quick');
});

test('a figure draws its lines, its interval and the paper’s point, and names its series', async () => {
  const page = await reportPage({ figures: [figure] }, { ...facts, warnings: [], failures: [] });
  for (const text of ['vanilla', 'clip norm 4', 'ratio', '40%', 'Hollow diamonds']) assert.match(page, text);
  assert.is(page.match(/class="mark-line role-mark/g)?.length, 2);
  assert.match(page, 'class="mark-area role-mark');
});

/** The pixels of a PNG in an address, and its size. */
function shownPixels(address: string) {
  const [, base64] = /^data:image\/png;base64,(.*)$/.exec(address)!;
  const { width, height, channels, data } = decode(Buffer.from(base64!, 'base64'));
  return { width, height, channels, data: [...data] };
}

test('a picture shows its pixels, whatever way they lie', () => {
  // Value 10 · row + column; the picture is its rows 1 and 2, columns 3 to 0.
  const grey = ndarray(
    Uint8Array.from({ length: 40 }, (_, i) => 10 * Math.floor(i / 10) + (i % 10)),
    [4, 10],
  );
  const part = grey.lo(1, 0).hi(2, 4).step(1, -1);
  const rows = { width: 4, height: 2, channels: 1, data: [13, 12, 11, 10, 23, 22, 21, 20] };
  assert.equal(shownPixels(pngAddress(part)), rows);
  const turned = { width: 2, height: 4, channels: 1, data: [13, 23, 12, 22, 11, 21, 10, 20] };
  assert.equal(shownPixels(pngAddress(part.transpose(1, 0))), turned);
  // Planes of red, green and blue, as CIFAR-10 has them.
  const planes = ndarray(
    Uint8Array.of(1, 2, 3, 4, 5, 6, 101, 102, 103, 104, 105, 106, 201, 202, 203, 204, 205, 206),
    [3, 2, 3],
  );
  const pixels = [1, 2, 3, 4, 5, 6].flatMap((red) => [red, 100 + red, 200 + red]);
  assert.equal(shownPixels(pngAddress(planes.transpose(1, 2, 0))), {
    ...{ width: 3, height: 2, channels: 3 },
    data: pixels,
  });
  const { html } = imageGrid('Pictures', 'All', [{ pixels: part, caption: 'rows' }], 3);
  const [, address, width, height] = /src="([^"]*)" width="(\d+)" height="(\d+)"/.exec(html)!;
  assert.equal([shownPixels(address!), width, height], [rows, '12', '6']);
});

test('a table for the terminal lines its numbers up', () => {
  const text = terminalTable({ ...table, rows: [{ cells: ['vanilla', 0.5] }, { cells: ['dp', 0.25] }] });
  assert.match(text, '│ vanilla │      0.5 │');
  assert.match(text, '│ dp      │     0.25 │');
});

test.run();
