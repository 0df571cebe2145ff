import { add, GradshapeError, type Shape, sameShape, showShape, type Tensor } from '../engine/index.js';
import {
  applyLayers,
  type Layer,
  type LayerCall,
  type ParameterSpec,
  parametersOf,
  shapesAfter,
} from './layer.js';

/** Layers of a row that numbers for randomness tell apart, on each level of nesting. */
const layersALevel = 256;

class Residual implements Layer {
  readonly kind = 'residual';

  constructor(
    readonly layers: readonly Layer[],
    /** What x goes through on the way around; absent: nothing. */
    readonly projection?: Layer,
  ) {
    if (layers.length === 0) {
      throw new GradshapeError('LAYER_INVALID', 'residual: no layers were given; expected at least one.');
    }
  }

  parameters(): ParameterSpec[] {
    const shortcut = this.projection?.parameters() ?? [];
    return [
      ...parametersOf(this.layers),
      ...shortcut.map((spec) => ({ ...spec, name: `projection.${spec.name}` })),
    ];
  }

  outputShape(input: Shape): Shape {
    const output = shapesAfter(this.layers, input).at(-1)!;
    const shortcut = this.projection?.outputShape(input) ?? input;
    if (sameShape(output, shortcut)) return output;
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `residual: its layers make ${showShape(output)} of ${showShape(input)}, and ${this.projection ?? 'the shortcut'} ` +
        `${this.projection ? 'makes' : 'keeps'} ${showShape(shortcut)}; expected the same. ` +
        'Give it a projection such as projectedResidual(conv2d(inputs, outputs, 1, { stride }), ...layers).',
    );
  }

  apply(call: LayerCall): Tensor {
    const { x, get, training } = call;
    const index = (call.index + 1) * layersALevel;
    const changed = applyLayers(this.layers, { x, get, training, index });
    const shortcut =
      this.projection?.apply({
        ...call,
        get: (name) => get(`projection.${name}`),
        index: index + this.layers.length,
      }) ?? x;
    return add(changed, shortcut);
  }

  toString(): string {
    const layers = this.layers.join(', ');
    return this.projection ? `projectedResidual(${this.projection}, ${layers})` : `residual(${layers})`;
  }
}

/**
 * A residual connection (He et al. 2016): x + layers(x). The layers must keep an example's shape.
 * @throws LAYER_INVALID
 * @example residual(conv2d(16, 16, 3, { padding: 'same' }), groupNorm(4, 16), relu())
 */
export const residual = (...layers: Layer[]): Layer => new Residual(layers);

/**
 * A residual connection whose shortcut goes through a layer of its own: projection(x) + layers(x), for layers that
 * change the shape.
 * @throws LAYER_INVALID
 * @example
 * projectedResidual(
 *   conv2d(16, 32, 1, { stride: 2 }),
 *   conv2d(16, 32, 3, { stride: 2, padding: 'same' }), relu(),
 *   conv2d(32, 32, 3, { padding: 'same' }),
 * )
 */
export const projectedResidual = (projection: Layer, ...layers: Layer[]): Layer =>
  new Residual(layers, projection);
