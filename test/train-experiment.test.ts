// experiments/train.ts end to end, at smoke size: runs, resumes, the user's own files, and what it says to mistakes.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  createAccountant,
  createEngineSync,
  loadModel,
  type PrivacyPhase,
  privacyPlan,
  readSafetensors,
  writeSafetensors,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const script = fileURLToPath(new URL('../experiments/train.js', import.meta.url));
const calculator = fileURLToPath(new URL('../experiments/privacy.js', import.meta.url));
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

/** `experiments/privacy.js --json` */
function privacy(...args: string[]): Promise<{ epsilon: number; phases: PrivacyPhase[] }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [calculator, ...args, '--poisons', '1', '--json'], (_, stdout) =>
      resolve(JSON.parse(stdout)),
    );
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
    [['--secure', '--target-epsilon', '3'], 2, /--target-epsilon, --secure without a clip norm/],
    [['--clip', '1', '--noise', '1', '--target-epsilon', '3'], 2, /give one of them/],
    [['--clip', '1', '--sampling', 'poison'], 2, /Did you mean poisson\?/],
    [['--clip', '1', '--delta', '1'], 2, /Expected a number between 0 and 1/],
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

/** A run that gets a signal after its first epoch; returns its exit code, and what it said. */
async function stopAfterEpoch(signal: NodeJS.Signals, ...args: string[]) {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    said += text;
    if (text.includes('epoch 1/')) child.kill(signal);
  });
  return { code: await exited(child), said };
}

test('a damaged run is named', async () => {
  const out = newFolder();
  fs.mkdirSync(out);
  for (const text of ['{}', 'null', '[', '{"settings":{"set":"dress-coat"}}']) {
    fs.writeFileSync(path.join(out, 'run.json'), text);
    const { code, stderr } = await run('--resume', '--out', out);
    assert.is(code, 1);
    assert.match(stderr, /RESUME_NOT_FOUND/);
    assert.not.match(stderr, 'TypeError');
  }
});

const withoutSeconds = (out: string) => csv(out).map((line) => line.replace(/,[^,]*$/, ''));
const small = ['--limit', '2000', '--epochs', '3', '--batch-size', '50'];

test('Ctrl-C leaves a checkpoint, and --resume ends in the bits of a straight run', async () => {
  const [straight, stopped] = [newFolder(), newFolder()];
  const args = ['--model', 'mlp', '--optimizer', 'adamw', '--weight-decay', '0.01', ...small];
  assert.is((await run(...args, '--out', straight)).code, 0);
  const { code, said } = await stopAfterEpoch('SIGINT', ...args, '--out', stopped);
  assert.is(code, 130, said);
  assert.match(said, /Go on with the same --out and --resume/);
  assert.not.equal(checkpoint(stopped), checkpoint(straight));

  for (const [option, value] of [
    ['--model', 'lr'],
    ['--target-epsilon', '3'],
  ] as const) {
    const changed = await run('--resume', option, value, '--out', stopped);
    assert.is(changed.code, 1);
    assert.match(changed.stderr, new RegExp(`RESUME_OPTIONS.*${option} can't be changed`));
  }

  const resumed = await run('--resume', '--out', stopped);
  assert.is(resumed.code, 0, resumed.stderr);
  assert.equal(checkpoint(stopped), checkpoint(straight));
  assert.equal(withoutSeconds(stopped), withoutSeconds(straight));

  const longer = await run('--resume', '--epochs', '4', '--out', stopped);
  assert.is(longer.code, 0, longer.stderr);
  assert.is(csv(stopped).length, 5);
});

/** A column of the CSV, as numbers. */
function column(out: string, name: string): number[] {
  const [head, ...rows] = csv(out).map((line) => line.split(','));
  return rows.map((row) => Number(row[head!.indexOf(name)]));
}

const statement = (out: string) => JSON.parse(fs.readFileSync(path.join(out, 'statement.json'), 'utf8'));

