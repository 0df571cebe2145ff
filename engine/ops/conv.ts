import { GradshapeError } from '../errors.js';
import { type Op, run } from '../op.js';
import { type Shape, sameShape, showShape, type Tensor } from '../tensor.js';
import { type ConvAttributes, convolvedShape } from './conv-geometry.js';
import { convolve, convolveBack, sumFilterGradients } from './conv-kernels.js';
import { filterRule } from './conv-rules.js';
import { denseBiasRule } from './dense-rules.js';
import { reluGradient } from './elementwise.js';
import type { Activation } from './linear.js';
import { sum } from './reduction.js';
import { reshape } from './shape.js';
import { bothOf, type Padding, type Pair } from './window.js';

export interface ConvOptions {
  /** Pixels from one position to the next. @default 1 */
  readonly stride?: Pair;
  /** @default 'valid' */
  readonly padding?: Padding;
  /** Pixels from one tap of the filter to the next. @default 1 */
  readonly dilation?: Pair;
  /** Groups of channels that don't see each other; as many as channels: depthwise. @default 1 */
  readonly groups?: number;
  /**
   * 'auto' takes Winograd's F(4×4, 3×3) for 3×3 filters where that is faster by a formula of the shapes: the rounding
   * error is then up to four times a direct sum's, and pixels beside large ones share theirs. 'direct' never does.
   * @default 'auto'
   */
  readonly algorithm?: 'auto' | 'direct';
  /** Fused to the output. @default 'none' */
  readonly activation?: 'none' | 'relu';
}

/** A gradient of a convolution, with the shape of what it is a gradient to. */
export type ConvGradient = ConvAttributes & { readonly shape: Shape };

/** Refuses a dOut that is not of the shape that x and filter convolve to. */
function checkConvolved(op: string, dOut: Tensor, x: Shape, filter: Shape, sliding: ConvAttributes): void {
  const expected = convolvedShape(op, x, filter, sliding);
  if (sameShape(dOut.shape, expected)) return;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `${op}: dOut has shape ${showShape(dOut.shape)}, but x ${showShape(x)} and filter ${showShape(filter)} ` +
      `convolve to ${showShape(expected)}; expected the same.`,
  );
}

const sliding = ({ stride, padding, dilation, groups, algorithm }: ConvAttributes): ConvAttributes => ({
  stride,
  padding,
  dilation,
  groups,
  algorithm,
});

export const convOps = {
  conv2d: {
    name: 'conv2d',
    summary:
      'images [batch, height, width, in] ⋆ filter [kernel height, kernel width, in / groups, out] + bias [out], with the activation fused',
    shape([x, filter, bias], attributes) {
      const shape = convolvedShape('conv2d', x!.shape, filter!.shape, attributes);
      if (!sameShape(bias!.shape, [shape[3]!])) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `conv2d: the bias has shape ${showShape(bias!.shape)}; expected [${shape[3]}], one number an output channel.`,
        );
      }
      return shape;
    },
    examples: ([x, filter, bias]) => (filter!.examples || bias!.examples ? null : x!.examples),
    forward({ engine, inputs, attributes, output }) {
      const [x, filter, bias] = inputs as [Tensor, Tensor, Tensor];
      const c = { op: 'conv2d', x: x.shape, filter: filter.shape, sliding: attributes };
      const relu = attributes.activation === 'relu';
      convolve(engine, c, output.address, x.address, filter.address, bias.address, relu);
      return undefined;
    },
    beforeActivation: ({ attributes, output, dOutput }) =>
      attributes.activation === 'relu' ? reluGradient(output, dOutput) : dOutput,
    backward({ inputs, attributes, dOutput, needs }) {
      const [x, filter] = inputs as [Tensor, Tensor];
      return [
        needs[0] ? inputGradient(dOutput, filter, attributes, x.shape) : null,
        needs[1] ? filterGradient(x, dOutput, attributes, filter.shape) : null,
        needs[2] ? sum(reshape(dOutput, [-1, dOutput.shape[3]!]), { axes: 0 }) : null,
      ];
    },
    secondOrder: true,
    perExample: { 1: filterRule, 2: denseBiasRule },
  } satisfies Op<ConvAttributes & Activation>,

  conv2dInputGradient: {
    name: 'conv2dInputGradient',
    summary: "conv2d's gradient to its images, from dOut and the filter: the transposed convolution",
    shape([dOut, filter], attributes) {
      checkConvolved('conv2dInputGradient', dOut!, attributes.shape, filter!.shape, attributes);
      return attributes.shape;
    },
    examples: ([dOut, filter]) => (filter!.examples ? null : dOut!.examples),
    forward({ engine, inputs, attributes, output }) {
      const [dOut, filter] = inputs as [Tensor, Tensor];
      const c = { op: 'conv2dInputGradient', x: output.shape, filter: filter.shape, sliding: attributes };
      convolveBack(engine, c, output.address, dOut.address, filter.address);
      return undefined;
    },
    backward({ inputs, attributes, dOutput, needs }) {
      const [dOut, filter] = inputs as [Tensor, Tensor];
      return [
        needs[0] ? convolved(dOutput, filter, attributes) : null,
        needs[1] ? filterGradient(dOutput, dOut, attributes, filter.shape) : null,
      ];
    },
    secondOrder: true,
  } satisfies Op<ConvGradient>,

  conv2dFilterGradient: {
    name: 'conv2dFilterGradient',
    summary: "conv2d's gradient to its filter, from the images and dOut, summed over the batch",
    shape([x, dOut], attributes) {
      checkConvolved('conv2dFilterGradient', dOut!, x!.shape, attributes.shape, attributes);
      return attributes.shape;
    },
    examples: () => null,
    forward({ engine, inputs, attributes, output }) {
      const [x, dOut] = inputs as [Tensor, Tensor];
      const c = { op: 'conv2dFilterGradient', x: x.shape, filter: output.shape, sliding: attributes };
      sumFilterGradients(engine, c, output.address, x.address, dOut.address, 0, false);
      return undefined;
    },
    backward({ inputs, attributes, dOutput, needs }) {
      const [x, dOut] = inputs as [Tensor, Tensor];
      return [
        needs[0] ? inputGradient(dOut, dOutput, attributes, x.shape) : null,
        needs[1] ? convolved(x, dOutput, attributes) : null,
      ];
    },
    secondOrder: true,
  } satisfies Op<ConvGradient>,
};

