import { GradshapeError } from './errors.js';
import type { ArenaMark, LinearMemory, Owner } from './memory.js';
import { bytesPerElement, Tensor } from './tensor.js';

/** One level of the arena: everything made in it is freed when it ends. */
export class Scope implements Owner {
  alive = true;
  readonly ended = 'its scope has ended; return it from the scope to keep it, or read values() inside';

  constructor(
    readonly parent: Scope | null,
    readonly mark: ArenaMark,
  ) {}
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
    const survivors = [...new Set(tensorsIn(result))].filter((tensor) => tensor.owner === scope);
    if (survivors.length > 0 && scope.parent === null) {
      this.end(scope);
      throw new GradshapeError(
        'NO_SCOPE',
        'engine.scope: the outermost scope returned a tensor, and there is no parent that could keep it. ' +
          'Return values() or item(), or copy it to a block with engine.block.',
      );
    }
    const from = survivors.map((tensor) => tensor.address);
    this.end(scope);
    // In the arena's order, so that each one moves down or stays, and never over one that has yet to move.
    const order = survivors
      .map((_, i) => i)
      .sort((i, j) => this.memory.arenaOrder(from[i]!) - this.memory.arenaOrder(from[j]!));
    for (const i of order) {
      const tensor = survivors[i]!;
      const bytes = tensor.size * bytesPerElement(tensor.dtype);
      const to = this.memory.arenaAllocate(bytes, 'engine.scope');
      new Uint8Array(this.memory.wasm.buffer).copyWithin(to, from[i]!, from[i]! + bytes);
      tensor.moveTo(to, scope.parent!);
    }
  }

  private end(scope: Scope): void {
    scope.alive = false;
    this.current = scope.parent;
    this.memory.arenaReset(scope.mark);
  }
}

function refuseAsync(value: unknown): void {
  if (typeof (value as { then?: unknown } | null | undefined)?.then !== 'function') return;
  throw new GradshapeError(
    'ASYNC_SCOPE',
    'engine.scope: the function is async (it returned a promise); expected a synchronous one. ' +
      'Await outside, and open the scope between two awaits.',
  );
}

function tensorsIn(value: unknown): Tensor[] {
  if (value instanceof Tensor) return [value];
  if (Array.isArray(value)) return value.flatMap(tensorsIn);
  if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.values(value).flatMap(tensorsIn);
  }
  return [];
}
