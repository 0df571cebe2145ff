import {
  type Engine,
  GradshapeError,
  type Shape,
  showShape,
  sizeOf,
  type Tensor,
  writeKey,
} from '../engine/index.js';

/** How a parameter starts: a plain value, part of the layer's description. */
export type Initializer =
  | { readonly kind: 'zeros' | 'glorotUniform' | 'glorotNormal' | 'heUniform' | 'heNormal' }
  | { readonly kind: 'constant'; readonly value: number };

/** All 0. */
export const zeros = (): Initializer => ({ kind: 'zeros' });

/** All the same. @throws INITIALIZER_INVALID */
export function constant(value: number): Initializer {
  if (!Number.isFinite(value)) {
    throw new GradshapeError('INITIALIZER_INVALID', `constant: ${value}; expected a finite number.`);
  }
  return { kind: 'constant', value };
}

/** Uniform in ±√(6 / (fanIn + fanOut)) (Glorot & Bengio 2010): Keras' default, and the paper's. */
export const glorotUniform = (): Initializer => ({ kind: 'glorotUniform' });

/** Normal with variance 2 / (fanIn + fanOut) (Glorot & Bengio 2010), not truncated. */
export const glorotNormal = (): Initializer => ({ kind: 'glorotNormal' });

/** Uniform in ±√(6 / fanIn) (He et al. 2015), for layers before a ReLU. */
export const heUniform = (): Initializer => ({ kind: 'heUniform' });

/** Normal with variance 2 / fanIn (He et al. 2015), not truncated, for layers before a ReLU. */
export const heNormal = (): Initializer => ({ kind: 'heNormal' });

/** Inputs and outputs of one unit: [in, out] for dense weights, [kh, kw, in, out] for filters, [n] for vectors. */
function fans(shape: Shape): { fanIn: number; fanOut: number } {
  if (shape.length < 2) return { fanIn: sizeOf(shape), fanOut: sizeOf(shape) };
  const positions = sizeOf(shape.slice(0, -2));
  return { fanIn: positions * shape.at(-2)!, fanOut: positions * shape.at(-1)! };
}

/**
 * Fills a parameter. Its numbers are a function of seed, index, initializer and shape alone: bits are the same on
 * every runtime, and a layer's don't change when another's shape does.
 * @param index the parameter's place in the model: its own stretch of the seed's `init` stream
 * @throws INITIALIZER_INVALID
 */
export function initialize(parameter: Tensor, initializer: Initializer, seed: number, index: number): void {
  const { engine } = parameter;
  const { fanIn, fanOut } = fans(parameter.shape);
  switch (initializer.kind) {
    case 'zeros':
      engine.kernels.fill(parameter.address, 0, parameter.size);
      break;
    case 'constant':
      engine.kernels.fill(parameter.address, initializer.value, parameter.size);
      break;
    case 'glorotUniform':
      fillUniform(engine, parameter, Math.sqrt(6 / (fanIn + fanOut)), seed, index);
      break;
    case 'heUniform':
      fillUniform(engine, parameter, Math.sqrt(6 / fanIn), seed, index);
      break;
    case 'glorotNormal':
      fillNormal(engine, parameter, Math.sqrt(2 / (fanIn + fanOut)), seed, index);
      break;
    case 'heNormal':
      fillNormal(engine, parameter, Math.sqrt(2 / fanIn), seed, index);
      break;
    default:
      throw new GradshapeError(
        'INITIALIZER_INVALID',
        `a parameter of shape ${showShape(parameter.shape)} has the initializer ${JSON.stringify(initializer)}; ` +
          'expected one of zeros(), constant(value), glorotUniform(), glorotNormal(), heUniform(), heNormal().',
      );
  }
}

const rounds = 8;

/** Uniform in [−limit, limit). */
function fillUniform(
  engine: Engine,
  { address, size }: Tensor,
  limit: number,
  seed: number,
  index: number,
): void {
  engine.scope(() => {
    const unit = engine.allocate([size], 'f32', 'initialize');
    engine.kernels.uniform(unit.address, size, writeKey(engine, seed, 'init'), 0, index, 0, 0, rounds);
    engine.kernels.fill(address, -limit, size);
    engine.kernels.addScaled(address, unit.address, 2 * limit, size);
  });
}

function fillNormal(
  engine: Engine,
  { address, size }: Tensor,
  std: number,
  seed: number,
  index: number,
): void {
  const key = writeKey(engine, seed, 'init');
  engine.kernels.addGaussian(address, 0, size, key, 0, index, 0, 0, rounds, std);
}
