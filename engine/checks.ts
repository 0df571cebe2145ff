import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import type { Parameters } from './parameters.js';
import { showShape, Tensor } from './tensor.js';

/** Weights of a sum over the batch: one number an example. */
export type Weights = Tensor | ArrayLike<number>;

function checkEngine(caller: string, tensor: Tensor, engine: Engine): void {
  if (tensor.engine === engine) return;
  throw new GradshapeError(
    'ENGINE_MISMATCH',
    `${caller}: ${tensor.toString()} lives in another engine than the parameters; expected one engine.`,
  );
}

/** Throws unless a tensor is laid out like the parameters. */
export function checkFlat(caller: string, tensor: Tensor, params: Parameters): void {
  checkEngine(caller, tensor, params.engine);
  if (tensor.dtype === 'f32' && tensor.size === params.size) return;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `${caller}: ${tensor.toString()}; expected f32 [${params.size}], laid out like the parameters.`,
  );
}

/** Throws unless there is a flat tensor for each row of weights, where any are given. */
export function checkSums(
  weights: readonly (Weights | null)[],
  into: readonly Tensor[] | undefined,
  params: Parameters,
): void {
  for (const tensor of into ?? []) checkFlat('weightedSums', tensor, params);
  if (into === undefined || into.length === weights.length) return;
  throw new GradshapeError(
    'SHAPE_MISMATCH',
    `weightedSums: ${weights.length} rows of weights and ${into.length} tensors to add to; expected one for each row.`,
  );
}

/** One row of weights as a tensor. */
export function weightsTensor(engine: Engine, weights: Weights, batch: number): Tensor {
  const tensor = weights instanceof Tensor ? weights : engine.tensor(weights);
  checkEngine('weightedSums', tensor, engine);
  if (tensor.dtype !== 'f32' || tensor.size !== batch) {
    throw new GradshapeError(
      'SHAPE_MISMATCH',
      `weightedSums: a row of weights is ${tensor.dtype} ${showShape(tensor.shape)}; expected f32 [${batch}], one number an example.`,
    );
  }
  return tensor;
}
