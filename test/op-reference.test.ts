import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { opReference, opReferenceFile } from './op-reference.js';

test('engine/OPS.md is what the op table says', () => {
  assert.ok(
    readFileSync(opReferenceFile, 'utf8') === opReference(),
    'run npm run docs and commit engine/OPS.md',
  );
});

test.run();
