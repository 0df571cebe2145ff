// The two builds of the kernels as files: self-contained code over one imported memory.
import { readFileSync } from 'node:fs';
import binaryen from 'binaryen';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { baseBase64, relaxedBase64 } from '../dist/engine/kernels.bytes.generated.js';

const read = (build: string) => readFileSync(new URL(`../dist/kernels/${build}.wasm`, import.meta.url));
const inline = { base: baseBase64, relaxed: relaxedBase64 };
const builds = { base: read('base'), relaxed: read('relaxed') };

function disassemble(bytes: Uint8Array): string {
  const module = binaryen.readBinary(bytes);
  const text = module.emitText();
  module.dispose();
  return text;
}
const text = { base: disassemble(builds.base), relaxed: disassemble(builds.relaxed) };

/** Names of the exported functions. */
const exported = (wat: string) => [...wat.matchAll(/^ \(export "(\w+)" \(func/gm)].map(([, name]) => name);

for (const build of ['base', 'relaxed'] as const) {
  test(`${build}: one memory imported, no data, no start, nothing stored between calls`, () => {
    const imports = [...text[build].matchAll(/^ \(import "(\w+)" "(\w+)" \((\w+)/gm)].map((found) =>
      found.slice(1),
    );
    assert.equal(imports, [['env', 'memory', 'memory']]);
    assert.not.match(text[build], /\(data|\(start|\(elem|memory\.grow|call_indirect/);
    assert.not.match(text[build], /global\.set/);
  });

  test(`${build}: the package carries the same bytes inline`, () => {
    // Not assert.is: uvu would spend a minute on the difference.
    assert.ok(inline[build] === builds[build].toString('base64'), 'the inline bytes differ: npm run build');
  });

  test(`${build}: small`, () => {
    console.log(`${build}.wasm ${builds[build].length} bytes`);
    assert.ok(builds[build].length < 96 * 1024, `${builds[build].length} bytes`);
  });
}

test('base has no relaxed opcode, which older runtimes reject; relaxed fuses multiply and add', () => {
  assert.ok(WebAssembly.validate(builds.base));
  assert.not.match(text.base, /relaxed/);
  assert.match(text.relaxed, /f32x4\.relaxed_madd/);
});

test('both export the same functions', () => {
  assert.ok(exported(text.base).length > 20);
  assert.equal(exported(text.base), exported(text.relaxed));
});

test.run();
