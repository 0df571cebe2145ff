import {
  type BlockTensor,
  GradshapeError,
  type Parameters,
  type PerExampleGradients,
  Tensor,
  type Weights,
} from '../engine/index.js';
import {
  bothGroups,
  type Groups,
  groupNames,
  type Quantiles,
  quantiles,
  type Signature,
} from './gradient-signature.js';
import { layersOf, newVector, type Part, type Signatures, StageSums } from './group-sums.js';
import { type PaperAnatomy, PaperMeans } from './paper-means.js';
import { newTallies, type Tally } from './tally.js';
import type { StepObserver } from './train-step.js';

export interface AnatomyOptions {
  readonly params: Parameters;
  /** Indices of the poisons in the data set that is trained on; for a control run, of clean examples in their place. */
  readonly poison: ArrayLike<number>;
  /** The parameter that the paper's definition looks at. @default the last layer's first one: its kernel */
  readonly output?: string;
  /** Also take the gradients apart as they were before shaping, at the cost of one more weighted sum. @default false */
  readonly unshaped?: boolean;
}

/** The gradients as the step takes them, weighted (clipped) where it shapes; and as they were before. */
export interface Stages {
  readonly shaped: Signature;
  /** The same as `shaped` where nothing is shaped; null unless asked for with `unshaped`. */
  readonly raw: Signature | null;
}

/** The examples of a step, or of an epoch, taken apart. */
export interface StepAnatomy {
  readonly counts: Groups<number>;
  /** Of all parameters. */
  readonly whole: Stages;
  /** Of each layer, by what stands before the last dot of its parameters' names. */
  readonly layers: Readonly<Record<string, Stages>>;
  /** Norms of the examples' own gradients, unshaped. */
  readonly exampleNorms: Groups<Quantiles | null>;
  /** Share of the examples with a weight below 1. */
  readonly shareClipped: Groups<number | null>;
  /** ‖Σ wᵢ·gᵢ‖ of each group over the noise's expected length, std · √parameters; null without noise. */
  readonly signalToNoise: Groups<number> | null;
}

/** An epoch; `whole` and `layers` are of the mean over its examples, each at the parameters of its own step. */
export interface EpochAnatomy extends StepAnatomy {
  readonly steps: number;
  readonly paper: PaperAnatomy;
  /** Mean over the steps that have both groups, of all parameters, as the step takes them. */
  readonly perStep: { readonly ratio: number | null; readonly cosine: number | null };
  /** What stationarity alone makes of ratio and cosine: where N_c·g_c + N_p·g_p = 0, they are N_c/N_p and −1. */
  readonly stationary: { readonly ratio: number | null; readonly cosine: -1 };
}

/** Takes the gradients of a training's steps apart. Give it to a step as its `observer`. */
export interface GradientAnatomy extends StepObserver {
  /** The last step; null before the first. */
  readonly lastStep: StepAnatomy | null;
  /** The epoch since the last call, as plain values. @throws BATCH_EMPTY when it had no step */
  endEpoch(): EpochAnatomy;
  free(): void;
}

/**
 * Takes a training's gradients apart into clean and poisoned ones: norms of the groups' means, ratio and cosine, norms
 * of the examples' own gradients, clipping, signal to noise; by step and epoch, by layer and whole. It looks at the
 * step's own per-example gradients: there is one backward pass.
 * @throws PARAMETER_UNKNOWN, INDEX_OUT_OF_RANGE; while training EXAMPLES_UNKNOWN, for batches not from a data set
 * @example
 * const anatomy = gradientAnatomy({ params, poison: [1, 5, 9] });
 * const step = vanillaStep({ params, optimizer: adam({ learningRate: 0.01 }), observer: anatomy });
 * trainEpoch({ model, params, data, step, batchSize: 4, seed: 1 }, 0);
 * const { paper, stationary } = anatomy.endEpoch();
 * console.log(paper.ratio, paper.cosine, stationary.ratio);
 */
export const gradientAnatomy = (options: AnatomyOptions): GradientAnatomy => new Anatomy(options);

/** Means of what there was; null of nothing. */
class Mean {
  private sum = 0;
  private count = 0;

  add(value: number | null): void {
    if (value === null) return;
    this.sum += value;
    this.count++;
  }

