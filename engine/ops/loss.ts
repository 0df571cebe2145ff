import { GradshapeError } from '../errors.js';
import { type Op, run } from '../op.js';
import { sameShape, showShape, type Tensor } from '../tensor.js';
import { mul, sub } from './arithmetic.js';
import { square } from './elementwise.js';
import { mean } from './reduction.js';
import { reshape } from './shape.js';
import { softmax } from './softmax.js';

/** 1 at each row's label, else 0: [rows, classes]. */
function oneHot(labels: Tensor, classes: number): Tensor {
  const { engine } = labels;
  const rows = labels.size;
  const hot = engine.full([rows, classes], 0);
  const minusOne = engine.full([rows], -1);
  // (p − onehot) · dLoss with p = 0 and dLoss = −1
  engine.kernels.softmaxCrossEntropyGradient(
    hot.address,
    hot.address,
    labels.address,
    minusOne.address,
    rows,
    classes,
  );
  hot.examples = labels.examples;
  return hot;
}

export const lossOps = {
  crossEntropy: {
    name: 'crossEntropy',
    summary: 'softmax cross-entropy against class labels, one number a row; forward and backward fused',
    dtypes: ['f32', 'i32'],
    shape([logits, labels]) {
      if (logits!.rank !== 2 || !sameShape(labels!.shape, [logits!.shape[0]!])) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `crossEntropy: logits ${showShape(logits!.shape)} and labels ${showShape(labels!.shape)}; expected [batch, classes] and [batch].`,
        );
      }
      return labels!.shape;
    },
    examples: ([logits, labels]) => (labels!.examples === null ? null : logits!.examples),
    forward({ engine, kernels, inputs, output }) {
      const [logits, labels] = inputs as [Tensor, Tensor];
      const [rows, classes] = logits.shape as [number, number];
      const outside = kernels.allInRangeI32(labels.address, rows, 0, classes - 1);
      if (outside >= 0) {
        throw new GradshapeError(
          'LABEL_OUT_OF_RANGE',
          `crossEntropy: label ${labels.view()[outside]} at row ${outside}; expected 0 to ${classes - 1}, since the logits have ${classes} classes.`,
        );
      }
      const probabilities = engine.allocate(logits.shape, 'f32', 'crossEntropy');
      kernels.softmaxCrossEntropy(
        output.address,
        probabilities.address,
        logits.address,
        labels.address,
        rows,
        classes,
      );
      return [probabilities];
    },
    backward({ engine, kernels, inputs, saved, dOutput, recorded }) {
      const [logits, labels] = inputs as [Tensor, Tensor];
      const [rows, classes] = logits.shape as [number, number];
      if (recorded) {
        const difference = sub(softmax(logits), oneHot(labels, classes));
        return [mul(difference, reshape(dOutput, [rows, 1])), null];
      }
      const dLogits = engine.allocate(logits.shape, 'f32', 'crossEntropy');
      dLogits.examples = logits.examples;
      kernels.softmaxCrossEntropyGradient(
        dLogits.address,
        saved[0]!.address,
        labels.address,
        dOutput.address,
        rows,
        classes,
      );
      return [dLogits, null];
    },
    secondOrder: true,
  },
} satisfies Record<string, Op<undefined>>;

/**
 * Softmax cross-entropy: −ln softmax(logits)[label], one number a row. Stable for any finite logits.
 * @param logits f32 [batch, classes]
 * @param labels i32 [batch], from 0 to classes − 1
 * @throws SHAPE_MISMATCH, LABEL_OUT_OF_RANGE
 */
export const crossEntropy = (logits: Tensor, labels: Tensor): Tensor =>
  run(lossOps.crossEntropy, [logits, labels], undefined);

/**
 * The mean over an example's elements of (prediction − target)², one number a row.
 * @param prediction f32 [batch, ...]
 * @param target f32, the same shape
 * @throws SHAPE_MISMATCH
 */
export function meanSquaredError(prediction: Tensor, target: Tensor): Tensor {
  if (prediction.rank === 0 || !sameShape(prediction.shape, target.shape)) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `meanSquaredError: prediction ${showShape(prediction.shape)} and target ${showShape(target.shape)}; expected the same shape, [batch, ...].`,
    );
  }
  const difference = square(sub(prediction, target));
  return mean(difference, { axes: difference.shape.slice(1).map((_, axis) => axis + 1) });
}
