import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import { type BlockTensor, checkShape, type Shape, sizeOf, Tensor } from './tensor.js';

/** A parameter's name, shape, and where it lies in the block, in numbers. */
export interface ParameterEntry {
  readonly name: string;
  readonly shape: Shape;
  readonly offset: number;
  readonly size: number;
}

/** A stretch of the block, in numbers: [from, to). */
export interface Range {
  readonly from: number;
  readonly to: number;
}

/**
 * A model's parameters: one contiguous f32 block with named views. Gradients, moments and noise share its layout, so
 * clipping, noising, updating, saving and comparing are one call each.
 */
export class Parameters {
  readonly size: number;
  readonly entries: readonly ParameterEntry[];
  /** All numbers as one vector [size]. */
  readonly flat: BlockTensor;
  /** How often `load` replaced all numbers: what was known of those before (privacy spent on them, say) no longer holds. */
  replacements = 0;
  /** Updates that optimizers made since then. */
  updates = 0;
  private readonly views = new Map<string, Tensor>();
  private readonly frozen = new Set<string>();
  private ranges: readonly Range[];

  constructor(
    readonly engine: Engine,
    shapes: readonly { readonly name: string; readonly shape: Shape }[],
  ) {
    const names = shapes.map(({ name }) => name);
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) {
      throw new GradshapeError(
        'PARAMETER_DUPLICATE',
        `two parameters are named '${twice}'; expected unique names.`,
      );
    }
    for (const { name, shape } of shapes) checkShape(`parameter '${name}'`, shape);
    let offset = 0;
    this.entries = shapes.map(({ name, shape }) => {
      const size = sizeOf(shape);
      const entry = { name, shape, offset, size };
      offset += size;
      return entry;
    });
    this.size = offset;
    this.flat = engine.allocateBlock([offset], 'f32', 'the parameters');
    for (const { name, shape, offset: at } of this.entries) {
      this.views.set(name, new Tensor(engine, shape, 'f32', this.flat.address + at * 4, this.flat.owner));
    }
    this.ranges = this.trainableRanges();
  }

  /** The view of a parameter: the same tensor each time. @throws PARAMETER_UNKNOWN */
  get(name: string): Tensor {
    const view = this.views.get(name);
    if (view === undefined) {
      const names = this.entries.map((entry) => entry.name).join(', ');
      throw new GradshapeError(
        'PARAMETER_UNKNOWN',
        `there is no parameter '${name}'; there are ${names || 'none'}.`,
      );
    }
    return view;
  }

  /** Leaves these parameters (default: all) out of gradients, noise and updates. @throws PARAMETER_UNKNOWN */
  freeze(names: Iterable<string> = this.views.keys()): void {
    for (const name of names) {
      this.get(name);
      this.frozen.add(name);
    }
    this.ranges = this.trainableRanges();
  }

  /** Takes them back in. */
  unfreeze(names: Iterable<string> = [...this.frozen]): void {
    for (const name of names) this.frozen.delete(name);
    this.ranges = this.trainableRanges();
  }

  /** The parameters that are trained. */
  get trainableEntries(): readonly ParameterEntry[] {
    return this.entries.filter(({ name }) => !this.frozen.has(name));
  }

  /** Their stretches of the block, neighbours joined. */
  get trainable(): readonly Range[] {
    return this.ranges;
  }

  private trainableRanges(): readonly Range[] {
    const ranges: { from: number; to: number }[] = [];
    for (const { offset, size } of this.trainableEntries) {
      const last = ranges.at(-1);
      if (last?.to === offset) last.to += size;
      else ranges.push({ from: offset, to: offset + size });
    }
    return ranges;
  }

  /** A copy of all numbers, in the block's order. */
  values(): Float32Array {
    return this.flat.values() as Float32Array;
  }

  /** Overwrites all numbers. @throws SHAPE_MISMATCH */
  load(values: ArrayLike<number>): void {
    if (values.length !== this.size) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `load: ${values.length} numbers were given for ${this.size} parameters.`,
      );
    }
    this.flat.view().set(values);
    this.replacements++;
    this.updates = 0;
  }

  free(): void {
    this.flat.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
