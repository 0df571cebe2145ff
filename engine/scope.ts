import { GradshapeError } from './errors.js';
import { type ArenaMark, align, alignment, type LinearMemory, type Owner } from './memory.js';
import { addressOf, bytesPerElement, moveTo, Tensor } from './tensor.js';

/** One level of the arena: everything made in it is freed when it ends. */
export class Scope implements Owner {
  alive = true;
  readonly ended = 'its scope has ended; return it from the scope to keep it, or read values() inside';

  constructor(
    readonly parent: Scope | null,
    readonly mark: ArenaMark,
  ) {}
}

/** Bytes that survive a scope, and the tensors that lie in them. */
interface Piece {
  readonly start: number;
  end: number;
  readonly tensors: { readonly tensor: Tensor; readonly address: number }[];
}

/** The open scopes, innermost first. */
export class Scopes {
  current: Scope | null = null;

  constructor(private readonly memory: LinearMemory) {}

  /** Runs `body` in a new scope. The tensors it returns (alone, in an array or in a plain object) move to the parent. */
  run<T>(body: () => T): T {
    const scope = new Scope(this.current, this.memory.arenaMark());
    this.current = scope;
    let result: T;
    try {
      result = body();
      refuseAsync(result);
    } catch (error) {
      this.end(scope);
      throw error;
    }
    this.close(scope, result);
    return result;
  }

  private close(scope: Scope, result: unknown): void {
    const reached = new Set<unknown>();
    reach(result, reached);
    const survivors = [...reached].filter(
      (value): value is Tensor => value instanceof Tensor && value.owner === scope,
    );
    if (survivors.length > 0 && scope.parent === null) {
      this.end(scope);
      throw new GradshapeError(
        'NO_SCOPE',
        'engine.scope: the outermost scope returned a tensor, and there is no parent that could keep it. ' +
          'Return values() or item(), or copy it to a block with engine.block.',
      );
    }
    const pieces = this.piecesOf(survivors);
    this.end(scope);
    for (const { start, end, tensors } of pieces) {
      const to = this.memory.arenaAllocate(end - start, 'engine.scope');
      new Uint8Array(this.memory.wasm.buffer).copyWithin(to, start, end);
      for (const { tensor, address } of tensors) moveTo(tensor, to + address - start, scope.parent!);
    }
  }

  /**
   * The bytes to move: tensors that share bytes (aliases, slices) in one piece. In the arena's order, so that each piece
   * moves down or stays, and never over one that has yet to move.
   */
  private piecesOf(survivors: readonly Tensor[]): Piece[] {
    const pieces: Piece[] = [];
    const order = (address: number): number => this.memory.arenaOrder(address);
    const places = survivors.map((tensor) => ({ tensor, address: addressOf(tensor) }));
    places.sort((a, b) => order(a.address) - order(b.address));
    for (const place of places) {
      const { tensor, address } = place;
      const start = address - (address % alignment);
      const end = start + align(address - start + tensor.size * bytesPerElement(tensor.dtype));
      const last = pieces.at(-1);
      if (last !== undefined && start >= last.start && start < last.end) {
        last.end = Math.max(last.end, end);
        last.tensors.push(place);
      } else {
        pieces.push({ start, end, tensors: [place] });
      }
    }
    return pieces;
  }

  private end(scope: Scope): void {
    scope.alive = false;
    this.current = scope.parent;
    this.memory.arenaReset(scope.mark);
    if (scope.parent === null) this.memory.arenaRelease();
  }
}

function refuseAsync(value: unknown): void {
  if (typeof (value as { then?: unknown } | null | undefined)?.then !== 'function') return;
  // It goes on without its scope, and will fail for that; the error thrown here says why.
  if (value instanceof Promise) value.catch(() => undefined);
  throw new GradshapeError(
    'ASYNC_SCOPE',
    'engine.scope: the function is async (it returned a promise); expected a synchronous one. ' +
      'Await outside, and open the scope between two awaits.',
  );
}

/** Collects the value and what it holds: tensors (with their examples' indices), arrays, plain objects. */
function reach(value: unknown, reached: Set<unknown>): void {
  if (value === null || typeof value !== 'object' || reached.has(value)) return;
  reached.add(value);
  if (value instanceof Tensor) reach(value.examples?.indices, reached);
  else if (Array.isArray(value)) for (const element of value) reach(element, reached);
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const element of Object.values(value)) reach(element, reached);
  }
}
