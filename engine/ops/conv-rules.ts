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

/** What the kernels need of a use: its shapes, and the addresses of x and dOut (before the activation). */
function operands(use: Use<ConvAttributes>): [c: Convolution, x: number, dOut: number] {
  const [x, filter] = use.inputs as [Tensor, Tensor];
  const c = { op: 'conv2d', x: x.shape, filter: filter.shape, sliding: use.attributes };
  return [c, x.address, use.dOutput.address];
}

/**
 * A filter that slides over the batch. By the book-keeping rule (Bu et al. 2022) its examples' gradients are
 * instantiated unless there are few positions; then norms are those of patches' Gram matrices, in float64, and sums
 * are direct, so that what is summed has the norm that was measured.
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
    cheaper({ inputs, output }) {
      const [height, width, depth, out] = inputs[1]!.shape as [number, number, number, number];
      const positions = output.shape[1]! * output.shape[2]!;
      return 2 * positions * positions < height * width * depth * out;
    },
    squaredNorms(use, out) {
      const [c, x, dOut] = operands(use);
      filterGhostNorms(use.engine, c, out, x, dOut);
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
