import { createHash } from 'node:crypto';
import { constants, existsSync } from 'node:fs';
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { ReadableStream } from 'node:stream/web';
import { gunzipSync } from 'node:zlib';
import { GradshapeError } from 'gradshape';

/** Where loaders look for files, and whether they may download. */
export interface FindOptions {
  /** The user's data folder (`--data DIR`); default: the environment variable GRADSHAPE_DATA. */
  data?: string;
  /** Whether what is not found is downloaded into the user cache; default true. */
  download?: boolean;
  /** Base addresses tried before the canonical ones, such as a mirror in one's own network. */
  mirrors?: string[];
  /** Told of downloads; default: lines on standard error. */
  log?: (line: string) => void;
}

/** A file to be found, and how to know that it is the right one. */
export interface WantedFile<T> {
  /** Name of the set, for messages. */
  set: string;
  /** The set's subfolder in a data folder and in the cache. */
  folder: string;
  /** Accepted file names, the downloaded one first. */
  names: [string, ...string[]];
  /** Further folders to look in, such as a distribution's package. */
  folders?: string[];
  /** Canonical addresses. */
  urls: string[];
  /** How a person gets the file. */
  hint: string;
  /** Reads the content. Throws a GradshapeError unless this is the file, whole and unchanged. */
  read: (bytes: Uint8Array, path: string) => T;
}

/** No byte for this long ends a download attempt. */
const STALL_MS = 30_000;
/** A download that was cut is taken up again this often, as long as each attempt got further. */
const ATTEMPTS = 5;

/** The folder for downloads: `$XDG_CACHE_HOME/gradshape`, else `~/.cache/gradshape`. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gradshape');
}

/**
 * Looks in the data folder, the set's usual folders and the cache. The first file with one of the names counts: if it is damaged,
 * that is an error, not a reason to look further.
 *
 * @returns what `read` made of it, or undefined; `looked` gets a line for each place without the file
 * @throws GradshapeError DATA_NOT_FOUND when the data folder itself does not exist, and what `read` throws
 */
export async function findFile<T>(
  wanted: WantedFile<T>,
  options: FindOptions,
  looked: string[] = [],
): Promise<T | undefined> {
  const data = options.data ?? process.env.GRADSHAPE_DATA;
  if (data && !existsSync(data)) {
    throw new GradshapeError(
      'DATA_NOT_FOUND',
      `The data folder ${data} (--data or GRADSHAPE_DATA) does not exist. Give an existing folder, or leave it out.`,
    );
  }
  if (!data) looked.push('data folder: none given (--data DIR or GRADSHAPE_DATA)');
  const folders = [
    ...(data ? [data, join(data, wanted.folder)] : []),
    ...(wanted.folders ?? []),
    join(cacheFolder(), wanted.folder),
  ];
  for (const folder of folders) {
    for (const name of wanted.names) {
      const path = join(folder, name);
      if (!existsSync(path)) continue;
      return wanted.read(await readWhole(path), path);
    }
    looked.push(`${folder}: ${existsSync(folder) ? `no ${wanted.names.join(' or ')}` : 'no such folder'}`);
  }
  return undefined;
}

/**
 * Finds a file as `findFile` does, or downloads it into the cache.
 *
 * @throws GradshapeError DATA_NOT_FOUND, listing every place and address that was tried; DATA_CACHE when the cache can't be
 *   written; what `read` throws
 */
export async function obtainFile<T>(wanted: WantedFile<T>, options: FindOptions = {}): Promise<T> {
  const looked: string[] = [];
  const found = (await findFile(wanted, options, looked)) ?? (await downloadFile(wanted, options, looked));
  if (found !== undefined) return found;
  throw new GradshapeError(
    'DATA_NOT_FOUND',
    `${wanted.set}: ${wanted.names[0]} was not found. Looked at:\n${looked.map((line) => `  ${line}\n`).join('')}${wanted.hint}`,
  );
}

/**
 * Tries one address after the other. Bytes go to a `.part` file, which a later attempt or a later run continues, and which gets
 * its name only once `read` has accepted it.
 */
async function downloadFile<T>(
  wanted: WantedFile<T>,
  options: FindOptions,
  looked: string[],
): Promise<T | undefined> {
  const [name] = wanted.names;
  const urls = [
    ...(options.mirrors ?? []).map((base) => `${base.replace(/\/$/, '')}/${name}`),
    ...wanted.urls,
  ];
  if (options.download === false) {
    looked.push('download: not allowed');
    return undefined;
  }
  const log = options.log ?? ((line: string) => console.error(line));
  const path = join(cacheFolder(), wanted.folder, name);
  const part = `${path}.part`;
  await onDisk(part, () => mkdir(dirname(path), { recursive: true }));

  for (const url of urls) {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      // Another process that fetches the same file may be done first.
      if (existsSync(path)) return wanted.read(await readWhole(path), path);
      const before = await sizeOf(part);
      log(`${wanted.set}: downloading ${url}${before > 0 ? ` from byte ${before}` : ''}`);
      try {
        await fetchTo(part, url, before);
      } catch (error) {
        if (error instanceof GradshapeError) throw error;
        looked.push(`${url}: ${reason(error)}`);
        if ((await sizeOf(part)) <= before && !existsSync(path)) break;
        continue;
      }
      try {
        const content = wanted.read(await readWhole(part), url);
        await onDisk(part, () =>
          rename(part, path).catch((error) => {
            if (!existsSync(path)) throw error;
          }),
        );
        return content;
      } catch (error) {
        if (!(error instanceof GradshapeError) || error.code === 'DATA_CACHE') throw error;
        await rm(part, { force: true });
        looked.push(error.message);
        // The beginning may have come from elsewhere: once more, from the start.
        if (before === 0 && !existsSync(path)) break;
      }
    }
  }
  return undefined;
}

