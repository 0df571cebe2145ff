import { MultiBar, Presets, type SingleBar } from 'cli-progress';

const LINE_EVERY = 5000; // ms between plain lines

/** Shows how far a run is: a bar with the time left on a terminal, a plain line now and then elsewhere. */
export class Progress {
  readonly #start = performance.now();
  readonly #before: number;
  readonly #bars: MultiBar | undefined;
  readonly #bar: SingleBar | undefined;
  #done: number;
  #failed = 0;
  #lastLine = performance.now();

  /** `done` of `total` trials were in the ledger already. */
  constructor(
    readonly total: number,
    done: number,
    readonly stream: NodeJS.WriteStream = process.stderr,
  ) {
    this.#done = done;
    this.#before = done;
    if (!stream.isTTY || done === total) return;
    const format = ' {bar} {value}/{total} trials · {left} left{failed}';
    this.#bars = new MultiBar(
      { stream, format, hideCursor: true, barsize: 30, gracefulExit: false },
      Presets.shades_grey,
    );
    this.#bar = this.#bars.create(total, done, { left: '…', failed: '' });
  }

  tick(failed: boolean): void {
    this.#done += 1;
    if (failed) this.#failed += 1;
    const texts = { left: this.#left(), failed: this.#failed > 0 ? ` · ${this.#failed} failed` : '' };
    if (this.#bar !== undefined) {
      this.#bar.update(this.#done, texts);
    } else if (performance.now() - this.#lastLine > LINE_EVERY && this.#done < this.total) {
      this.#lastLine = performance.now();
      this.say(`${this.#done}/${this.total} trials, ${texts.left} left${texts.failed}`);
    }
  }

  /** Prints a line; above the bar where there is one. */
  say(text: string): void {
    if (this.#bars?.isActive) this.#bars.log(`${text}\n`);
    else this.stream.write(`${text}\n`);
  }

  stop(): void {
    this.#bars?.stop();
  }

  #left(): string {
    const perTrial = (performance.now() - this.#start) / (this.#done - this.#before);
    return duration((perTrial * (this.total - this.#done)) / 1000);
  }
}

/** 75 → '1 min 15 s'. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}
