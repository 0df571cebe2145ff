// Runs the test files, each in a process of its own, two at a time.
//
//   node test/run.js [pattern…]       files whose name contains one of the patterns; default: all
//     --folder <path>                 where the files are; default: this folder
//     --timeout <seconds>             how long one file may take; default: 300
//
// uvu passes a file that forgot `test.run()`, and ends without totals when a test never settles. So a file passes only if
// it printed totals with at least one test, all of which passed, and its process ended by itself with code 0.
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs, stripVTControlCharacters } from 'node:util';

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** What is wrong with the file as a whole; '' for nothing. */
  readonly problem: string;
  readonly output: string;
}

const filesAtOnce = 2;
const running = new Set<number>();

// A file's own children (workers, servers) are in its process group: none outlives it.
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // already gone
  }
}

function judge(output: string, exit: string): Outcome {
  const totals = stripVTControlCharacters(output).matchAll(
    /^ {2}Total: +(\d+)\n {2}Passed: +(\d+)\n {2}Skipped: +(\d+)$/gm,
  );
  const last = [...totals].at(-1);
  if (last === undefined) return { passed: 0, failed: 1, skipped: 0, problem: `no totals (${exit})`, output };
  const [total, passed, skipped] = last.slice(1).map(Number) as [number, number, number];
  const failed = total - passed;
  if (total === 0) return { passed, failed: 1, skipped, problem: 'no tests: is test.run() missing?', output };
  if (failed === 0 && exit !== 'code 0') return { passed, failed: 1, skipped, problem: exit, output };
  // uvu drops the error of such a hook, and the tests after it, and exits with 0.
  const problem = failed > 0 && exit === 'code 0' ? 'a hook threw' : '';
  return { passed, failed, skipped, problem, output };
}

function runFile(path: string, timeout: number): Promise<Outcome> {
  if (!existsSync(path)) {
    const problem = 'not compiled: npm run build:ts';
    return Promise.resolve({ passed: 0, failed: 1, skipped: 0, problem, output: '' });
  }
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [path], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const pid = child.pid!;
    running.add(pid);
    let output = '';
    let late = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const timer = setTimeout(() => {
      late = true;
      killGroup(pid);
    }, timeout * 1000);
    child.on('exit', () => {
      running.delete(pid);
      clearTimeout(timer);
      killGroup(pid);
    });
    child.on('close', (code, signal) => {
      resolve(
        judge(output, late ? `stopped after ${timeout} s` : signal ? `signal ${signal}` : `code ${code}`),
      );
    });
  });
}

function report(name: string, outcome: Outcome, seconds: number): void {
  const { passed, failed, skipped, problem, output } = outcome;
  const counts = [`${passed} passed`];
  if (failed > 0) counts.push(`${failed} failed`);
  if (skipped > 0) counts.push(`${skipped} skipped`);
  if (problem) counts.push(problem);
  console.log(`${failed > 0 ? '✘' : '•'} ${name}  ${counts.join(', ')}  (${seconds.toFixed(1)} s)`);
  if (failed > 0) console.log(output.trim().replace(/^/gm, '  │ '));
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    folder: { type: 'string', default: import.meta.dirname },
    timeout: { type: 'string', default: '300' },
  },
});
// By the sources, since a compiled file may have lost its source, or a source may not have been compiled.
const names = readdirSync(values.folder)
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => name.replace(/\.ts$/, '.js'))
  .filter((name) => positionals.length === 0 || positionals.some((pattern) => name.includes(pattern)))
  .sort();

process.on('exit', () => running.forEach(killGroup));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1));

console.log(`Node ${process.version}`);
const sum = { passed: 0, failed: 0 };
if (names.length === 0) {
  console.log(`✘ no test file in ${values.folder} matches ${positionals.join(', ') || '*.test.ts'}`);
  sum.failed = 1;
}
const queue = names.values();
async function runQueue(): Promise<void> {
  for (const name of queue) {
    const start = performance.now();
    const outcome = await runFile(resolve(values.folder, name), Number(values.timeout));
    report(name, outcome, (performance.now() - start) / 1000);
    sum.passed += outcome.passed;
    sum.failed += outcome.failed;
  }
}
await Promise.all(Array.from({ length: filesAtOnce }, runQueue));
console.log(`${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = sum.failed > 0 ? 1 : 0;
