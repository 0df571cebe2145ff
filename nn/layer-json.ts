import { GradshapeError } from '../engine/index.js';
import type { Layer } from './layer.js';
import { type DenseOptions, dense, dropout, flatten, relu, sigmoid, tanh } from './layers.js';

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
};

/** @throws MODEL_INVALID for an unknown kind, LAYER_INVALID for fields out of range */
export function layerFromJSON(description: LayerDescription): Layer {
  const make = Object.hasOwn(makers, description?.kind) ? makers[description.kind] : undefined;
  if (make === undefined) {
    throw new GradshapeError(
      'MODEL_INVALID',
      `modelFromJSON: there is no layer of kind '${String(description?.kind)}'; there are ${Object.keys(makers).join(', ')}.`,
    );
  }
  return make(description);
}
