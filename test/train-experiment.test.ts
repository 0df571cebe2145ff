// experiments/train.ts end to end, at smoke size: runs, resumes, the user's own files, and what it says to mistakes.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const script = fileURLToPath(new URL('../experiments/train.js', import.meta.url));
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'gradshape-train-'));
test.after(() => fs.rmSync(temporary, { recursive: true }));

let folders = 0;
const newFolder = () => path.join(temporary, `out-${++folders}`);

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(...args: string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { cwd: temporary }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : (error.code as number), stdout, stderr });
    });
  });
}

const exited = (child: ChildProcess) => new Promise<number | null>((resolve) => child.once('exit', resolve));
const checkpoint = (out: string) => fs.readFileSync(path.join(out, 'checkpoint.safetensors'));
const csv = (out: string) => fs.readFileSync(path.join(out, 'results.csv'), 'utf8').trim().split('\r\n');

test('--help shows groups, defaults and examples', async () => {
  const { code, stdout } = await run('--help');
  assert.is(code, 0);
  for (const text of [
    'Data:',
    'Differential privacy:',
    'Examples',
    'fashion-tanh-cnn',
    '(default: "dress-coat")',
  ]) {
    assert.ok(stdout.includes(text), text);
  }
});

test('mistyped options and names get the nearest one, and exit code 2 or 1', async () => {
  const cases: [string[], number, RegExp][] = [
    [['--modle', 'lr'], 2, /Did you mean --model\?/],
    [['--model', 'badnett'], 2, /Did you mean badnet\?/],
    [['--optimizer', 'adm'], 2, /Did you mean adam\?/],
    [['--learning-rate', 'fast'], 2, /Expected a number above 0/],
    [['--scale', '1/2/3'], 2, /fraction such as 1\/255/],
    [['--noise', '1'], 2, /give --clip/],
    [['--set', 'fashion-mnst'], 1, /SET_UNKNOWN.*did you mean 'fashion-mnist'\?/],
    [['--set', 'nowhere.csv'], 1, /DATA_UNREADABLE/],
    [['--resume'], 1, /RESUME_NOT_FOUND/],
  ];
  const ended = await Promise.all(cases.map(([args]) => run(...args, '--out', newFolder())));
  cases.forEach(([args, code, message], i) => {
    assert.is(ended[i]!.code, code, args.join(' '));
    assert.match(ended[i]!.stderr, message);
  });
});

test('a convolutional network on the embedded images: learning curve, report, checkpoint', async () => {
  const out = newFolder();
  const args = ['--model', 'fashion-tanh-cnn', '--optimizer', 'nesterov', '--limit', '600', '--epochs', '2'];
  const { code, stdout, stderr } = await run(...args, '--schedule', 'cosine', '--out', out);
  assert.is(code, 0, stderr);
  assert.match(stderr, /25,746 parameters/);
  assert.match(stderr, /epoch 2\/2 {2}loss 0\.\d+ {2}test accuracy 0\.[89]/);
  assert.match(stderr, /Trained on the first 600 of 10800 examples/);
  assert.match(stdout, /which validation chooses/);
  assert.is(csv(out).length, 3);
  const page = fs.readFileSync(path.join(out, 'report.html'), 'utf8');
  for (const text of ['<svg', 'fashion-tanh-cnn on dress-coat', 'nesterov'])
    assert.ok(page.includes(text), text);
  assert.ok(readSafetensors(checkpoint(out)).tensors.has('optimizer.velocity'));

  // A new run in the same folder moves this one aside.
  const again = await run('--epochs', '1', '--out', out);
  assert.is(again.code, 0, again.stderr);
  assert.match(again.stderr, /earlier run .* is now in .*-1/);
  assert.ok(fs.existsSync(path.join(`${out}-1`, 'checkpoint.safetensors')));
});

