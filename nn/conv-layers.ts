import {
  avgPool2d as avgPool2dOp,
  type ConvOptions,
  conv2d as conv2dOp,
  GradshapeError,
  globalAvgPool as globalAvgPoolOp,
  maxPool2d as maxPool2dOp,
  type Padding,
  type Pair,
  type PoolOptions,
  type Shape,
  showShape,
  Tensor,
} from '../engine/index.js';
import { convolvedShape } from '../engine/ops/conv-geometry.js';
import { bothOf, placeWindows } from '../engine/ops/window.js';
import { checkWhole } from './checks.js';
import { glorotUniform, type Initializer, zeros } from './initializers.js';
import type { Layer, LayerCall, ParameterSpec } from './layer.js';

export interface Conv2dOptions extends Omit<ConvOptions, 'activation'> {
  /** @default glorotUniform() */
  readonly initializer?: Initializer;
  /** @default zeros() */
  readonly biasInitializer?: Initializer;
}

const showPair = (pair: Pair): string => (typeof pair === 'number' ? String(pair) : showShape(pair));

class Conv2d implements Layer {
  readonly kind = 'conv2d';

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    readonly kernel: Pair,
    readonly stride: Pair,
    readonly padding: Padding,
    readonly dilation: Pair,
    readonly groups: number,
    readonly initializer: Initializer,
    readonly biasInitializer: Initializer,
  ) {
    checkWhole('LAYER_INVALID', 'conv2d: inputs', inputs, 1);
    checkWhole('LAYER_INVALID', 'conv2d: outputs', outputs, 1);
    checkWhole('LAYER_INVALID', 'conv2d: groups', groups, 1);
    for (const side of bothOf(kernel)) checkWhole('LAYER_INVALID', 'conv2d: kernel', side, 1);
    if (inputs % groups !== 0 || outputs % groups !== 0) {
      throw new GradshapeError(
        'LAYER_INVALID',
        `conv2d: groups is ${groups}; expected a number that divides inputs (${inputs}) and outputs (${outputs}).`,
      );
    }
  }

  get fusesRelu(): true {
    return true;
  }

  private get filter(): Shape {
    return [...bothOf(this.kernel), this.inputs / this.groups, this.outputs];
  }

  parameters(): ParameterSpec[] {
    return [
      { name: 'filter', shape: this.filter, initializer: this.initializer },
      { name: 'bias', shape: [this.outputs], initializer: this.biasInitializer },
    ];
  }

  outputShape(input: Shape): Shape {
    checkImage(this, input);
    if (input[2] !== this.inputs) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `${this.toString()}: an example has shape ${showShape(input)}, ${input[2]} channels; expected ${this.inputs}.`,
      );
    }
    return convolvedShape(this.kind, [1, ...input], this.filter, {
      stride: bothOf(this.stride),
      padding: this.padding,
      dilation: bothOf(this.dilation),
      groups: this.groups,
    }).slice(1);
  }

  apply({ x, get, activation }: LayerCall): Tensor {
    const { stride, padding, dilation, groups } = this;
    return conv2dOp(x, get('filter'), get('bias'), { stride, padding, dilation, groups, activation });
  }

  toString(): string {
    const { stride, padding, dilation, groups } = this;
    const options = [
      ...(showPair(stride) === '1' ? [] : [`stride: ${showPair(stride)}`]),
      ...(padding === 'valid' ? [] : [`padding: ${JSON.stringify(padding).replaceAll('"', "'")}`]),
      ...(showPair(dilation) === '1' ? [] : [`dilation: ${showPair(dilation)}`]),
      ...(groups === 1 ? [] : [`groups: ${groups}`]),
    ];
    const rest = options.length === 0 ? '' : `, { ${options.join(', ')} }`;
    return `conv2d(${this.inputs}, ${this.outputs}, ${showPair(this.kernel)}${rest})`;
  }
}

function checkImage(layer: Layer, input: Shape): void {
  if (input.length === 3) return;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `${layer.toString()}: an example has shape ${showShape(input)}; expected [height, width, channels].` +
      (input.length === 2 ? ' Give grey images a channels axis of 1.' : ''),
  );
}

