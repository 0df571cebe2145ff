import type { PerExampleRule, Use } from '../op.js';
import type { Tensor } from '../tensor.js';
import type { ConvAttributes } from './conv-geometry.js';
import {
  type Convolution,
  convolve,
  filterGhostNorms,
  instantiateFilterGradients,
  sumFilterGradients,
} from './conv-kernels.js';
import { mostGhostPositions } from './dense-rules.js';

/** What the kernels need of a use: its shapes, and the addresses of x and dOut (before the activation). */
function operands(use: Use<ConvAttributes>): [c: Convolution, x: number, dOut: number] {
  const [x, filter] = use.inputs as [Tensor, Tensor];
  const c = { op: 'conv2d', x: x.shape, filter: filter.shape, sliding: use.attributes };
  return [c, x.address, use.dOutput.address];
}

/**
 * A filter that slides over the batch. By the book-keeping rule (Bu et al. 2022) its examples' gradients are
 * instantiated unless there are few positions; then norms are those of patches' Gram matrices, in float64, and sums
 * are direct, one example's after the other's.
 */
export const filterRule: PerExampleRule<ConvAttributes> = {
  instantiate(use, out, stride, accumulate) {
    const [c, x, dOut] = operands(use);
    instantiateFilterGradients(use.engine, c, out, x, dOut, stride, accumulate);
  },
  weightedSum(use, weights, out, accumulate) {
    const [c, x, dOut] = operands(use);
    sumFilterGradients(use.engine, c, out, x, dOut, weights, accumulate);
  },
  ghost: {
    addRange(use, weights, from, to, out) {
      const [c, x, dOut] = operands(use);
      const size = (tensor: Tensor): number => (tensor.size / use.batch) * 4;
      const part = { ...c, x: [to - from, ...c.x.slice(1)] };
      const [images, gradients] = [x + from * size(use.inputs[0]!), dOut + from * size(use.output)];
      sumFilterGradients(use.engine, part, out, images, gradients, weights, true);
    },
    positions: ({ output }) => output.shape[1]! * output.shape[2]!,
    cheaper({ inputs, output, attributes }) {
      const [height, width, depth, out] = inputs[1]!.shape as [number, number, number, number];
      const positions = output.shape[1]! * output.shape[2]!;
      // A filter for each channel is summed in place, position by position: its examples' gradients are formed.
      const depthwise = attributes.groups > 1 && depth === 1 && attributes.groups === out;
      const fewer = 2 * positions * positions < height * width * depth * out;
      return fewer && positions <= mostGhostPositions && !depthwise;
    },
    squaredNorms(use, out, terms) {
      const [c, x, dOut] = operands(use);
      filterGhostNorms(use.engine, c, out, terms, x, dOut);
    },
    dots(use, direction, out) {
      // ⟨Σ_t patchᵀb, V⟩ = Σ_t ⟨patch·V, b⟩: the convolution of x with V, and a dot product an example.
      const [c, x, dOut] = operands(use);
      const product = use.engine.allocate(use.output.shape, 'f32', 'dots');
      convolve(use.engine, c, product.address, x, direction, 0, false);
      const size = use.batch === 0 ? 0 : product.size / use.batch;
      use.kernels.rowDots(out, product.address, dOut, use.batch, size, 0);
    },
  },
};
