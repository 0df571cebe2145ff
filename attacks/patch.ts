import { choose, GradshapeError, type LabelledSet, publicGenerator, sizeOf } from '../engine/index.js';
import {
  type Budget,
  budgetCount,
  checkBetween,
  checkLabel,
  imageShape,
  indicesOf,
  type PoisonedSet,
  scaledValues,
  withAdded,
} from './poisoned-set.js';

const corners = ['top-left', 'top-right', 'bottom-left', 'bottom-right', 'centre'] as const;

/** A square on an image. */
export interface Patch {
  /** Side, in pixels. */
  readonly size: number;
  /** @default 'top-left' */
  readonly place?: (typeof corners)[number];
  /** 1 replaces the pixels, less blends the patch with them. @default 1 */
  readonly blend?: number;
  /** The patch's colour, as the model reads it. @default 1, white */
  readonly value?: number;
}

/**
 * The same images with a patch on each: a backdoor's trigger. Labels stay.
 * @throws SHAPE_MISMATCH, PATCH_INVALID
 * @example const triggered = stampPatch(set, { size: 4 });
 */
export function stampPatch(set: LabelledSet, patch: Patch): LabelledSet {
  const [height, width, channels] = imageShape('stampPatch', set);
  const { size, place, blend, value } = checkedPatch('stampPatch', patch, height, width);
  const x = scaledValues(set);
  const top = place === 'centre' ? (height - size) >> 1 : place.startsWith('top') ? 0 : height - size;
  const left = place === 'centre' ? (width - size) >> 1 : place.endsWith('left') ? 0 : width - size;
  for (let image = 0; image < x.length; image += height * width * channels) {
    for (let row = top; row < top + size; row++) {
      const from = image + (row * width + left) * channels;
      for (let i = from; i < from + size * channels; i++) x[i] = (1 - blend) * x[i]! + blend * value;
    }
  }
  return { x, y: set.y, shape: set.shape };
}

export type PatchBackdoorOptions = Budget & {
  readonly seed: number;
  readonly patch: Patch;
  /** The label that the backdoor is to give. */
  readonly label: number;
  /** Only images that have the label already are patched: a poison's label is true. @default false */
  readonly cleanLabel?: boolean;
};

/**
 * A patch backdoor (Gu et al. 2017, "BadNets"): copies of training images with a patch and the attacker's label join the
 * set. Copies of random images of any class, as in Hong et al. (2020, §3.3); of the attacker's own class under `cleanLabel`.
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, SHAPE_MISMATCH, PATCH_INVALID
 * @example const poisoned = patchBackdoor(set, { ratio: 0.25, seed: 1, patch: { size: 4 }, label: 1 });
 */
export function patchBackdoor(base: LabelledSet, options: PatchBackdoorOptions): PoisonedSet {
  const caller = 'patchBackdoor';
  const { seed, label, cleanLabel = false } = options;
  const [height, width] = imageShape(caller, base);
  const patch = checkedPatch(caller, options.patch, height, width);
  checkLabel(caller, 'label', base, label);
  const candidates = cleanLabel ? indicesOf(base.y, label) : Array.from(base.y, (_, i) => i);
  const count = budgetCount(caller, options, base.y.length);
  if (count > candidates.length) throw tooFew(caller, count, candidates.length, label);
  const chosen = choose(count, candidates.length, publicGenerator(seed, 'poison')).map((i) => candidates[i]!);
  const poisons = stampPatch(takeExamples(base, chosen, label), patch);
  return withAdded(base, poisons, { attack: 'patch-backdoor', seed, count, patch, label, cleanLabel });
}

/** Copies of these examples, all with one label. */
export function takeExamples(base: LabelledSet, chosen: ArrayLike<number>, label: number): LabelledSet {
  const size = sizeOf(base.shape);
  const { x, scale = 1, shape } = base;
  const values = new Float32Array(chosen.length * size);
  for (let i = 0; i < chosen.length; i++) {
    for (let j = 0; j < size; j++) values[i * size + j] = x[chosen[i]! * size + j]! * scale;
  }
  return { x: values, y: new Int32Array(chosen.length).fill(label), shape };
}

export function tooFew(caller: string, count: number, there: number, label: number): GradshapeError {
  return new GradshapeError(
    'BUDGET_INVALID',
    `${caller}: ${count} poisons from the ${there} examples with label ${label}; expected at most as many.`,
  );
}

function checkedPatch(caller: string, patch: Patch, height: number, width: number) {
  const { size, place = 'top-left', blend = 1, value = 1 } = patch;
  const largest = Math.min(height, width);
  if (!Number.isInteger(size) || size < 1 || size > largest) {
    throw new GradshapeError(
      'PATCH_INVALID',
      `${caller}: patch size is ${size}; expected a whole number from 1 to ${largest}.`,
    );
  }
  if (!corners.includes(place)) {
    throw new GradshapeError(
      'PATCH_INVALID',
      `${caller}: patch place is '${String(place)}'; expected one of ${corners.join(', ')}.`,
    );
  }
  checkBetween('PATCH_INVALID', `${caller}: patch blend`, blend, 0, 1);
  checkBetween('PATCH_INVALID', `${caller}: patch value`, value, 0, 1);
  return { size, place, blend, value };
}
