import ndarray from 'ndarray';
import type { Picture } from '../report/index.js';
import type { DistinctPoison } from '../tasks/distinct.js';

/** The poisons of dress against coat as pictures, with label and number of copies. */
export function picturesOf(poisons: readonly DistinctPoison[]): Picture[] {
  return poisons.map(({ label, copies, pixels }) => ({
    pixels: ndarray(new Uint8Array(Buffer.from(pixels, 'base64')), [28, 28]),
    caption: `${copies.toLocaleString('en-US')} × “${label === 0 ? 'dress' : 'coat'}”`,
  }));
}
