// The exponential moving average of weights against its formula in float64.
import fc from 'fast-check';
import { createEngine, Parameters } from 'gradshape/engine';
import { exponentialAverage } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = await createEngine();
const weightAt = (i: number, step: number): number => Math.fround(Math.sin(1 + 3 * i + 5 * step));
const makeParams = (size: number) =>
  new Parameters(engine, [
    { name: 'a', shape: [size] },
    { name: 'b', shape: [2, 3] },
  ]);

test('follows its formula in float64, warm-up included', () => {
  const anyRun = fc.tuple(
    fc.integer({ min: 1, max: 40 }),
    fc.integer({ min: 1, max: 60 }),
    fc.double({ min: 0, max: 0.999, noNaN: true }),
  );
  fc.assert(
    fc.property(anyRun, ([size, steps, decay]) => {
      using params = makeParams(size);
      const weights = (step: number) => Array.from({ length: params.size }, (_, i) => weightAt(i, step));
      params.load(weights(0));
      using average = exponentialAverage(params, { decay });
      let expected = weights(0);
      for (let t = 0; t < steps; t++) {
        params.load(weights(t + 1));
        average.update();
        const kept = Math.min(decay, (1 + t) / (10 + t));
        expected = weights(t + 1).map((weight, i) => kept * expected[i]! + (1 - kept) * weight);
      }
      assert.is(average.step, steps);
      assert.equal(params.values(), Float32Array.from(weights(steps)), 'the weights stay as they are');
      average.params.values().forEach((value, i) => {
        assert.ok(Math.abs(value - expected[i]!) < 1e-5, `${value} for ${expected[i]}`);
      });
    }),
  );
});

test('goes on to the same bits where step and params are taken up', () => {
  using params = makeParams(5);
  const go = (average: ReturnType<typeof exponentialAverage>, from: number, to: number) => {
    for (let t = from; t < to; t++) {
      params.load(Array.from({ length: params.size }, (_, i) => weightAt(i, t)));
      average.update();
    }
    return average.params.values();
  };
  using straight = exponentialAverage(params);
  using first = exponentialAverage(params);
  const whole = go(straight, 0, 20);
  const half = go(first, 0, 8);
  using second = exponentialAverage(params);
  second.params.load(half);
  second.step = 8;
  assert.equal(go(second, 8, 20), whole);
});

test('has its own memory, named views, and says what a decay may be', () => {
  using params = makeParams(5);
  const before = engine.memory.bytesInUse;
  const average = exponentialAverage(params);
  assert.equal(average.params.get('b').shape, [2, 3]);
  average.free();
  assert.is(engine.memory.bytesInUse, before);
  for (const decay of [1, -0.1, Number.NaN]) {
    assert.match(
      throwsCode('RANGE_INVALID', () => exponentialAverage(params, { decay })),
      /decay/,
    );
  }
});

test.run();
