import { indicesOf } from '../engine/batch.js';
import { type Examples, GradshapeError } from '../engine/index.js';

/** The examples that a step has summed so far, so that none is summed twice: clipping bounds an example's part once. */
export class Lot {
  /** For each data set, the number of the lot that an example was in last, a byte an example. */
  private readonly lastLot = new Map<object, Uint8Array>();
  private number = 1;

  /** @throws EXAMPLE_REPEATED */
  add(examples: Examples | null): void {
    const indices = examples?.source ? indicesOf(examples) : null;
    if (indices === null) return;
    const { number } = this;
    const lastLot = this.marksOf(examples!.source!);
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]!;
      if (lastLot[index] === number) throw repeated(index);
      lastLot[index] = number;
    }
  }

  private marksOf(source: { readonly count: number }): Uint8Array {
    let marks = this.lastLot.get(source);
    if (marks === undefined) {
      marks = new Uint8Array(source.count);
      this.lastLot.set(source, marks);
    }
    return marks;
  }

  /** Begins the next lot. */
  clear(): void {
    this.number++;
    if (this.number < 256) return;
    for (const marks of this.lastLot.values()) marks.fill(0);
    this.number = 1;
  }
}

function repeated(index: number): GradshapeError {
  return new GradshapeError(
    'EXAMPLE_REPEATED',
    `privateStep: example ${index} was given twice in one step, and would count twice what clipping bounds; expected each example once in ` +
      'a lot, over all its pieces. After an error, call step.discard() before the lot is given again.',
  );
}
