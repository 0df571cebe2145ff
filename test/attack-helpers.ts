import { GradshapeError } from 'gradshape';

/** Numbers from 0 to 1, the same for the same seed (a linear congruence). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 4294967296;
  };
}

/** The code of the GradshapeError that is thrown, or that a promise is rejected with; '' for none. */
export function codeOf(body: () => unknown): string | Promise<string> {
  const of = (error: unknown): string => {
    if (error instanceof GradshapeError) return error.code;
    throw error;
  };
  try {
    const value = body();
    return value instanceof Promise ? value.then(() => '', of) : '';
  } catch (error) {
    return of(error);
  }
}
