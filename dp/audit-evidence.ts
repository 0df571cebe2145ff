import { type AttackCounts, gaussianMuLowerBound } from './accounting/index.js';
import { normalQuantile } from './accounting/special-functions.js';

/** Scores of canaries that took part, and of those that didn't. */
interface Half {
  readonly inside: number[];
  readonly outside: number[];
}

/** What independent observations prove about μ, for a step whose trade-off curve is a Gaussian's. */
export interface Evidence {
  /** Of the half that was counted. */
  readonly counts: AttackCounts;
  /** With the confidence asked for, the step is not μ-GDP for a smaller μ. */
  readonly mu: number;
  /** What perfect guesses would have proved. */
  readonly ceiling: number;
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
 * Collects what an audit's canaries score. Every other one, on either side, serves to choose how to guess: the reading, and the score
 * from which a canary is taken to have been there. The rest are guessed at so, and counted. So the guesses' errors are binomial, and
 * the bound on μ exact, whatever was chosen.
 */
export class Observations {
  readonly #halves: readonly [Half, Half] = [
    { inside: [], outside: [] },
    { inside: [], outside: [] },
  ];
  readonly #seen = { inside: 0, outside: 0 };

  /** A score that is not a finite number is as far out as can be. */
  add(inside: boolean, score: number): void {
    const side = inside ? 'inside' : 'outside';
    const value = Number.isNaN(score) ? beyond : Math.min(Math.max(score, -beyond), beyond);
    this.#halves[(this.#seen[side]++ % 2) as 0 | 1][side].push(value);
  }

  /** @param confidence that the bound on μ is right */
  evidence(confidence: number): Evidence {
    const [first, second] = this.#halves;
    if (second.inside.length === 0 || second.outside.length === 0) {
      const counts = { positives: 0, truePositives: 0, negatives: 0, falsePositives: 0 };
      return { counts, mu: 0, ceiling: 0 };
    }
    const centre = median(first.outside);
    const z = -normalQuantile((1 - confidence) / 2);
    const cuts = readings.map((read) => bestCut(readHalf(first, read, centre), z));
    const best = cuts.reduce((a, b, i) => (b.value > cuts[a]!.value ? i : a), 0);
    const { inside, outside } = readHalf(second, readings[best]!, centre);
    const positives = inside.length;
    const negatives = outside.length;
    const { cut } = cuts[best]!;
    const counts: AttackCounts = {
      positives,
      truePositives: atLeast(inside, cut),
      negatives,
      falsePositives: atLeast(outside, cut),
    };
    const perfect = { positives, truePositives: positives, negatives, falsePositives: 0 };
    return {
      counts,
      mu: gaussianMuLowerBound(counts, { confidence }),
      ceiling: gaussianMuLowerBound(perfect, { confidence }),
    };
  }
}

interface Sorted {
  readonly inside: Float64Array;
  readonly outside: Float64Array;
}

function readHalf(half: Half, read: (score: number, centre: number) => number, centre: number): Sorted {
  const sorted = (scores: readonly number[]): Float64Array =>
    Float64Array.from(scores, (score) => read(score, centre)).sort();
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
function bestCut({ inside, outside }: Sorted, z: number): { cut: number; value: number } {
  const scores = Float64Array.from([...inside, ...outside]).sort();
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
    if (stride === 1) return best;
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
