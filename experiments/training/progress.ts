import { Presets, SingleBar } from 'cli-progress';
import { epsilonText } from '../report/index.js';
import type { EpochRow } from './report.js';
import type { StepDone } from './trainer.js';

const lineEvery = 5000; // ms

/** Shows how far a run is: a bar on a terminal; elsewhere a line an epoch, and now and then one between. */
export class TrainingProgress {
  readonly #bar: SingleBar | undefined;
  #lastLine = performance.now();

  constructor(
    readonly epochs: number,
    readonly steps: number,
    readonly stream: NodeJS.WriteStream = process.stderr,
  ) {
    if (!stream.isTTY) return;
    const format =
      ' epoch {epoch}/{epochs} {bar} {percentage}%{loss} · {rate} examples/s · {eta_formatted} left';
    this.#bar = new SingleBar(
      { stream, format, hideCursor: true, barsize: 24, gracefulExit: false, clearOnComplete: true },
      Presets.shades_grey,
    );
  }

  step({ step, epoch, loss, examplesPerSecond }: StepDone): void {
    const texts = {
      epoch: epoch + 1,
      epochs: this.epochs,
      loss: loss === null ? '' : ` · loss ${loss.toFixed(4)}`,
      rate: rateText(examplesPerSecond),
    };
    if (this.#bar !== undefined) {
      if (!this.#bar.isActive) this.#bar.start(this.steps, step, texts);
      this.#bar.update(step + 1, texts);
    } else if (performance.now() - this.#lastLine > lineEvery) {
      const done = Math.round((100 * (step + 1)) / this.steps);
      this.say(`${done} %, epoch ${texts.epoch}/${this.epochs}${texts.loss} · ${texts.rate} examples/s`);
    }
  }

  /** Prints a line; the bar starts again under it. */
  say(text: string): void {
    this.#bar?.stop();
    this.stream.write(`${text}\n`);
    this.#lastLine = performance.now();
  }

  stop(): void {
    this.#bar?.stop();
  }
}

const rateText = (rate: number): string => Math.round(rate).toLocaleString('en-US');

/** What an epoch came to. @param label what its ε is called */
export function epochLine(row: EpochRow, epochs: number, rate: number, label = 'ε'): string {
  const { trainLoss, epsilon, validationAccuracy, inexactTestAccuracy } = row;
  return [
    `epoch ${row.epoch}/${epochs}`,
    ...(trainLoss === null ? [] : [`loss ${trainLoss.toFixed(4)}`]),
    `test accuracy ${row.testAccuracy.toFixed(4)} (loss ${row.testLoss.toFixed(4)})`,
    ...(validationAccuracy === null ? [] : [`validation ${validationAccuracy.toFixed(4)}`]),
    ...(inexactTestAccuracy === null ? [] : [`inexact test images ${inexactTestAccuracy.toFixed(4)}`]),
    ...(epsilon === undefined ? [] : [`${label} = ${epsilonText(epsilon)}`]),
    `${row.seconds.toFixed(1)} s, ${rateText(rate)} examples/s`,
  ].join('  ');
}
