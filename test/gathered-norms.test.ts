import {
  type Batch,
  createEngineSync,
  crossEntropy,
  dense,
  flatten,
  type Parameters,
  perExample,
  sequential,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

// The norms of a data set's rows are computed once. They must be those of the rows as they are: changed rows, or rows that were
// never the set's, would make clip factors too large.

const engine = createEngineSync();
const count = 600;
const data = engine.dataset({
  x: Uint8Array.from({ length: count * 12 }, (_, i) => (i * 37) % 251),
  y: Int32Array.from({ length: count }, (_, i) => i % 3),
  shape: [3, 4],
  scale: 1 / 255,
});
const model = sequential(flatten(), dense(12, 3));
const params = model.init(engine, { seed: 1 });
const loss = (p: Parameters, batch: Batch) => crossEntropy(model.apply(p, batch.x), batch.y);
const indices = [599, 3, 257, 3];

function norms(strategy: 'ghost' | 'loop', change?: (batch: Batch) => void): number[] {
  return engine.scope(() => {
    const batch = data.batch(indices);
    change?.(batch);
    return [...perExample(loss, params, batch, { strategy }).norms().values()];
  });
}

function close(a: readonly number[], b: readonly number[]): void {
  a.forEach((value, i) => {
    assert.ok(Math.abs(value - b[i]!) <= 1e-6 * b[i]!, `${value} against ${b[i]}`);
  });
}

test('norms known from the data set are those of the rows', () => {
  close(norms('ghost'), norms('loop'));
});

test('a view through which the rows change makes them unknown', () => {
  const brighter = ({ x }: Batch): void => {
    x.view().fill(3, 0, 12);
  };
  close(norms('ghost', brighter), norms('loop', brighter));
  assert.ok(norms('loop', brighter)[0]! > 2 * norms('loop')[0]!);
});

test('reading values does not', () => {
  engine.scope(() => {
    const { x } = data.batch(indices);
    x.values();
    assert.ok(x.gathered?.intact);
    x.view();
    assert.not.ok(x.gathered?.intact);
  });
});

test.run();
