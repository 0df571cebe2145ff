import { crossEntropy, type Engine, type LabelledSet, type Parameters, sizeOf } from '../engine/index.js';
import { checkWhole } from '../nn/checks.js';
import { adam, lr, type Model, trainEpoch, vanillaStep } from '../nn/index.js';

/** The attacker's own model: logistic regression, trained on clean data with Adam. */
export interface SurrogateOptions {
  /** @default 5 */
  readonly epochs?: number;
  /** @default 0.01 */
  readonly learningRate?: number;
  /** @default 300, or the size of a smaller set */
  readonly batchSize?: number;
}

export interface Surrogate {
  readonly model: Model;
  /** Free them. */
  readonly params: Parameters;
  readonly settings: Required<SurrogateOptions>;
}

/** @throws OPTION_INVALID, SEED_INVALID */
export function surrogate(
  caller: string,
  engine: Engine,
  set: LabelledSet,
  classes: number,
  options: SurrogateOptions & { readonly seed: number },
): Surrogate {
  const { epochs = 5, learningRate = 0.01, batchSize = Math.min(300, set.y.length), seed } = options;
  checkWhole('OPTION_INVALID', `${caller}: epochs`, epochs, 1);
  checkWhole('OPTION_INVALID', `${caller}: batchSize`, batchSize, 1);
  const model = lr(sizeOf(set.shape), classes);
  const params = model.init(engine, { seed });
  using data = engine.dataset(set);
  const step = vanillaStep({ params, optimizer: adam({ learningRate }) });
  for (let epoch = 0; epoch < epochs; epoch++) {
    trainEpoch({ model, params, data, step, batchSize, seed }, epoch);
  }
  step.free();
  return { model, params, settings: { epochs, learningRate, batchSize } };
}

const pieceSize = 500;

/** Each example's cross-entropy under a model. */
export function exampleLosses(model: Model, params: Parameters, set: LabelledSet): Float64Array {
  const { engine } = params;
  using data = engine.dataset(set);
  const losses = new Float64Array(data.count);
  for (let from = 0; from < data.count; from += pieceSize) {
    const length = Math.min(pieceSize, data.count - from);
    engine.scope(() => {
      const { x, y } = data.batch(Int32Array.from({ length }, (_, i) => from + i));
      losses.set(crossEntropy(model.apply(params, x, { training: false }), y).view(), from);
    });
  }
  return losses;
}