test('stopped, killed or made longer, a seeded DP-SGD has the bits and the ε of a straight run', async () => {
  const [straight, longer, stopped, killed] = [newFolder(), newFolder(), newFolder(), newFolder()];
  const args = ['--model', 'mlp', '--optimizer', 'adamw', ...small, '--clip', '1', '--noise', '0.5'];
  const runs = [run(...args, '--out', straight), run(...args, '--epochs', '4', '--out', longer)];
  for (const { code, stderr } of await Promise.all(runs)) assert.is(code, 0, stderr);

  const interrupted = await stopAfterEpoch('SIGINT', ...args, '--out', stopped);
  assert.is(interrupted.code, 130, interrupted.said);
  assert.match(interrupted.said, /an experiment, not a private model/);
  assert.match(interrupted.said, /epoch 1\/3 .* ε \(seeded: not private\) = \d/);
  assert.is((await stopAfterEpoch('SIGKILL', ...args, '--out', killed)).code, null);
  for (const out of [stopped, killed]) {
    assert.not.equal(checkpoint(out), checkpoint(straight));
    const resumed = await run('--resume', '--out', out);
    assert.is(resumed.code, 0, resumed.stderr);
    assert.equal(checkpoint(out), checkpoint(straight));
    assert.equal(withoutSeconds(out), withoutSeconds(straight));
    assert.equal(statement(out), statement(straight));
  }
  // 40 steps an epoch, each with one example in 40.
  const sampled = {
    mechanism: 'poissonSampledGaussian',
    samplingRate: 1 / 40,
    noiseMultiplier: 0.5,
  } as const;
  const spent = (epoch: number) =>
    createAccountant('pld', [{ ...sampled, steps: 40 * epoch }]).epsilon(1e-5).epsilon;
  assert.equal(column(straight, 'epsilon'), [1, 2, 3].map(spent));
  assert.is(statement(straight).private, false);

  const more = await run('--resume', '--epochs', '4', '--out', stopped);
  assert.is(more.code, 0, more.stderr);
  assert.equal(checkpoint(stopped), checkpoint(longer));
  assert.equal(withoutSeconds(stopped), withoutSeconds(longer));
  const fewer = await run('--resume', '--epochs', '2', '--out', stopped);
  assert.is(fewer.code, 1);
  assert.match(fewer.stderr, /PLAN_MISMATCH.*160 steps behind it/);
});

