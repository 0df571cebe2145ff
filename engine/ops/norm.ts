import { GradshapeError } from '../errors.js';
import { type Backward, type Op, type PerExampleRule, run, sameExamples, type Use } from '../op.js';
import { type Examples, type Shape, sameShape, showShape, sizeOf, type Tensor } from '../tensor.js';
import { add, div, mul, sub } from './arithmetic.js';
import { denseBiasRule } from './dense-rules.js';
import { sqrt, square } from './elementwise.js';
import { mean, sum, sumTo } from './reduction.js';
import { reshape } from './shape.js';

export interface Epsilon {
  readonly epsilon: number;
}

export interface Groups extends Epsilon {
  readonly groups: number;
}

/** x as the kernels see it: [outer, positions, groups, depth], normalised over positions and depth. */
type Blocks = readonly [outer: number, positions: number, groups: number, depth: number];
type BlocksOf<A> = (x: Tensor, attributes: A) => Blocks;
type Context<A> = Pick<Use<A>, 'engine' | 'kernels' | 'inputs' | 'attributes' | 'saved' | 'dOutput'>;

/** The gradient of scale, one row for each of the blocks' outer indices. */
function scaleRows<A>(c: Context<A>, blocksOf: BlocksOf<A>): Tensor {
  const x = c.inputs[0]!;
  const blocks = blocksOf(x, c.attributes);
  const rows = c.engine.allocate([blocks[0], c.inputs[1]!.size], 'f32', 'the gradient of scale');
  c.kernels.groupNormScaleRows(rows.address, x.address, c.saved[0]!.address, c.dOutput.address, ...blocks);
  return rows;
}

/** The gradient of offset in the same way. */
const offsetRows = ({ inputs, dOutput }: Context<unknown>): Tensor => reshape(dOutput, [-1, inputs[1]!.size]);

/** A parameter whose gradient is the sum of an example's rows. */
function rowsRule<A>(rowsOf: (use: Use<A>) => Tensor): PerExampleRule<A> {
  return {
    instantiate: (use, ...rest) => denseBiasRule.instantiate({ ...use, dOutput: rowsOf(use) }, ...rest),
    weightedSum: (use, ...rest) => denseBiasRule.weightedSum({ ...use, dOutput: rowsOf(use) }, ...rest),
  };
}

/** The backward written with table ops, so that it can be differentiated again. */
function composedBackward<A>({ inputs, dOutput }: Backward<A>, blocks: Blocks, epsilon: number): Tensor[] {
  const [x, scale] = inputs as [Tensor, Tensor];
  const blockMean = (t: Tensor): Tensor => mean(t, { axes: [1, 3], keepDims: true });
  const centred = sub(reshape(x, blocks), blockMean(reshape(x, blocks)));
  const std = sqrt(add(blockMean(square(centred)), epsilon));
  const y = div(centred, std);
  const dY = reshape(dOutput, blocks);
  const perGroup: Shape = [blocks[2], blocks[3]];
  const v = mul(dY, reshape(scale, perGroup));
  const dX = div(sub(sub(v, blockMean(v)), mul(y, blockMean(mul(v, y)))), std);
  return [
    reshape(dX, x.shape),
    reshape(sumTo(mul(dY, y), perGroup), scale.shape),
    reshape(sumTo(dY, perGroup), scale.shape),
  ];
}

function normOp<A extends Epsilon>(
  name: string,
  summary: string,
  check: (x: Tensor, scale: Tensor, attributes: A) => void,
  blocksOf: BlocksOf<A>,
): Op<A> {
  return {
    name,
    summary,
    shape([x, scale, offset], attributes) {
      check(x!, scale!, attributes);
      if (!sameShape(scale!.shape, offset!.shape)) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `${name}: scale has shape ${showShape(scale!.shape)} and offset ${showShape(offset!.shape)}; expected the same.`,
        );
      }
      if (!(attributes.epsilon > 0)) {
        throw new GradshapeError(
          'EPSILON_INVALID',
          `${name}: epsilon is ${attributes.epsilon}; expected a number above 0, such as 1e-5.`,
        );
      }
      return x!.shape;
    },
    examples: ([x, scale, offset]): Examples | null =>
      scale!.examples || offset!.examples ? null : sameExamples([x!]),
    forward({ engine, kernels, inputs, attributes, output }) {
      const [x, scale, offset] = inputs as [Tensor, Tensor, Tensor];
      const blocks = blocksOf(x, attributes);
      const statistics = engine.allocate([blocks[0], blocks[2], 2], 'f32', name);
      kernels.groupNorm(
        output.address,
        statistics.address,
        x.address,
        scale.address,
        offset.address,
        ...blocks,
        attributes.epsilon,
      );
      return [statistics];
    },
    backward(c) {
      const { engine, kernels, inputs, attributes, saved, dOutput, needs } = c;
      const [x, scale] = inputs as [Tensor, Tensor];
      const blocks = blocksOf(x, attributes);
      if (c.recorded) return composedBackward(c, blocks, attributes.epsilon);
      const total = (rows: Tensor): Tensor => reshape(sum(rows, { axes: 0 }), scale.shape);
      const toX = (): Tensor => {
        const dX = engine.allocate(x.shape, 'f32', name);
        dX.examples = x.examples;
        kernels.groupNormGradient(
          dX.address,
          x.address,
          saved[0]!.address,
          scale.address,
          dOutput.address,
          ...blocks,
        );
        return dX;
      };
      return [
        needs[0] ? toX() : null,
        needs[1] ? total(scaleRows(c, blocksOf)) : null,
        needs[2] ? total(offsetRows(c)) : null,
      ];
    },
    secondOrder: true,
    perExample: {
      1: rowsRule((use) => scaleRows(use, blocksOf)),
      2: rowsRule(offsetRows),
    },
  };
}

