import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { choose, GradshapeError, type LabelledSet, publicGenerator, sizeOf } from '../engine/index.js';
import {
  addHinge,
  type Copies,
  type DualAveraging,
  dualStep,
  hingeLearner,
  hingeOf,
  meanHinge,
  thetaOf,
  type WeightedPoint,
} from './hinge.js';
import { maximizeLinear } from './linear-maximum.js';
import { iterate, type LongCraft } from './long-craft.js';
import {
  largestFeasible,
  movedCentroids,
  movingCentroidPoints,
  type PoisonPoint,
} from './moving-centroids.js';
import {
  type Budget,
  budgetCount,
  checkBetween,
  type PoisonedSet,
  scaledValues,
  withAdded,
} from './poisoned-set.js';
import { outsideBy, type Rows, type SphereAndSlab, sphereAndSlab } from './sphere-and-slab.js';
import { minus, type Vector } from './vectors.js';

export interface SlabParameters {
  /** Sphere and slab are as wide as this quantile of the clean examples of a class. @default 0.65 */
  readonly quantile?: number;
  /** Whose centroids the defender measures from: those of the poisoned set (the stronger attack), or of the clean set. @default 'poisoned' */
  readonly centroids?: 'poisoned' | 'clean';
  /** Whether poisons stay in [0, 1], or the sphere and the slab alone bound them. @default true */
  readonly box?: boolean;
  /** Steps of online learning, at each learning rate. @default 30 */
  readonly iterations?: number;
  /** ρ: the model's weights and bias stay in a ball of this radius. @default 8 */
  readonly radius?: number;
  /** η: 1/η is the first λ. Of several, each is played, and the poisons kept that do the most damage. @default [0.003, 0.01, 0.03] */
  readonly learningRate?: number | readonly number[];
  /** Random divisions of the poisons among the points tried at each step, beside the one by class frequency. @default 10 */
  readonly divisions?: number;
  /** A hinge learner is trained on the set, and the poisons kept if they are the best so far, every so many steps. @default 3 */
  readonly evaluateEvery?: number;
}

export type SlabOptions = Budget & SlabParameters & { readonly seed: number } & LongCraft<SlabState>;

/** Where the attack stands: plain numbers. */
export interface SlabState {
  /** Steps done, over all learning rates. */
  readonly iteration: number;
  /** The clean hinge loss of a learner trained on the set with the best poisons so far, and the η that they came from. */
  readonly objective: number;
  readonly learningRate: number;
  readonly z: readonly number[];
  readonly lambda: number;
  /** The last step's poisons, and the best so far. */
  readonly last: readonly SlabPoint[];
  readonly best: readonly SlabPoint[];
}

/** A distinct poison and how many copies of it there are. */
export interface SlabPoint extends PoisonPoint {
  readonly x: readonly number[];
}

type Settings = Required<SlabParameters> & {
  readonly learningRate: readonly number[];
  readonly count: number;
  readonly seed: number;
};

const defaults = {
  quantile: 0.65,
  centroids: 'poisoned',
  box: true,
  iterations: 30,
  radius: 8,
  learningRate: [0.003, 0.01, 0.03],
  divisions: 10,
  evaluateEvery: 3,
} as const satisfies SlabParameters;

/**
 * The min-max attack of Steinhardt, Koh and Liang (2017, "Certified defenses for data poisoning attacks") on two classes:
 * poisons inside the sphere and the slab of an outlier filter that raise the clean hinge loss of whoever trains on the set.
 *
 * Online learning plays the defender's model θ against the attacker: a step takes the feasible points of the largest
 * hinge loss at θ, then moves θ by dual averaging on clean + poison loss. All poisons are copies of at most four points,
 * two a class; with centroids of the poisoned set one of the two is free to shift them (the authors' "slab" script). The
 * poisons of the step after which a retrained hinge learner has the largest clean loss are the result.
 *
 * With `box` the points are clipped to [0, 1] and then pulled towards the clean centroids until they are feasible: with
 * the clean set's centroids the optimum is found under the box itself.
 * @param base with labels 0 and 1
 * @throws BUDGET_INVALID, SEED_INVALID, LABEL_OUT_OF_RANGE, OPTION_INVALID, INFEASIBLE, CRAFT_ABORTED
 * @example const poisoned = await slabAttack(set, { ratio: 0.4, seed: 1, onProgress: ({ objective }) => console.log(objective) });
 */
