import {
  choose,
  type Engine,
  GradshapeError,
  type LabelledSet,
  publicGenerator,
  sizeOf,
} from '../engine/index.js';
import { otherLabels } from './label-flip.js';
import { LogisticObjective, type Theta, type Weighted } from './logistic.js';
import { iterate, type LongCraft } from './long-craft.js';
import { takeExamples } from './patch.js';
import {
  type Budget,
  budgetCount,
  copyExamples,
  type PoisonedSet,
  scaledValues,
  withAdded,
} from './poisoned-set.js';

export interface GradientPoisonParameters {
  /** Distinct poisons; the budget is copies of them. @default 10, or the budget when that is less */
  readonly points?: number;
  /** Steps on the poisons. @default 20 */
  readonly iterations?: number;
  /** How far a step moves the poison whose gradient is largest, per pixel. @default 0.1 */
  readonly stepSize?: number;
  /** Examples of the base that the attacker's model is trained on, chosen at random. @default 2000, or all */
  readonly examples?: number;
  /** Gradient-descent steps that train the attacker's model, from 0. @default 50 */
  readonly trainingSteps?: number;
  /** Their learning rate. @default 0.03 */
  readonly learningRate?: number;
  /** Weight of ‖theta‖²/2 in the model's loss. @default 0.01 */
  readonly decay?: number;
  /** Whether poisons stay in [0, 1]. @default true */
  readonly box?: boolean;
}

export type GradientPoisonOptions = Budget &
  GradientPoisonParameters & {
    readonly seed: number;
    readonly engine: Engine;
  } & LongCraft<GradientPoisonState>;

/** Where the attack stands: plain numbers. */
export interface GradientPoisonState {
  readonly iteration: number;
  /** The mean clean cross-entropy of the model trained with the best poisons so far. */
  readonly objective: number;
  readonly x: readonly number[];
  readonly best: readonly number[];
}

type Settings = Required<GradientPoisonParameters> & { readonly seed: number; readonly count: number };

/**
 * Influence-function poisons for logistic regression (Koh and Liang 2017, §5.2): points start as random training images
 * with another label, and climb the gradient of the clean loss, which the implicit function theorem gives at the trained
 * model: −∇ₓ⟨H⁻¹∇L_clean, ∇L(x)⟩, with H⁻¹ by conjugate gradients.
 * @throws BUDGET_INVALID, SEED_INVALID, OPTION_INVALID, CRAFT_ABORTED
 * @example const poisoned = await influencePoisons(set, { engine, ratio: 0.05, seed: 1 });
 */
export function influencePoisons(base: LabelledSet, options: GradientPoisonOptions): Promise<PoisonedSet> {
  return craft('influence', base, options, (game, x) => {
    const { theta } = game.train(x);
    const { loss, gradient } = game.cleanLoss(theta);
    return { loss, gradient: game.through(theta, game.solve(theta, gradient, x), x) };
  });
}

/**
 * Back-gradient poisons for logistic regression (Muñoz-González et al. 2017, algorithm 2): as `influencePoisons`, but the
 * gradient goes back through the steps of gradient descent that trained the model.
 * @throws BUDGET_INVALID, SEED_INVALID, OPTION_INVALID, CRAFT_ABORTED
 * @example const poisoned = await backGradientPoisons(set, { engine, ratio: 0.05, seed: 1 });
 */
export function backGradientPoisons(base: LabelledSet, options: GradientPoisonOptions): Promise<PoisonedSet> {
  return craft('back-gradient', base, options, (game, x) => {
    const { theta, path } = game.train(x);
    const { loss, gradient } = game.cleanLoss(theta);
    return { loss, gradient: game.backwards(path, gradient, x) };
  });
}

/** The clean loss after training with the poisons x, and its gradient with respect to them. */
type Climb = (game: Game, x: Float32Array) => { loss: number; gradient: Float32Array };

async function craft(
  attack: string,
  base: LabelledSet,
  options: GradientPoisonOptions,
  climb: Climb,
): Promise<PoisonedSet> {
  const settings = checked(attack, base, options);
  const { count, points, seed, stepSize, box } = settings;
  const spec = { attack, ...settings };
  const chosen = choose(points, base.y.length, publicGenerator(seed, 'poison'));
  const classes = Math.max(...new Set(Array.from(base.y)), 1) + 1;
  const labels = otherLabels(base, chosen, { count: points, mode: 'add', classes, seed });
  const first = Array.from(takeExamples(base, chosen, 0).x);
  if (count === 0) return withAdded(base, copyExamples(base, [], new Int32Array(0)), spec);
  const game = new Game(options.engine, base, labels, classes, settings);
  const start = { iteration: 0, objective: 0, x: first, best: first };
  // The last iteration only measures where the one before it went.
  const step = (state: GradientPoisonState): GradientPoisonState => {
    const x = Float32Array.from(state.x);
    const { loss, gradient } = climb(game, x);
    const better = loss > state.objective;
    const largest = gradient.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
    const moved = x.map((value, i) => {
      const next = value + (stepSize * gradient[i]!) / largest;
      return box ? Math.min(1, Math.max(0, next)) : next;
    });
    return {
      iteration: state.iteration + 1,
      objective: better ? loss : state.objective,
      x: Array.from(moved),
      best: better ? state.x : state.best,
    };
  };
  const end = await iterate(attack, start, settings.iterations + 1, step, options);
  const size = sizeOf(base.shape);
  const x = new Float32Array(count * size);
  const y = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const point = i % points;
    x.set(end.best.slice(point * size, (point + 1) * size), i * size);
    y[i] = labels[point]!;
  }
  return withAdded(base, { x, y, shape: base.shape }, spec);
}