test('Ctrl-C leaves a checkpoint, and --resume ends in the bits of a straight run', async () => {
  const [straight, stopped] = [newFolder(), newFolder()];
  const args = [
    '--model',
    'mlp',
    '--optimizer',
    'adamw',
    '--weight-decay',
    '0.01',
    '--clip',
    '1',
    '--noise',
    '0.5',
  ];
  const rest = ['--limit', '2000', '--epochs', '3', '--batch-size', '50'];
  assert.is((await run(...args, ...rest, '--out', straight)).code, 0);

  const child = spawn(process.execPath, [script, ...args, ...rest, '--out', stopped], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (text.includes('epoch 1/3')) setTimeout(() => child.kill('SIGINT'), 100);
  });
  assert.is(await exited(child), 130, said);
  assert.match(said, /an experiment, not a private model/);
  assert.match(said, /Go on with the same --out and --resume/);
  assert.not.equal(checkpoint(stopped), checkpoint(straight));

  const changed = await run('--resume', '--model', 'lr', '--out', stopped);
  assert.is(changed.code, 1);
  assert.match(changed.stderr, /RESUME_OPTIONS.*model can't be changed/);

  const resumed = await run('--resume', '--out', stopped);
  assert.is(resumed.code, 0, resumed.stderr);
  assert.equal(checkpoint(stopped), checkpoint(straight));
  const withoutSeconds = (out: string) => csv(out).map((line) => line.replace(/,[^,]*$/, ''));
  assert.equal(withoutSeconds(stopped), withoutSeconds(straight));

  const longer = await run('--resume', '--epochs', '4', '--out', stopped);
  assert.is(longer.code, 0, longer.stderr);
  assert.is(csv(stopped).length, 5);
});

test('the user’s own CSV, with a test set of its own or a share held out', async () => {
  const points = (count: number, shift: number) =>
    Array.from({ length: count }, (_, i) => {
      const x = Math.sin(i * 7 + shift) * 3;
      return `${x},${Math.cos(i * 3 + shift)},${x > 0 ? 'right' : 'left'}`;
    });
  const write = (name: string, lines: string[]) => {
    const file = path.join(temporary, name);
    fs.writeFileSync(file, `${lines.join('\n')}\n`);
    return file;
  };
  const own = write('own.csv', ['a,b,side', ...points(300, 0)]);
  const test = write('test.csv', ['a,b,side', ...points(100, 1)]);
  const options = [
    '--label',
    'side',
    '--model',
    'lr',
    '--learning-rate',
    '0.1',
    '--epochs',
    '8',
    '--batch-size',
    '10',
  ];
  for (const more of [[], ['--test-set', test]]) {
    const { code, stderr } = await run('--set', own, ...more, ...options, '--out', newFolder());
    assert.is(code, 0, stderr);
    assert.match(stderr, more.length === 0 ? /240 training and 60 test/ : /300 training and 100 test/);
    assert.match(stderr, /epoch 8\/8 .* test accuracy (0\.9|1\.0)/);
  }
  const wrong = await run('--set', own, '--label', 'sides', '--out', newFolder());
  assert.is(wrong.code, 1);
  assert.match(wrong.stderr, /DATA_COLUMN/);
  const images = await run('--set', own, ...options, '--model', 'badnet', '--out', newFolder());
  assert.is(images.code, 1);
  assert.match(images.stderr, /SHAPE_MISMATCH.*'lr' or 'mlp'/);
});

/** An NPY file, version 1.0. */
function npy(type: string, shape: readonly number[], data: Uint8Array): Uint8Array {
  const header = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const padded = `${header.padEnd(Math.ceil((header.length + 11) / 64) * 64 - 11)}\n`;
  return Buffer.concat([
    Buffer.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, padded.length & 255, padded.length >> 8]),
    Buffer.from(padded, 'latin1'),
    data,
  ]);
}

test('the user’s own NPY images, through a convolutional network, in every strategy of DP-SGD', async () => {
  const count = 60;
  const images = Uint8Array.from({ length: count * 64 }, (_, i) => ((i >> 6) % 3) * 80 + (i % 7));
  const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
  fs.writeFileSync(path.join(temporary, 'x.npy'), npy('|u1', [count, 8, 8, 1], images));
  fs.writeFileSync(path.join(temporary, 'y.npy'), npy('<i4', [count], new Uint8Array(labels.buffer)));
  const options = [
    '--set',
    'x.npy,y.npy',
    '--scale',
    '1/255',
    '--model',
    'cifar-cnn',
    '--batch-size',
    '12',
    '--epochs',
    '2',
  ];
  const ended = await Promise.all(
    ['ghost', 'materialize', 'loop'].map((strategy) =>
      run(...options, '--clip', '1', '--noise', '0.1', '--strategy', strategy, '--out', newFolder()),
    ),
  );
  const accuracies = ended.map(({ code, stderr }) => {
    assert.is(code, 0, stderr);
    return /epoch 2\/2 .*? {2}(test accuracy \S+)/.exec(stderr)?.[1];
  });
  assert.ok(accuracies[0]);
  assert.equal(accuracies, [accuracies[0], accuracies[0], accuracies[0]]);
});

test.run();