export async function slabAttack(base: LabelledSet, options: SlabOptions): Promise<PoisonedSet> {
  const settings = checked(base, options);
  const { count } = settings;
  const spec = { attack: 'slab', ...settings };
  const empty = new Float32Array(0);
  if (count === 0) return withAdded(base, { x: empty, y: new Int32Array(0), shape: base.shape }, spec);
  const play = new SlabGame(base, settings);
  const steps = settings.iterations * settings.learningRate.length;
  const end = await iterate('slabAttack', play.start(), steps, (s) => play.step(s), options);
  const size = sizeOf(base.shape);
  const x = new Float32Array(count * size);
  const y = new Int32Array(count);
  let at = 0;
  for (const point of end.best) {
    for (let copy = 0; copy < point.count; copy++, at++) {
      x.set(point.x, at * size);
      y[at] = point.label;
    }
  }
  return withAdded(base, { x, y, shape: base.shape }, spec);
}

/** The attack's fixed parts. */
class SlabGame {
  private readonly rows: Rows;
  private readonly clean: readonly [number, number];
  private readonly constraints: SphereAndSlab;
  private readonly directions: readonly Vector[];

  constructor(
    base: LabelledSet,
    private readonly settings: Settings,
  ) {
    const size = sizeOf(base.shape);
    this.rows = { x: scaledValues(base), y: base.y, size };
    const n = base.y.length;
    const ones = Array.from(base.y).reduce((sum, label) => sum + label, 0);
    this.clean = [n - ones, ones];
    this.constraints = sphereAndSlab(this.rows, settings.quantile);
    checkRoom(this.constraints, settings.box);
    // Towards training images: what a point takes of a direction that the attack leaves free then looks like data.
    this.directions = Array.from(choose(4, n, publicGenerator(settings.seed, 'poison')), (i) =>
      Float64Array.from(this.rows.x.subarray(i * size, (i + 1) * size)),
    );
  }

  start(): SlabState {
    const learningRate = this.settings.learningRate[0]!;
    return { iteration: 0, objective: 0, learningRate, z: [], lambda: 0, last: [], best: [] };
  }

  step(state: SlabState): SlabState {
    const { iterations, evaluateEvery, radius, learningRate, seed } = this.settings;
    const step = state.iteration % iterations;
    const eta = learningRate[Math.floor(state.iteration / iterations)]!;
    const at = step === 0 ? this.opening(eta) : { z: Float64Array.from(state.z), lambda: state.lambda };
    const theta = thetaOf(at);
    const last = this.strongest(theta, step, step === 0 ? [] : state.last);
    const points = this.weighted(last);
    const clean = meanHinge(this.rows, theta);
    const { z, lambda } = dualStep(at, addHinge(clean, points, theta).gradient, radius);
    const moved = { ...state, iteration: state.iteration + 1, z: Array.from(z), lambda, last };
    if ((step + 1) % evaluateEvery !== 0 && step + 1 !== iterations) return moved;
    const objective = meanHinge(this.rows, hingeLearner(this.rows, points, { radius, seed })).value;
    const better = objective > state.objective || state.best.length === 0;
    return better ? { ...moved, objective, learningRate: eta, best: last } : moved;
  }

  /** The model after one step on the clean set alone: at θ = 0 every poison is as good as any other. */
  private opening(eta: number): DualAveraging {
    const zero = { z: new Float64Array(this.rows.size + 1), lambda: 1 / eta };
    return dualStep(zero, meanHinge(this.rows, zero.z).gradient, this.settings.radius);
  }