test('a private model: the noise for a target, no training loss, a statement; more epochs need a larger target', async () => {
  const out = newFolder();
  const args = ['--model', 'mlp', '--clip', '0.5', '--target-epsilon', '3', '--secure', ...small];
  const stopped = await stopAfterEpoch('SIGINT', ...args, '--out', out);
  assert.is(stopped.code, 130, stopped.said);
  assert.ok(statement(out).phases[0].steps < 120, 'a statement of what was done so far');
  const resumed = await run('--resume', '--out', out);
  assert.is(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stderr, /epoch 3\/3 {2}test accuracy .* {2}ε = \d/);
  assert.not.match(resumed.stderr, /epoch 3\/3 .*\d {2}loss/);
  assert.match(resumed.stderr, /ε covers the weights alone: losses on training examples.* leak/);
  assert.match(resumed.stdout, /The training is \(ε = [\d.]+, δ = 1e-5\)-differentially private/);
  assert.equal(column(out, 'trainLoss'), [0, 0, 0], 'empty');
  const [noise] = column(out, 'noiseMultiplier');
  assert.is(column(out, 'noiseStd')[0], 0.5 * noise!);
  const reached = column(out, 'epsilon')[2]!;
  assert.ok(reached <= 3 && reached > 2.98, `${reached}`);
  const promised = statement(out);
  assert.is(promised.private, true);
  assert.equal(promised.phases, [
    { mechanism: 'poissonSampledGaussian', samplingRate: 1 / 40, noiseMultiplier: noise, steps: 120 },
  ]);
  const page = fs.readFileSync(path.join(out, 'report.html'), 'utf8');
  for (const text of ['What is promised', 'Accuracy by ε', 'noise standard deviation']) {
    assert.ok(page.includes(text), text);
  }
  const engine = createEngineSync();
  const { params } = loadModel(fs.readFileSync(path.join(out, 'model.safetensors')), engine);
  assert.equal(params.values(), readSafetensors(checkpoint(out)).tensors.get('params')!.values);

  const refused = await run('--resume', '--epochs', '4', '--out', out);
  assert.is(refused.code, 1);
  const [, enough] = /TARGET_EXCEEDED.*--target-epsilon (\S+)/.exec(refused.stderr)!;
  const allowed = await run('--resume', '--epochs', '4', '--target-epsilon', enough!, '--out', out);
  assert.is(allowed.code, 0, allowed.stderr);
  assert.is(statement(out).phases[0].steps, 160);
  assert.is(statement(out).phases[0].noiseMultiplier, noise);
  assert.ok(column(out, 'epsilon')[3]! <= Number(enough));

  // A run is resumed at the δ that its earlier ε were said at, and from the epoch that its checkpoint was made in.
  const file = path.join(out, 'run.json');
  const settings = fs.readFileSync(file, 'utf8');
  fs.writeFileSync(file, settings.replace('"delta": 0.00001', '"delta": 0.001'));
  const other = await run('--resume', '--epochs', '4', '--out', out);
  assert.is(other.code, 1);
  assert.match(other.stderr, /RUN_CHANGED.*δ = 0.001 and accountant pld/);
  fs.writeFileSync(file, settings);
  const { metadata, tensors } = readSafetensors(checkpoint(out));
  const position = JSON.stringify({ ...JSON.parse(metadata.epoch!), epoch: 2 });
  fs.writeFileSync(
    path.join(out, 'checkpoint.safetensors'),
    writeSafetensors({ metadata: { ...metadata, epoch: position }, tensors }),
  );
  const damaged = await run('--resume', '--epochs', '4', '--out', out);
  assert.match(damaged.stderr, /CHECKPOINT_INVALID.*'epoch' is .*"epoch":2/);
});

test('each sampling is counted as its own; pieces of a batch give the same bits; clipping alone is ε = ∞', async () => {
  const args = [
    '--limit',
    '1000',
    '--epochs',
    '2',
    '--batch-size',
    '100',
    '--schedule',
    'cosine',
    '--clip',
    '1',
  ];
  const noise = { noiseMultiplier: 2 };
  const events: Record<string, PrivacyPhase> = {
    poisson: { mechanism: 'poissonSampledGaussian', samplingRate: 0.1, ...noise, steps: 20 },
    'fixed-size': {
      ...{ mechanism: 'fixedSizeSampledGaussian', datasetSize: 1000, batchSize: 100, ...noise, steps: 20 },
    },
    shuffled: { mechanism: 'shuffledEpochGaussian', ...noise, steps: 2 },
    'nominal-poisson': { mechanism: 'nominalPoissonGaussian', samplingRate: 0.1, ...noise, steps: 20 },
  };
  const accounted = ['--noise', '2', '--accountant', 'rdp', '--delta', '1e-6'];
  const own = (sampling: string) => [...args, ...accounted, '--sampling', sampling];
  const outs = Object.keys(events).map((sampling) => ({ sampling, out: newFolder() }));
  const ended = await Promise.all(outs.map(({ sampling, out }) => run(...own(sampling), '--out', out)));
  outs.forEach(({ sampling, out }, i) => {
    const { code, stderr } = ended[i]!;
    assert.is(code, 0, stderr);
    assert.is(column(out, 'epsilon')[1], createAccountant('rdp', [events[sampling]!]).epsilon(1e-6).epsilon);
    assert.equal(statement(out).phases, [events[sampling]]);
    assert.is(stderr.includes('nominal'), sampling === 'nominal-poisson');
  });
  const pieces = newFolder();
  assert.is((await run(...own('poisson'), '--physical-batch', '30', '--out', pieces)).code, 0);
  assert.equal(checkpoint(pieces), checkpoint(outs[0]!.out));

  const out = newFolder();
  const clipped = await run(...args, '--epochs', '1', '--out', out);
  assert.match(clipped.stderr, /no noise: ε = ∞/);
  const resumed = await run('--resume', '--epochs', '2', '--out', out);
  assert.match(resumed.stderr, /epoch 2\/2 {2}loss .* ε = ∞/);
  assert.equal(column(out, 'epsilon'), [Infinity, Infinity]);
  assert.is(statement(out).epsilon, 'Infinity');
});

