import type { PerExampleRule, Use } from '../op.js';
import type { Tensor } from '../tensor.js';
import { type Prepared, prepare, type Sliding } from './conv-geometry.js';

/** What the kernels need of a use: x, the filter and dOut (before the activation), with their geometry. */
function operands(use: Use<Sliding>): { x: Tensor; filter: Tensor; dOut: Tensor } & Prepared {
  const [x, filter] = use.inputs as [Tensor, Tensor];
  const prepared = prepare(use.engine, 'conv2d', x.shape, filter.shape, use.attributes);
  return { x, filter, dOut: use.dOutput, ...prepared };
}

/**
 * A filter that slides over the batch. By the book-keeping rule (Bu et al. 2022) its examples' gradients are
 * instantiated unless there are few positions; then norms are those of patches' Gram matrices, in float64.
 */
export const filterRule: PerExampleRule<Sliding> = {
  instantiate(use, out, stride, accumulate) {
    const { x, dOut, geometry, scratch } = operands(use);
    use.kernels.instantiateConv2d(
      out,
      x.address,
      dOut.address,
      geometry,
      stride,
      accumulate ? 1 : 0,
      scratch,
    );
  },
  weightedSum(use, weights, out, accumulate) {
    const { x, dOut, geometry, scratch } = operands(use);
    use.kernels.conv2dFilterGradient(
      out,
      x.address,
      dOut.address,
      weights,
      geometry,
      accumulate ? 1 : 0,
      scratch,
    );
  },
  ghost: {
    cheaper({ inputs, output }) {
      const [height, width, depth, out] = inputs[1]!.shape as [number, number, number, number];
      const positions = output.shape[1]! * output.shape[2]!;
      return 2 * positions * positions < height * width * depth * out;
    },
    squaredNorms(use, out) {
      const { x, dOut, geometry, scratch } = operands(use);
      use.kernels.conv2dGhostNorms(out, x.address, dOut.address, geometry, 0, scratch);
    },
    dots(use, direction, out) {
      // ⟨Σ_t patchᵀb, V⟩ = Σ_t ⟨patch·V, b⟩: the convolution of x with V, and a dot product an example.
      const product = use.engine.allocate(use.output.shape, 'f32', 'dots');
      const { x, dOut, geometry, scratch } = operands(use);
      use.kernels.conv2d(product.address, x.address, direction, 0, 0, geometry, scratch);
      const size = use.batch === 0 ? 0 : product.size / use.batch;
      use.kernels.rowDots(out, product.address, dOut.address, use.batch, size, 0);
    },
  },
};
