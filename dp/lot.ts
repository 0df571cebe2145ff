import { type Examples, GradshapeError } from '../engine/index.js';

/** The examples that a step has summed so far, so that none is summed twice: clipping bounds an example's part once. */
export class Lot {
  /** For each data set, a bit an example. */
  private readonly seen = new Map<object, Uint8Array>();
  private pieces: { readonly bits: object; readonly indices: ArrayLike<number> }[] = [];

  /** @throws EXAMPLE_REPEATED */
  add(examples: Examples | null): void {
    if (!examples?.indices || !examples.source) return;
    const { source } = examples;
    const indices = examples.indices.values();
    const bits = this.bitsFor(source, indices);
    this.pieces.push({ bits: source, indices });
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]!;
      const mask = 1 << (index & 7);
      if (bits[index >> 3]! & mask) {
        throw new GradshapeError(
          'EXAMPLE_REPEATED',
          `privateStep: example ${index} was given twice in one step, and would count twice what clipping bounds; expected each example once in ` +
            'a lot, over all its pieces. After an error, call step.discard() before the lot is given again.',
        );
      }
      bits[index >> 3]! |= mask;
    }
  }

  private bitsFor(source: object, indices: ArrayLike<number>): Uint8Array {
    let largest = 0;
    for (let i = 0; i < indices.length; i++) if (indices[i]! > largest) largest = indices[i]!;
    const bytes = (largest >> 3) + 1;
    const old = this.seen.get(source);
    if (old !== undefined && old.length >= bytes) return old;
    const grown = new Uint8Array(2 * bytes);
    if (old !== undefined) grown.set(old);
    this.seen.set(source, grown);
    return grown;
  }

  clear(): void {
    for (const { bits, indices } of this.pieces) {
      const seen = this.seen.get(bits)!;
      for (let i = 0; i < indices.length; i++) seen[indices[i]! >> 3] = 0;
    }
    this.pieces = [];
  }
}
