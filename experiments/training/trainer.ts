// What the loop over epochs needs of a way of training, and what the ways share.
import {
  adam,
  constantRate,
  cosineDecay,
  type Optimizer,
  type Parameters,
  type PrivacyStatement,
  type Schedule,
  type Sequential,
  sgd,
} from 'gradshape';
import type { RunSettings } from './options.js';

/** Epochs count from 0. */
export interface EpochEnd {
  readonly epoch: number;
  /** Mean over the epoch's examples, each before its update; null where it must not be known. */
  readonly loss: number | null;
  /** Spent so far, by the run's accountant; undefined where nothing is accounted. */
  readonly epsilon?: number;
}

/** Steps and epochs count from 0. */
export interface StepDone {
  readonly step: number;
  readonly epoch: number;
  /** Mean over the batch; null where it must not be known. */
  readonly loss: number | null;
  readonly examplesPerSecond: number;
}

/** What a private training says of itself. */
export interface TrainingPrivacy {
  /** What its ε is called: more than 'ε' where that is no guarantee. */
  readonly label: string;
  readonly noiseMultiplier: number;
  /** On the sum of a batch's clipped gradients. */
  readonly noiseStd: number;
  /** What the first epochs spend, by the run's accountant. */
  epsilonAfter(epochs: number): number;
  /** What has been promised so far. */
  statement(): PrivacyStatement;
}

/** A way of training, vanilla or private. */
export interface Trainer {
  /** What it trains by; for a target ε, with the noise that was found. */
  readonly settings: RunSettings;
  readonly model: Sequential;
  readonly params: Parameters;
  /** Steps when all epochs are done. */
  readonly steps: number;
  /** The epoch at hand, or just ended; undefined before the first step. */
  readonly epoch: number | undefined;
  /** What a reader should know before it begins. */
  readonly notes: readonly string[];
  readonly privacy?: TrainingPrivacy;
  /** Goes on to the last epoch's end, or until a step after the signal; the event loop gets its turn between steps. */
  run(signal: AbortSignal, onEpoch: (end: EpochEnd) => void): AsyncIterable<StepDone>;
  /** All it goes on from, also within `onEpoch`; a run resumed from there calls `onEpoch` for that epoch again. */
  save(): Uint8Array;
  free(): void;
}

export function optimizerOf({ optimizer, learningRate, momentum, weightDecay }: RunSettings): Optimizer {
  switch (optimizer) {
    case 'sgd':
      return sgd({ learningRate, weightDecay });
    case 'momentum':
    case 'nesterov':
      return sgd({ learningRate, weightDecay, momentum, nesterov: optimizer === 'nesterov' });
    default:
      return adam({ learningRate, weightDecay, decoupled: optimizer === 'adamw' });
  }
}

export function scheduleOf({ schedule, learningRate }: RunSettings, steps: number): Schedule {
  return schedule === 'cosine' ? cosineDecay({ learningRate, steps }) : constantRate(learningRate);
}
