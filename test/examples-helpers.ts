// A batch, a loss and a check that a loss is refused, for the tests of what may mix examples.
import {
  type Batch,
  type BatchLoss,
  createEngineSync,
  crossEntropy,
  denseLayer,
  Parameters,
  perExample,
  type Strategy,
  type Tensor,
} from 'gradshape';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

export const engine = createEngineSync();
export const [count, d, k] = [12, 4, 3];
export const data = engine.dataset({
  x: Float32Array.from({ length: count * d }, (_, i) => Math.sin(i * i + 1)),
  y: Int32Array.from({ length: count }, (_, i) => i % k),
  shape: [d],
});
export const params = new Parameters(engine, [
  { name: 'w', shape: [d, k] },
  { name: 'b', shape: [k] },
]);
params.load(Float32Array.from({ length: params.size }, (_, i) => Math.cos(3 * i) / 2));
export const strategies: Strategy[] = ['ghost', 'materialize', 'loop'];
export const indices = [0, 3, 5, 7, 9];

export const logits = (p: Parameters, x: Tensor): Tensor => denseLayer(x, p.get('w'), p.get('b'));
export const plain: BatchLoss<Batch> = (p, { x, y }) => crossEntropy(logits(p, x), y);

/** The loss must be refused with this code by each strategy, and leave nothing behind. */
export function refused(code: string, name: string, loss: BatchLoss<Batch>, of = strategies): void {
  for (const strategy of of) {
    engine.scope(() => {
      const batch = data.batch(indices, { seed: 1 });
      throwsCode(code, () => {
        perExample(loss, params, batch, { strategy });
        assert.unreachable(`${name} passed under ${strategy}`);
      });
      assert.is(engine.recorder.examplesApart, false);
      assert.is(engine.recorder.inside, 0);
      batch.x.values();
      perExample(plain, params, batch, { strategy });
    });
  }
}

export const constant = (host: ArrayLike<number>, shape: number[]): Tensor => engine.tensor(host, shape);
