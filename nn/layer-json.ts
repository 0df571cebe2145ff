import {
  GradshapeError,
  type NormOptions,
  type Pair,
  type PoolOptions,
  type Shape,
} from '../engine/index.js';
import { avgPool2d, type Conv2dOptions, conv2d, globalAvgPool, maxPool2d } from './conv-layers.js';
import type { Layer } from './layer.js';
import {
  type DenseOptions,
  dense,
  dropout,
  flatten,
  gelu,
  leakyRelu,
  relu,
  sigmoid,
  tanh,
} from './layers.js';
import { batchNorm, groupNorm, layerNorm } from './norm-layers.js';
import { projectedResidual, residual } from './residual.js';

/** A layer's fields as plain values. */
export interface LayerDescription {
  readonly kind: string;
  readonly [field: string]: unknown;
}

/** How each kind of layer is made again from its fields. */
const makers: Readonly<Record<string, (fields: LayerDescription) => Layer>> = {
  dense: ({ inputs, outputs, ...options }) =>
    dense(inputs as number, outputs as number, options as DenseOptions),
  relu: () => relu(),
  tanh: () => tanh(),
  sigmoid: () => sigmoid(),
  dropout: ({ rate }) => dropout(rate as number),
  flatten: () => flatten(),
  gelu: () => gelu(),
  leakyRelu: ({ slope }) => leakyRelu(slope as number),
  conv2d: ({ inputs, outputs, kernel, ...options }) =>
    conv2d(inputs as number, outputs as number, kernel as Pair, options as Conv2dOptions),
  maxPool2d: ({ window, ...options }) => maxPool2d(window as Pair, options as PoolOptions),
  avgPool2d: ({ window, ...options }) => avgPool2d(window as Pair, options as PoolOptions),
  globalAvgPool: () => globalAvgPool(),
  groupNorm: ({ groups, channels, ...options }) =>
    groupNorm(groups as number, channels as number, options as NormOptions),
  layerNorm: ({ shape, ...options }) => layerNorm(shape as Shape, options as NormOptions),
  batchNorm: () => batchNorm(),
  residual: ({ layers, projection }) => {
    const inner = (layers as LayerDescription[]).map(layerFromJSON);
    return projection === undefined
      ? residual(...inner)
      : projectedResidual(layerFromJSON(projection as LayerDescription), ...inner);
  },
};

/** @throws MODEL_INVALID for an unknown kind or fields of another form, LAYER_INVALID for fields out of range */
export function layerFromJSON(description: LayerDescription): Layer {
  const make = Object.hasOwn(makers, description?.kind) ? makers[description.kind] : undefined;
  if (make === undefined) {
    throw new GradshapeError(
      'MODEL_INVALID',
      `modelFromJSON: there is no layer of kind '${String(description?.kind)}'; there are ${Object.keys(makers).join(', ')}.`,
    );
  }
  try {
    return make(description);
  } catch (error) {
    if (error instanceof GradshapeError) throw error;
    throw new GradshapeError(
      'MODEL_INVALID',
      `modelFromJSON: ${JSON.stringify(description)} lacks what a ${description.kind} layer needs, or has it in another form.`,
      { cause: error },
    );
  }
}
