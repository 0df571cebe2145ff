import { indicesOf } from '../engine/batch.js';
import { type Examples, GradshapeError } from '../engine/index.js';

/** The examples that a step has summed so far, so that none is summed twice: clipping bounds an example's part once. */
export class Lot {
  /** For each data set, the number of the lot that an example was in last, a byte an example. */
  private readonly lastLot = new Map<object, Uint8Array>();
  private number = 1;
  /** Of this lot: the data sets that its examples' parts come from, and batches that come from none. */
  private readonly origins = new Map<object, object>();
  private readonly strangers = new Set<Examples>();

  /** @throws EXAMPLE_REPEATED */
  add(examples: Examples | null): void {
    if (examples === null) return;
    const indices = examples.source ? indicesOf(examples) : null;
    if (indices === null) {
      if (this.strangers.has(examples)) throw repeatedBatch('the same batch was given');
      this.strangers.add(examples);
      return;
    }
    const { number } = this;
    this.addSource(examples.source!);
    const lastLot = this.marksOf(examples.source!);
    for (let i = 0; i < indices.length; i++) {
      const index = indices[i]!;
      if (lastLot[index] === number) throw repeated(index);
      lastLot[index] = number;
    }
  }

  /** Sets composed on one base share its examples: a lot is drawn from one of them. */
  private addSource(source: NonNullable<Examples['source']>): void {
    for (const origin of source.origins ?? []) {
      const known = this.origins.get(origin) ?? source;
      if (known !== source) throw repeatedBatch('two data sets that share a base were given');
      this.origins.set(origin, source);
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
    this.origins.clear();
    this.strangers.clear();
    this.number++;
    if (this.number < 256) return;
    for (const marks of this.lastLot.values()) marks.fill(0);
    this.number = 1;
  }
}

function repeatedBatch(what: string): GradshapeError {
  return new GradshapeError(
    'EXAMPLE_REPEATED',
    `privateStep: ${what} in one step, so that an example could count twice what clipping bounds; expected each example once in a lot.`,
  );
}

function repeated(index: number): GradshapeError {
  return new GradshapeError(
    'EXAMPLE_REPEATED',
    `privateStep: example ${index} was given twice in one step, and would count twice what clipping bounds; expected each example once in ` +
      'a lot, over all its pieces. After an error, call step.discard() before the lot is given again.',
  );
}
