import {
  type BlockTensor,
  GradshapeError,
  type Parameters,
  type Range,
  showShape,
  type Tensor,
} from '../engine/index.js';
import type { AdamOptions } from './adam.js';
import { checkRange } from './checks.js';
import type { SgdOptions } from './sgd.js';

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
  /** What `update` would throw, without the update: a private step asks before it draws its noise. */
  check?(params: Parameters, gradient: Tensor, batchSize: number, options?: UpdateOptions): void;
  state(): OptimizerState;
  /** Takes up a state. @throws OPTIMIZER_STATE_INVALID, OPTIMIZER_IN_USE */
  loadState(params: Parameters, state: OptimizerState): void;
  toJSON(): OptimizerDescription;
  /** Frees the state's memory; the next update starts afresh. */
  free(): void;
  [Symbol.dispose](): void;
}

/** The state's vectors and counters, and the checks of an update: what all optimizers share. */
export abstract class StatefulOptimizer implements Optimizer {
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

  check(
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
  }

  update(params: Parameters, gradient: Tensor, batchSize: number, options: UpdateOptions = {}): void {
    this.check(params, gradient, batchSize, options);
    const { learningRate = this.learningRate } = options;
    this.advance();
    params.updates++;
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