  get value(): number | null {
    return this.count === 0 ? null : this.sum / this.count;
  }
}

const newMeans = () => ({ ratio: new Mean(), cosine: new Mean(), signal: bothGroups(() => new Mean()) });

/** What a step's or an epoch's anatomy is made from. */
interface Findings {
  readonly shaped: Signatures;
  readonly raw: Signatures | null;
  readonly tallies: Groups<Tally>;
  readonly signalToNoise: Groups<number> | null;
}

class Anatomy implements GradientAnatomy {
  private last: Findings | null = null;
  private readonly params: Parameters;
  /** 1 at the poisons' indices. */
  private readonly marks: Uint8Array;
  private readonly layers: readonly Part[];
  private readonly paper: PaperMeans;
  private readonly taken: StageSums;
  /** Before shaping, with the step's sum over all examples. */
  private readonly unshaped: { readonly sums: StageSums; readonly sum: BlockTensor } | null;
  private shapes = false;
  private stepTally = newTallies();
  /** The finished step's, for `lastStep`. */
  private lastTally = newTallies();
  private readonly epochTally = newTallies();
  private means = newMeans();
  private steps = 0;

  constructor({ params, poison, output, unshaped = false }: AnatomyOptions) {
    this.params = params;
    this.marks = marksOf(poison);
    this.layers = layersOf(params);
    this.paper = new PaperMeans(params, output ?? this.layers.at(-1)!.parameters[0]!);
    this.taken = new StageSums(params, this.layers);
    this.unshaped = unshaped ? { sums: new StageSums(params, this.layers), sum: newVector(params) } : null;
  }

  piece(gradients: PerExampleGradients, weights: Weights | null): void {
    const indices = indicesOf(gradients);
    const apart = this.weightsApart(indices, weights);
    const counts = this.tally(gradients, indices, apart);
    this.taken.step.piece(gradients, apart, counts);
    if (weights === null) return;
    this.shapes = true;
    if (this.unshaped === null) return;
    gradients.weightedSums([null], [this.unshaped.sum]);
    this.unshaped.sums.step.piece(gradients, this.weightsApart(indices, null), counts);
  }

  /** Each example's weight in its own group's sum, 0 in the other's: f32 [batch]. */
  private weightsApart(indices: Tensor, weights: Weights | null): Groups<Tensor> {
    const { engine } = this.params;
    const apart = bothGroups(() => engine.allocate([indices.size], 'f32', 'the gradient anatomy'));
    const [clean, poison, examples] = [apart.clean.view(), apart.poison.view(), indices.values()];
    const factors = weights instanceof Tensor ? weights.view() : weights;
    for (let i = 0; i < examples.length; i++) {
      const weight = factors === null ? 1 : factors[i]!;
      const mark = this.marks[examples[i]!] ?? 0;
      clean[i] = weight * (1 - mark);
      poison[i] = weight * mark;
    }
    return apart;
  }

  /** @returns the examples of each group */
  private tally(gradients: PerExampleGradients, indices: Tensor, weights: Groups<Tensor>): Groups<number> {
    const { clean, poison } = this.stepTally;
    const before = { clean: clean.count, poison: poison.count };
    const squared = gradients.norms().squared.view();
    const [ofClean, ofPoison, examples] = [weights.clean.view(), weights.poison.view(), indices.values()];
    for (let i = 0; i < squared.length; i++) {
      if (this.marks[examples[i]!] === 1) poison.add(squared[i]!, ofPoison[i]!);
      else clean.add(squared[i]!, ofClean[i]!);
    }
    return { clean: clean.count - before.clean, poison: poison.count - before.poison };
  }

  summed(sum: Tensor): void {
    const shaped = this.taken.closeStep(sum);
    const raw = this.shapes ? (this.unshaped?.sums.closeStep(this.unshaped.sum) ?? null) : shaped;
    this.last = { shaped, raw, tallies: this.stepTally, signalToNoise: null };
    this.means.ratio.add(shaped.whole.ratio);
    this.means.cosine.add(shaped.whole.cosine);
    this.paper.summed(sum);
  }

