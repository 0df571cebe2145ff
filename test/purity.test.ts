// engine, nn, dp and attacks run on every JavaScript runtime, import only what their room may, and compute the same bits
// everywhere.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path/posix';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { faults, importsOf, parse } from './source-rules.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const read = (file: string) => parse(file, readFileSync(join(root, file), 'utf8'));

/** The emitted modules that an entry reaches, with every `#kernels` there is. */
function reachedFrom(entries: string[]): { files: Map<string, ReturnType<typeof read>>; bare: Set<string> } {
  const files = new Map<string, ReturnType<typeof read>>();
  const bare = new Set<string>();
  const visit = (file: string): void => {
    if (files.has(file) || file.endsWith('.wasm')) return;
    const source = read(file);
    files.set(file, source);
    for (const specifier of importsOf(source)) {
      if (specifier.startsWith('.')) visit(join(dirname(file), specifier));
      else if (specifier === '#kernels')
        Object.values<string>(manifest.imports[specifier])
          .map((target) => join(target))
          .forEach(visit);
      else bare.add(specifier);
    }
  };
  entries.forEach(visit);
  return { files, bare };
}

const edge = ['.', './engine', './nn', './dp', './attacks'];
const entries = edge.map((name) => join(manifest.exports[name].default as string));
const { files, bare } = reachedFrom(entries);

test('the edge entries reach nothing but the library and pure-rand', () => {
  assert.ok(files.size > 30, `${files.size} modules`);
  assert.equal(
    [...bare].filter((name) => !name.startsWith('pure-rand/')),
    [],
  );
  for (const file of files.keys()) assert.match(file, /^dist\/(index\.js$|engine\/|nn\/|dp\/|attacks\/)/);
});

test('ndarray is reached from its own entry only', () => {
  const adapter = reachedFrom([join(manifest.exports['./ndarray'].default as string)]);
  assert.ok(adapter.bare.has('ndarray'));
  assert.not(bare.has('ndarray'));
});

test('no code from strings, no import(), no top-level await, nothing of Node', () => {
  assert.equal(
    [...files.values()].flatMap((source) => faults(source, false)),
    [],
  );
});

test('the training path has no mathematics whose bits differ between engines', () => {
  const training = [...files].filter(([file]) => /^dist\/(engine|nn|dp\/(?!accounting\/))/.test(file));
  assert.ok(training.length > 30);
  assert.equal(
    training.flatMap(([, source]) => faults(source, true)),
    [],
  );
});

const rooms: Record<string, string[]> = {
  engine: [],
  nn: ['engine'],
  dp: ['engine', 'nn'],
  attacks: ['engine', 'nn'],
};
for (const [room, others] of Object.entries(rooms)) {
  test(`${room} imports only its own files, and ${others.join(', ') || 'no other room'}`, () => {
    const allowed = [room, ...others];
    const sources = readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => join(room, file));
    const wrong = sources.flatMap((file) =>
      importsOf(read(file))
        .filter((specifier) => specifier.startsWith('.'))
        .map((specifier) => join(dirname(file), specifier))
        .filter((target) => !allowed.includes(target.split('/')[0]!) && target !== 'kernels/base.wasm')
        .map((target) => `${file} imports ${target}`),
    );
    assert.equal(wrong, []);
  });
}

test('the rules find what they forbid', () => {
  const found = (text: string) =>
    faults(parse('x.js', text), true).map((line) => line.split(' ').slice(1).join(' '));
  for (const what of ['eval', 'Function', 'process', 'Buffer'])
    assert.equal(found(`f(new ${what}("1"))`), [what]);
  assert.equal(found('const a = await f()'), ['top-level await']);
  assert.equal(found('for await (const a of b) c(a)'), ['top-level await']);
  assert.equal(found('async function f() { await g(); for await (const a of b) c(a); }'), []);
  assert.equal(found('const f = () => import("ndarray")'), ['import()']);
  assert.equal(found('a = b ** 2; a **= 2'), ['**', '**']);
  assert.equal(found('Math.exp(1); const { log } = Math; Math["pow"](1, 2)'), [
    'Math.exp',
    'Math.…',
    'Math.…',
  ]);
  assert.equal(found('Math.sqrt(Math.max(1, Math.PI)); op.eval; ({ process: 1 }); x.exp()'), []);
  const imports = 'import type { A } from "a"; export * from "b"; import "c"; export { d }; const e = 1;';
  assert.equal(importsOf(parse('x.ts', imports)), ['a', 'b', 'c']);
});

test.run();
