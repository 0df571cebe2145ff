// Dropout's masks: secret ones that are new at each step, and seeded ones that a checkpoint makes again.
import { type Dataset, type Parameters, perExample } from 'gradshape/engine';
import { batchLoss, readSafetensors, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Changes, count, engine, model, newData, newParams, training } from './training-helpers.js';

/** The clipped sum over all examples at the first step, with the masks of a seed. */
function sumWith(data: Dataset, params: Parameters, seed: number): Float32Array {
  return engine.scope(() => {
    const all = Int32Array.from({ length: count }, (_, i) => i);
    const g = perExample(batchLoss(model), params, data.batch(all, { seed, step: 0 }));
    return g.weightedSums([null])[0]!.values() as Float32Array;
  });
}

test('nobody can make dropout’s masks again from a checkpoint; a seeded run makes its own again', () => {
  const data = newData();
  const whole: Changes = { data, batchSize: count, noiseMultiplier: 0, clipNorm: Infinity, steps: 2 };
  const step = (changes: Changes) => {
    const run = training({ ...whole, optimizer: sgd({ learningRate: 1 }), ...changes });
    const before = run.params.values();
    run.next();
    const after = run.params.values();
    return { run, moved: before.map((value, i) => (value - after[i]!) * count) };
  };
  const differs = (a: Float32Array, b: Float32Array) => a.some((value, i) => Math.abs(value - b[i]!) > 1e-3);
  for (const sampling of ['poisson', 'fixed-size', 'shuffled'] as const) {
    const { run, moved } = step({ sampling });
    const { state } = JSON.parse(readSafetensors(run.save()).metadata.private!);
    // Every number in the file, and the seeds that are easily guessed.
    const numbers = JSON.stringify(state).match(/\d+/g)!.map(Number).filter(Number.isSafeInteger);
    assert.is(state.publicSeed === null, sampling !== 'shuffled');
    for (const seed of [...numbers, 0, 1, 2]) {
      assert.ok(
        differs(moved, sumWith(data, newParams(), seed)),
        `${sampling}: seed ${seed} gives the masks`,
      );
    }
    assert.ok(differs(moved, step({ sampling }).moved), 'new masks in each training');
    const seeded = step({ sampling, seed: 7 }).moved;
    assert.not(differs(seeded, sumWith(data, newParams(), 7)));
  }
});

test('masks are new at each secure step, also after a resume; pieces of a batch are of one step', () => {
  const data = newData();
  const params = newParams();
  const still: Changes = {
    data,
    batchSize: count,
    noiseMultiplier: 0,
    clipNorm: Infinity,
    sampling: 'shuffled',
  };
  const run = training({ ...still, params, optimizer: sgd({ learningRate: 0 }), diagnostics: true });
  const losses = [run.next().loss, run.next().loss];
  const resumed = training({ ...still, optimizer: sgd({ learningRate: 0 }), diagnostics: true });
  resumed.load(run.save());
  losses.push(resumed.next().loss, run.next().loss);
  assert.is(new Set(losses).size, 4);
});

test.run();