function convolved(x: Tensor, filter: Tensor, attributes: ConvAttributes): Tensor {
  const bias = x.engine.full([filter.shape[3] ?? 0], 0);
  return run(convOps.conv2d, [x, filter, bias], { ...sliding(attributes), activation: 'none' });
}
const inputGradient = (dOut: Tensor, filter: Tensor, attributes: ConvAttributes, shape: Shape): Tensor =>
  run(convOps.conv2dInputGradient, [dOut, filter], { ...sliding(attributes), shape });
const filterGradient = (x: Tensor, dOut: Tensor, attributes: ConvAttributes, shape: Shape): Tensor =>
  run(convOps.conv2dFilterGradient, [x, dOut], { ...sliding(attributes), shape });

function checkOneOf(option: string, value: string, known: readonly string[]): void {
  if (known.includes(value)) return;
  throw new GradshapeError(
    'CONV_OPTIONS_INVALID',
    `conv2d: ${option} is '${String(value)}'; expected '${known.join("' or '")}'.`,
  );
}

/**
 * Two-dimensional convolution (cross-correlation, as in every deep learning library): activation(x ⋆ filter + bias).
 * @param x f32 [batch, height, width, in]
 * @param filter f32 [kernel height, kernel width, in / groups, out]
 * @param bias f32 [out], or null for none
 * @returns f32 [batch, height', width', out]
 * @throws SHAPE_MISMATCH, WINDOW_INVALID, GROUPS_INVALID, CONV_OPTIONS_INVALID
 * @example
 * const filter = engine.full([3, 3, 1, 8], 0.1);
 * ops.conv2d(x, filter, null, { padding: 'same', activation: 'relu' }).shape; // [3, 28, 28, 8]
 */
export function conv2d(x: Tensor, filter: Tensor, bias: Tensor | null, options: ConvOptions = {}): Tensor {
  const { stride = 1, padding = 'valid', dilation = 1, groups = 1 } = options;
  const { algorithm = 'auto', activation = 'none' } = options;
  checkOneOf('algorithm', algorithm, ['auto', 'direct']);
  checkOneOf('activation', activation, ['none', 'relu']);
  const both = { stride: bothOf(stride), dilation: bothOf(dilation) };
  const attributes = { ...both, padding, groups, algorithm, activation };
  const added = bias ?? x.engine.full([filter.shape[filter.rank - 1] ?? 0], 0);
  return run(convOps.conv2d, [x, filter, added], attributes);
}
