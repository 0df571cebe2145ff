import fs from 'node:fs';
import { GradshapeError } from 'gradshape';
import lockfile from 'proper-lockfile';
import { fileError } from './files.js';

/** One finished trial: one line of the ledger. */
export interface LedgerEntry {
  key: string;
  trial: string;
  version: number;
  spec: Record<string, unknown>;
  result: unknown;
  versions: { node: string; gradshape: string; kernels: string };
  seconds: number;
}

// A killed process leaves its lock behind; it counts as abandoned once nobody has touched it for `stale`.
const LOCK = { realpath: false, stale: 5000, update: 1000 };
const LOCK_RETRIES = { retries: 14, factor: 1, minTimeout: 500, maxTimeout: 500 };

/**
 * Reads a ledger's bytes: the whole lines, and how many bytes of a half-written last line follow them.
 * Error: LEDGER_CORRUPT for a whole line that is no entry.
 */
export function parseLedger(bytes: Buffer, file: string): { entries: LedgerEntry[]; tornBytes: number } {
  const end = bytes.lastIndexOf('\n') + 1;
  const entries: LedgerEntry[] = [];
  const lines = bytes.toString('utf8', 0, end).split('\n');
  for (const [i, line] of lines.entries()) {
    if (line === '') continue;
    const entry = parseEntry(line);
    if (entry === undefined) {
      throw new GradshapeError(
        'LEDGER_CORRUPT',
        `line ${i + 1} of ${file} is not a ledger entry: ${JSON.stringify(line.slice(0, 60))}. Remove that line (its trial will run again) or start over with --fresh.`,
      );
    }
    entries.push(entry);
  }
  return { entries, tornBytes: bytes.length - end };
}

function parseEntry(line: string): LedgerEntry | undefined {
  try {
    const entry = JSON.parse(line) as LedgerEntry;
    const whole = typeof entry.key === 'string' && typeof entry.trial === 'string' && 'result' in entry;
    return whole ? entry : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The finished trials of one experiment (or one shard of it), as JSON lines. A trial is finished when its line has
 * reached the disk. One process writes at a time, held by a lock file that a killed process cannot keep.
 */
export class Ledger {
  /** Lines of this trial and version, by key. */
  readonly entries = new Map<string, LedgerEntry>();
  /** How many lines are of another trial or version. */
  ignored = 0;
  #fd = -1;
  #size = 0;
  #release: () => Promise<void> = async () => {};
  #lost: Error | undefined;

  private constructor(readonly file: string) {}

  /**
   * Opens or makes the ledger in `file`. `fresh` moves an existing one aside first. `say` gets the messages for people.
   * Errors: LEDGER_LOCKED, LEDGER_CORRUPT, and those of `fileError`.
   */
  static async open(
    file: string,
    trial: { name: string; version: number },
    { fresh = false, say = (_: string) => {} } = {},
  ): Promise<Ledger> {
    const ledger = new Ledger(file);
    await ledger.#lock(say);
    try {
      if (fresh) moveAside(file, say);
      ledger.#read(trial, say);
    } catch (error) {
      await ledger.close();
      throw error instanceof GradshapeError ? error : fileError(error, file);
    }
    return ledger;
  }

  /** Adds a finished trial; returns when the line is on the disk. Errors: LEDGER_LOCK_LOST, those of `fileError`. */
  append(entry: LedgerEntry): void {
    if (this.#lost !== undefined) {
      throw new GradshapeError(
        'LEDGER_LOCK_LOST',
        `another process took over ${this.file} while this one was suspended. What was written is safe; run the same command again.`,
        { cause: this.#lost },
      );
    }
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    try {
      for (let done = 0; done < line.length; ) done += fs.writeSync(this.#fd, line, done);
      fs.fdatasyncSync(this.#fd);
    } catch (error) {
      try {
        fs.ftruncateSync(this.#fd, this.#size);
      } catch {
        // The next run cuts the half-written line off.
      }
      throw fileError(error, this.file);
    }
    this.#size += line.length;
    this.entries.set(entry.key, entry);
  }

  async close(): Promise<void> {
    if (this.#fd >= 0) fs.closeSync(this.#fd);
    this.#fd = -1;
    await this.#release().catch(() => {}); // the lock may have been lost
    this.#release = async () => {};
  }

  async #lock(say: (text: string) => void): Promise<void> {
    const onCompromised = (error: Error) => {
      this.#lost = error;
    };
    try {
      try {
        this.#release = await lockfile.lock(this.file, { ...LOCK, onCompromised });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw error;
        say(`${this.file} is locked: waiting a few seconds, in case a killed run left the lock behind`);
        this.#release = await lockfile.lock(this.file, { ...LOCK, onCompromised, retries: LOCK_RETRIES });
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ELOCKED') throw fileError(error, this.file);
      throw new GradshapeError(
        'LEDGER_LOCKED',
        `another run is writing ${this.file}. Wait for it, or give this run its own folder with --out, or its own part with --shard.`,
        { cause: error },
      );
    }
  }

  #read(trial: { name: string; version: number }, say: (text: string) => void): void {
    this.#fd = fs.openSync(this.file, 'a+');
    const bytes = fs.readFileSync(this.#fd);
    const { entries, tornBytes } = parseLedger(bytes, this.file);
    this.#size = bytes.length - tornBytes;
    if (tornBytes > 0) {
      fs.ftruncateSync(this.#fd, this.#size);
      say(
        `the last line of ${this.file} was half written (${tornBytes} bytes): cut off; its trial runs again`,
      );
    }
    for (const entry of entries) {
      if (entry.trial !== trial.name || entry.version !== trial.version) this.ignored += 1;
      else if (!this.entries.has(entry.key)) this.entries.set(entry.key, entry);
    }
    if (this.ignored > 0) {
      say(
        `${this.file}: ${this.ignored} line(s) of another trial or version ignored (now: ${trial.name} version ${trial.version})`,
      );
    }
  }
}

function moveAside(file: string, say: (text: string) => void): void {
  if (!fs.existsSync(file)) return;
  const old = `${file}.${new Date().toISOString().replaceAll(':', '-')}.old`;
  fs.renameSync(file, old);
  say(`--fresh: the earlier results were moved to ${old}`);
}
