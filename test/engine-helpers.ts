import { type Engine, GradshapeError, Parameters } from 'gradshape/engine';
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

/** Within a relative distance. */
export function close(actual: number, expected: number, relative: number): void {
  assert.ok(Math.abs(actual - expected) <= relative * Math.abs(expected), `${actual}, expected ${expected}`);
}

/** The parameters of a softmax regression, w [inputs, classes] and b [classes]. */
export function softmaxRegression(engine: Engine, inputs: number, classes: number): Parameters {
  const params = new Parameters(engine, [
    { name: 'w', shape: [inputs, classes] },
    { name: 'b', shape: [classes] },
  ]);
  params.load(Float32Array.from({ length: params.size }, (_, i) => Math.cos(3 * i) / 2));
  return params;
}
