import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Ledger, type LedgerEntry, parseLedger } from '../experiments/harness/ledger.js';
import { canonicalJson, defineTrial, fullSpec, shortSpec, trialKey } from '../experiments/harness/trial.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'gradshape-ledger-'));
test.after(() => fs.rmSync(folder, { recursive: true }));

let files = 0;
const newFile = () => path.join(folder, `ledger-${++files}.jsonl`);
const kind = { name: 'dummy', version: 3 };
const entry = (key: string, more: Partial<LedgerEntry> = {}): LedgerEntry => ({
  key,
  trial: 'dummy',
  version: 3,
  spec: { seed: 1 },
  result: { accuracy: 0.1 + 0.2, note: 'é' },
  versions: { node: '20.0.0', gradshape: '0.1.0', kernels: 'base' },
  seconds: 0.5,
  ...more,
});
const lines = (...entries: LedgerEntry[]) => entries.map((e) => `${JSON.stringify(e)}\n`).join('');

async function refusal(run: () => unknown): Promise<Error & { code: string }> {
  try {
    await run();
  } catch (error) {
    return error as Error & { code: string };
  }
  throw new Error('nothing was thrown');
}

test('what was appended is there after reopening, to the last bit', async () => {
  const file = newFile();
  const first = await Ledger.open(file, kind);
  first.append(entry('a'));
  first.append(entry('b', { result: 1e-300 }));
  await first.close();
  const again = await Ledger.open(file, kind);
  assert.equal([...again.entries.values()], [entry('a'), entry('b', { result: 1e-300 })]);
  await again.close();
  assert.not(fs.existsSync(`${file}.lock`));
});

test('a half-written last line, cut anywhere, is taken off and said so', async () => {
  const whole = lines(entry('a'));
  const torn = Buffer.from(lines(entry('b')));
  for (const length of [1, 40, torn.indexOf('é') + 1, torn.length - 1]) {
    const file = newFile();
    fs.writeFileSync(file, Buffer.concat([Buffer.from(whole), torn.subarray(0, length)]));
    const said: string[] = [];
    const ledger = await Ledger.open(file, kind, { say: (text) => said.push(text) });
    assert.equal([...ledger.entries.keys()], ['a']);
    assert.match(said.join('\n'), `half written (${length} bytes)`);
    ledger.append(entry('c'));
    await ledger.close();
    assert.is(fs.readFileSync(file, 'utf8'), whole + lines(entry('c')));
  }
});

test('lines of another version or trial are counted, ignored and kept', async () => {
  const file = newFile();
  const text = lines(entry('a', { version: 2 }), entry('b'), entry('c', { trial: 'other' }));
  fs.writeFileSync(file, text);
  const said: string[] = [];
  const ledger = await Ledger.open(file, kind, { say: (line) => said.push(line) });
  assert.is(ledger.ignored, 2);
  assert.equal([...ledger.entries.keys()], ['b']);
  assert.match(said.join('\n'), '2 line(s) of another trial or version');
  await ledger.close();
  assert.is(fs.readFileSync(file, 'utf8'), text);
});

test('a whole line that is no entry is a named error with its number, and the lock is given back', async () => {
  const file = newFile();
  fs.writeFileSync(file, `${lines(entry('a'))}{"key": 1}\n`);
  const error = await refusal(() => Ledger.open(file, kind));
  assert.is(error.code, 'LEDGER_CORRUPT');
  assert.match(error.message, 'line 2');
  assert.not(fs.existsSync(`${file}.lock`));
});

test('fresh moves the old ledger aside', async () => {
  const file = newFile();
  fs.writeFileSync(file, lines(entry('a')));
  const ledger = await Ledger.open(file, kind, { fresh: true });
  assert.is(ledger.entries.size, 0);
  await ledger.close();
  const old = fs
    .readdirSync(folder)
    .find((name) => name.startsWith(`${path.basename(file)}.`) && name.endsWith('.old'));
  assert.is(fs.readFileSync(path.join(folder, old!), 'utf8'), lines(entry('a')));
});

test('a disk that fills up in the middle of a line: a named error, and every finished line stays whole', async () => {
  const file = newFile();
  const ledger = await Ledger.open(file, kind);
  ledger.append(entry('a'));
  const { writeSync } = fs;
  fs.writeSync = ((fd: number, data: Buffer, offset: number) => {
    if (offset > 0) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    return writeSync(fd, data, 0, 25);
  }) as typeof fs.writeSync;
  const error = await refusal(() => ledger.append(entry('b'))).finally(() => {
    fs.writeSync = writeSync;
  });
  assert.is(error.code, 'DISK_FULL');
  assert.match(error.message, file);
  assert.is(fs.readFileSync(file, 'utf8'), lines(entry('a')));
  ledger.append(entry('b')); // room again
  await ledger.close();
  assert.is(parseLedger(fs.readFileSync(file), file).entries.length, 2);
});

