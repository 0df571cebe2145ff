// What a statement must not say: private, of weights or noise for which nothing was proved.
import { flatClipping, makePrivate, type PrivateTraining, type PrivateTrainingOptions } from 'gradshape/dp';
import { createEngineSync } from 'gradshape/engine';
import { dense, sequential, sgd } from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const engine = createEngineSync();
const count = 400;
const newData = (n = count) =>
  engine.dataset({
    x: Float32Array.from({ length: n * 2 }, (_, i) => Math.sin(i * i)),
    y: Int32Array.from({ length: n }, (_, i) => i % 2),
    shape: [2],
  });
const model = sequential(dense(2, 2));
const newParams = () => model.init(engine, { seed: 1 });
const delta = 1e-5;

function training(changes: Partial<PrivateTrainingOptions> = {}): PrivateTraining {
  return makePrivate({
    ...{ model, params: newParams(), data: newData(), optimizer: sgd({ learningRate: 0.1 }) },
    ...{ batchSize: 100, epochs: 2, noiseMultiplier: 1 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

/** That the statement promises nothing, and says so first. */
function isNotPrivate(run: PrivateTraining, why: RegExp, at = delta): void {
  const { says, private: promised } = run.statement(at);
  assert.is(promised, false);
  assert.match(says[0]!, why);
  assert.not.match(says.join('\n'), /^The training is/m);
}

test('a training that an audit refuted is not private, from before its first step on, nor after a resume', () => {
  const shaper = () => ({ ...flatClipping({ clipNorm: 3 }), bound: () => 1 });
  const run = training({ audit: true, shaper: shaper() });
  isNotPrivate(run, /^Not private: an audit refuted it/);
  run.next();
  isNotPrivate(run, /^Not private: an audit refuted it/);
  isNotPrivate(run, /^Not private: an audit refuted it/, 1e-9);
  const resumed = training({ shaper: shaper() });
  resumed.load(run.save());
  isNotPrivate(resumed, /^Not private: an audit refuted it/);
  resumed.next();
  const again = training({ shaper: shaper() });
  again.load(resumed.save());
  isNotPrivate(again, /^Not private: an audit refuted it/);
  const sound = training({ audit: true });
  assert.is(sound.statement(delta).private, true);
});

test.run();
