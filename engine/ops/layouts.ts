// At the border: other libraries keep channels before pixels, and filters and weights the other way round.
import { GradshapeError } from '../errors.js';
import { type Shape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { reshape, transpose } from './shape.js';

function checkRank(caller: string, tensor: Tensor, axes: readonly string[]): void {
  if (tensor.rank === axes.length) return;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `${caller}: the tensor has shape ${showShape(tensor.shape)}; expected [${axes.join(', ')}].`,
  );
}

/** Images [batch, channels, height, width] → [batch, height, width, channels]. @throws SHAPE_MISMATCH */
export function fromNCHW(images: Tensor): Tensor {
  checkRank('fromNCHW', images, ['batch', 'channels', 'height', 'width']);
  return transpose(images, [0, 2, 3, 1]);
}

/** Images [batch, height, width, channels] → [batch, channels, height, width]. @throws SHAPE_MISMATCH */
export function toNCHW(images: Tensor): Tensor {
  checkRank('toNCHW', images, ['batch', 'height', 'width', 'channels']);
  return transpose(images, [0, 3, 1, 2]);
}

/**
 * A filter of PyTorch's Conv2d [out, in / groups, height, width] → [height, width, in / groups, out].
 * @throws SHAPE_MISMATCH
 */
export function filterFromPyTorch(filter: Tensor): Tensor {
  checkRank('filterFromPyTorch', filter, ['out', 'in / groups', 'height', 'width']);
  return transpose(filter, [2, 3, 1, 0]);
}

/**
 * A weight of PyTorch's Linear [out, in] → [in, out].
 * @param image [height, width, channels] of what was flattened before the layer, if it was: PyTorch flattens
 * channels first, so the rows change places
 * @throws SHAPE_MISMATCH
 */
export function weightFromPyTorch(weight: Tensor, image?: Shape): Tensor {
  checkRank('weightFromPyTorch', weight, ['out', 'in']);
  if (image === undefined) return transpose(weight, [1, 0]);
  const [out, inputs] = weight.shape as [number, number];
  if (image.length !== 3 || sizeOf(image) !== inputs) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `weightFromPyTorch: image is ${showShape(image)}, but the weight ${showShape(weight.shape)} takes ${inputs} numbers; ` +
        `expected [height, width, channels] with that product.`,
    );
  }
  const [height, width, channels] = image as [number, number, number];
  const apart = reshape(weight, [out, channels, height, width]);
  return reshape(transpose(apart, [2, 3, 1, 0]), [inputs, out]);
}