test('a ledger where nothing can be written is a named error', async () => {
  const notAFolder = newFile();
  fs.writeFileSync(notAFolder, '');
  const error = await refusal(() => Ledger.open(path.join(notAFolder, 'ledger.jsonl'), kind));
  assert.is(error.code, 'OUTPUT_UNWRITABLE');
});

test('a second writer is refused while the first one lives', async () => {
  const file = newFile();
  const first = await Ledger.open(file, kind);
  const said: string[] = [];
  const error = await refusal(() => Ledger.open(file, kind, { say: (text) => said.push(text) }));
  assert.is(error.code, 'LEDGER_LOCKED');
  assert.match(said.join('\n'), 'waiting');
  await first.close();
});

const trial = defineTrial({
  module: import.meta.url,
  name: 'dummy',
  version: 3,
  description: '',
  defaults: { ratio: 0.4, shaper: { clipNorm: 4, noiseStd: 0 } },
  run: () => 0,
});
const keyOf = (spec: object, kernels = 'base', data = {}, kind = trial) =>
  trialKey(kind as never, fullSpec(kind as never, spec as never), kernels, data);

test('the key depends on what a trial is, not on how its spec is written', () => {
  const key = keyOf({ seed: 1 });
  assert.match(key, /^[0-9a-f]{64}$/);
  assert.is(keyOf({ seed: { noise: 1, order: 1, init: 1, data: 1 } }), key);
  assert.is(keyOf({ shaper: { noiseStd: 0, clipNorm: 4 }, seed: 1, ratio: 0.4 }), key);
  const others = [
    keyOf({ seed: 2 }),
    keyOf({ seed: { data: 1, init: 1, order: 1, noise: 2 } }),
    keyOf({ seed: 1, ratio: 0.3 }),
    keyOf({ seed: 1 }, 'relaxed'),
    keyOf({ seed: 1 }, 'base', { images: 'abc' }),
    keyOf({ seed: 1 }, 'base', {}, { ...trial, version: 4 }),
    keyOf({ seed: 1 }, 'base', {}, { ...trial, name: 'other' }),
  ];
  assert.is(new Set([key, ...others]).size, others.length + 1);
});

test('the key of a known spec stays what it is: ledgers of earlier runs are still found', () => {
  // sha256sum of the canonical text, made by the command of that name.
  const text =
    '{"data":{},"kernels":"base","spec":{"ratio":0.4,"seed":{"data":1,"init":1,"noise":1,"order":1},' +
    '"shaper":{"clipNorm":4,"noiseStd":0}},"trial":"dummy","version":3}';
  assert.is(canonicalJson(JSON.parse(text)), text);
  assert.is(keyOf({ seed: 1 }), '8b5191446be4cf082d310938e963cc89e602b405b69eb8497c1850b11091a736');
});

test('canonical JSON does not depend on key order', () => {
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .reverse()
        .map(([k, v]) => [k, reversed(v)]),
    );
  };
  const values = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)));
  fc.assert(
    fc.property(values, (value) => {
      assert.is(canonicalJson(reversed(value)), canonicalJson(value));
      assert.equal(JSON.parse(canonicalJson(value)), value);
    }),
  );
});

test('what JSON would change without a word is refused by name and place', () => {
  for (const bad of [
    Number.NaN,
    Number.POSITIVE_INFINITY,
    undefined,
    new Float32Array(2),
    new Map(),
    () => 0,
  ]) {
    try {
      canonicalJson({ epochs: [1, bad] }, 'result');
      assert.unreachable();
    } catch (error) {
      assert.is((error as { code: string }).code, 'NOT_JSON');
      assert.match((error as Error).message, 'result.epochs[1]');
    }
  }
});

test('a spec with a field or seed that is not there is refused', async () => {
  for (const bad of [
    { seed: 1, rato: 0.4 },
    {},
    { seed: -1 },
    { seed: 1.5 },
    { seed: { data: 1 } },
    { seed: null },
  ]) {
    assert.is((await refusal(() => keyOf(bad))).code, 'SPEC_INVALID');
  }
});

test('the short spec is what one would type', () => {
  const short = shortSpec(trial as never, fullSpec(trial as never, { seed: 7, ratio: 0.1 } as never));
  assert.equal(short, { ratio: 0.1, seed: 7 });
});

test.run();