  noised(sum: Tensor, noiseStd: number): void {
    const { poison, counts } = this.taken.step;
    this.paper.noised(sum, poison, counts);
    if (noiseStd > 0) {
      const signalToNoise = this.signalToNoise(this.last!, noiseStd);
      this.last = { ...this.last!, signalToNoise };
      for (const group of groupNames) this.means.signal[group].add(signalToNoise[group]);
    }
    for (const group of groupNames) this.epochTally[group].addAll(this.stepTally[group]);
    this.taken.step.clear();
    if (this.shapes && this.unshaped !== null) {
      this.unshaped.sums.step.clear();
      this.params.engine.kernels.fill(this.unshaped.sum.address, 0, this.params.size);
    }
    [this.stepTally, this.lastTally] = [this.lastTally, this.stepTally];
    for (const group of groupNames) this.stepTally[group].clear();
    this.steps++;
  }

  private signalToNoise({ shaped, tallies }: Findings, noiseStd: number): Groups<number> {
    const trained = this.params.trainableEntries.reduce((sum, { size }) => sum + size, 0);
    const noise = noiseStd * Math.sqrt(trained);
    return bothGroups((group) => ((shaped.whole.norms[group] ?? 0) * tallies[group].count) / noise);
  }

  get lastStep(): StepAnatomy | null {
    return this.last === null ? null : this.anatomyOf(this.last);
  }

  private anatomyOf({ shaped, raw, tallies, signalToNoise }: Findings): StepAnatomy {
    const layers = this.layers.map(({ name }): [string, Stages] => [
      name,
      { shaped: shaped.layers[name]!, raw: raw?.layers[name] ?? null },
    ]);
    return {
      counts: bothGroups((group) => tallies[group].count),
      whole: { shaped: shaped.whole, raw: raw?.whole ?? null },
      layers: Object.fromEntries(layers),
      exampleNorms: bothGroups((group) => quantiles(tallies[group].norms)),
      shareClipped: bothGroups((group) => tallies[group].shareClipped),
      signalToNoise,
    };
  }

  endEpoch(): EpochAnatomy {
    if (this.steps === 0) {
      throw new GradshapeError(
        'BATCH_EMPTY',
        'gradientAnatomy: endEpoch() was called before any step of the epoch. Give the anatomy to the step as its observer.',
      );
    }
    const { ratio, cosine, signal } = this.means;
    const signals = bothGroups((group) => signal[group].value);
    const shaped = this.taken.closeEpoch();
    const raw = this.shapes ? (this.unshaped?.sums.closeEpoch() ?? null) : shaped;
    const signalToNoise = signals.clean === null ? null : (signals as Groups<number>);
    const epoch = this.anatomyOf({ shaped, raw, tallies: this.epochTally, signalToNoise });
    const { clean, poison } = epoch.counts;
    const result: EpochAnatomy = {
      ...epoch,
      steps: this.steps,
      paper: this.paper.endEpoch(),
      perStep: { ratio: ratio.value, cosine: cosine.value },
      stationary: { ratio: poison === 0 ? null : clean / poison, cosine: -1 },
    };
    for (const group of groupNames) this.epochTally[group].clear();
    this.means = newMeans();
    this.steps = 0;
    return result;
  }

  free(): void {
    this.taken.free();
    this.paper.free();
    this.unshaped?.sums.free();
    this.unshaped?.sum.free();
  }
}

/** The examples' indices in the data set, i32 [batch]. */
function indicesOf({ losses }: PerExampleGradients): Tensor {
  const indices = losses.examples?.indices ?? null;
  if (indices !== null) return indices;
  throw new GradshapeError(
    'EXAMPLES_UNKNOWN',
    'gradientAnatomy: the batch does not say which examples it holds, so clean and poisoned can’t be told apart; ' +
      'take it with data.batch(indices).',
  );
}

function marksOf(indices: ArrayLike<number>): Uint8Array {
  let largest = -1;
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    if (!(Number.isInteger(index) && index >= 0)) {
      throw new GradshapeError(
        'INDEX_OUT_OF_RANGE',
        `gradientAnatomy: poison[${i}] is ${index}; expected examples' indices, whole numbers from 0.`,
      );
    }
    largest = Math.max(largest, index);
  }
  const marks = new Uint8Array(largest + 1);
  for (let i = 0; i < indices.length; i++) marks[indices[i]!] = 1;
  return marks;
}
