import { type AttackCounts, gaussianMuLowerBound } from './accounting/index.js';
import { normalCdf, normalQuantile } from './accounting/special-functions.js';

/** Groups of canaries, by size, that are guessed at together; and observations that go with each of them. */
const together: readonly (readonly number[])[] = [[1, 2, 3], [0], [1], [2], [3]];
export const ungrouped = 4;

/** Scores of canaries that took part, and of those that didn't, by group. */
interface Half {
  readonly inside: readonly number[][];
  readonly outside: readonly number[][];
}

const emptyHalf = (): Half => ({
  inside: Array.from({ length: ungrouped + 1 }, () => []),
  outside: Array.from({ length: ungrouped + 1 }, () => []),
});

/** What independent observations prove about μ, for a step whose trade-off curve is a Gaussian's. */
export interface Evidence {
  /** Of the half that was counted. */
  readonly counts: AttackCounts;
  /** With the confidence asked for, the step is not μ-GDP for a smaller μ. */
  readonly mu: number;
  /** What perfect guesses would have proved. */
  readonly ceiling: number;
  /** What would have been proved, in 95 of 100 audits, if canaries had twice the effect that is claimed. */
  readonly halved: number;
}

/** How scores are read: included canaries score high, low, or far from the others. */
const readings: readonly ((score: number, centre: number) => number)[] = [
  (score) => score,
  (score) => -score,
  (score, centre) => Math.abs(score - centre),
];

/** So large that it is beyond all others, and can still be added to. */
const beyond = Number.MAX_VALUE / 4;

/**
 * Collects what an audit's canaries score. Every other one, on either side, serves to choose how to guess: at which sizes, the
 * reading, and the score from which a canary is taken to have been there. The rest are guessed at so, and counted. So the guesses' errors are binomial, and
 * the bound on μ exact, whatever was chosen.
 */
export class Observations {
  readonly #halves: readonly [Half, Half] = [emptyHalf(), emptyHalf()];

  /** A score that is not a finite number is as far out as can be. */
  add(inside: boolean, score: number, group = ungrouped): void {
    const value = Number.isNaN(score) ? beyond : Math.min(Math.max(score, -beyond), beyond);
    const [first, second] = this.#halves.map((half) => half[inside ? 'inside' : 'outside'][group]!);
    (first!.length > second!.length ? second! : first!).push(value);
  }

  /**
   * @param confidence that the bound on μ is right
   * @param claimed the μ that is claimed
   */
  evidence(confidence: number, claimed: number): Evidence {
    const [first, second] = this.#halves;
    const z = -normalQuantile((1 - confidence) / 2);
    let best: (Choice & { readonly groups: readonly number[] }) | undefined;
    for (const groups of together) {
      const half = halfOf(first, groups);
      const { inside, outside } = half;
      if (inside.length === 0 || outside.length === 0) continue;
      // Where there are no groups, all choices of them are the same.
      if (best !== undefined && groups.every((group) => first.inside[group]!.length === 0)) continue;
      const centre = median(outside);
      for (const read of readings) {
        const choice = bestCut(readHalf(half, read, centre), z);
        if (best === undefined || choice.value > best.value)
          best = { ...choice, groups, read: (score) => read(score, centre) };
      }
    }
    const counted = halfOf(second, best?.groups ?? []);
    const [positives, negatives] = [counted.inside.length, counted.outside.length];
    if (best === undefined || positives === 0 || negatives === 0) {
      const counts = { positives: 0, truePositives: 0, negatives: 0, falsePositives: 0 };
      return { counts, mu: 0, ceiling: 0, halved: 0 };
    }
    const { cut, read } = best;
    const calls = (scores: readonly number[]): number => scores.filter((score) => read(score) >= cut).length;
    const counts: AttackCounts = {
      positives,
      truePositives: calls(counted.inside),
      negatives,
      falsePositives: calls(counted.outside),
    };
    const usual = halfOf(second, together[0]!);
    return {
      counts,
      mu: gaussianMuLowerBound(counts, { confidence }),
      ceiling: muFrom(1, usual, confidence, 0),
      // Half-way between the two; both rates 1.3 standard errors worse, which less than 5 % of audits are in their sum.
      halved: muFrom(normalCdf(claimed), usual, confidence, 1.3),
    };
  }
}

