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

  /** Shares the mass of the cells between grid points `from` and `to` among those points; mass[i] is point first + i. */
  fill(mass: Float64Array, first: number, from: number, to: number, h: number): void {
    const shrink = Math.exp(-h);
    const width = -Math.expm1(-h);
    let lo = newEdge();
    let hi = newEdge();
    this.edge(from * h, lo);
    for (let i = from; i < to; i++) {
      this.edge((i + 1) * h, hi);
      let underP = 0;
      let underQ = 0; // times exp(i·h)
      for (let j = 0; j < 2; j++) {
        underP += between(lo.u[j]!, hi.u[j]!, lo.tail[j]!, hi.tail[j]!, this.weightP[j]!);
        if (this.weightQ[j] === 0) continue;
        const total = this.weightQ[j]! * lo.level;
        underQ += between(lo.u[j]!, hi.u[j]!, lo.scaled[j]!, shrink * hi.scaled[j]!, total);
      }
      underP = Math.max(0, underP);
      const shared = (underQ - shrink * underP - lo.error - hi.error) / width;
      const lower = Math.min(Math.max(0, shared), underP);
      mass[i - first]! += lower;
      mass[i + 1 - first]! += underP - lower;
      [lo, hi] = [hi, lo];
    }
  }
}

/** A loss distribution on the points (first + i)·h, and the mass counted as an infinite loss. */
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

/** One step on the grid of width h: mass below `range` is raised to its lower end, mass above it becomes infinite. */
export function discretise(step: Step, direction: Direction, h: number, range: LossRange): GridLoss {
  const { upper, lower } = sides(step, direction);
  const first = Math.floor(range.lowest / h);
  const last = Math.max(first + 1, Math.ceil(range.highest / h));
  const mass = new Float64Array(last - first + 1);
  mass[0] = lower.below(first * h);
  if (upper === lower) upper.fill(mass, first, first, last, h);
  else {
    lower.fill(mass, first, first, 0, h);
    upper.fill(mass, first, 0, last, h);
    mass[-first]! += 1 - upper.above(0) - lower.below(0);
  }
  return { first, mass, infinite: upper.above(last * h) };
}
