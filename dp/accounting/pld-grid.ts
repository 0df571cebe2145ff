/**
 * Privacy-loss distributions on a grid of losses {i·h}, rounded so that every δ(ε) of the grid is at least the true one.
 *
 * Mass between two grid points is shared between them so that the masses under P and under Q = exp(−loss)·P are both kept
 * ("connect the dots", Doroshenko, Ghazi, Kamath, Kumar and Manurangsi 2022): the grid's δ(ε) is then the chord of the true
 * one, which is convex in exp(ε). What float64 may have got wrong in a cell is moved up as well.
 */
import type { Direction } from './moments.js';
import { erfcx, normalCdf, normalQuantile } from './special-functions.js';

/** log of (1 − q) + q·exp(y): the loss where N(1, σ²)/N(0, σ²) = exp(y). */
function mixtureLoss(q: number, y: number): number {
  if (q === 1) return y;
  return y < 30 ? Math.log1p(q * Math.expm1(y)) : y + Math.log(q) + Math.log1p(((1 - q) / q) * Math.exp(-y));
}

/** The y with mixtureLoss(q, y) = loss; −∞ at or below log(1 − q). */
function inverseMixtureLoss(q: number, loss: number): number {
  if (q === 1) return loss;
  if (loss > 1) return loss + Math.log1p(-(1 - q) * Math.exp(-loss)) - Math.log(q);
  const ratio = Math.expm1(loss) / q;
  return ratio > -1 ? Math.log1p(ratio) : Number.NEGATIVE_INFINITY;
}

/** The outcome z where log (P/Q)(z) = logRatio; −∞ where no outcome has so low a ratio. */
export function outcomeAt({ q, sigma }: Pick<Step, 'q' | 'sigma'>, logRatio: number): number {
  return 0.5 + sigma * sigma * inverseMixtureLoss(q, logRatio);
}

/** The state at a cell's edge: tails of both normals beyond it, and the same under Q times exp(loss), with their error. */
interface Edge {
  readonly u: [number, number];
  readonly tail: [number, number];
  readonly scaled: [number, number];
  level: number;
  error: number;
}

const newEdge = (): Edge => ({ u: [0, 0], tail: [0, 0], scaled: [0, 0], level: 0, error: 0 });

/** Mass between two edges of one normal from the tails beyond each (taken on the side away from 0, where they're small). */
function between(ua: number, ub: number, a: number, b: number, total: number): number {
  if (ua >= 0) return a - b;
  return ub <= 0 ? b - a : total - a - b;
}

/** One step's loss distribution in one direction, as needed to fill a grid. */
class StepLoss {
  private readonly weightP: [number, number];
  private readonly weightQ: [number, number];
  private readonly sign: number;

  constructor(
    private readonly direction: Direction,
    private readonly q: number,
    private readonly sigma: number,
  ) {
    this.sign = direction === 'remove' ? 1 : -1;
    this.weightP = direction === 'remove' ? [1 - q, q] : [1, 0];
    this.weightQ = direction === 'remove' ? [1, 0] : [1 - q, q];
  }

  /** A loss that P exceeds with at most probability `tail` (upper), or stays below with at most that (lower). */
  quantile(side: 'upper' | 'lower', tail: number): number {
    const z = -normalQuantile(tail);
    const upward = (side === 'upper') === (this.direction === 'remove');
    const base = this.direction === 'remove' && side === 'upper' ? 0.5 : -0.5;
    return this.sign * mixtureLoss(this.q, (base / this.sigma + (upward ? z : -z)) / this.sigma);
  }

  /** Standardised outcome (distance to each normal's centre) at a loss, increasing in the loss. */
  private edge(loss: number, out: Edge): void {
    const y = inverseMixtureLoss(this.q, this.sign * loss) * this.sigma;
    out.level = Math.exp(loss);
    out.error = 0;
    for (let j = 0; j < 2; j++) {
      const u = this.sign * (y + (j === 0 ? 0.5 : -0.5) / this.sigma);
      out.u[j] = u;
      if (Math.abs(u) === Infinity) {
        out.tail[j] = 0;
        out.scaled[j] = 0;
        continue;
      }
      const mills = 0.5 * erfcx(Math.abs(u) * Math.SQRT1_2);
      const square = 0.5 * u * u;
      out.tail[j] = this.weightP[j]! * Math.exp(-square) * mills;
      out.scaled[j] = this.weightQ[j] === 0 ? 0 : this.weightQ[j]! * Math.exp(loss - square) * mills;
      const relative = 2e-16 * (8 + 4 * square + 2 * Math.abs(loss));
      out.error += relative * (out.tail[j]! + out.scaled[j]!);
    }
  }

  /** P[loss > x]. */
  above(x: number): number {
    const y = inverseMixtureLoss(this.q, this.sign * x) * this.sigma;
    const part = (shift: number): number => normalCdf(-this.sign * (y + shift / this.sigma));
    return this.weightP[0] * part(0.5) + this.weightP[1] * part(-0.5);
  }

  /** P[loss ≤ x]. */
  below(x: number): number {
    const y = inverseMixtureLoss(this.q, this.sign * x) * this.sigma;
    const part = (shift: number): number => normalCdf(this.sign * (y + shift / this.sigma));
    return this.weightP[0] * part(0.5) + this.weightP[1] * part(-0.5);
  }

