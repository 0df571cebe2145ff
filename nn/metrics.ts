import { GradshapeError, showShape, type Tensor } from '../engine/index.js';
import { checkWhole } from './checks.js';

/**
 * How many rows have their largest logit at their label; the first of equal logits counts.
 * @param logits f32 [batch, classes]
 * @param labels i32 [batch]
 * @throws SHAPE_MISMATCH
 */
export function countCorrect(logits: Tensor, labels: Tensor): number {
  const [rows, classes] = logits.shape;
  if (logits.rank !== 2 || logits.dtype !== 'f32' || labels.dtype !== 'i32' || labels.size !== rows) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `countCorrect: logits ${logits.dtype} ${showShape(logits.shape)} and labels ${labels.dtype} ${showShape(labels.shape)}; ` +
        'expected f32 [batch, classes] and i32 [batch].',
    );
  }
  return logits.engine.kernels.countCorrect(logits.address, labels.address, rows, classes!);
}

/** The share of rows that `countCorrect` counts, 0 to 1. @throws SHAPE_MISMATCH */
export function accuracy(logits: Tensor, labels: Tensor): number {
  return countCorrect(logits, labels) / labels.size;
}

/**
 * How often each class was taken for each: rows are labels, columns are predictions.
 * @throws SHAPE_MISMATCH, LABEL_OUT_OF_RANGE
 * @example confusionMatrix([0, 1, 1], [0, 0, 1], 2) // [[1, 1], [0, 1]]
 */
export function confusionMatrix(
  predicted: ArrayLike<number>,
  labels: ArrayLike<number>,
  classes: number,
): number[][] {
  checkWhole('LABEL_OUT_OF_RANGE', 'confusionMatrix: classes', classes, 1);
  if (predicted.length !== labels.length) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `confusionMatrix: ${predicted.length} predictions for ${labels.length} labels.`,
    );
  }
  const matrix = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < labels.length; i++) {
    const row = matrix[labels[i]!];
    if (row?.[predicted[i]!] === undefined) {
      throw new GradshapeError(
        'LABEL_OUT_OF_RANGE',
        `confusionMatrix: label ${labels[i]} predicted as ${predicted[i]} at ${i}; expected 0 to ${classes - 1}.`,
      );
    }
    row[predicted[i]!]!++;
  }
  return matrix;
}
