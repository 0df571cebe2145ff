import type { BlockTensor, Parameters, PerExampleGradients, Range, Tensor } from '../engine/index.js';
import { bothGroups, type Groups, groupNames, type Signature, signature } from './gradient-signature.js';

/** A stretch of the parameters: a layer. */
export interface Part extends Range {
  readonly name: string;
  readonly parameters: readonly string[];
}

/** A model's layers: what stands before the last dot of its parameters' names. */
export function layersOf(params: Parameters): Part[] {
  const layers: Part[] = [];
  for (const { name, offset, size } of params.entries) {
    const layer = name.slice(0, Math.max(name.lastIndexOf('.'), 0)) || name;
    const last = layers.at(-1);
    const part = { name: layer, from: offset, to: offset + size, parameters: [name] };
    if (last?.name !== layer) layers.push(part);
    else layers[layers.length - 1] = { ...part, from: last.from, parameters: [...last.parameters, name] };
  }
  return layers;
}

/** Signatures of all parameters, and of each layer. */
export interface Signatures {
  readonly whole: Signature;
  readonly layers: Readonly<Record<string, Signature>>;
}

/** The examples' gradients as one stage of a step has them, summed over the step and over the epoch. */
export class StageSums {
  readonly step: GroupSums;
  private readonly epoch: GroupSums;
  /** Over all examples of the epoch. */
  private readonly whole: BlockTensor;

  constructor(
    private readonly params: Parameters,
    layers: readonly Part[],
  ) {
    this.step = new GroupSums(params, layers);
    this.epoch = new GroupSums(params, layers);
    this.whole = newVector(params);
  }

  /** @param sum over all examples of the step */
  closeStep(sum: Tensor): Signatures {
    const { kernels } = this.params.engine;
    kernels.addScaled(this.whole.address, sum.address, 1, this.params.size);
    this.epoch.add(this.step);
    return this.step.signatures(sum);
  }

  closeEpoch(): Signatures {
    const signatures = this.epoch.signatures(this.whole);
    this.params.engine.kernels.fill(this.whole.address, 0, this.params.size);
    this.epoch.clear();
    return signatures;
  }

  free(): void {
    this.step.free();
    this.epoch.free();
    this.whole.free();
  }
}

export const newVector = (params: Parameters): BlockTensor =>
  params.engine.allocateBlock([params.size], 'f32', 'the gradient anatomy');

/** Sums over the examples of a group. The clean ones' sum of gradients is what the poisons' leaves of the whole. */
class GroupSums {
  readonly poison: BlockTensor;
  readonly counts: { clean: number; poison: number } = { clean: 0, poison: 0 };
  /** Σ ‖gᵢ‖², by layer. */
  private readonly squares: Groups<Float64Array>;

  constructor(
    private readonly params: Parameters,
    private readonly layers: readonly Part[],
  ) {
    this.poison = newVector(params);
    this.squares = bothGroups(() => new Float64Array(layers.length));
  }

  clear(): void {
    const { engine, size } = this.params;
    if (this.counts.poison > 0) engine.kernels.fill(this.poison.address, 0, size);
    for (const group of groupNames) {
      this.squares[group].fill(0);
      this.counts[group] = 0;
    }
  }

  /**
   * Adds a piece of a batch.
   * @param weights f32 [batch]: each example's in its own group's sum, 0 in the other's
   * @param counts the groups' examples
   */
  piece(gradients: PerExampleGradients, weights: Groups<Tensor>, counts: Groups<number>): void {
    const { kernels } = this.params.engine;
    for (const group of groupNames) this.counts[group] += counts[group];
    for (let layer = 0; layer < this.layers.length; layer++) {
      for (const parameter of this.layers[layer]!.parameters) {
        const squared = gradients.norms(parameter).squared.address;
        for (const group of groupNames) {
          const sums = this.squares[group];
          const { address, size } = weights[group];
          sums[layer] = kernels.weightedSquares(sums[layer]!, squared, address, size);
        }
      }
    }
    if (counts.poison > 0) gradients.weightedSums([weights.poison], [this.poison]);
  }

  add(step: GroupSums): void {
    const { engine, size } = this.params;
    if (step.counts.poison > 0) engine.kernels.addScaled(this.poison.address, step.poison.address, 1, size);
    for (const group of groupNames) {
      for (let layer = 0; layer < this.layers.length; layer++) {
        this.squares[group][layer]! += step.squares[group][layer]!;
      }
      this.counts[group] += step.counts[group];
    }
  }

  /** @param whole the sum over all examples */
  signatures(whole: Tensor): Signatures {
    const { kernels } = this.params.engine;
    const counts = { ...this.counts };
    const total = { squaredSums: { clean: 0, poison: 0 }, squares: { clean: 0, poison: 0 }, dot: 0 };
    const layers: Record<string, Signature> = {};
    this.layers.forEach(({ name, from, to }, layer) => {
      const size = to - from;
      const [at, poisonAt] = [whole.address + from * 4, this.poison.address + from * 4];
      const all = kernels.squaredNorm(at, size);
      const poison = counts.poison === 0 ? 0 : kernels.squaredNorm(poisonAt, size);
      const across = counts.poison === 0 ? 0 : kernels.dot(at, poisonAt, size);
      // clean = whole − poison, in float64.
      const clean = counts.clean === 0 ? 0 : Math.max(0, all - 2 * across + poison);
      const squaredSums = { clean, poison };
      const squares = bothGroups((group) => this.squares[group][layer]!);
      const dot = across - poison;
      for (const group of groupNames) {
        total.squaredSums[group] += squaredSums[group];
        total.squares[group] += squares[group];
      }
      total.dot += dot;
      layers[name] = signature({ counts, squaredSums, squares, dot });
    });
    return { whole: signature({ counts, ...total }), layers };
  }

  free(): void {
    this.poison.free();
  }
}
