// Softmax cross-entropy, fused, and accuracy.
import { argmaxOf, logOfSum, maxOf, softmaxRow } from './rows';

/**
 * loss[rows] = ln Σ_j e^(z_j) - z_label, and probabilities [rows, cols] = softmax z. Stable for any finite
 * logits, and accurate for losses near 0. labels i32[rows] must lie in [0, cols).
 */
export function softmaxCrossEntropy(
  loss: usize, probabilities: usize, logits: usize, labels: usize, rows: i32, cols: i32,
): void {
  for (let i: usize = 0; i < <usize>rows; i++) {
    const offset = (i * <usize>cols) << 2;
    const z = logits + offset;
    const ofLabel = load<f32>(z + (<usize>load<i32>(labels + (i << 2)) << 2));
    const largest = maxOf(z, cols);
    const total = softmaxRow(probabilities + offset, z, largest, cols);
    store<f32>(loss + (i << 2), largest - ofLabel + logOfSum(total));
  }
}

/** dLogits [rows, cols] = (probabilities - onehot(labels))·dLoss[rows] */
export function softmaxCrossEntropyGradient(
  dLogits: usize, probabilities: usize, labels: usize, dLoss: usize, rows: i32, cols: i32,
): void {
  for (let i: usize = 0; i < <usize>rows; i++) {
    const d = load<f32>(dLoss + (i << 2));
    const label = load<i32>(labels + (i << 2));
    const offset = (i * <usize>cols) << 2;
    for (let j = 0; j < cols; j++) {
      const at = offset + (<usize>j << 2);
      const p = load<f32>(probabilities + at);
      store<f32>(dLogits + at, (j == label ? p - 1 : p) * d);
    }
  }
}

/** How many rows of logits [rows, cols] have their largest element at the label; the first wins a tie. */
export function countCorrect(logits: usize, labels: usize, rows: i32, cols: i32): i32 {
  let correct = 0;
  for (let i: usize = 0; i < <usize>rows; i++) {
    if (argmaxOf(logits + ((i * <usize>cols) << 2), cols) == load<i32>(labels + (i << 2))) correct++;
  }
  return correct;
}
