import { GradshapeError } from '../engine/index.js';
import { turn } from '../nn/turn.js';

/** What a crafter that takes its time reports. */
export interface CraftProgress<State> {
  /** Iterations done, and to do in all. */
  readonly iteration: number;
  readonly iterations: number;
  /** What the attacker maximises, for the best poisons so far. */
  readonly objective: number;
  /** What `resume` takes: JSON holds it. */
  readonly state: State;
}

/** How to follow, stop and go on with a crafter that takes its time. */
export interface LongCraft<State> {
  /** Called, and awaited, after each iteration. */
  readonly onProgress?: (progress: CraftProgress<State>) => void | Promise<void>;
  /** Ends the work after the iteration with a CraftAborted, which holds the state. */
  readonly signal?: AbortSignal;
  /** The state of an earlier call with the same base and options. */
  readonly resume?: State;
}

/** The error of an aborted crafter, code CRAFT_ABORTED. */
export class CraftAborted<State = unknown> extends GradshapeError {
  constructor(
    caller: string,
    readonly state: State,
  ) {
    super(
      'CRAFT_ABORTED',
      `${caller}: aborted. Go on with { resume: error.state } and otherwise the same options.`,
    );
    this.name = 'CraftAborted';
  }
}

/** Iterates from `start` to `iterations`, with the event loop's turn in between. The state is replaced, never changed. */
export async function iterate<State extends { readonly iteration: number; readonly objective: number }>(
  caller: string,
  start: State,
  iterations: number,
  step: (state: State) => State,
  { onProgress, signal, resume }: LongCraft<State>,
): Promise<State> {
  let state = resume ?? start;
  while (state.iteration < iterations) {
    if (signal?.aborted) throw new CraftAborted(caller, state);
    state = step(state);
    await onProgress?.({ iteration: state.iteration, iterations, objective: state.objective, state });
    await turn();
  }
  return state;
}
