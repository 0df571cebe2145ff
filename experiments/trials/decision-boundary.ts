import {
  createEngineSync,
  dense,
  type Engine,
  evaluate,
  type Parameters,
  privateStep,
  relu,
  reshape,
  type Sequential,
  seededNoise,
  sequential,
  sgd,
  softmax,
  trainEpoch,
  vanillaStep,
} from 'gradshape';
import { fromNdarray, rowMajor, toNdarray } from 'gradshape/ndarray';
import ndarray, { type NdArray } from 'ndarray';
import { twoMoons } from '../data/two-moons.js';
import { defineTrial, remember } from '../harness/index.js';

export interface DecisionBoundarySpec {
  /** Standard deviation of the moons' noise. */
  readonly moonNoise: number;
  /** Units of each of the two hidden layers. */
  readonly hidden: number;
  /** C, or null for vanilla training. */
  readonly clipNorm: number | null;
  /** σ: the noise's standard deviation is C × σ on the sum of a batch. */
  readonly noiseMultiplier: number;
  readonly learningRate: number;
  readonly batchSize: number;
  readonly epochs: number;
  /** Cells of the grid along each axis. */
  readonly cells: number;
}

export interface DecisionBoundaryResult {
  readonly train: number;
  readonly test: number;
  /** Probability of class 1 at the cells' centres, row by row from the bottom, to three digits. */
  readonly grid: readonly number[];
  /** Share of the cells where neither class has 90 %. */
  readonly uncertain: number;
  /** Length of the boundary between the classes' cells, in the plane's units. */
  readonly boundary: number;
  /** Norm of all weights. */
  readonly weightNorm: number;
}

/** What the grid covers: [left, bottom] and [right, top]. */
export const field = { from: [-1.6, -1.1], to: [2.6, 1.6] } as const;

/** An MLP on two moons, and how sure it is of each place in the plane. */
export const decisionBoundary = defineTrial<DecisionBoundarySpec, DecisionBoundaryResult>({
  module: import.meta.url,
  name: 'decision-boundary',
  version: 2,
  description: 'An MLP on two moons, vanilla or private: its confidence over the plane',
  defaults: {
    moonNoise: 0.15,
    hidden: 64,
    clipNorm: null,
    noiseMultiplier: 0,
    learningRate: 0.1,
    batchSize: 50,
    epochs: 100,
    cells: 40,
  },
  run(spec, { kernels, memo }) {
    const { moonNoise, hidden, epochs, batchSize, learningRate, clipNorm, noiseMultiplier, seed } = spec;
    const engine = remember(memo, 'engine', () => createEngineSync({ kernels }));
    const points = twoMoons({ count: 1000, noise: moonNoise, seed: seed.data });
    const part = (from: number, to: number) =>
      engine.dataset({ x: points.x.slice(2 * from, 2 * to), y: points.y.slice(from, to), shape: [2] });
    using train = part(0, 700);
    using test = part(700, 1000);
    const model = sequential(dense(2, hidden), relu(), dense(hidden, hidden), relu(), dense(hidden, 2));
    using params = model.init(engine, { seed: seed.init });
    using optimizer = sgd({ learningRate });
    const step =
      clipNorm === null
        ? vanillaStep({ params, optimizer })
        : privateStep({
            ...{ params, optimizer, clipNorm, noiseMultiplier },
            expectedBatchSize: batchSize,
            noise: seededNoise(seed.noise),
          });
    for (let epoch = 0; epoch < epochs; epoch++) {
      trainEpoch({ model, params, data: train, step, batchSize, seed: seed.order }, epoch);
    }
    step.free();
    const grid = confidences(engine, model, params, spec.cells);
    const values = Array.from(rowMajor(grid));
    return {
      train: evaluate(model, params, train).accuracy,
      test: evaluate(model, params, test).accuracy,
      grid: values.map((p) => Math.round(p * 1000) / 1000),
      uncertain: values.filter((p) => Math.max(p, 1 - p) < 0.9).length / values.length,
      boundary: boundaryLength(grid),
      weightNorm: Math.sqrt(params.values().reduce((sum, w) => sum + w * w, 0)),
    };
  },
});

/** The cells' centres: [row, column, axis], rows from the bottom. */
export function centres(cells: number): NdArray<Float32Array> {
  const at = (axis: 0 | 1, i: number) =>
    field.from[axis] + ((i + 0.5) * (field.to[axis] - field.from[axis])) / cells;
  const places = ndarray(new Float32Array(cells * cells * 2), [cells, cells, 2]);
  for (let row = 0; row < cells; row++) {
    for (let column = 0; column < cells; column++) {
      places.set(row, column, 0, at(0, column));
      places.set(row, column, 1, at(1, row));
    }
  }
  return places;
}

/** Probability of class 1 at each cell: [row, column], rows from the bottom. */
type Grid = NdArray<Float32Array>;

function confidences(engine: Engine, model: Sequential, params: Parameters, cells: number): Grid {
  return engine.scope(() => {
    const x = reshape(fromNdarray(engine, centres(cells)), [cells * cells, 2]);
    const probabilities = reshape(softmax(model.predict(params, x)), [cells, cells, 2]);
    return toNdarray(probabilities, { copy: true }).pick(null, null, 1) as Grid;
  });
}

/** The sides between neighbouring cells of different classes, added up. */
export function boundaryLength(grid: Grid): number {
  const [rows, columns] = grid.shape as [number, number];
  const width = (field.to[0] - field.from[0]) / columns;
  const height = (field.to[1] - field.from[1]) / rows;
  const isLower = (row: number, column: number) => grid.get(row, column) >= 0.5;
  let length = 0;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const own = isLower(row, column);
      if (column + 1 < columns && isLower(row, column + 1) !== own) length += height;
      if (row + 1 < rows && isLower(row + 1, column) !== own) length += width;
    }
  }
  return length;
}