  /** Shares the mass of the losses in [from, to] among the grid points beside them; mass[i] is that of point first + i. */
  fill(mass: Float64Array, first: number, { h, shift }: Grid, from: number, to: number): void {
    if (!(from < to)) return;
    const shrink = Math.exp(-h);
    const width = -Math.expm1(-h);
    let lo = newEdge();
    let hi = newEdge();
    this.edge(from, lo);
    const start = Math.max(first, Math.floor((from - shift) / h));
    const end = Math.min(first + mass.length - 1, Math.ceil((to - shift) / h));
    for (let i = start; i < end; i++) {
      const point = i * h + shift;
      const above = Math.min((i + 1) * h + shift, to);
      const below = Math.max(point, from);
      if (!(below < above)) continue;
      this.edge(above, hi);
      const ratio = Math.exp(below - above);
      let underP = 0;
      let underQ = 0; // times the exponential of the cell's lower end
      for (let j = 0; j < 2; j++) {
        underP += between(lo.u[j]!, hi.u[j]!, lo.tail[j]!, hi.tail[j]!, this.weightP[j]!);
        if (this.weightQ[j] === 0) continue;
        const total = this.weightQ[j]! * lo.level;
        underQ += between(lo.u[j]!, hi.u[j]!, lo.scaled[j]!, ratio * hi.scaled[j]!, total);
      }
      underP = Math.max(0, underP);
      const shared = (underQ * Math.exp(point - below) - shrink * underP - lo.error - hi.error) / width;
      const lower = Math.min(Math.max(0, shared), underP);
      mass[i - first]! += lower;
      mass[i + 1 - first]! += underP - lower;
      [lo, hi] = [hi, lo];
    }
  }
}

/** The grid of losses shift + i·h. */
export interface Grid {
  h: number;
  shift: number;
}

/** A loss distribution on the grid points from `first` on, and the mass counted as an infinite loss. */
export interface GridLoss {
  first: number;
  mass: Float64Array;
  infinite: number;
}

/** Where one step's finite losses lie, up to `tail` probability at either end. */
export interface LossRange {
  lowest: number;
  highest: number;
}

export interface Step {
  sampling: 'none' | 'poisson' | 'fixed-size';
  q: number;
  /** Noise standard deviation over the sensitivity. */
  sigma: number;
}

/**
 * Without replacement and under replace-one, δ at ε ≥ 0 is that of the mixture against its base and at ε < 0 that of the
 * base against the mixture, whichever data set comes first (Balle, Barthe and Gaboardi 2018, theorem 9 with advanced joint
 * convexity; as a dominating pair: Zhu, Dong and Wang 2022, theorem 11). So: positive losses of 'remove', negative of 'add',
 * and the rest of the mass at loss 0.
 */
function sides(step: Step, direction: Direction): { upper: StepLoss; lower: StepLoss } {
  if (step.sampling === 'fixed-size') {
    return {
      upper: new StepLoss('remove', step.q, step.sigma),
      lower: new StepLoss('add', step.q, step.sigma),
    };
  }
  const only = new StepLoss(direction, step.q, step.sigma);
  return { upper: only, lower: only };
}

export function lossRange(step: Step, direction: Direction, tail: number): LossRange {
  const { upper, lower } = sides(step, direction);
  return { lowest: lower.quantile('lower', tail), highest: upper.quantile('upper', tail) };
}

/**
 * One step's losses between −`within` and `within` on a grid, with all that lies beyond `range`: below, it is raised to the
 * lowest point, and above, it becomes infinite. Losses in `range` further out than `within` are left out.
 */
export function discretise(
  step: Step,
  direction: Direction,
  h: number,
  range: LossRange,
  within = Infinity,
): GridLoss {
  const { upper, lower } = sides(step, direction);
  const from = Math.max(range.lowest, -within);
  const to = Math.min(range.highest, within);
  const first = Math.floor(from / h);
  const last = Math.max(first + 1, Math.ceil(to / h));
  const grid = { h, shift: 0 };
  const mass = new Float64Array(last - first + 1);
  mass[Math.ceil(from / h) - first]! += lower.below(range.lowest);
  lower.fill(mass, first, grid, from, Math.min(to, 0));
  upper.fill(mass, first, grid, Math.max(from, 0), to);
  if (upper !== lower) mass[-first]! += 1 - upper.above(0) - lower.below(0);
  return { first, mass, infinite: upper.above(range.highest) };
}

/** One step's losses in `range` further out than `beyond`, on a grid that holds 0 + shift among its points. */
export function discretiseOuter(
  step: Step,
  direction: Direction,
  grid: Grid,
  range: LossRange,
  beyond: number,
): GridLoss {
  const { upper, lower } = sides(step, direction);
  const { h, shift } = grid;
  const first = Math.min(0, Math.floor((range.lowest - shift) / h));
  const last = Math.max(1, Math.ceil((range.highest - shift) / h));
  const mass = new Float64Array(last - first + 1);
  lower.fill(mass, first, grid, range.lowest, -beyond);
  upper.fill(mass, first, grid, beyond, range.highest);
  return { first, mass, infinite: 0 };
}