  private weighted(points: readonly SlabPoint[]): (WeightedPoint & Copies)[] {
    const n = this.rows.y.length;
    return points.map(({ x, label, count }) => ({
      x: Float64Array.from(x),
      label,
      count,
      weight: count / n,
    }));
  }

  /** The feasible points whose losses weigh most at theta, over the divisions that are tried. */
  private strongest(theta: Vector, step: number, before: readonly SlabPoint[]): SlabPoint[] {
    let best: SlabPoint[] = [];
    let most = -Infinity;
    for (let trial = 0; trial <= this.settings.divisions; trial++) {
      const points = this.division(step, trial);
      const vectors = this.optimal(points, theta, before);
      const loss = points.reduce(
        (sum, { label, count }, i) => sum + count * hingeOf(vectors[i]!, label, theta),
        0,
      );
      if (loss > most) {
        most = loss;
        best = points.map((point, i) => ({ ...point, x: Array.from(vectors[i]!) }));
      }
    }
    return best;
  }

  /** How the poisons are divided: by class frequency, or uniformly at random among all divisions. */
  private division(step: number, trial: number): PoisonPoint[] {
    const { count, seed, centroids } = this.settings;
    const free = centroids === 'poisoned' && trial > 0;
    const kinds = [true, ...(free ? [false] : [])].flatMap((bearsLoss) =>
      [0, 1].map((label) => ({ label, bearsLoss })),
    );
    const n = this.rows.y.length;
    const cuts =
      trial === 0
        ? [Math.round((count * this.clean[0]) / n)]
        : this.randomCuts(kinds.length - 1, seed, step, trial);
    const ends = [...cuts, count];
    return kinds
      .map((kind, i) => ({ ...kind, count: ends[i]! - (ends[i - 1] ?? 0) }))
      .filter((point) => point.count > 0);
  }

  private randomCuts(pieces: number, seed: number, step: number, trial: number): number[] {
    const generator = publicGenerator(seed, 'poison', 1 + step * (this.settings.divisions + 1) + trial);
    return Array.from({ length: pieces }, () => uniformInt(generator, 0, this.settings.count)).sort(
      (a, b) => a - b,
    );
  }

  private optimal(points: readonly PoisonPoint[], theta: Vector, before: readonly SlabPoint[]): Vector[] {
    const weights = theta.subarray(0, this.rows.size);
    if (this.settings.centroids === 'clean') return points.map(({ label }) => this.farthest(weights, label));
    const { clean, constraints, directions } = this;
    const like = ({ label, bearsLoss }: PoisonPoint): Vector | undefined => {
      const found = before.find((point) => point.label === label && point.bearsLoss === bearsLoss);
      return found && Float64Array.from(found.x);
    };
    const start = points.map((point) => like(point) ?? constraints.centroids[point.label as 0 | 1]);
    const found = movingCentroidPoints({
      points,
      clean,
      constraints,
      theta: weights,
      directions: directions.slice(0, points.length),
      start: before.length > 0 ? start : null,
    });
    return this.insideAll(points, found);
  }

  private farthest(weights: Vector, label: number): Vector {
    const { centroids, radii, halfWidths } = this.constraints;
    const centre = centroids[label as 0 | 1];
    const box = this.settings.box
      ? { low: centre.map((value) => -value), high: centre.map((value) => 1 - value) }
      : {};
    const { z } = maximizeLinear({
      objective: label === 0 ? weights : weights.map((value) => -value),
      radius: radii[label as 0 | 1],
      normal: minus(centroids[1], centroids[0]),
      halfWidth: halfWidths[label as 0 | 1],
      ...box,
    });
    return z.map((value, i) => centre[i]! + value);
  }

