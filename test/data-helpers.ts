import { GradshapeError } from 'gradshape';
import * as assert from 'uvu/assert';

/** Asserts that an action throws a GradshapeError with this code, and a message like that. */
export function throwsWith(code: string, action: () => unknown, message = /./): void {
  try {
    action();
  } catch (error) {
    check(error, code, message);
    return;
  }
  assert.unreachable(`expected ${code}`);
}

/** The same for a promise; returns the error. */
export async function rejectsWith(
  code: string,
  promise: Promise<unknown>,
  message = /./,
): Promise<GradshapeError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  check(error, code, message);
  return error as GradshapeError;
}

function check(error: unknown, code: string, message: RegExp): void {
  if (!(error instanceof GradshapeError))
    throw error ?? new Error(`expected ${code}, but nothing was thrown`);
  assert.is(error.code, code, error.message);
  assert.ok(message.test(error.message.replaceAll('\n', ' ')), `${message} does not match: ${error.message}`);
}

/** A ustar archive. */
export function makeTar(files: Record<string, Uint8Array>): Uint8Array {
  const blocks = Object.entries(files).flatMap(([name, content]) => {
    const header = Buffer.alloc(512);
    header.write(name, 0);
    header.write('0000644\0', 100);
    header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
    header.write('        0', 148);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return [header, content, new Uint8Array((512 - (content.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, new Uint8Array(1024)]);
}
