// The packed package, as a user installs it, trains to the same bits on every runtime.
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { installRuntimes, runtimesFolder } from './install-runtimes.js';

interface Run {
  /** Little-endian f32 in hexadecimal. */
  readonly parameters: string;
  readonly losses: readonly number[];
}
interface Runs {
  readonly base: Run;
  readonly cnn: Run;
  readonly relaxed: Run | null;
}
interface Tarball {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

const root = fileURLToPath(new URL('..', import.meta.url));
const app = mkdtempSync(join(tmpdir(), 'gradshape-app-'));
const bin = installRuntimes();

async function run(command: string, ...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, { cwd: app, maxBuffer: 1e8 });
  return stdout;
}

async function packAndInstall(): Promise<Tarball> {
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', app];
  const { stdout } = await promisify(execFile)('npm', pack, { cwd: root });
  const [packed] = JSON.parse(stdout);
  writeFileSync(join(app, 'package.json'), '{ "private": true, "type": "module" }');
  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  await run('npm', ...install, `./${packed.filename}`);
  return packed;
}

// Not in test.before: uvu drops the error of a hook.
process.on('exit', () => rmSync(app, { recursive: true, force: true }));
const tarball = await packAndInstall();
cpSync(runtimesFolder, app, { recursive: true, filter: (path) => !/node_modules|package/.test(path) });
const onThisNode: Runs = JSON.parse(await run(process.execPath, 'print.js'));

const floats = ({ parameters }: Run) =>
  new Float32Array(Uint8Array.from(Buffer.from(parameters, 'hex')).buffer);

/** Same bits with base kernels; nearly the same with relaxed ones, where there are. */
function checkRuns(runs: Runs, relaxed: boolean): void {
  checkBits(runs.base, onThisNode.base);
  checkBits(runs.cnn, onThisNode.cnn);
  assert.is(runs.relaxed !== null, relaxed);
  if (runs.relaxed) {
    const expected = floats(onThisNode.base);
    const distance = Math.max(...floats(runs.relaxed).map((value, i) => Math.abs(value - expected[i]!)));
    assert.ok(distance < 1e-5, `relaxed kernels are ${distance} away`);
  }
}

function checkBits(run: Run, onNode: Run): void {
  const expected = floats(onNode);
  const actual = floats(run);
  assert.is(actual.length, expected.length);
  const differ = actual.filter((value, i) => !Object.is(value, expected[i])).length;
  const message = `${differ} of ${expected.length} parameters differ; the first are ${actual.slice(0, 3)}`;
  assert.is(differ, 0, message);
  assert.equal(run.losses, onNode.losses);
}

test('the ten steps train', () => {
  const { parameters, losses } = onThisNode.base;
  assert.is(parameters.length, (784 * 2 + 2) * 8);
  assert.ok(floats(onThisNode.base).every(Number.isFinite));
  assert.ok(losses[9]! < losses[0]!, losses.join(' '));
  assert.ok(floats(onThisNode.cnn).every(Number.isFinite));
  // Pinned: a change here changes what every seed of every experiment gives.
  const sha256 = createHash('sha256').update(onThisNode.cnn.parameters).digest('hex');
  assert.is(sha256, '59952ae43e0c7a8d8019449ecad422be551d4a5e573d2b3bc51dd4f74d9af293');
  assert.ok(onThisNode.cnn.losses[9]! !== onThisNode.cnn.losses[0]!);
});

test('the tarball holds the library and nothing else', () => {
  const paths = tarball.files.map(({ path }) => path);
  for (const room of ['engine', 'nn', 'dp', 'attacks'])
    assert.ok(paths.includes(`dist/${room}/index.js`), room);
  for (const path of ['dist/index.js', 'dist/index.d.ts', 'dist/ndarray.js', 'LICENSE', 'README.md']) {
    assert.ok(paths.includes(path), path);
  }
  const known =
    /^(package\.json|README\.md|LICENSE|dist\/((index|ndarray)\.(js|d\.ts)|kernels\/(base|relaxed)\.wasm|(engine|nn|dp|attacks)\/.*\.(js|d\.ts)))$/;
  assert.equal(
    paths.filter((path) => !known.test(path)),
    [],
  );
  assert.ok(tarball.size < 500_000, `${tarball.size} bytes`);
  console.log(`tarball ${tarball.size} bytes, ${paths.length} files`);
});

test('installing it brings pure-rand alone', () => {
  const installed = readdirSync(join(app, 'node_modules')).filter((name) => !name.startsWith('.'));
  assert.equal(installed.sort(), ['gradshape', 'pure-rand']);
});

const commands: [name: string, command: string, ...args: string[]][] = [
  ['a current Node', 'node'],
  ['Deno', 'deno', 'run', '--no-remote', '--node-modules-dir=manual', '--allow-read'],
  ['Bun', 'bun', '--no-install'],
];
for (const [name, command, ...args] of commands) {
  test(`${name} computes the same bits, and takes the relaxed kernels`, async () => {
    checkRuns(JSON.parse(await run(join(bin, command), ...args, 'print.js')), true);
  });
}

test('with the relaxed kernels, too, the private sum moves by at most C', async () => {
  const cases = ['--cases', '400', '--million', '0', '--seed', '3'];
  const printed = await run(join(bin, 'node'), join(root, 'test/sensitivity-cases.js'), ...cases);
  assert.match(printed, /^400 cases by base and relaxed kernels, 0 failed/);
});

/** The port of the socket, once workerd listens. */
async function listening(events: Readable): Promise<number> {
  for await (const line of createInterface(events)) {
    const event = JSON.parse(line);
    if (event.event === 'listen') return event.port;
  }
  throw new Error('workerd ended without listening');
}

test('workerd computes the same bits, its kernels imported statically', async () => {
  const bundle = ['--bundle', '--format=esm', '--conditions=workerd,worker', '--loader:.wasm=copy'];
  await run(join(bin, 'esbuild'), 'worker.js', ...bundle, '--asset-names=[name]', '--outdir=bundled');
  cpSync(join(app, 'config.capnp'), join(app, 'bundled/config.capnp'));
  assert.equal(readdirSync(join(app, 'bundled')).sort(), ['base.wasm', 'config.capnp', 'worker.js']);
  const server = spawn(join(bin, 'workerd'), ['serve', 'bundled/config.capnp', '--control-fd=3'], {
    cwd: app,
    stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
  });
  try {
    const port = await listening(server.stdio[3] as Readable);
    const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(30_000) });
    const body = await response.text();
    assert.is(response.status, 200, body);
    checkRuns(JSON.parse(body), false);
  } finally {
    server.kill('SIGKILL');
  }
});

test.run();
