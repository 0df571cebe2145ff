// Poison files: what goes in comes out, few distinct poisons take few bytes, and nothing changed passes.
import { webcrypto } from 'node:crypto';
import {
  flipLabels,
  type LabelledSet,
  loadPoison,
  type PoisonedSet,
  patchBackdoor,
  savePoison,
  slabAttack,
  verifyPoison,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { codeOf, randomNumbers } from './attack-helpers.js';

const next = randomNumbers(3);
const base: LabelledSet = {
  x: Uint8Array.from({ length: 100 * 36 }, (_, i) =>
    Math.floor(next() * (Math.floor(i / 36) % 2 === 0 ? 256 : 128)),
  ),
  y: Int32Array.from({ length: 100 }, (_, i) => i % 2),
  shape: [6, 6, 1],
  scale: 1 / 255,
};
const slab = await slabAttack(base, { ratio: 0.4, seed: 1, iterations: 2, divisions: 1 });

function assertSame(a: PoisonedSet, b: PoisonedSet): void {
  assert.equal(a.y, b.y);
  assert.equal(a.poison, b.poison);
  assert.equal(a.spec, b.spec);
  assert.is(a.added.length, b.added.length);
  a.added.forEach((part, i) => {
    assert.equal(part.x, b.added[i]!.x);
    assert.equal(Array.from(part.y), Array.from(b.added[i]!.y));
    assert.is(part.scale ?? 1, b.added[i]!.scale ?? 1);
  });
}

test('a set comes back from its file bit for bit: added bytes, added floats, labels in place, none', async () => {
  for (const set of [
    flipLabels(base, { ratio: 0.3, seed: 1 }),
    flipLabels(base, { ratio: 0.3, seed: 1, mode: 'in-place' }),
    flipLabels(base, { count: 0, seed: 1 }),
    patchBackdoor(base, { ratio: 0.1, seed: 1, patch: { size: 2 }, label: 1 }),
    slab,
  ]) {
    assertSame(await loadPoison(await savePoison(set), base), set);
  }
});

test('the file says what it is, and holds each distinct poison once', async () => {
  const bytes = await savePoison(slab);
  const text = new TextDecoder().decode(bytes);
  assert.ok(text.startsWith('GSPOISON'));
  assert.ok(text.includes('"attack":"slab"') && text.includes('"seed":1') && text.includes('"count":40'));
  assert.ok(bytes.length < 4 * 36 * 4 + 40 * 12 + 800, `${bytes.length} bytes`);
  const digest = await webcrypto.subtle.digest('SHA-256', bytes.slice(40));
  assert.equal(new Uint8Array(digest), bytes.slice(8, 40));
});

test('large images go in and come out', async () => {
  const large: LabelledSet = {
    x: Float32Array.from({ length: 2 * 250 * 250 * 3 }, (_, i) => (i % 256) / 255),
    y: [0, 1],
    shape: [250, 250, 3],
  };
  const set = patchBackdoor(large, { count: 2, seed: 1, patch: { size: 9 }, label: 1 });
  assertSame(await loadPoison(await savePoison(set), large), set);
});

test('one changed byte anywhere is found', async () => {
  const bytes = await savePoison(slab);
  for (const at of [8, 40, 60, bytes.length >> 1, bytes.length - 1]) {
    const tampered = bytes.slice();
    tampered[at]! ^= 1;
    assert.is(await codeOf(() => loadPoison(tampered, base)), 'POISON_HASH_MISMATCH', `byte ${at}`);
  }
  assert.is(await codeOf(() => loadPoison(bytes.slice(0, -1), base)), 'POISON_HASH_MISMATCH');
  assert.is(await codeOf(() => loadPoison(Uint8Array.of(1, 2, 3), base)), 'POISON_FILE_INVALID');
  const other = { ...base, x: base.x.slice() };
  other.x[5]! ^= 1;
  assert.is(await codeOf(() => loadPoison(bytes, other)), 'POISON_BASE_MISMATCH');
});

test('a file with a right hash and wrong poisons does not pass either', async () => {
  const x = slab.added[0]!.x.slice() as Float32Array;
  x.fill(1, 0, 36);
  const far = { ...slab, added: [{ ...slab.added[0]!, x }] };
  assert.is(await codeOf(async () => loadPoison(await savePoison(far), base)), 'INFEASIBLE');
  const bright = patchBackdoor(base, { count: 3, seed: 1, patch: { size: 2 }, label: 1 });
  (bright.added[0]!.x as Float32Array)[0] = 1.01;
  assert.is(
    codeOf(() => verifyPoison(bright)),
    'INFEASIBLE',
  );
  const more = { ...slab, spec: { ...slab.spec, count: 39 } };
  assert.is(
    codeOf(() => verifyPoison(more)),
    'BUDGET_EXCEEDED',
  );
  const y = slab.y.slice();
  y[0] = 1 - y[0]!;
  assert.is(
    codeOf(() => verifyPoison({ ...slab, y })),
    'BUDGET_EXCEEDED',
  );
  const nowhere = flipLabels(base, { count: 3, seed: 1, mode: 'in-place' });
  nowhere.poison[2] = base.y.length;
  const unchanged = { ...nowhere, y: Int32Array.from(base.y) };
  assert.is(await codeOf(async () => loadPoison(await savePoison(unchanged), base)), 'BUDGET_EXCEEDED');
});

test.run();