/** The bound on μ if such a part of the guesses on either side were right, or so many standard errors less. */
function muFrom(right: number, { inside, outside }: Scores, confidence: number, errors: number): number {
  const rightOf = (n: number): number =>
    Math.max(0, Math.floor(n * right - errors * Math.sqrt(n * right * (1 - right))));
  const [positives, negatives] = [inside.length, outside.length];
  if (positives === 0 || negatives === 0) return 0;
  const counts = { positives, truePositives: rightOf(positives), negatives };
  return gaussianMuLowerBound({ ...counts, falsePositives: negatives - rightOf(negatives) }, { confidence });
}

interface Scores {
  readonly inside: readonly number[];
  readonly outside: readonly number[];
}

const halfOf = (half: Half, groups: readonly number[]): Scores => {
  const of = (scores: readonly number[][]): number[] =>
    [...groups, ungrouped].flatMap((group) => scores[group]!);
  return { inside: of(half.inside), outside: of(half.outside) };
};

/** How to guess: the cut that a score must reach, as it is read. */
interface Choice {
  readonly cut: number;
  readonly value: number;
  readonly read: (score: number) => number;
}

interface Sorted {
  readonly inside: Float64Array;
  readonly outside: Float64Array;
}

function readHalf(half: Scores, read: (score: number, centre: number) => number, centre: number): Sorted {
  const sorted = (scores: readonly number[]): Float64Array =>
    new Float64Array(scores.map((score) => read(score, centre))).sort();
  return { inside: sorted(half.inside), outside: sorted(half.outside) };
}

function median(scores: readonly number[]): number {
  return middle(Float64Array.from(scores).sort());
}

/** How many of the sorted scores are at least `cut`. */
function atLeast(sorted: Float64Array, cut: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! >= cut) high = middle;
    else low = middle + 1;
  }
  return sorted.length - low;
}

/** Cuts that are tried in each round. */
const cutsTried = 64;

/**
 * The cut from which the largest μ seems to follow, by Wilson's (1927) ends of the two rates. Half-way between the two medians is best
 * where noise is Gaussian; another cut must seem better by more than chance makes one of many: they are tried at every 64th part of the
 * scores, and then around the best of them.
 */
function bestCut({ inside, outside }: Sorted, z: number): Pick<Choice, 'cut' | 'value'> {
  const scores = new Float64Array(inside.length + outside.length);
  scores.set(inside);
  scores.set(outside, inside.length);
  scores.sort();
  const reached = (cut: number): number => {
    const tpr = wilson(atLeast(inside, cut) / inside.length, inside.length, -z);
    const fpr = wilson(atLeast(outside, cut) / outside.length, outside.length, z);
    return normalQuantile(tpr) - normalQuantile(fpr);
  };
  const halfWay = (middle(inside) + middle(outside)) / 2;
  let best = { cut: halfWay, value: reached(halfWay) + 3 / Math.sqrt(inside.length) };
  for (let from = 1, to = scores.length - 1; ; ) {
    const stride = Math.max(1, Math.ceil((to - from) / cutsTried));
    let near = { at: from, value: -Infinity };
    for (let at = from; at <= to; at += stride) {
      const cut = (scores[at - 1]! + scores[at]!) / 2;
      const value = reached(cut);
      if (value > near.value) near = { at, value };
      if (value > best.value) best = { cut, value };
    }
    if (stride === 1) return { cut: best.cut, value: reached(best.cut) };
    from = Math.max(1, near.at - stride);
    to = Math.min(scores.length - 1, near.at + stride);
  }
}

const middle = (sorted: Float64Array): number => sorted[sorted.length >> 1]!;

/** An end of Wilson's interval for a rate seen in n trials. */
function wilson(rate: number, n: number, z: number): number {
  const square = (z * z) / n;
  const middle = rate + square / 2;
  const half = Math.abs(z) * Math.sqrt((rate * (1 - rate) + square / 4) / n);
  return Math.min(1, Math.max(0, (middle + Math.sign(z) * half) / (1 + square)));
}