  /** Clipped to the box, if there is one, and pulled towards the clean centroids until the moved constraints hold. */
  private insideAll(points: readonly PoisonPoint[], vectors: readonly Vector[]): Vector[] {
    const { centroids } = this.constraints;
    const clipped = this.settings.box
      ? vectors.map((vector) => vector.map((value) => Math.min(1, Math.max(0, value))))
      : vectors;
    // As the file will hold them: float32.
    const pulled = (share: number): Vector[] =>
      clipped.map((vector, i) => {
        const centre = centroids[points[i]!.label as 0 | 1];
        return vector.map((value, j) => Math.fround(centre[j]! + share * (value - centre[j]!)));
      });
    return largestFeasible(pulled, (at) => this.feasible(points, at));
  }

  private feasible(points: readonly PoisonPoint[], vectors: readonly Vector[]): boolean {
    const centroids = movedCentroids(points, this.clean, this.constraints.centroids, vectors);
    const moved = { ...this.constraints, centroids };
    return vectors.every((vector, i) => outsideBy(moved, vector, points[i]!.label as 0 | 1) <= 1e-7);
  }
}

function checked(base: LabelledSet, options: SlabOptions): Settings {
  const caller = 'slabAttack';
  const given = Object.entries(defaults).map(([name, value]) => [
    name,
    options[name as keyof SlabParameters] ?? value,
  ]);
  const settings = {
    ...(Object.fromEntries(given) as Required<SlabParameters>),
    learningRate: [options.learningRate ?? defaults.learningRate].flat(),
    count: budgetCount(caller, options, base.y.length),
    seed: options.seed,
  };
  publicGenerator(settings.seed, 'poison'); // throws unless it is a seed
  const labels = new Set(Array.from(base.y));
  if (labels.size !== 2 || !labels.has(0) || !labels.has(1)) {
    throw new GradshapeError(
      'LABEL_OUT_OF_RANGE',
      `${caller}: the set's labels are ${[...labels].sort().join(', ')}; expected two classes, 0 and 1.`,
    );
  }
  checkBetween('OPTION_INVALID', `${caller}: quantile`, settings.quantile, 0, 1);
  for (const name of ['iterations', 'evaluateEvery'] as const) {
    if (!Number.isInteger(settings[name]) || settings[name] < 1) {
      throw invalid(`${name} is ${settings[name]}; expected a whole number of at least 1`);
    }
  }
  if (!Number.isInteger(settings.divisions) || settings.divisions < 0) {
    throw invalid(`divisions is ${settings.divisions}; expected a whole number of at least 0`);
  }
  const { learningRate, radius } = settings;
  if (!(radius > 0 && radius < Infinity)) throw invalid(`radius is ${radius}; expected a number above 0`);
  if (learningRate.length === 0 || !learningRate.every((rate) => rate > 0 && rate < Infinity)) {
    throw invalid(`learningRate is ${learningRate.join(', ')}; expected numbers above 0`);
  }
  if (settings.centroids !== 'poisoned' && settings.centroids !== 'clean') {
    throw invalid(`centroids is '${String(settings.centroids)}'; expected 'poisoned' or 'clean'`);
  }
  return settings;

  function invalid(what: string): GradshapeError {
    return new GradshapeError('OPTION_INVALID', `${caller}: ${what}.`);
  }
}

/** Throws INFEASIBLE unless every sphere and slab has room for poisons, and their centres are in the box. */
function checkRoom({ centroids, radii, halfWidths }: SphereAndSlab, box: boolean): void {
  for (const label of [0, 1] as const) {
    const [radius, halfWidth] = [radii[label], halfWidths[label]];
    if (!(radius > 0 && radius < Infinity && halfWidth > 0 && halfWidth < Infinity)) {
      throw new GradshapeError(
        'INFEASIBLE',
        `slabAttack: class ${label}'s sphere has radius ${radius} and its slab half width ${halfWidth}; expected both above 0 and finite. The examples must differ, and the quantile leave some of them inside.`,
      );
    }
    const outside = centroids[label].find((value) => !(value >= 0 && value <= 1));
    if (box && outside !== undefined) {
      throw new GradshapeError(
        'INFEASIBLE',
        `slabAttack: class ${label}'s centroid holds ${outside}, and poisons are to stay in [0, 1]; expected a set scaled to [0, 1], or box: false.`,
      );
    }
  }
}
