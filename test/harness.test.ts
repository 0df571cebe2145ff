import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LedgerEntry } from '../experiments/harness/ledger.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const experiment = fileURLToPath(new URL('./fixtures/arithmetic.js', import.meta.url));
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'gradshape-harness-'));
test.after(() => fs.rmSync(temporary, { recursive: true }));

let folders = 0;
const newFolder = () => path.join(temporary, `out-${++folders}`);

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

const env = (log?: string) => ({ ...process.env, ...(log && { ARITHMETIC_LOG: log }) });

function run(file: string, args: string[], log?: string): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [file, ...args], { cwd: root, env: env(log) }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code as number), stdout, stderr });
    });
  });
}

const readLedger = (file: string): LedgerEntry[] =>
  fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));

/** Starts the experiment and waits until its ledger has some lines. */
async function startUntil(lines: number, out: string, args: string[], log?: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [experiment, ...args, '--out', out], { cwd: root, env: env(log) });
  const ledger = path.join(out, 'ledger.jsonl');
  while (!fs.existsSync(ledger) || fs.readFileSync(ledger, 'utf8').split('\n').length <= lines) {
    assert.is(child.exitCode, null, 'the run ended before it could be interrupted');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return child;
}

const exited = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once('exit', resolve));

test('killed with SIGKILL, a run resumes: no finished trial is lost or run again', async () => {
  const out = newFolder();
  const log = `${out}.log`;
  const slow = ['--milliseconds', '60', '--workers', '2'];
  const child = await startUntil(4, out, slow, log);
  child.kill('SIGKILL');
  await exited(child);
  const ledger = path.join(out, 'ledger.jsonl');
  const before = fs.readFileSync(ledger, 'utf8');
  const whole = before.slice(0, before.lastIndexOf('\n') + 1);
  const finished = whole.split('\n').length - 1;
  const startedBefore = fs.readFileSync(log, 'utf8').split('\n').length - 1;
  assert.ok(finished >= 4 && finished < 12);

  const { code, stderr, stdout } = await run(experiment, [...slow, '--out', out], log);
  assert.is(code, 0, stderr);
  assert.match(stderr, `${finished} done before`);
  assert.match(stdout, 'report');
  assert.ok(fs.readFileSync(ledger, 'utf8').startsWith(whole));
  const entries = readLedger(ledger);
  assert.is(entries.length, 12);
  assert.is(new Set(entries.map(({ key }) => key)).size, 12);
  const started = fs.readFileSync(log, 'utf8').split('\n').length - 1;
  assert.is(started - startedBefore, 12 - finished);
  assert.ok(fs.existsSync(path.join(out, 'report.html')));
});

test('Ctrl-C: running trials are kept, no new one starts, the report of what is there is written', async () => {
  const out = newFolder();
  const log = `${out}.log`;
  const child = await startUntil(3, out, ['--milliseconds', '80', '--workers', '2'], log);
  let stderr = '';
  child.stderr?.on('data', (data) => {
    stderr += data;
  });
  child.kill('SIGINT');
  child.kill('SIGINT'); // npm passes on the one the terminal has sent already
  assert.is(await exited(child), 130);
  assert.match(stderr, /Go on with: node .*arithmetic\.js --milliseconds 80/);
  const entries = readLedger(path.join(out, 'ledger.jsonl'));
  assert.ok(entries.length < 12);
  assert.is(entries.length, fs.readFileSync(log, 'utf8').split('\n').length - 1);
  assert.match(fs.readFileSync(path.join(out, 'report.html'), 'utf8'), 'trials are missing');
  assert.not(fs.existsSync(path.join(out, 'ledger.jsonl.lock')));
});

