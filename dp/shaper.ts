import type { Engine, PerExampleGradients, Tensor, Weights } from '../engine/index.js';
import type { NeighbouringRelation } from './accounting/index.js';
import type { NoiseSource } from './noise.js';

/** What a rule knows of the step that it works in. */
export interface ShapingContext {
  /** Counts from 0. */
  readonly step: number;
  /**
   * What bounds are multiplied by: 1, or a little less where the sum will be rounded to the grid of secure noise, so that
   * rounding stays within the sensitivity.
   */
  readonly tightening: number;
  /**
   * The rule's bound, as `bound(step)` gave it when the step began: null for none. Rules with a schedule go by it, so that what clips is
   * what the noise was sized for. @default bound(step)
   */
  readonly bound?: number | null;
}

/** What a rule has at the end of a step, to release something of its own. */
export interface ReleaseContext {
  readonly engine: Engine;
  readonly step: number;
  readonly noise: NoiseSource;
  /** The step's σ, for gradient and release together; 0 where nothing is noised. */
  readonly noiseMultiplier: number;
  readonly expectedBatchSize: number;
}

/**
 * A shaping rule: what of each example's gradient goes into the sum that a step is made of. Where it can, it works
 * from norms, dot products and weighted sums, so that no gradient is ever formed.
 */
export interface Shaper {
  readonly name: string;
  /** Whether the rule must see the batch whole; else pieces give the same bits. */
  readonly wholeBatch: boolean;
  /**
   * The largest norm that one example's part of the sum can have at a step; null where there is none, since other examples'
   * parts depend on it too, or nothing is clipped: then no noise gives a guarantee. See `sensitivityOf`.
   */
  bound(step: number): number | null;
  /**
   * Adds the shaped gradients of a batch, or of a part of it, to the sum. The step has made gradients that are not finite 0 (their
   * norms still say so), and gives the examples in runs of at most 320, unless the rule must see the whole batch. Called in a scope.
   * @returns each example's weight in the sum, for observers; undefined where the rule doesn't weight whole gradients
   */
  accumulate(g: PerExampleGradients, sum: Tensor, context: ShapingContext): Weights | undefined;
  /**
   * The gradient's part of the step's σ: more noise where the rule releases something else as well, and σ pays for both.
   * @default σ itself
   */
  gradientNoise?(noiseMultiplier: number, expectedBatchSize: number): number;
  /** Called once a step, after the last piece. */
  finish?(context: ReleaseContext): void;
  /** Called when a step that was begun is discarded: forgets what `accumulate` took in since the last `finish`. */
  discard?(): void;
  /** What the rule has learned so far, for checkpoints. */
  state?(): Readonly<Record<string, number>>;
  loadState?(state: Readonly<Record<string, number>>): void;
  /** The rule with its settings. */
  toString(): string;
}

/**
 * The L2 sensitivity of a rule's sum: by how much one neighbour's can differ. It is the rule's bound when an example is
 * added, removed or set to zero, and twice that when it is replaced by another; null: no guarantee.
 * @example sensitivityOf(flatClipping({ clipNorm: 4 }), 'replace-one'); // 8
 */
export function sensitivityOf(shaper: Shaper, relation: NeighbouringRelation, step = 0): number | null {
  const bound = shaper.bound(step);
  if (bound === null) return null;
  return relation === 'replace-one' ? 2 * bound : bound;
}
