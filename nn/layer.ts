import { GradshapeError, type Shape, type Tensor } from '../engine/index.js';
import type { Initializer } from './initializers.js';

/** A parameter that a layer asks for; the model puts the layer's place before the name. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: Shape;
  readonly initializer: Initializer;
}

/** What a layer computes from. */
export interface LayerCall {
  /** f32 [batch, ...] */
  readonly x: Tensor;
  /** The layer's own parameters. */
  get(name: string): Tensor;
  /** Whether dropout drops. */
  readonly training: boolean;
  /** Tells layers of a model apart, for randomness. */
  readonly index: number;
  /** What the layer must end in; only layers with `fusesRelu` are asked for 'relu'. */
  readonly activation: 'none' | 'relu';
}

/**
 * A layer's description: it owns no memory. Its fields are plain values: they print, and are its JSON.
 * Shapes here are of one example, without the batch axis.
 */
export interface Layer {
  readonly kind: string;
  /** Its own `relu` can be part of the layer's operation. */
  readonly fusesRelu?: true;
  parameters(): readonly ParameterSpec[];
  /** The shape of an example after the layer; throws SHAPE_MISMATCH, saying which number is wrong. */
  outputShape(input: Shape): Shape;
  apply(call: LayerCall): Tensor;
  /** As it is written in code: `dense(784, 10)`. */
  toString(): string;
}

/** The parameters of layers in a row: '0.weight', '0.bias', '2.weight', … */
export function parametersOf(layers: readonly Layer[]): ParameterSpec[] {
  return layers.flatMap((layer, i) =>
    layer.parameters().map((spec) => ({ ...spec, name: `${i}.${spec.name}` })),
  );
}

/** The shapes after each of the layers. @throws SHAPE_MISMATCH */
export function shapesAfter(layers: readonly Layer[], input: Shape): Shape[] {
  let shape = input;
  return layers.map((layer, i) => {
    shape = checkedShape(layer, i, shape);
    return shape;
  });
}

function checkedShape(layer: Layer, i: number, input: Shape): Shape {
  try {
    return layer.outputShape(input);
  } catch (error) {
    if (!(error instanceof GradshapeError)) throw error;
    throw new GradshapeError(error.code, `layer ${i}, ${error.message}`, { cause: error });
  }
}

/**
 * Applies layers in a row. A ReLU after a layer that can end in one becomes part of it: the same numbers, one pass less.
 * `call.get` takes the names of `parametersOf`.
 */
export function applyLayers(layers: readonly Layer[], call: Omit<LayerCall, 'activation'>): Tensor {
  const { get, training } = call;
  let { x } = call;
  for (let i = 0; i < layers.length; i++) {
    const layer = layers[i]!;
    checkedShape(layer, i, x.shape.slice(1));
    const fused = layer.fusesRelu === true && layers[i + 1]?.kind === 'relu';
    x = layer.apply({
      x,
      get: (name) => get(`${i}.${name}`),
      training,
      index: call.index + i,
      activation: fused ? 'relu' : 'none',
    });
    if (fused) i++;
  }
  return x;
}
