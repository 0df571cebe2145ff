// A small private model with dropout, its data and its trainings, for the tests of accounts and checkpoints.
import {
  createAccountant,
  makePrivate,
  type PrivacyPhase,
  type PrivateTraining,
  type PrivateTrainingOptions,
} from 'gradshape/dp';
import { createEngineSync, type Dataset, type Parameters } from 'gradshape/engine';
import { dense, dropout, relu, sequential, sgd } from 'gradshape/nn';

export const engine = createEngineSync();
export const count = 60;
export const set = {
  x: Float32Array.from({ length: count * 4 }, (_, i) => Math.sin(i * i)),
  y: Int32Array.from({ length: count }, (_, i) => i % 2),
  shape: [4],
};
export const newData = (): Dataset => engine.dataset(set);
export const model = sequential(dense(4, 3), relu(), dropout(0.5), dense(3, 2));
export const newParams = (): Parameters => model.init(engine, { seed: 1 });

export type Changes = Partial<PrivateTrainingOptions>;
export type Arguments<T extends (...args: never[]) => unknown> = T extends (...args: infer P) => unknown
  ? P
  : never;

export function training(changes: Changes): PrivateTraining {
  return makePrivate({
    ...{ model, params: newParams(), data: newData(), optimizer: sgd({ learningRate: 0.1 }) },
    ...{ batchSize: 12, steps: 20, noiseMultiplier: 1 },
    ...(changes.shaper === undefined && { clipNorm: 1 }),
    ...changes,
  });
}

export function trained(changes: Changes, steps = Infinity): PrivateTraining {
  const run = training(changes);
  while (run.step < Math.min(steps, run.plan.steps)) run.next();
  return run;
}

export const delta = 1e-5;
export const epsilonOf = (phases: readonly PrivacyPhase[], name: 'rdp' | 'pld' = 'pld'): number =>
  createAccountant(name, phases).epsilon(delta).epsilon;
export const poisson = (steps: number, noiseMultiplier = 1): PrivacyPhase => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate: 12 / 60,
  noiseMultiplier,
  steps,
});
