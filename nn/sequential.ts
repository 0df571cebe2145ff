import {
  checkSeed,
  type Engine,
  GradshapeError,
  Parameters,
  type Shape,
  showShape,
  sizeOf,
  type Tensor,
} from '../engine/index.js';
import { initialize } from './initializers.js';
import { applyLayers, type Layer, type ParameterSpec, parametersOf, shapesAfter } from './layer.js';
import { type LayerDescription, layerFromJSON } from './layer-json.js';

export interface ApplyOptions {
  /** Whether dropout drops. @default true */
  readonly training?: boolean;
}

/** Anything that computes logits from parameters and examples; `sequential` makes one, a user's own function is another. */
export interface Model {
  /** @param x f32 [batch, ...] @returns logits, f32 [batch, classes] */
  apply(params: Parameters, x: Tensor, options?: ApplyOptions): Tensor;
}

/** A model as plain values. */
export interface ModelDescription {
  readonly kind: 'sequential';
  readonly layers: readonly LayerDescription[];
}

/** Layers in a row. It owns no memory: `init` makes parameters, and one model can have many. */
export class Sequential implements Model {
  /** What the model's parameters are: '0.weight', '0.bias', … by the layer's place. */
  readonly parameters: readonly ParameterSpec[];
  readonly parameterCount: number;

  constructor(readonly layers: readonly Layer[]) {
    if (layers.length === 0) {
      throw new GradshapeError('LAYER_INVALID', 'sequential: no layers were given; expected at least one.');
    }
    const odd = layers.findIndex((layer) => typeof layer?.apply !== 'function');
    if (odd >= 0) {
      throw new GradshapeError(
        'LAYER_INVALID',
        `sequential: argument ${odd} is ${String(layers[odd])}; expected layers, one after another: sequential(dense(4, 8), relu(), dense(8, 2)).`,
      );
    }
    this.parameters = parametersOf(layers);
    this.parameterCount = this.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  }

  /**
   * Parameters in one block, initialised from the seed: the same bits on every runtime.
   * @throws SEED_INVALID, MEMORY_LIMIT
   * @example const params = model.init(engine, { seed: 1 });
   */
  init(engine: Engine, { seed }: { readonly seed: number }): Parameters {
    checkSeed('init', seed);
    const params = new Parameters(engine, this.parameters);
    this.parameters.forEach(({ name, initializer }, i) => {
      initialize(params.get(name), initializer, seed, i);
    });
    return params;
  }

  /**
   * The logits of a batch, recorded when a gradient is being taken.
   * @param x f32 [batch, ...shape of an example]
   * @throws SHAPE_MISMATCH, PARAMETER_UNKNOWN
   * @example perExample((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, batch)
   */
  apply(params: Parameters, x: Tensor, { training = true }: ApplyOptions = {}): Tensor {
    return applyLayers(this.layers, { x, get: (name) => params.get(name), training, index: 0 });
  }

  /**
   * The logits of a batch without dropout and without a tape, in the open scope, which keeps nothing else.
   * For large sets see `evaluate` and `predictions`.
   * @throws SHAPE_MISMATCH, NO_SCOPE, PREDICT_IN_GRADIENT
   */
  predict(params: Parameters, x: Tensor): Tensor {
    if (params.engine.recorder.active) {
      throw new GradshapeError(
        'PREDICT_IN_GRADIENT',
        'predict: called while a gradient is taken, and it leaves no trace. Use model.apply(params, x, { training: false }) there.',
      );
    }
    return params.engine.scope(() => this.apply(params, x, { training: false }));
  }

  /** The shape of an example's logits. @throws SHAPE_MISMATCH */
  outputShape(input: Shape): Shape {
    return shapesAfter(this.layers, input).at(-1)!;
  }

  /**
   * A table of layers, output shapes and parameter counts.
   * @param inputShape of one example: [28, 28, 1]
   * @throws SHAPE_MISMATCH
   */
  summary(inputShape: Shape): string {
    const shapes = shapesAfter(this.layers, inputShape);
    const rows = this.layers.map((layer, i) => {
      const count = layer.parameters().reduce((sum, { shape }) => sum + sizeOf(shape), 0);
      return [String(i), layer.toString(), showShape(shapes[i]!), count.toLocaleString('en-US')];
    });
    return textTable([
      ['', 'layer', 'output', 'parameters'],
      ['', 'input', showShape(inputShape), ''],
      ...rows,
      ['', 'total', '', this.parameterCount.toLocaleString('en-US')],
    ]);
  }

  toJSON(): ModelDescription {
    return { kind: 'sequential', layers: this.layers.map((layer): LayerDescription => ({ ...layer })) };
  }

  toString(): string {
    return `sequential(${this.layers.join(', ')})`;
  }
}

/** Columns side by side, the last one (counts) to the right. */
function textTable(rows: readonly (readonly string[])[]): string {
  const last = rows[0]!.length - 1;
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === last ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join('  ');
  return rows.map(line).join('\n');
}

/**
 * Layers in a row.
 * @throws LAYER_INVALID
 * @example
 * const model = sequential(flatten(), dense(784, 256), relu(), dense(256, 10));
 * console.log(model.summary([28, 28, 1]));
 */
export function sequential(...layers: Layer[]): Sequential {
  return new Sequential(layers);
}

/**
 * The model of a description, as `JSON.parse(JSON.stringify(model))` gives it.
 * @throws MODEL_INVALID, LAYER_INVALID
 */
export function modelFromJSON(description: unknown): Sequential {
  const { kind, layers } = (description ?? {}) as Partial<ModelDescription>;
  if (kind !== 'sequential' || !Array.isArray(layers)) {
    throw new GradshapeError(
      'MODEL_INVALID',
      `modelFromJSON: ${JSON.stringify(description)?.slice(0, 80)}; expected { kind: 'sequential', layers: [...] }.`,
    );
  }
  return new Sequential(layers.map(layerFromJSON));
}
