import {
  denseLayer,
  dropout as dropoutOp,
  GradshapeError,
  gelu as geluOp,
  leakyRelu as leakyReluOp,
  relu as reluOp,
  reshape,
  type Shape,
  showShape,
  sigmoid as sigmoidOp,
  sizeOf,
  Tensor,
  tanh as tanhOp,
} from '../engine/index.js';
import { checkRange, checkWhole } from './checks.js';
import { glorotUniform, type Initializer, zeros } from './initializers.js';
import type { Layer, LayerCall, ParameterSpec } from './layer.js';

export interface DenseOptions {
  /** @default glorotUniform() */
  readonly initializer?: Initializer;
  /** @default zeros() */
  readonly biasInitializer?: Initializer;
}

class Dense implements Layer {
  readonly kind = 'dense';

  constructor(
    readonly inputs: number,
    readonly outputs: number,
    readonly initializer: Initializer,
    readonly biasInitializer: Initializer,
  ) {
    checkWhole('LAYER_INVALID', 'dense: inputs', inputs, 1);
    checkWhole('LAYER_INVALID', 'dense: outputs', outputs, 1);
  }

  get fusesRelu(): true {
    return true;
  }

  parameters(): ParameterSpec[] {
    return [
      { name: 'weight', shape: [this.inputs, this.outputs], initializer: this.initializer },
      { name: 'bias', shape: [this.outputs], initializer: this.biasInitializer },
    ];
  }

  outputShape(input: Shape): Shape {
    if (input.length >= 1 && input.at(-1) === this.inputs) return [...input.slice(0, -1), this.outputs];
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${this.toString()}: an example has shape ${showShape(input)}; expected ${this.inputs} numbers on its last axis. ${this.hint(input)}`,
    );
  }

  private hint(input: Shape): string {
    if (input.length > 1 && sizeOf(input) === this.inputs) return 'flatten() is missing before it.';
    if (input.length === 0) return `Is the batch axis missing? Expected [batch, ${this.inputs}].`;
    const given = input.length > 1 ? sizeOf(input) : input[0]!;
    return `Put dense(${given}, ${this.outputs}) there${input.length > 1 ? ', after flatten()' : ''}, or change what comes before.`;
  }

  apply({ x, get, activation }: LayerCall): Tensor {
    return denseLayer(x, get('weight'), get('bias'), activation);
  }

  toString(): string {
    return `dense(${this.inputs}, ${this.outputs})`;
  }
}

class Activation implements Layer {
  constructor(readonly kind: keyof typeof activations) {}

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    return input;
  }

  apply({ x }: LayerCall): Tensor {
    return activations[this.kind](x);
  }

  toString(): string {
    return `${this.kind}()`;
  }
}

const activations = { relu: reluOp, tanh: tanhOp, sigmoid: sigmoidOp, gelu: geluOp };

class LeakyRelu implements Layer {
  readonly kind = 'leakyRelu';

  constructor(readonly slope: number) {
    checkRange('LAYER_INVALID', 'leakyRelu: slope', slope, 0);
  }

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    return input;
  }

  apply({ x }: LayerCall): Tensor {
    return leakyReluOp(x, this.slope);
  }

  toString(): string {
    return `leakyRelu(${this.slope})`;
  }
}

class Dropout implements Layer {
  readonly kind = 'dropout';

  constructor(readonly rate: number) {
    checkRange('LAYER_INVALID', 'dropout: rate', rate, 0, 1);
  }

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    return input;
  }

  apply({ x, training, index }: LayerCall): Tensor {
    return training ? dropoutOp(x, this.rate, index) : x;
  }

  toString(): string {
    return `dropout(${this.rate})`;
  }
}

class Flatten implements Layer {
  readonly kind = 'flatten';

  parameters(): ParameterSpec[] {
    return [];
  }

  outputShape(input: Shape): Shape {
    return [sizeOf(input)];
  }

  apply({ x }: LayerCall): Tensor {
    return reshape(x, [x.shape[0]!, sizeOf(x.shape.slice(1))]);
  }

  toString(): string {
    return 'flatten()';
  }
}

/**
 * x · weight + bias, on the last axis: weight [inputs, outputs], bias [outputs].
 * @throws LAYER_INVALID
 * @example dense(784, 256, { initializer: heUniform() })
 */
export function dense(inputs: number, outputs: number, options: DenseOptions = {}): Layer {
  const { initializer = glorotUniform(), biasInitializer = zeros() } = options;
  return new Dense(inputs, outputs, initializer, biasInitializer);
}

/** An example's numbers on one axis. */
export const flatten = (): Layer => new Flatten();

// The names below are also operations on tensors. Here they are both: without a tensor, a layer.

/** The layer max(x, 0), or, given a tensor, the operation. */
export function relu(): Layer;
export function relu(x: Tensor): Tensor;
export function relu(x?: Tensor): Layer | Tensor {
  return x === undefined ? new Activation('relu') : reluOp(x);
}

/** The layer tanh(x), or, given a tensor, the operation. */
export function tanh(): Layer;
export function tanh(x: Tensor): Tensor;
export function tanh(x?: Tensor): Layer | Tensor {
  return x === undefined ? new Activation('tanh') : tanhOp(x);
}

/** The layer 1/(1 + e⁻ˣ), or, given a tensor, the operation. */
export function sigmoid(): Layer;
export function sigmoid(x: Tensor): Tensor;
export function sigmoid(x?: Tensor): Layer | Tensor {
  return x === undefined ? new Activation('sigmoid') : sigmoidOp(x);
}

/** The layer x · Φ(x) (Hendrycks & Gimpel 2016), the exact form, or, given a tensor, the operation. */
export function gelu(): Layer;
export function gelu(x: Tensor): Tensor;
export function gelu(x?: Tensor): Layer | Tensor {
  return x === undefined ? new Activation('gelu') : geluOp(x);
}

/**
 * The layer x where x ≥ 0, else slope · x (Maas et al. 2013), or, given a tensor, the operation.
 * @param slope @default 0.01
 * @throws LAYER_INVALID
 */
export function leakyRelu(slope?: number): Layer;
export function leakyRelu(x: Tensor, slope?: number): Tensor;
export function leakyRelu(first: number | Tensor = 0.01, slope = 0.01): Layer | Tensor {
  return first instanceof Tensor ? leakyReluOp(first, slope) : new LeakyRelu(first);
}

/**
 * The layer that zeroes each number with probability `rate` in training, and scales the rest by 1/(1 − rate)
 * (Srivastava et al. 2014); or, given a tensor, the operation. Batches need a seed: `data.batch(indices, { seed, step })`.
 * @throws LAYER_INVALID, RANGE_INVALID, NO_RANDOM_STATE
 */
export function dropout(rate: number): Layer;
export function dropout(x: Tensor, rate: number, layer?: number): Tensor;
export function dropout(first: number | Tensor, rate = 0, layer = 0): Layer | Tensor {
  return first instanceof Tensor ? dropoutOp(first, rate, layer) : new Dropout(first);
}
