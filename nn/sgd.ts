import { GradshapeError, type Parameters, type Range } from '../engine/index.js';
import { checkRange } from './checks.js';
import { type Optimizer, type OptimizerDescription, StatefulOptimizer } from './optimizer.js';

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

/**
 * Stochastic gradient descent. v ← momentum·v + g, then p ← p − learningRate·v (Nesterov: p − learningRate·(g + momentum·v)).
 * @throws LEARNING_RATE_INVALID, OPTIMIZER_INVALID
 * @example const optimizer = sgd({ learningRate: 0.1, momentum: 0.9 });
 */
export const sgd = (options: SgdOptions): Optimizer => new Sgd(options);
