import { GradshapeError } from '../errors.js';
import { type Shape, showShape } from '../tensor.js';

/** One number for both, or [vertical, horizontal]. */
export type Pair = number | readonly [number, number];

/**
 * What an image is extended by: 'valid' nothing; 'same' so much that the output is ⌈size / stride⌉, the odd pixel at
 * the bottom and right; a number on every side; or [[top, bottom], [left, right]].
 */
export type Padding =
  | 'same'
  | 'valid'
  | number
  | readonly [readonly [number, number], readonly [number, number]];

/** Windows over an image; all pairs are [vertical, horizontal]. */
export interface Windows {
  readonly window: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: Padding;
}

/** Where the windows lie: the output's size, and how far the first one reaches over the edge. */
export interface WindowPlaces {
  readonly outputs: readonly [number, number];
  readonly before: readonly [number, number];
}

export const bothOf = (pair: Pair): readonly [number, number] =>
  typeof pair === 'number' ? [pair, pair] : pair;

const sides = ['vertical', 'horizontal'] as const;
const names = ['height', 'width'] as const;

/**
 * The windows of images [batch, height, width, channels].
 * @param dilation pixels between a window's neighbours. @default [1, 1]
 * @throws SHAPE_MISMATCH, WINDOW_INVALID
 */
export function placeWindows(
  op: string,
  image: Shape,
  { window, stride, padding }: Windows,
  dilation: readonly [number, number] = [1, 1],
): WindowPlaces {
  if (image.length !== 4) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `${op}: x has shape ${showShape(image)}; expected images, [batch, height, width, channels].` +
        (image.length === 3 ? ' Is the batch or the channels axis missing?' : ''),
    );
  }
  const places = sides.map((side, i) => {
    checkWhole(op, `${side} window`, window[i]!, 1);
    checkWhole(op, `${side} stride`, stride[i]!, 1);
    checkWhole(op, `${side} dilation`, dilation[i]!, 1);
    const size = image[i + 1]!;
    const reach = (window[i]! - 1) * dilation[i]! + 1;
    const [before, after] = paddingOf(op, padding, i, size, reach, stride[i]!);
    if (size + before + after < reach) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `${op}: the window is ${reach} pixels in ${names[i]}, but the images ${showShape(image)} have ${size}` +
          `${before + after > 0 ? ` and ${before + after} of padding` : ''}. Use a smaller window, or padding 'same'.`,
      );
    }
    return { output: Math.floor((size + before + after - reach) / stride[i]!) + 1, before };
  });
  const [y, x] = places as [(typeof places)[0], (typeof places)[0]];
  return { outputs: [y.output, x.output], before: [y.before, x.before] };
}

function paddingOf(
  op: string,
  padding: Padding,
  axis: number,
  size: number,
  reach: number,
  stride: number,
): readonly [number, number] {
  if (padding === 'valid') return [0, 0];
  if (padding === 'same') {
    const total = Math.max((Math.ceil(size / stride) - 1) * stride + reach - size, 0);
    return [total >> 1, total - (total >> 1)];
  }
  const own = typeof padding === 'number' ? ([padding, padding] as const) : padding?.[axis];
  if (!Array.isArray(own) || own.length !== 2) {
    throw new GradshapeError(
      'WINDOW_INVALID',
      `${op}: padding is ${JSON.stringify(padding)}; expected 'same', 'valid', a number, or [[top, bottom], [left, right]].`,
    );
  }
  for (const n of own as readonly number[]) {
    checkWhole(op, `${sides[axis]} padding`, n, 0);
    if (n < reach) continue;
    throw new GradshapeError(
      'WINDOW_INVALID',
      `${op}: the ${sides[axis]} padding is ${n} and the window ${reach} pixels, so that some windows would lie outside the image; expected less padding than window.`,
    );
  }
  return own as unknown as readonly [number, number];
}

function checkWhole(op: string, what: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new GradshapeError(
    'WINDOW_INVALID',
    `${op}: the ${what} is ${String(value)}; expected a whole number of at least ${least}.`,
  );
}
