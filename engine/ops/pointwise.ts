import { GradshapeError } from '../errors.js';
import { type Op, run, sameExamples } from '../op.js';
import { writeKey } from '../random.js';
import { showShape, type Tensor } from '../tensor.js';
import { mul } from './arithmetic.js';

export interface Range {
  readonly low: number;
  readonly high: number;
}

export interface Dropout {
  readonly rate: number;
  readonly layer: number;
}

export const pointwiseOps = {
  clip: {
    name: 'clip',
    summary: 'min(max(x, low), high); gradient 0 outside the range',
    shape: ([input]) => input!.shape,
    examples: sameExamples,
    forward({ kernels, inputs, attributes: { low, high }, output }) {
      kernels.clamp(output.address, inputs[0]!.address, low, high, output.size);
      return undefined;
    },
    backward({ engine, kernels, inputs, attributes: { low, high }, dOutput }) {
      const inside = engine.allocate(dOutput.shape, 'f32', 'clip');
      inside.examples = dOutput.examples;
      kernels.insideMask(inside.address, inputs[0]!.address, low, high, inside.size);
      return [mul(dOutput, inside)];
    },
    secondOrder: true,
  } satisfies Op<Range>,

  leakyRelu: {
    name: 'leakyRelu',
    summary: 'x where x ≥ 0, else slope · x; its slope at 0 is `slope`',
    shape: ([input]) => input!.shape,
    examples: sameExamples,
    forward({ kernels, inputs, attributes: { slope }, output }) {
      kernels.leakyRelu(output.address, inputs[0]!.address, slope, output.size);
      return undefined;
    },
    backward({ engine, kernels, inputs, attributes: { slope }, dOutput }) {
      const slopes = engine.allocate(dOutput.shape, 'f32', 'leakyRelu');
      slopes.examples = dOutput.examples;
      kernels.leakySlopes(slopes.address, inputs[0]!.address, slope, slopes.size);
      return [mul(dOutput, slopes)];
    },
    secondOrder: true,
  } satisfies Op<{ readonly slope: number }>,

  dropout: {
    name: 'dropout',
    summary:
      "zeroes elements at random, scaling the rest by 1/(1 − rate); the mask belongs to the example's index",
    shape: ([input]) => input!.shape,
    examples: sameExamples,
    forward({ engine, kernels, inputs, attributes: { rate, layer }, output }) {
      const input = inputs[0]!;
      const { indices, random } = input.examples ?? { indices: null, random: null };
      if (indices === null || random === null) {
        throw new GradshapeError(
          'NO_RANDOM_STATE',
          `dropout: its input ${showShape(input.shape)} does not know its examples' indices, seed and step. ` +
            'Take the batch with data.batch(indices, { seed, step }), or call predict, which drops nothing.',
        );
      }
      const rows = input.shape[0]!;
      const mask = engine.allocate(input.shape, 'f32', 'dropout');
      mask.examples = input.examples;
      const key = writeKey(engine, random.seed, 'dropout');
      const columns = rows === 0 ? 0 : input.size / rows;
      kernels.dropoutMask(mask.address, indices.address, rows, columns, 1 - rate, key, random.step, layer);
      kernels.multiply(
        output.address,
        input.address,
        mask.address,
        1,
        1,
        1,
        input.size,
        0,
        0,
        0,
        1,
        0,
        0,
        0,
        1,
      );
      return [mask];
    },
    backward: ({ saved, dOutput }) => [mul(dOutput, saved[0]!)],
    secondOrder: true,
  } satisfies Op<Dropout>,
};

/** min(max(x, low), high). @throws RANGE_INVALID */
export function clip(input: Tensor, low: number, high: number): Tensor {
  if (!(low <= high)) {
    throw new GradshapeError(
      'RANGE_INVALID',
      `clip: low is ${low} and high is ${high}; expected low ≤ high.`,
    );
  }
  return run(pointwiseOps.clip, [input], { low, high });
}

/**
 * x where x ≥ 0, else slope · x (Maas et al. 2013).
 * @param slope @default 0.01
 * @throws RANGE_INVALID
 */
export function leakyRelu(input: Tensor, slope = 0.01): Tensor {
  if (!Number.isFinite(slope)) {
    throw new GradshapeError('RANGE_INVALID', `leakyRelu: slope is ${slope}; expected a finite number.`);
  }
  return run(pointwiseOps.leakyRelu, [input], { slope });
}

/**
 * Dropout (Srivastava et al. 2014): each element is 0 with probability `rate`, else scaled by 1/(1 − rate). The mask is
 * a function of the batch's seed and step, the example's index in the data set, `layer` and the position alone, so
 * that it is the same whether examples come one by one, in pieces, or at once.
 * @param input f32 [batch, ...], descending from a batch taken with { seed, step }
 * @param layer tells several dropout layers of a model apart. @default 0
 * @throws RANGE_INVALID, NO_RANDOM_STATE
 */
export function dropout(input: Tensor, rate: number, layer = 0): Tensor {
  if (!(rate >= 0 && rate < 1)) {
    throw new GradshapeError('RANGE_INVALID', `dropout: rate is ${rate}; expected 0 ≤ rate < 1.`);
  }
  return rate === 0 ? input : run(pointwiseOps.dropout, [input], { rate, layer });
}
