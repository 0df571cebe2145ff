import { GradshapeError } from './errors.js';

const pageBytes = 65536;
/** Addresses below this hold the random key and other few-byte arguments of kernels; 0 stays "no pointer". */
const reservedBytes = 1024;
/** Blocks and tensors start at multiples of this. */
export const alignment = 64;
const smallestChunk = 256 * 1024;
const largestAddress = 65536 * pageBytes;

/** What owns a tensor's bytes: a block or a scope. A tensor whose owner is no longer alive must not be read. */
export interface Owner {
  readonly alive: boolean;
  /** For the error of a late use: what ended, and what to do instead. */
  readonly ended: string;
}

/** Bytes that live until they are freed. */
export class Block implements Owner {
  alive = true;
  readonly ended = 'its block was freed; keep the block, or copy what you need before you free it';

  constructor(
    private readonly memory: LinearMemory,
    readonly address: number,
    readonly bytes: number,
  ) {}

  free(): void {
    if (!this.alive) return;
    this.alive = false;
    this.memory.release(this.address, this.bytes);
  }
}

/** A place in the arena, to go back to. */
export interface ArenaMark {
  readonly chunk: number;
  readonly offset: number;
}

/**
 * The wasm linear memory: a free list of size classes for blocks, and an arena of chunks (taken from the same free
 * list) for scopes. Sizes are rounded up to one of eight classes per power of two, so that what is freed can be taken
 * again by its like: thousands of trials leave the memory flat.
 */
export class LinearMemory {
  readonly wasm: WebAssembly.Memory;
  private readonly limit: number;
  private top = reservedBytes;
  private readonly freed = new Map<number, number[]>();
  private readonly chunks: { address: number; bytes: number }[] = [];
  private chunk = -1;
  private offset = 0;
  private used = 0;

  /** @param limit bytes; the memory never grows beyond it. Default: the 4 GB of a 32-bit address. */
  constructor(limit: number = largestAddress) {
    if (!(limit >= pageBytes)) {
      throw new GradshapeError(
        'MEMORY_LIMIT',
        `createEngine: memoryLimit is ${limit} bytes; expected at least one page, ${pageBytes}.`,
      );
    }
    this.limit = Math.min(Math.floor(limit / pageBytes) * pageBytes, largestAddress);
    this.wasm = new WebAssembly.Memory({ initial: 1, maximum: this.limit / pageBytes });
  }

  /** Bytes taken from the host so far. */
  get bytes(): number {
    return this.wasm.buffer.byteLength;
  }

  /** Bytes held by blocks and by the arena's chunks now. */
  get bytesInUse(): number {
    return this.used;
  }

  /** A new block of at least `bytes`; `purpose` is for the error when the limit is reached. */
  block(bytes: number, purpose: string): Block {
    return new Block(this, this.acquire(bytes, purpose), bytes);
  }

  private acquire(bytes: number, purpose: string): number {
    const size = sizeClass(bytes);
    const address = this.freed.get(size)?.pop() ?? this.extend(size, bytes, purpose);
    this.used += size;
    return address;
  }

  release(address: number, bytes: number): void {
    const size = sizeClass(bytes);
    this.used -= size;
    const list = this.freed.get(size);
    if (list) list.push(address);
    else this.freed.set(size, [address]);
  }

  private extend(size: number, asked: number, purpose: string): number {
    const address = this.top;
    const needed = address + size - this.bytes;
    if (needed > 0) {
      // Grow by a sixteenth more than needed: growing copies on some runtimes, and steps that need a little more
      // each time should not pay for that each time.
      const pages = Math.ceil(needed / pageBytes);
      const generous = pages + Math.floor(this.bytes / pageBytes / 16);
      if (!this.grow(generous) && !this.grow(pages)) throw this.exhausted(asked, purpose);
    }
    this.top = address + size;
    return address;
  }

  private grow(pages: number): boolean {
    if (this.bytes + pages * pageBytes > this.limit) return false;
    try {
      this.wasm.grow(pages);
      return true;
    } catch {
      return false;
    }
  }

  private exhausted(asked: number, purpose: string): GradshapeError {
    return new GradshapeError(
      'MEMORY_LIMIT',
      `${purpose} asked for ${megabytes(asked)} with ${megabytes(this.used)} in use, and the engine's limit is ` +
        `${megabytes(this.limit)}. Free blocks you no longer need, take a smaller batch, choose the 'ghost' strategy ` +
        'for per-example gradients, or raise memoryLimit.',
    );
  }

  /** Where the arena stands; `arenaReset` to it frees everything allocated since. */
  arenaMark(): ArenaMark {
    return { chunk: this.chunk, offset: this.offset };
  }

  /**
   * Bump-allocates in the current chunk, or in the next one that is large enough. Chunks never move. The error's text is made of
   * purpose and shape only when it is needed: allocations are many.
   */
  arenaAllocate(bytes: number, purpose: string, shape?: readonly number[]): number {
    const size = align(bytes);
    for (;;) {
      const current = this.chunks[this.chunk];
      if (current !== undefined && this.offset + size <= current.bytes) {
        const address = current.address + this.offset;
        this.offset += size;
        return address;
      }
      if (this.chunk + 1 === this.chunks.length) {
        const chunkBytes = Math.max(smallestChunk, size);
        const what = shape === undefined ? purpose : `${purpose} of shape [${shape.join(', ')}]`;
        this.chunks.push({ address: this.acquire(chunkBytes, what), bytes: chunkBytes });
      }
      this.chunk++;
      this.offset = 0;
    }
  }

  /** A number that grows along the arena: the order in which its bytes were handed out. */
  arenaOrder(address: number): number {
    let before = 0;
    for (const { address: start, bytes } of this.chunks) {
      if (address >= start && address < start + bytes) return before + address - start;
      before += bytes;
    }
    return before;
  }

  /** Frees everything allocated since the mark. */
  arenaReset(mark: ArenaMark): void {
    this.chunk = mark.chunk;
    this.offset = mark.offset;
  }

  /** Gives the chunks of an arena that is no longer used back to the free list. */
  arenaRelease(): void {
    for (const chunk of this.chunks) this.release(chunk.address, chunk.bytes);
    this.chunks.length = 0;
  }
}

/** What `bytes` take up, at least one alignment. */
export function align(bytes: number): number {
  return Math.max(alignment, Math.ceil(bytes / alignment) * alignment);
}

/** The smallest of 64 · {8, 9, …, 15} · 2^k / 8 bytes that holds `bytes`: at most an eighth is lost. */
function sizeClass(bytes: number): number {
  const size = align(bytes);
  let step = alignment;
  while (step * 16 <= size) step *= 2;
  return Math.ceil(size / step) * step;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1048576).toFixed(1)} MB`;
}