class Pool2d implements Layer {
  constructor(
    readonly kind: 'maxPool2d' | 'avgPool2d',
    readonly window: Pair,
    readonly stride: Pair,
    readonly padding: Padding,
  ) {
    for (const side of bothOf(window)) checkWhole('LAYER_INVALID', `${kind}: window`, side, 1);
    for (const side of bothOf(stride)) checkWhole('LAYER_INVALID', `${kind}: stride`, side, 1);
  }

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    checkImage(this, input);
    const { window, stride, padding } = this;
    const windows = { window: bothOf(window), stride: bothOf(stride), padding };
    return [...placeWindows(this.kind, [1, ...input], windows).outputs, input[2]!];
  }

  apply({ x }: LayerCall): Tensor {
    const { window, stride, padding } = this;
    return (this.kind === 'maxPool2d' ? maxPool2dOp : avgPool2dOp)(x, window, { stride, padding });
  }

  toString(): string {
    const { window, stride, padding } = this;
    const options = [
      ...(showPair(stride) === showPair(window) ? [] : [`stride: ${showPair(stride)}`]),
      ...(padding === 'valid' ? [] : [`padding: ${JSON.stringify(padding).replaceAll('"', "'")}`]),
    ];
    return `${this.kind}(${showPair(window)}${options.length === 0 ? '' : `, { ${options.join(', ')} }`})`;
  }
}

class GlobalAvgPool implements Layer {
  readonly kind = 'globalAvgPool';

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    checkImage(this, input);
    return [input[2]!];
  }

  apply({ x }: LayerCall): Tensor {
    return globalAvgPoolOp(x);
  }

  toString(): string {
    return 'globalAvgPool()';
  }
}

// As in layers.ts: with a tensor first these are the operations, else layers.

/**
 * The layer of a convolution: `outputs` filters over images of `inputs` channels, filter [kernel height, kernel
 * width, inputs / groups, outputs] and bias [outputs]; or, given a tensor, the operation.
 * @param kernel pixels, one number or [vertical, horizontal]
 * @throws LAYER_INVALID
 * @example sequential(conv2d(1, 16, 3, { padding: 'same' }), relu(), maxPool2d(2), flatten(), dense(3136, 10))
 */
export function conv2d(inputs: number, outputs: number, kernel: Pair, options?: Conv2dOptions): Layer;
export function conv2d(x: Tensor, filter: Tensor, bias: Tensor | null, options?: ConvOptions): Tensor;
export function conv2d(
  first: number | Tensor,
  second: number | Tensor,
  third: Pair | Tensor | null,
  options: Conv2dOptions & ConvOptions = {},
): Layer | Tensor {
  if (first instanceof Tensor) return conv2dOp(first, second as Tensor, third as Tensor | null, options);
  const { stride = 1, padding = 'valid', dilation = 1, groups = 1 } = options;
  const { initializer = glorotUniform(), biasInitializer = zeros() } = options;
  const sliding = [stride, padding, dilation, groups] as const;
  return new Conv2d(first, second as number, third as Pair, ...sliding, initializer, biasInitializer);
}

type Pooling = {
  (window: Pair, options?: PoolOptions): Layer;
  (x: Tensor, window: Pair, options?: PoolOptions): Tensor;
};

function pooling(kind: 'maxPool2d' | 'avgPool2d', op: typeof maxPool2dOp): Pooling {
  return ((first: Tensor | Pair, second?: Pair | PoolOptions, third?: PoolOptions) => {
    if (first instanceof Tensor) return op(first, second as Pair, third);
    const { stride = first, padding = 'valid' } = (second ?? {}) as PoolOptions;
    return new Pool2d(kind, first, stride, padding);
  }) as Pooling;
}

/**
 * The layer that takes the largest number in each window, channel by channel; or, given a tensor, the operation.
 * @throws LAYER_INVALID
 * @example maxPool2d(2) // halves height and width
 */
export const maxPool2d: Pooling = pooling('maxPool2d', maxPool2dOp);

/**
 * The layer that takes the mean of each window, channel by channel; or, given a tensor, the operation.
 * @throws LAYER_INVALID
 */
export const avgPool2d: Pooling = pooling('avgPool2d', avgPool2dOp);

/** The layer that takes the mean over the image, channel by channel; or, given a tensor, the operation. */
export function globalAvgPool(): Layer;
export function globalAvgPool(x: Tensor): Tensor;
export function globalAvgPool(x?: Tensor): Layer | Tensor {
  return x === undefined ? new GlobalAvgPool() : globalAvgPoolOp(x);
}
