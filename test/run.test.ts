import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const runner = fileURLToPath(new URL('run.js', import.meta.url));
const folder = fileURLToPath(new URL('fixtures/runner', import.meta.url));

function run(patterns: string[], timeout = 20) {
  const result = spawnSync(
    process.execPath,
    [runner, '--folder', folder, '--timeout', String(timeout), ...patterns],
    { encoding: 'utf8' },
  );
  const lines = result.stdout.trimEnd().split('\n');
  assert.is(lines[0], `Node ${process.version}`);
  assert.is(lines.filter((line) => /^\s*\d+ passed, \d+ failed/.test(line)).length, 1, result.stdout);
  return { status: result.status, stdout: result.stdout, last: lines.at(-1) };
}

test('adds up what passed', () => {
  const { status, stdout, last } = run(['passes']);
  assert.match(stdout, /• passes\.test\.js {2}2 passed, 1 skipped {2}\(\d+\.\d s\)/);
  assert.is(last, '2 passed, 0 failed');
  assert.is(status, 0);
});

const failures: [name: string, last: string, shown: RegExp][] = [
  ['fails', '1 passed, 1 failed', /Expected values to be strictly equal/],
  ['forgets-run', '0 passed, 1 failed', /no totals/],
  ['no-tests', '0 passed, 1 failed', /no tests: is test\.run\(\) missing/],
  ['never-settles', '0 passed, 1 failed', /no totals \(code 1\)/],
  ['crashes', '0 passed, 1 failed', /crashed on purpose/],
  ['rejects-late', '1 passed, 1 failed', /rejected late/],
  ['hook-throws', '0 passed, 1 failed', /a hook threw/],
  ['no-such-file', '0 passed, 1 failed', /no test file in .* matches no-such-file/],
];
for (const [name, expected, shown] of failures) {
  test(`fails on ${name}, and says why`, () => {
    const { status, stdout, last } = run([name]);
    assert.is(last, expected, stdout);
    assert.match(stdout, shown);
    assert.is(status, 1);
  });
}

test('stops a file that takes too long, and its children', async () => {
  const { status, stdout, last } = run(['hangs'], 2);
  assert.is(last, '1 passed, 1 failed', stdout);
  assert.match(stdout, /stopped after 2 s/);
  assert.is(status, 1);
  const pid = Number(/child (\d+)/.exec(stdout)![1]);
  for (let tries = 0; tries < 50 && isAlive(pid); tries++) await sleep(100);
  assert.not(isAlive(pid));
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('one bad file among good ones fails the run', () => {
  const { status, last } = run(['passes', 'forgets-run', 'fails']);
  assert.is(last, '3 passed, 2 failed');
  assert.is(status, 1);
});

test.run();
