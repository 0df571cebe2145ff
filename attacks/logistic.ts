import {
  add,
  crossEntropy,
  type Engine,
  gradients,
  matmul,
  mul,
  square,
  sum,
  type Tensor,
} from '../engine/index.js';

/** Weights [features, classes] then bias [classes], flat. */
export type Theta = Float32Array;

/** Examples with a weight each in the training loss. */
export interface Weighted {
  readonly x: Float32Array;
  readonly y: Int32Array;
  /** One weight for all. */
  readonly weight: number;
}

/**
 * Logistic regression as attacks differentiate it: Σ weight · cross-entropy over clean examples and poisons, plus
 * decay/2 · ‖theta‖². All in one batch.
 */
export class LogisticObjective {
  readonly parameters: number;

  constructor(
    private readonly engine: Engine,
    private readonly features: number,
    private readonly classes: number,
    private readonly decay: number,
  ) {
    this.parameters = (features + 1) * classes;
  }

  /** The gradient with respect to theta, and the loss. */
  gradient(theta: Theta, sets: readonly Weighted[]): { loss: number; gradient: Float32Array } {
    return this.engine.scope(() => {
      const { weights, bias } = this.split(theta);
      const batches = sets.map((set) => this.batch(set));
      const { value, gradients: found } = gradients((w, b) => this.loss(w!, b!, batches), [weights, bias]);
      return { loss: value.item(), gradient: this.join(found) };
    });
  }

  /**
   * The gradients of ⟨direction, ∇loss(theta)⟩: with respect to theta (the Hessian times the direction), and to the numbers of
   * the last set.
   */
  second(
    theta: Theta,
    direction: Theta,
    sets: readonly Weighted[],
  ): { hessian: Float32Array; inputs: Float32Array } {
    return this.engine.scope(() => {
      const { weights, bias } = this.split(theta);
      const along = this.split(direction);
      const batches = sets.map((set) => this.batch(set));
      const last = batches.at(-1)!;
      const { gradients: found } = gradients(
        (w, b, x) => {
          const own = [...batches.slice(0, -1), { ...last, x: x! }];
          const inner = gradients((v, c) => this.loss(v!, c!, own), [w!, b!]).gradients;
          return add(sum(mul(inner[0]!, along.weights)), sum(mul(inner[1]!, along.bias)));
        },
        [weights, bias, last.x],
      );
      return { hessian: this.join(found), inputs: found[2]!.values() as Float32Array };
    });
  }

  private loss(weights: Tensor, bias: Tensor, batches: readonly Batch[]): Tensor {
    const penalty = mul(add(sum(square(weights)), sum(square(bias))), this.decay / 2);
    return batches.reduce(
      (total, { x, y, weight }) =>
        add(total, mul(sum(crossEntropy(add(matmul(x, weights), bias), y)), weight)),
      penalty,
    );
  }

  private batch({ x, y, weight }: Weighted): Batch {
    const { engine, features } = this;
    return { x: engine.tensor(x, [y.length, features]), y: engine.tensor(y, [y.length], 'i32'), weight };
  }

  private split(theta: Theta): { weights: Tensor; bias: Tensor } {
    const { engine, features, classes } = this;
    const cut = features * classes;
    return {
      weights: engine.tensor(theta.subarray(0, cut), [features, classes]),
      bias: engine.tensor(theta.subarray(cut), [classes]),
    };
  }

  private join([weights, bias]: readonly Tensor[]): Float32Array {
    const flat = new Float32Array(this.parameters);
    flat.set(weights!.view());
    flat.set(bias!.view(), weights!.size);
    return flat;
  }
}

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly weight: number;
}
