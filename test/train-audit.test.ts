// experiments/train.ts --audit: what was proved stands beside what is promised, before training and in the statement.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const script = fileURLToPath(new URL('../experiments/train.js', import.meta.url));
const temporary = fs.mkdtempSync(path.join(os.tmpdir(), 'gradshape-train-audit-'));
test.after(() => fs.rmSync(temporary, { recursive: true }));

test('--audit prints the lower bound beside ε', () => {
  const options = ['--clip', '1', '--noise', '1', '--epochs', '1', '--limit', '2000', '--audit', '--secure'];
  const { stderr } = spawnSync(process.execPath, [script, ...options, '--out', 'out'], {
    cwd: temporary,
    encoding: 'utf8',
  });
  const [line] = stderr.match(
    /^Audit: 20 such steps have ε ≥ [0-9.]+ at δ = 1e-5, with 95 % confidence.*$/m,
  )!;
  const statement = JSON.parse(fs.readFileSync(path.join(temporary, 'out', 'statement.json'), 'utf8'));
  assert.is(statement.says.at(-1), line);
});

test('--audit without a clip norm is a mistake', () => {
  const { status, stderr } = spawnSync(process.execPath, [script, '--audit'], {
    cwd: temporary,
    encoding: 'utf8',
  });
  assert.is(status, 2);
  assert.match(stderr, /--audit without a clip norm/);
});

test.run();
