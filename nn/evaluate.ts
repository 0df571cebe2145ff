import {
  type Batch,
  crossEntropy,
  type Dataset,
  GradshapeError,
  type Parameters,
  type Tensor,
} from '../engine/index.js';
import { checkWhole } from './checks.js';
import { countCorrect } from './metrics.js';
import type { Model } from './sequential.js';

export interface EvaluateOptions {
  /** Examples computed at a time. @default 500 */
  readonly batchSize?: number;
  /** Which examples. @default all */
  readonly indices?: ArrayLike<number>;
}

export interface Evaluation {
  /** correct / count */
  readonly accuracy: number;
  /** Mean cross-entropy. */
  readonly loss: number;
  readonly correct: number;
  readonly count: number;
}

/**
 * Accuracy and mean cross-entropy on a set, without dropout, in pieces: the memory of one.
 * @throws DATA_EMPTY, BATCH_SIZE_INVALID, INDEX_OUT_OF_RANGE, SHAPE_MISMATCH, LABEL_OUT_OF_RANGE
 * @example const { accuracy, loss } = evaluate(model, params, data);
 */
export function evaluate(
  model: Model,
  params: Parameters,
  data: Dataset,
  options: EvaluateOptions = {},
): Evaluation {
  let correct = 0;
  let loss = 0;
  const count = forEachPiece(model, params, data, options, (logits, { y }) => {
    const losses = crossEntropy(logits, y);
    loss += params.engine.kernels.sum(losses.address, losses.size);
    correct += countCorrect(logits, y);
  });
  return { accuracy: correct / count, loss: loss / count, correct, count };
}

/**
 * The class each example is taken for: the place of its largest logit.
 * @throws DATA_EMPTY, BATCH_SIZE_INVALID, INDEX_OUT_OF_RANGE, SHAPE_MISMATCH
 * @example confusionMatrix(predictions(model, params, data), data.y, 2)
 */
export function predictions(
  model: Model,
  params: Parameters,
  data: Dataset,
  options: EvaluateOptions = {},
): Int32Array {
  const { engine } = params;
  const classes = new Int32Array(options.indices?.length ?? data.count);
  forEachPiece(model, params, data, options, (logits, _batch, from) => {
    const rows = logits.shape[0]!;
    const largest = engine.allocate([rows], 'i32', 'predictions');
    engine.kernels.argmaxRows(largest.address, logits.address, rows, logits.size / rows);
    classes.set(largest.view(), from);
  });
  return classes;
}

function forEachPiece(
  model: Model,
  params: Parameters,
  data: Dataset,
  { batchSize = 500, indices }: EvaluateOptions,
  visit: (logits: Tensor, batch: Batch, from: number) => void,
): number {
  checkWhole('BATCH_SIZE_INVALID', 'evaluate: batchSize', batchSize, 1);
  const all = indices === undefined ? everyIndex(data.count) : Int32Array.from(indices);
  if (all.length === 0) {
    throw new GradshapeError('DATA_EMPTY', 'evaluate: no indices were given; expected at least one example.');
  }
  for (let from = 0; from < all.length; from += batchSize) {
    params.engine.scope(() => {
      const batch = data.batch(all.subarray(from, from + batchSize));
      visit(model.apply(params, batch.x, { training: false }), batch, from);
    });
  }
  return all.length;
}

function everyIndex(count: number): Int32Array {
  const indices = new Int32Array(count);
  for (let i = 0; i < count; i++) indices[i] = i;
  return indices;
}
