import type { Parameters, Range } from '../engine/index.js';
import { checkRange } from './checks.js';
import { type Optimizer, type OptimizerDescription, StatefulOptimizer } from './optimizer.js';

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
 * Adam (Kingma & Ba 2015, Algorithm 1); with `decoupled`, AdamW (Loshchilov & Hutter 2019).
 * @throws LEARNING_RATE_INVALID, OPTIMIZER_INVALID
 * @example const optimizer = adam({ learningRate: 0.01 });
 */
export const adam = (options: AdamOptions): Optimizer => new Adam(options);