test('results do not depend on the number of workers, and shards merged are the whole', async () => {
  const [whole, parts] = [newFolder(), newFolder()];
  const ends = await Promise.all([
    run(experiment, ['--workers', '1', '--out', whole]),
    ...[1, 2, 3].map((i) => run(experiment, ['--shard', `${i}/3`, '--workers', '2', '--out', parts])),
  ]);
  for (const { code, stderr } of ends) assert.is(code, 0, stderr);
  const shards = [1, 2, 3].map((i) => path.join(parts, `ledger.shard-${i}-of-3.jsonl`));
  assert.is(
    shards.map((file) => readLedger(file).length).reduce((a, b) => a + b),
    12,
  );

  const merge = await run(path.join(root, 'experiments/merge.js'), [parts]);
  assert.is(merge.code, 0, merge.stderr);
  const plain = (folder: string) =>
    readLedger(path.join(folder, 'ledger.jsonl'))
      .map(({ key, spec, result }) => ({ key, spec, result }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
  assert.equal(plain(parts), plain(whole));

  const report = await run(experiment, ['--out', parts]);
  assert.match(report.stderr, '12 done before');
  assert.is(report.stdout.split('\nreport')[0], ends[0].stdout.split('\nreport')[0]);
  const csv = (folder: string) =>
    fs.readFileSync(path.join(folder, 'results.csv'), 'utf8').replace(/[^,]+(?=,[0-9a-f]{64})/g, 'seconds');
  assert.is(csv(parts), csv(whole));
});

test('a shard whose trials are too few for the report ends well, with the table of them', async () => {
  const out = newFolder();
  const { code, stderr } = await run(experiment, ['--whole', '--shard', '1/3', '--out', out]);
  assert.is(code, 0, stderr);
  assert.match(stderr, /Too many trials are missing .*not all are there/);
  const rows = fs.readFileSync(path.join(out, 'results.shard-1-of-3.csv'), 'utf8').trim().split('\n');
  assert.is(rows.length - 1, readLedger(path.join(out, 'ledger.shard-1-of-3.jsonl')).length);
  assert.match(fs.readFileSync(path.join(out, 'report.shard-1-of-3.html'), 'utf8'), 'not all are there');
  assert.is((await run(experiment, ['--whole', '--out', newFolder()])).code, 0);
});

test('merging ledgers that contradict each other is refused', async () => {
  const out = newFolder();
  await run(experiment, ['--smoke', '--out', out]);
  const file = path.join(out, 'ledger.jsonl');
  fs.writeFileSync(
    path.join(out, 'ledger.other.jsonl'),
    fs.readFileSync(file, 'utf8').replace('"accuracy":', '"accuracy":1'),
  );
  const before = fs.readFileSync(file, 'utf8');
  const { code, stderr } = await run(path.join(root, 'experiments/merge.js'), [out]);
  assert.is(code, 1);
  assert.match(stderr, 'LEDGER_CONFLICT');
  assert.is(fs.readFileSync(file, 'utf8'), before);
});

test('a failing trial is told with its command and costs no other; it runs again next time', async () => {
  for (const [how, message] of [
    ['throw', 'asked to fail'],
    ['exit', 'exit code 7'],
    ['nan', 'result.accuracy is NaN'],
  ] as const) {
    const out = newFolder();
    const { code, stderr } = await run(experiment, ['--smoke', '--fail', how, '--out', out]);
    assert.is(code, 1);
    assert.match(stderr, message);
    assert.match(stderr, `--spec '{"ratio":0.2,"fail":"${how}","seed":1}'`);
    assert.is(readLedger(path.join(out, 'ledger.jsonl')).length, 6);
    assert.match(fs.readFileSync(path.join(out, 'report.html'), 'utf8'), 'Trials that failed');
  }
});

test("a report row's command runs that trial alone, to the same key and result", async () => {
  const out = newFolder();
  await run(experiment, ['--smoke', '--out', out]);
  const entry = readLedger(path.join(out, 'ledger.jsonl')).find(({ spec }) => spec.ratio === 0.3)!;
  const html = fs.readFileSync(path.join(out, 'report.html'), 'utf8').replaceAll('&quot;', '"');
  const seed = (entry.spec.seed as { data: number }).data;
  const command = html.split('\n').find((line) => line.includes(`{"ratio":0.3,"seed":${seed}}`))!;
  const args = /node (\S+) --trial (\S+) --spec '(.*?)'/.exec(command)!;
  const { stdout, stderr } = await run(path.join(root, args[1]!), ['--trial', args[2]!, '--spec', args[3]!]);
  const { seconds: _, ...alone } = JSON.parse(stdout || stderr);
  const { seconds: __, ...inGrid } = entry;
  assert.equal(alone, inGrid);
});

test('mistakes on the command line get a short answer', async () => {
  const trial = path.join(root, 'experiments/trial.js');
  const file = path.join(temporary, 'a-file');
  fs.writeFileSync(file, '');
  const cases: [string, string[], number, RegExp][] = [
    [experiment, ['--worker', '2'], 2, /unknown option '--worker'\n\(Did you mean --workers\?\)/],
    [experiment, ['--seeds', 'many'], 2, /argument 'many' is invalid. Expected a whole number/],
    [experiment, ['--shard', '4/3'], 2, /Expected i\/n with 1 ≤ i ≤ n/],
    [experiment, ['--quick', '--full'], 2, /cannot be used with/],
    [experiment, ['--out', '/proc/none'], 1, /^error OUTPUT_UNWRITABLE: .*--out/],
    [experiment, ['--out', path.join(file, 'deep')], 1, /^error OUTPUT_UNWRITABLE: .*--out/],
    [trial, ['--trial', 'nothing', '--spec', '{}'], 1, /^error TRIAL_UNKNOWN: no trial 'nothing'/],
    [trial, ['--trial', experiment, '--spec', '{'], 1, /^error SPEC_INVALID: --spec is not JSON/],
    [trial, ['--trial', experiment, '--spec', 'null'], 1, /^error SPEC_INVALID: the spec is null/],
    [trial, ['--trial', experiment, '--spec', '{"seed":1,"rato":1}'], 1, /^error SPEC_INVALID: .*'rato'/],
    [path.join(root, 'experiments/merge.js'), [temporary], 1, /^error LEDGER_NOT_FOUND/],
  ];
  const ends = await Promise.all(cases.map(([file, args]) => run(file, args)));
  for (const [i, [, args, code, message]] of cases.entries()) {
    assert.match(ends[i]!.stderr, message);
    assert.is(ends[i]!.code, code, args.join(' '));
    assert.not.match(ends[i]!.stderr, /\n\s+at /);
  }
});

test('help names the sizes and the options of the experiment', async () => {
  const { code, stdout } = await run(experiment, ['--help']);
  assert.is(code, 0);
  for (const text of ['--quick', '3 seeds, the default', '--shard <i/n>', '--milliseconds'])
    assert.match(stdout, text);
});

test('the list tells what there is', async () => {
  const { code, stdout, stderr } = await run(path.join(root, 'experiments/list.js'), []);
  assert.is(code, 0, stderr);
  assert.match(stdout, 'Experiments');
});

test.run();