/**
 * Fetches `url` into the file `part`, which holds the first `have` bytes already. Bytes are written at their own positions and
 * nothing is cut off before the end, so two processes that fetch the same file do not disturb each other.
 */
async function fetchTo(part: string, url: string, have: number): Promise<void> {
  const abort = new AbortController();
  const stalled = () => abort.abort(new Error(`nothing received for ${STALL_MS / 1000} s`));
  let timer = setTimeout(stalled, STALL_MS);
  try {
    const headers = { 'accept-encoding': 'identity', ...(have > 0 ? { range: `bytes=${have}-` } : {}) };
    const response = await fetch(url, { headers, signal: abort.signal });
    // Nothing after `have`: the file is whole, or not ours; its checksum will tell.
    if (response.status === 416 && have > 0) return;
    if (!response.ok || !response.body) throw new Error(`HTTP status ${response.status}`);
    let position = 0;
    if (response.status === 206) {
      position = Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);
      if (!(position <= have))
        throw new Error(`asked for bytes from ${have}, got ${response.headers.get('content-range')}`);
    }
    const file = await onDisk(part, () => open(part, constants.O_RDWR | constants.O_CREAT));
    try {
      for await (const chunk of response.body as ReadableStream<Uint8Array>) {
        clearTimeout(timer);
        timer = setTimeout(stalled, STALL_MS);
        for (let done = 0; done < chunk.length; ) {
          const { bytesWritten } = await onDisk(part, () =>
            file.write(chunk, done, chunk.length - done, position),
          );
          done += bytesWritten;
          position += bytesWritten;
        }
      }
      await onDisk(part, () => file.truncate(position));
    } finally {
      await file.close();
    }
  } finally {
    clearTimeout(timer);
  }
}

/** The system calls this a disk error; people need to know which file, and what to do. */
async function onDisk<R>(path: string, action: () => Promise<R>): Promise<R> {
  try {
    return await action();
  } catch (error) {
    throw new GradshapeError(
      'DATA_CACHE',
      `Can't write ${path}: ${reason(error)}. Free some space, set XDG_CACHE_HOME to a folder that can be written, ` +
        'or put the files into a folder of your own and give it with --data.',
      { cause: error },
    );
  }
}

/**
 * A file's bytes.
 *
 * @throws GradshapeError DATA_UNREADABLE
 */
export async function readWhole(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new GradshapeError('DATA_UNREADABLE', `Can't read ${path}: ${reason(error)}.`, { cause: error });
  }
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (status) => status.size,
    () => 0,
  );
}

function reason(error: unknown): string {
  const { message, cause } = error as Error;
  if (!(cause instanceof Error)) return message;
  return `${message} (${cause.message || (cause as NodeJS.ErrnoException).code})`;
}

/**
 * The content of a file that may be gzipped (told by its first two bytes, since some browsers unzip but keep the name).
 *
 * @throws GradshapeError DATA_CORRUPT
 */
export function gunzipIfNeeded(bytes: Uint8Array, path: string, mostBytes: number): Uint8Array {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  try {
    return gunzipSync(bytes, { chunkSize: 1 << 20, maxOutputLength: mostBytes });
  } catch (error) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: the gzip stream can't be read (${reason(error)}); expected at most ${mostBytes} bytes unzipped. ` +
        'The file is damaged or not the right one; delete it and get it again.',
      { cause: error },
    );
  }
}

/**
 * Checks length and checksum of a file's unzipped content.
 *
 * @throws GradshapeError DATA_CORRUPT (length), DATA_CHECKSUM
 */
export function verify(
  content: Uint8Array,
  expected: { bytes: number; algorithm: 'sha256' | 'md5'; digest: string },
  path: string,
): void {
  if (content.length !== expected.bytes) {
    throw new GradshapeError(
      'DATA_CORRUPT',
      `${path}: ${content.length < expected.bytes ? 'truncated' : 'too long'}: expected ${expected.bytes} bytes ` +
        `unzipped, got ${content.length}. Delete the file and get it again.`,
    );
  }
  const digest = createHash(expected.algorithm).update(content).digest('hex');
  if (digest !== expected.digest) {
    throw new GradshapeError(
      'DATA_CHECKSUM',
      `${path}: wrong ${expected.algorithm} of the unzipped bytes: expected ${expected.digest}, got ${digest}. ` +
        'Delete the file and get it again.',
    );
  }
}
