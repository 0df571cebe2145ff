import {
  type BlockTensor,
  GradshapeError,
  type Parameters,
  type Range,
  showShape,
  type Tensor,
} from '../engine/index.js';
import { checkRange } from './checks.js';

export interface UpdateOptions {
  /** For this update alone; what schedules set. @default the optimizer's */
  readonly learningRate?: number;
}

/** What an optimizer has learned so far, as host values. */
export interface OptimizerState {
  /** Vectors laid out like the parameters, by name. */
  readonly vectors: Readonly<Record<string, Float32Array>>;
  readonly counters: Readonly<Record<string, number>>;
}

/** An optimizer's kind and settings as plain values. */
export type OptimizerDescription = ({ kind: 'sgd' } & SgdOptions) | ({ kind: 'adam' } & AdamOptions);

/** Turns gradients into updates. Its state lives in blocks made at the first update, and belongs to one `Parameters`. */
export interface Optimizer {
  readonly learningRate: number;
  /** Updates done. */
  readonly steps: number;
  /**
   * One step, in place; frozen parameters and their state stay as they are.
   * @param gradient flat, laid out like the parameters: the *sum* over the batch
   * @param batchSize what the sum is divided by
   * @throws SHAPE_MISMATCH, BATCH_SIZE_INVALID, LEARNING_RATE_INVALID, OPTIMIZER_IN_USE
   */
  update(params: Parameters, gradient: Tensor, batchSize: number, options?: UpdateOptions): void;
  state(): OptimizerState;
  /** Takes up a state. @throws OPTIMIZER_STATE_INVALID, OPTIMIZER_IN_USE */
  loadState(params: Parameters, state: OptimizerState): void;
  toJSON(): OptimizerDescription;
  /** Frees the state's memory; the next update starts afresh. */
  free(): void;
  [Symbol.dispose](): void;
}

/** The state's vectors and counters, and the checks of an update: what all optimizers share. */
abstract class StatefulOptimizer implements Optimizer {
  abstract readonly learningRate: number;
  protected abstract readonly vectorNames: readonly string[];
  protected counters: Record<string, number>;
  private vectors: readonly BlockTensor[] = [];
  private params: Parameters | null = null;

  constructor(
    readonly name: string,
    private readonly freshCounters: Readonly<Record<string, number>>,
  ) {
    this.counters = { ...freshCounters };
  }

  get steps(): number {
    return this.counters.steps!;
  }