test('command line, training and plan count the same, at sizes that don’t divide', async () => {
  const epsilons = { poisson: 6.93, 'fixed-size': 23.53, shuffled: 8.39, 'nominal-poisson': 7.51 };
  const samplings = Object.keys(epsilons) as (keyof typeof epsilons)[];
  const train = ['--limit', '1000', '--batch-size', '300', '--epochs', '3', '--clip', '1', '--noise', '1'];
  const state = ['--n', '1000', '--batch', '300', '--epochs', '3', '--noise', '1', '--delta', '1e-5'];
  for (const sampling of samplings) {
    const [out, stateOut] = [newFolder(), newFolder()];
    const [trained, stated, reported] = await Promise.all([
      run(...train, '--sampling', sampling, '--out', out),
      privacy(...state, '--sampling', sampling),
      new Promise<string>((resolve) => {
        const args = [...state, '--sampling', sampling, '--poisons', '1', '--out', stateOut];
        execFile(process.execPath, [calculator, ...args], (_, stdout) => resolve(stdout));
      }),
    ]);
    assert.is(trained.code, 0, trained.stderr);
    const plan = privacyPlan({
      ...{ datasetSize: 1000, batchSize: 300, epochs: 3, sampling, clipNorm: 1, noiseMultiplier: 1 },
    });
    assert.is(plan.steps, { poisson: 10, 'fixed-size': 10, shuffled: 12, 'nominal-poisson': 12 }[sampling]);
    assert.equal(stated.phases, plan.phases());
    assert.equal(statement(out).phases, plan.phases());
    const { epsilon } = plan.epsilon(1e-5);
    assert.ok(Math.abs(epsilon - epsilons[sampling]) < 0.005, `${sampling}: ${epsilon}`);
    assert.is(stated.epsilon, plan.statement(1e-5).epsilon);
    assert.is(statement(out).epsilon, plan.statement(1e-5).epsilon);
    // Epoch by epoch, in both reports and in print.
    const byEpoch = [1, 2, 3].map((epoch) => plan.epsilon(1e-5, plan.stepsAfter(epoch)).epsilon);
    assert.equal(column(out, 'epsilon'), byEpoch);
    assert.equal(column(stateOut, 'epsilon_pld'), byEpoch);
    const printed = [...trained.stderr.matchAll(/^epoch \d.* ε \(.*\) = ([\d.]+)/gm)].map(([, text]) =>
      Number(text),
    );
    assert.is(printed.length, 3);
    printed.forEach((value, i) => {
      assert.ok(value >= byEpoch[i]! && value < byEpoch[i]! * 1.0002, `${value} for ${byEpoch[i]}`);
    });
    const last = Number(/^│ +3 │ +[\d.]+ │ +([\d.]+) │/m.exec(reported)![1]);
    assert.ok(last >= epsilon && last < epsilon * 1.0002, `${last} for ${epsilon}`);
  }
  // Made longer, a run whose epochs are no whole numbers of steps has the bits of one that was as long from the start.
  const [longer, resumed] = [newFolder(), newFolder()];
  const ended = await Promise.all([
    run(...train, '--epochs', '5', '--out', longer),
    run(...train, '--out', resumed),
  ]);
  for (const { code, stderr } of ended) assert.is(code, 0, stderr);
  const more = await run('--resume', '--epochs', '5', '--out', resumed);
  assert.is(more.code, 0, more.stderr);
  assert.equal(checkpoint(resumed), checkpoint(longer));
  assert.equal(withoutSeconds(resumed), withoutSeconds(longer));
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