export const normOps = {
  groupNorm: normOp<Groups>(
    'groupNorm',
    'normalises each example over positions and groups of channels, then · scale + offset',
    (x, scale, { groups }) => {
      const channels = x.rank < 2 ? undefined : x.shape.at(-1)!;
      if (channels === undefined || !sameShape(scale.shape, [channels])) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `groupNorm: x has shape ${showShape(x.shape)} and scale ${showShape(scale.shape)}; expected [batch, ..., channels] and [channels].`,
        );
      }
      if (!(Number.isSafeInteger(groups) && groups >= 1 && channels % groups === 0)) {
        throw new GradshapeError(
          'GROUPS_INVALID',
          `groupNorm: ${channels} channels can't be split into ${groups} groups; expected a whole number that divides ${channels}.`,
        );
      }
    },
    ({ shape }, { groups }) => {
      const channels = shape.at(-1)!;
      return [shape[0]!, sizeOf(shape.slice(1, -1)), groups, channels / groups];
    },
  ),

  layerNorm: normOp<Epsilon & { readonly features: number }>(
    'layerNorm',
    "normalises over the last axes, which are scale's, then · scale + offset",
    (x, scale) => {
      const last = x.shape.slice(Math.max(x.rank - scale.rank, 1));
      if (scale.rank === 0 || !sameShape(last, scale.shape)) {
        throw new GradshapeError(
          'SHAPE_MISMATCH',
          `layerNorm: x has shape ${showShape(x.shape)} and scale ${showShape(scale.shape)}; expected scale to have the shape of x's last axes, without the batch.`,
        );
      }
    },
    ({ shape }, { features }) => [sizeOf(shape) === 0 ? 0 : sizeOf(shape) / features, 1, 1, features],
  ),
};

export interface NormOptions {
  /** Added to the variance. @default 1e-5 */
  readonly epsilon?: number;
}

/**
 * Group normalisation (Wu & He 2018): each example's channels, in groups of neighbours, are brought to mean 0 and
 * variance 1 over the group and all positions; then · scale + offset. It knows nothing of other examples, so it has
 * per-example gradients, where batch normalisation has none.
 * @param x f32 [batch, ..., channels]
 * @param scale f32 [channels]
 * @param offset f32 [channels]
 * @param groups divides channels; 1 is layer normalisation over the whole image, `channels` instance normalisation
 * @throws SHAPE_MISMATCH, GROUPS_INVALID, EPSILON_INVALID
 */
export function groupNorm(
  x: Tensor,
  scale: Tensor,
  offset: Tensor,
  groups: number,
  { epsilon = 1e-5 }: NormOptions = {},
): Tensor {
  return run(normOps.groupNorm, [x, scale, offset], { groups, epsilon });
}

/**
 * Layer normalisation (Ba et al. 2016): mean 0 and variance 1 over the last axes, those of `scale`; then
 * · scale + offset.
 * @param x f32 [batch, ..., features]
 * @param scale f32, the shape of x's last axes, usually [features]
 * @param offset f32, the same shape
 * @throws SHAPE_MISMATCH, EPSILON_INVALID
 */
export function layerNorm(
  x: Tensor,
  scale: Tensor,
  offset: Tensor,
  { epsilon = 1e-5 }: NormOptions = {},
): Tensor {
  return run(normOps.layerNorm, [x, scale, offset], { features: scale.size, epsilon });
}
