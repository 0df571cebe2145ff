import { Presets, SingleBar } from 'cli-progress';
import type { StepReport } from 'gradshape';

const lineEvery = 5000; // ms

/** Shows how far a run is: a bar on a terminal; elsewhere a line an epoch, and now and then one between. */
export class TrainingProgress {
  readonly #bar: SingleBar | undefined;
  #lastLine = performance.now();

  constructor(
    readonly epochs: number,
    readonly stepsAnEpoch: number,
    readonly stream: NodeJS.WriteStream = process.stderr,
  ) {
    if (!stream.isTTY) return;
    const format =
      ' epoch {epoch}/{epochs} {bar} {percentage}% · loss {loss} · {rate} examples/s · {eta_formatted} left';
    this.#bar = new SingleBar(
      { stream, format, hideCursor: true, barsize: 24, gracefulExit: false, clearOnComplete: true },
      Presets.shades_grey,
    );
  }

  step({ step, epoch, loss, examplesPerSecond }: StepReport): void {
    const texts = {
      epoch: epoch + 1,
      epochs: this.epochs,
      loss: loss.toFixed(4),
      rate: rateText(examplesPerSecond),
    };
    if (this.#bar !== undefined) {
      if (!this.#bar.isActive) this.#bar.start(this.epochs * this.stepsAnEpoch, step, texts);
      this.#bar.update(step + 1, texts);
    } else if (performance.now() - this.#lastLine > lineEvery) {
      const done = Math.round((100 * (step + 1)) / (this.epochs * this.stepsAnEpoch));
      this.say(
        `${done} %, epoch ${texts.epoch}/${this.epochs}, loss ${texts.loss}, ${texts.rate} examples/s`,
      );
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

export const rateText = (rate: number): string => Math.round(rate).toLocaleString('en-US');
