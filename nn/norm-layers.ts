import {
  GradshapeError,
  groupNorm as groupNormOp,
  layerNorm as layerNormOp,
  type NormOptions,
  type Shape,
  sameShape,
  showShape,
  Tensor,
} from '../engine/index.js';
import { checkRange, checkWhole } from './checks.js';
import { constant, zeros } from './initializers.js';
import type { Layer, LayerCall, ParameterSpec } from './layer.js';

const defaultEpsilon = 1e-5;

/** Scale 1 and offset 0 to begin with. */
const scaleAndOffset = (shape: Shape): ParameterSpec[] => [
  { name: 'scale', shape, initializer: constant(1) },
  { name: 'offset', shape, initializer: zeros() },
];

class GroupNorm implements Layer {
  readonly kind = 'groupNorm';

  constructor(
    readonly groups: number,
    readonly channels: number,
    readonly epsilon: number,
  ) {
    checkWhole('LAYER_INVALID', 'groupNorm: groups', groups, 1);
    checkWhole('LAYER_INVALID', 'groupNorm: channels', channels, 1);
    checkRange('LAYER_INVALID', 'groupNorm: epsilon', epsilon, Number.MIN_VALUE);
    if (channels % groups !== 0) {
      throw new GradshapeError(
        'LAYER_INVALID',
        `groupNorm: groups is ${groups}; expected a number that divides the ${channels} channels.`,
      );
    }
  }

  parameters(): ParameterSpec[] {
    return scaleAndOffset([this.channels]);
  }

  outputShape(input: Shape): Shape {
    if (input.length >= 1 && input.at(-1) === this.channels) return input;
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${this.toString()}: an example has shape ${showShape(input)}; expected ${this.channels} channels on its last axis.`,
    );
  }

  apply({ x, get }: LayerCall): Tensor {
    return groupNormOp(x, get('scale'), get('offset'), this.groups, { epsilon: this.epsilon });
  }

  toString(): string {
    return `groupNorm(${this.groups}, ${this.channels})`;
  }
}

class LayerNorm implements Layer {
  readonly kind = 'layerNorm';

  constructor(
    readonly shape: Shape,
    readonly epsilon: number,
  ) {
    if (shape.length === 0) {
      throw new GradshapeError('LAYER_INVALID', 'layerNorm: shape is []; expected at least one axis.');
    }
    for (const n of shape) checkWhole('LAYER_INVALID', 'layerNorm: features', n, 1);
    checkRange('LAYER_INVALID', 'layerNorm: epsilon', epsilon, Number.MIN_VALUE);
  }

  parameters(): ParameterSpec[] {
    return scaleAndOffset(this.shape);
  }

  outputShape(input: Shape): Shape {
    const last = input.slice(Math.max(input.length - this.shape.length, 0));
    if (sameShape(last, this.shape)) return input;
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${this.toString()}: an example has shape ${showShape(input)}; expected its last axes to be ${showShape(this.shape)}.`,
    );
  }

  apply({ x, get }: LayerCall): Tensor {
    return layerNormOp(x, get('scale'), get('offset'), { epsilon: this.epsilon });
  }

  toString(): string {
    return `layerNorm(${this.shape.length === 1 ? this.shape[0] : showShape(this.shape)})`;
  }
}

/**
 * The layer of group normalisation (Wu & He 2018): each example's channels, in `groups` groups, are brought to mean 0
 * and variance 1 over group and positions, then · scale + offset, [channels] each; or, given a tensor, the operation.
 * @throws LAYER_INVALID
 * @example sequential(conv2d(3, 32, 3), groupNorm(8, 32), relu(), globalAvgPool(), dense(32, 10))
 */
export function groupNorm(groups: number, channels: number, options?: NormOptions): Layer;
export function groupNorm(
  x: Tensor,
  scale: Tensor,
  offset: Tensor,
  groups: number,
  options?: NormOptions,
): Tensor;
export function groupNorm(
  first: number | Tensor,
  second: number | Tensor,
  third?: Tensor | NormOptions,
  groups?: number,
  options?: NormOptions,
): Layer | Tensor {
  if (first instanceof Tensor) {
    return groupNormOp(first, second as Tensor, third as Tensor, groups!, options);
  }
  const { epsilon = defaultEpsilon } = (third ?? {}) as NormOptions;
  return new GroupNorm(first, second as number, epsilon);
}

/**
 * The layer of layer normalisation (Ba et al. 2016) over the last axis, or axes, of an example: mean 0 and variance 1,
 * then · scale + offset, both of that shape; or, given a tensor, the operation.
 * @throws LAYER_INVALID
 * @example sequential(dense(784, 256), layerNorm(256), relu(), dense(256, 10))
 */
export function layerNorm(shape: number | Shape, options?: NormOptions): Layer;
export function layerNorm(x: Tensor, scale: Tensor, offset: Tensor, options?: NormOptions): Tensor;
export function layerNorm(
  first: number | Shape | Tensor,
  second?: NormOptions | Tensor,
  offset?: Tensor,
  options?: NormOptions,
): Layer | Tensor {
  if (first instanceof Tensor) return layerNormOp(first, second as Tensor, offset!, options);
  const { epsilon = defaultEpsilon } = (second ?? {}) as NormOptions;
  return new LayerNorm(typeof first === 'number' ? [first] : first, epsilon);
}

/**
 * Not available: batch normalisation makes each example's output depend on the others in its batch, so that examples
 * have no gradients of their own to clip, and DP-SGD has no meaning with it.
 * @throws BATCH_NORM_REFUSED always
 */
export function batchNorm(..._options: readonly unknown[]): never {
  throw new GradshapeError(
    'BATCH_NORM_REFUSED',
    'batchNorm: it mixes the examples of a batch, so that they have no gradients of their own, and clipping them one by one ' +
      'would protect nobody. Use groupNorm(groups, channels), or layerNorm(features), in its place.',
  );
}
