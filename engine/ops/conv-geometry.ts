import { GradshapeError } from '../errors.js';
import { type Shape, showShape } from '../tensor.js';
import { type Padding, placeWindows } from './window.js';

/** How a filter slides; pairs are [vertical, horizontal]. */
export interface Sliding {
  readonly stride: readonly [number, number];
  readonly padding: Padding;
  readonly dilation: readonly [number, number];
  /** Channels are split in so many groups, which don't see each other; as many as channels: depthwise. */
  readonly groups: number;
}

/** The attributes of the convolutions' rows. */
export interface ConvAttributes extends Sliding {
  /** 'direct' sums every product as it is; 'auto' may choose Winograd's algorithm for 3×3 filters. */
  readonly algorithm: 'auto' | 'direct';
}

/** [batch, height, width, channels] of the output. */
export function convolvedShape(op: string, x: Shape, filter: Shape, sliding: Sliding): Shape {
  const { groups } = sliding;
  if (filter.length !== 4) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${op}: the filter has shape ${showShape(filter)}; expected [kernel height, kernel width, in / groups, out]. ` +
        'A PyTorch filter [out, in, height, width] goes through filterFromPyTorch.',
    );
  }
  const [height, width, depth, out] = filter as [number, number, number, number];
  const { outputs } = placeWindows(op, x, { ...sliding, window: [height, width] }, sliding.dilation);
  const channels = x[3]!;
  if (!Number.isSafeInteger(groups) || groups < 1 || channels % groups !== 0 || out % groups !== 0) {
    throw new GradshapeError(
      'GROUPS_INVALID',
      `${op}: groups is ${String(groups)} with ${channels} channels in and ${out} out; expected a whole number that divides both.`,
    );
  }
  if (depth * groups !== channels || depth === 0) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${op}: x ${showShape(x)} has ${channels} channels, but the filter ${showShape(filter)} takes ${depth}` +
        `${groups > 1 ? ` in each of ${groups} groups` : ''}; expected ${channels / groups}.`,
    );
  }
  return [x[0]!, ...outputs, out];
}
