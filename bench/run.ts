import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { supportsRelaxedSimd } from 'gradshape';
import { terminalTable } from '../experiments/report/table.js';
import { installRuntimes } from '../test/install-runtimes.js';
import { accountingSuite } from './accounting.js';
import { anatomySuite } from './anatomy.js';
import { barsOf } from './bars.js';
import { cnnSuite } from './cnn.js';
import { coldStartSuite } from './cold-start.js';
import { convSuite } from './conv.js';
import { gemmSuite } from './gemm.js';
import type { Figure, Setting } from './measure.js';
import { noiseSuite } from './noise.js';
import { stepSuite } from './steps.js';

const suites = [
  gemmSuite,
  convSuite,
  noiseSuite,
  stepSuite,
  cnnSuite,
  anatomySuite,
  accountingSuite,
  coldStartSuite,
];

interface Options {
  readonly only?: string;
  readonly json?: string;
  readonly node24?: boolean;
}

const program = new Command('npm run bench --')
  .description('Speed of the kernels and of training steps, beside the machine’s own peak. One thread.')
  .option('--only <pattern>', 'only figures whose name matches this regular expression', regularExpression)
  .option('--json <file>', 'write an array of { name, unit, value }')
  .option(
    '--node24',
    'measure with Node 24 too, which is installed for it: its figures get the suffix @node24',
  )
  .showSuggestionAfterError()
  .parse();
const options = program.opts<Options>();

const figures = await measureHere(options.only);
if (options.node24) figures.push(...measureOnNode24(options.only));
if (figures.length === 0) program.error(`error: no figure's name matches '${options.only}'`);
print(figures);
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(figures, null, 2)}\n`);

function regularExpression(text: string): string {
  try {
    new RegExp(text);
    return text;
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}

/** Base kernels under plain names, relaxed ones (where this runtime has them) under name@relaxed. */
async function measureHere(only: string | undefined): Promise<Figure[]> {
  const pattern = new RegExp(only ?? '');
  const builds: Setting['kernels'][] = supportsRelaxedSimd() ? ['base', 'relaxed'] : ['base'];
  const all: Figure[] = [];
  for (const kernels of builds) {
    const suffix = kernels === 'base' ? '' : '@relaxed';
    const setting: Setting = { kernels, wanted: (name) => pattern.test(name + suffix) };
    for (const suite of suites) {
      const found = await suite(setting);
      all.push(...found.map((figure) => ({ ...figure, name: figure.name + suffix })));
    }
  }
  return all;
}

/** The same in a process of Node 24. */
function measureOnNode24(only: string | undefined): Figure[] {
  const file = path.join(tmpdir(), `gradshape-bench-${process.pid}.json`);
  const args = [
    fileURLToPath(import.meta.url),
    '--json',
    file,
    ...(only === undefined ? [] : ['--only', only]),
  ];
  const { status, error } = spawnSync(path.join(installRuntimes(), 'node'), args, {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (status !== 0) throw new Error(`the benchmark on Node 24 ended with ${status ?? error?.message}`);
  const found: Figure[] = JSON.parse(readFileSync(file, 'utf8'));
  rmSync(file);
  return found.map((figure) => {
    const [plain, relaxed] = figure.name.split('@');
    return { ...figure, name: `${plain}@node24${relaxed ? '-relaxed' : ''}` };
  });
}

function print(all: readonly Figure[]): void {
  console.log(`Node ${process.version}, medians`);
  const rows = all.map(({ name, value, unit }) => ({ cells: [name, value.toPrecision(4), unit] }));
  console.log(terminalTable({ title: '', columns: ['figure', 'value', 'unit'], rows }));
  const bars = barsOf(all).map(({ what, measured, unit, bar, holds }) => ({
    cells: [what, `${measured.toPrecision(3)} ${unit}`, bar, holds ? 'holds' : 'missed'],
  }));
  if (bars.length > 0) {
    console.log(terminalTable({ title: 'Bars', columns: ['figure', 'measured', 'wanted', ''], rows: bars }));
  }
}