  update(
    params: Parameters,
    gradient: Tensor,
    batchSize: number,
    { learningRate = this.learningRate }: UpdateOptions = {},
  ): void {
    if (gradient.dtype !== 'f32' || gradient.size !== params.size) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `${this.name}: the gradient is ${gradient.dtype} ${showShape(gradient.shape)}; expected f32 [${params.size}], laid out like the parameters.`,
      );
    }
    if (!(batchSize > 0 && batchSize < Infinity)) {
      throw new GradshapeError(
        'BATCH_SIZE_INVALID',
        `${this.name}: the batch size is ${batchSize}; expected a finite number above 0.`,
      );
    }
    checkRange('LEARNING_RATE_INVALID', `${this.name}: learningRate`, learningRate, 0);
    this.attach(params);
    this.advance();
    const moments = this.vectors.map((vector) => vector.address);
    for (const range of params.trainable) {
      this.updateRange(params, range, gradient.address, moments, learningRate, 1 / batchSize);
    }
  }

  /** Counts the step. */
  protected advance(): void {
    this.counters.steps!++;
  }

  /** One kernel call; addresses are of the whole vectors. */
  protected abstract updateRange(
    params: Parameters,
    range: Range,
    gradient: number,
    moments: readonly number[],
    learningRate: number,
    scale: number,
  ): void;

  abstract toJSON(): OptimizerDescription;

  private attach(params: Parameters): void {
    if (this.params === params) return;
    if (this.params !== null) {
      throw new GradshapeError(
        'OPTIMIZER_IN_USE',
        `${this.name}: it holds the state of other parameters. Make one optimizer for each, or free() it first.`,
      );
    }
    this.vectors = this.vectorNames.map((name) =>
      params.engine.allocateBlock([params.size], 'f32', `${this.name}'s ${name}`),
    );
    this.params = params;
  }

  state(): OptimizerState {
    const vectors = this.vectors.map((vector, i) => [this.vectorNames[i]!, vector.values()] as const);
    return {
      vectors: Object.fromEntries(vectors) as Record<string, Float32Array>,
      counters: { ...this.counters },
    };
  }

  loadState(params: Parameters, { vectors, counters }: OptimizerState): void {
    const fresh = Object.keys(vectors).length === 0;
    if (!fresh) {
      for (const name of this.vectorNames) {
        if (vectors[name]?.length === params.size) continue;
        throw new GradshapeError(
          'OPTIMIZER_STATE_INVALID',
          `${this.name}: the state's '${name}' has ${vectors[name]?.length ?? 'no'} numbers; expected ${params.size}, one a parameter.`,
        );
      }
    }
    for (const name of Object.keys(this.freshCounters)) {
      if (Number.isFinite(counters[name])) continue;
      throw new GradshapeError(
        'OPTIMIZER_STATE_INVALID',
        `${this.name}: the state's counter '${name}' is ${counters[name]}; expected a number.`,
      );
    }
    this.attach(params);
    this.vectors.forEach((vector, i) => {
      vector.view().set(vectors[this.vectorNames[i]!] ?? new Float32Array(params.size));
    });
    for (const name of Object.keys(this.freshCounters)) this.counters[name] = counters[name]!;
  }

  free(): void {
    for (const vector of this.vectors) vector.free();
    this.vectors = [];
    this.params = null;
    this.counters = { ...this.freshCounters };
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

export interface SgdOptions {
  readonly learningRate: number;
  /** @default 0 */
  readonly momentum?: number;
  /** Look ahead along the velocity (Nesterov 1983; Sutskever et al. 2013); needs momentum. @default false */
  readonly nesterov?: boolean;
  /** L2 penalty: this times the parameter is added to the gradient. @default 0 */
  readonly weightDecay?: number;
}

class Sgd extends StatefulOptimizer {
  readonly learningRate: number;
  protected readonly vectorNames: readonly string[];
  private readonly momentum: number;
  private readonly nesterov: boolean;
  private readonly weightDecay: number;

  constructor({ learningRate, momentum = 0, nesterov = false, weightDecay = 0 }: SgdOptions) {
    super('sgd', { steps: 0 });
    checkRange('LEARNING_RATE_INVALID', 'sgd: learningRate', learningRate, 0);
    checkRange('OPTIMIZER_INVALID', 'sgd: momentum', momentum, 0, 1);
    checkRange('OPTIMIZER_INVALID', 'sgd: weightDecay', weightDecay, 0);
    if (nesterov && momentum === 0) {
      throw new GradshapeError('OPTIMIZER_INVALID', 'sgd: nesterov needs momentum above 0; try 0.9.');
    }
    this.learningRate = learningRate;
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.weightDecay = weightDecay;
    this.vectorNames = momentum > 0 ? ['velocity'] : [];
  }

  protected updateRange(
    { engine, flat }: Parameters,
    { from, to }: Range,
    gradient: number,
    [velocity]: readonly number[],
    learningRate: number,
    scale: number,
  ): void {
    engine.kernels.sgd(
      flat.address + from * 4,
      gradient + from * 4,
      velocity === undefined ? 0 : velocity + from * 4,
      to - from,
      learningRate,
      this.momentum,
      this.weightDecay,
      scale,
      this.nesterov ? 1 : 0,
    );
  }

  toJSON(): OptimizerDescription {
    const { learningRate, momentum, nesterov, weightDecay } = this;
    return { kind: 'sgd', learningRate, momentum, nesterov, weightDecay };
  }
}

export interface AdamOptions {
  readonly learningRate: number;
  /** Decay of the first moment. @default 0.9 */
  readonly beta1?: number;
  /** Decay of the second moment. @default 0.999 */
  readonly beta2?: number;
  /** @default 1e-8 */
  readonly epsilon?: number;
  /** @default 0 */
  readonly weightDecay?: number;
  /** Decay the parameters themselves (AdamW) instead of adding to the gradient. @default false */
  readonly decoupled?: boolean;
}

class Adam extends StatefulOptimizer {
  readonly learningRate: number;
  protected readonly vectorNames = ['firstMoment', 'secondMoment'];
  private readonly beta1: number;
  private readonly beta2: number;
  private readonly epsilon: number;
  private readonly weightDecay: number;
  private readonly decoupled: boolean;

  constructor(options: AdamOptions) {
    const { learningRate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8 } = options;
    const { weightDecay = 0, decoupled = false } = options;
    // β^t is kept as a running product, so that every runtime has the same.
    super('adam', { steps: 0, beta1Power: 1, beta2Power: 1 });
    checkRange('LEARNING_RATE_INVALID', 'adam: learningRate', learningRate, 0);
    checkRange('OPTIMIZER_INVALID', 'adam: beta1', beta1, 0, 1);
    checkRange('OPTIMIZER_INVALID', 'adam: beta2', beta2, 0, 1);
    checkRange('OPTIMIZER_INVALID', 'adam: epsilon', epsilon, 0);
    checkRange('OPTIMIZER_INVALID', 'adam: weightDecay', weightDecay, 0);
    this.learningRate = learningRate;
    this.beta1 = beta1;
    this.beta2 = beta2;
    this.epsilon = epsilon;
    this.weightDecay = weightDecay;
    this.decoupled = decoupled;
  }

  protected override advance(): void {
    super.advance();
    // The kernel's β are f32: their powers, too, so that the corrections fit the moments exactly.
    this.counters.beta1Power! *= Math.fround(this.beta1);
    this.counters.beta2Power! *= Math.fround(this.beta2);
  }

  protected updateRange(
    { engine, flat }: Parameters,
    { from, to }: Range,
    gradient: number,
    [first, second]: readonly number[],
    learningRate: number,
    scale: number,
  ): void {
    engine.kernels.adam(
      flat.address + from * 4,
      gradient + from * 4,
      first! + from * 4,
      second! + from * 4,
      to - from,
      learningRate,
      this.beta1,
      this.beta2,
      this.epsilon,
      1 / (1 - this.counters.beta1Power!),
      1 / (1 - this.counters.beta2Power!),
      this.weightDecay,
      this.decoupled ? 1 : 0,
      scale,
    );
  }

  toJSON(): OptimizerDescription {
    const { learningRate, beta1, beta2, epsilon, weightDecay, decoupled } = this;
    return { kind: 'adam', learningRate, beta1, beta2, epsilon, weightDecay, decoupled };
  }
}

/**
 * Stochastic gradient descent. v ← momentum·v + g, then p ← p − learningRate·v (Nesterov: p − learningRate·(g + momentum·v)).
 * @throws LEARNING_RATE_INVALID, OPTIMIZER_INVALID
 * @example const optimizer = sgd({ learningRate: 0.1, momentum: 0.9 });
 */
export const sgd = (options: SgdOptions): Optimizer => new Sgd(options);

/**
 * Adam (Kingma & Ba 2015, Algorithm 1); with `decoupled`, AdamW (Loshchilov & Hutter 2019).
 * @throws LEARNING_RATE_INVALID, OPTIMIZER_INVALID
 * @example const optimizer = adam({ learningRate: 0.01 });
 */
export const adam = (options: AdamOptions): Optimizer => new Adam(options);

/** The optimizer of a description, as `toJSON` gives it. @throws OPTIMIZER_INVALID */
export function optimizerFromJSON(description: OptimizerDescription): Optimizer {
  switch (description?.kind) {
    case 'sgd':
      return new Sgd(description);
    case 'adam':
      return new Adam(description);
    default:
      throw new GradshapeError(
        'OPTIMIZER_INVALID',
        `optimizerFromJSON: kind is '${String((description as { kind?: unknown } | null)?.kind)}'; expected 'sgd' or 'adam'.`,
      );
  }
}
