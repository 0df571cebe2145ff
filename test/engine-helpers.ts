import { GradshapeError } from 'gradshape/engine';
import * as assert from 'uvu/assert';

/** Runs `body`, which must throw an error of this code. Returns the message. */
export function throwsCode(code: string, body: () => unknown): string {
  let thrown: unknown;
  try {
    body();
  } catch (error) {
    thrown = error;
  }
  if (!(thrown instanceof GradshapeError)) {
    if (thrown !== undefined) throw thrown;
    assert.unreachable(`expected ${code}, and nothing was thrown`);
  }
  assert.is((thrown as GradshapeError).code, code, (thrown as GradshapeError).message);
  return (thrown as GradshapeError).message;
}