/** The attacker's model and what is known of it. */
class Game {
  private readonly objective: LogisticObjective;
  /** What the attacker wants to raise: without the model's decay. */
  private readonly goal: LogisticObjective;
  private readonly clean: Weighted;

  constructor(
    engine: Engine,
    base: LabelledSet,
    private readonly labels: Int32Array,
    classes: number,
    private readonly settings: Settings,
  ) {
    const { seed, examples, decay } = settings;
    const sample = choose(examples, base.y.length, publicGenerator(seed, 'sampler'));
    const taken = copyExamples(
      base,
      sample,
      sample.map((i) => base.y[i]!),
    );
    this.clean = { x: scaledValues(taken), y: Int32Array.from(taken.y), weight: 1 / examples };
    this.objective = new LogisticObjective(engine, sizeOf(base.shape), classes, decay);
    this.goal = new LogisticObjective(engine, sizeOf(base.shape), classes, 0);
    this.share = settings.count / base.y.length / settings.points;
  }

  /** The weight of one distinct poison: its copies, as a share of the base. */
  private readonly share: number;

  private sets(x: Float32Array): Weighted[] {
    return [this.clean, { x, y: this.labels, weight: this.share }];
  }

  /** Gradient descent from 0; the path holds theta before each step. */
  train(x: Float32Array): { theta: Theta; path: Theta[] } {
    const { trainingSteps, learningRate } = this.settings;
    const path: Theta[] = [];
    let theta: Theta = new Float32Array(this.objective.parameters);
    for (let step = 0; step < trainingSteps; step++) {
      path.push(theta);
      const { gradient } = this.objective.gradient(theta, this.sets(x));
      theta = theta.map((value, i) => value - learningRate * gradient[i]!);
    }
    return { theta, path };
  }

  cleanLoss(theta: Theta): { loss: number; gradient: Float32Array } {
    return this.goal.gradient(theta, [this.clean]);
  }

  /** −∇ₓ⟨direction, ∇L(theta; x)⟩ */
  through(theta: Theta, direction: Theta, x: Float32Array): Float32Array {
    return this.objective.second(theta, direction, this.sets(x)).inputs.map((value) => -value);
  }

  /** H⁻¹ · gradient (Hestenes and Stiefel 1952), to a thousandth. */
  solve(theta: Theta, gradient: Float32Array, x: Float32Array): Theta {
    const dot = (a: Float64Array, b: Float64Array): number =>
      a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    const solution = new Float64Array(gradient.length);
    let rest = Float64Array.from(gradient);
    let direction = rest;
    let size = dot(rest, rest);
    const enough = size * 1e-6;
    for (let iteration = 0; iteration < 30 && size > enough; iteration++) {
      const { hessian } = this.objective.second(theta, Float32Array.from(direction), this.sets(x));
      const image = Float64Array.from(hessian);
      const length = size / dot(direction, image);
      direction.forEach((value, i) => {
        solution[i]! += length * value;
      });
      rest = rest.map((value, i) => value - length * image[i]!);
      const next = dot(rest, rest);
      const keep = next / size;
      direction = direction.map((value, i) => rest[i]! + keep * value);
      size = next;
    }
    return Float32Array.from(solution);
  }

  /** The gradient with respect to x, back through every training step. */
  backwards(path: readonly Theta[], gradient: Float32Array, x: Float32Array): Float32Array {
    const { learningRate } = this.settings;
    let direction: Theta = gradient;
    const total = new Float32Array(x.length);
    for (let step = path.length - 1; step >= 0; step--) {
      const { hessian, inputs } = this.objective.second(path[step]!, direction, this.sets(x));
      inputs.forEach((value, i) => {
        total[i]! -= learningRate * value;
      });
      direction = direction.map((value, i) => value - learningRate * hessian[i]!);
    }
    return total;
  }
}

function checked(attack: string, base: LabelledSet, options: GradientPoisonOptions): Settings {
  const n = base.y.length;
  const count = budgetCount(attack, options, n);
  const {
    seed,
    points = Math.min(10, Math.max(1, count)),
    iterations = 20,
    stepSize = 0.1,
    examples = Math.min(2000, n),
    trainingSteps = 50,
    learningRate = 0.03,
    decay = 0.01,
    box = true,
  } = options;
  const limits = { points: Math.max(1, count), examples: n, iterations: 1e9, trainingSteps: 1e9 };
  const whole = { points, examples, iterations, trainingSteps };
  for (const [name, limit] of Object.entries(limits)) {
    const value = whole[name as keyof typeof whole];
    if (Number.isInteger(value) && value >= 1 && value <= limit) continue;
    throw invalid(`${name} is ${value}; expected a whole number from 1 to ${limit}`);
  }
  for (const [name, value] of Object.entries({ stepSize, learningRate })) {
    if (!(value > 0 && value < Infinity)) throw invalid(`${name} is ${value}; expected a number above 0`);
  }
  if (!(decay >= 0 && decay < Infinity)) throw invalid(`decay is ${decay}; expected a number of at least 0`);
  return { seed, count, points, iterations, stepSize, examples, trainingSteps, learningRate, decay, box };

  function invalid(what: string): GradshapeError {
    return new GradshapeError('OPTION_INVALID', `${attack}: ${what}.`);
  }
}
