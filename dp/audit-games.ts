import {
  asExamples,
  conv2d,
  type Engine,
  matmul,
  mul,
  Parameters,
  publicGenerator,
  sum,
  type Tensor,
} from '../engine/index.js';
import type { TrainingStep } from '../nn/index.js';
import { sizeBetween } from './accounting/audit-size.js';
import { Observations, ungrouped } from './audit-evidence.js';

/** What is audited: a step, made for any parameters. */
export interface Audited {
  readonly engine: Engine;
  readonly makeStep: (params: Parameters) => TrainingStep;
  /** The rule's bound, where it is known. */
  readonly bound?: number;
}

/** Sizes of canaries, for a bound of C, or for any that is likely. */
interface Sizes {
  /** Norms of gradients with a coordinate of their own: from and to. Few are within the bound, where a rule may leave out larger ones. */
  readonly within: readonly [number, number];
  /** All others are so far above the bound that clipping at twice of it would show. */
  readonly above: readonly [number, number];
  /** Of the witnesses' gradients. */
  readonly witness: number;
  /** Of each of two positions that cancel: so large that float32 loses what witnesses add to it. */
  readonly cancelling: number;
}

function sizesFor({ bound: C }: Audited): Sizes {
  if (C === undefined) return { within: [0.1, 100], above: [100, 1e8], witness: 1e6, cancelling: 1e12 };
  return { within: [0.98 * C, 0.98 * C], above: [2.5 * C, 1e6 * C], witness: 0.98 * C, cancelling: 1e12 * C };
}

/** A size, and which group of sizes it belongs to: 0 is within, and the rest are thirds of those above. */
interface Size {
  readonly norm: number;
  readonly group: number;
}

/** The k-th canary's size: every eighth is within; logarithms are spread evenly. */
function sizeOf(k: number, { within, above }: Sizes): Size {
  const part = (k * 0.6180339887498949) % 1;
  return k % 8 === 7
    ? { norm: sizeBetween(within, part), group: 0 }
    : { norm: sizeBetween(above, part), group: 1 + Math.floor(3 * part) };
}

/** An example whose gradient is Σ_t rows[t]ᵀ · columns[t], of rows and columns [side]: only what is not 0 is named. */
interface Canary {
  readonly rows: readonly Entries[];
  readonly columns: readonly Entries[];
}

/** One value at one place, or everywhere. */
interface Entries {
  readonly at: number | 'everywhere';
  readonly value: number;
}

/** How a canary meets the weight: one product, or one for each of its positions, which are summed. */
type Layer = 'matmul' | 'dense' | 'conv';

interface CanaryBatch {
  readonly row: Tensor;
  readonly column: Tensor;
  readonly [name: string]: Tensor;
}

const examplesAtOnce = 1000;

/** Whole numbers of 32 bits: the audit's own coins. They are no secret once the audit is over. */
interface Coins {
  next(): number;
}

const coin = (coins: Coins): boolean => coins.next() < 0;

/** Accumulates canaries as a piece of the batch: the loss is Σ_t row[t] · W · columnᵀ[t]. */
function accumulate(
  { engine }: Audited,
  step: TrainingStep,
  side: number,
  layer: Layer,
  canaries: readonly Canary[],
): void {
  engine.scope(() => {
    const count = canaries.length;
    const positions = canaries[0]!.rows.length;
    const inner = layer === 'matmul' ? [] : layer === 'dense' ? [positions] : [1, positions];
    const shape = [count, ...inner, side];
    const row = asExamples(engine.full(shape, 0));
    const column = engine.full(shape, 0);
    column.examples = row.examples;
    const [rows, columns] = [row.view(), column.view()];
    const write = (to: typeof rows, from: number, { at, value }: Entries): void => {
      if (at === 'everywhere') to.fill(value, from, from + side);
      else to[from + at] = value;
    };
    canaries.forEach((canary, i) => {
      for (let t = 0; t < positions; t++) {
        write(rows, (i * positions + t) * side, canary.rows[t]!);
        write(columns, (i * positions + t) * side, canary.columns[t]!);
      }
    });
    const loss = (p: Parameters, batch: CanaryBatch): Tensor => {
      const weight = p.get('weight');
      const out = layer === 'conv' ? conv2d(batch.row, weight, null) : matmul(batch.row, weight);
      return sum(mul(out, batch.column), { axes: shape.slice(1).map((_, axis) => axis + 1) });
    };
    step.accumulate(loss, { row, column });
  });
}

/** The step's own parameters: one weight [side, side], or filter [1, 1, side, side], from 0. */
export function weightFor({ engine }: Audited, side: number, layer: Layer): Parameters {
  const shape = layer === 'conv' ? [1, 1, side, side] : [side, side];
  return new Parameters(engine, [{ name: 'weight', shape }]);
}

/** Accumulates one example, which pushes one coordinate. */
export function pushOne(audited: Audited, step: TrainingStep, side: number, at: number): void {
  accumulateOwn(audited, step, side, [{ at, push: sizesFor(audited).witness }]);
}

export interface OwnCoordinateOptions {
  /** Examples of the data set. */
  readonly canaries: number;
  readonly steps: number;
  readonly seed: number;
  /** Who is in each step's batch, of those in the data. Without it all are, and the steps are audited together. */
  readonly lots?: readonly Int32Array[];
  /** Canaries that are not in the data are replaced by their opposites, and not left out. */
  readonly replace?: boolean;
  /**
   * Coordinates to place each step's batch on anew, with new coins, and as many again that are nobody's: few of them, for small
   * batches of large sets. @default one for each canary, always its own, and one coin
   */
  readonly coordinates?: number;
}

export interface OwnCoordinates {
  readonly observations: Observations;
  /** Who was in the data, and each canary's score over all steps, where it has its own coordinate. */
  readonly included: readonly boolean[];
  readonly scores: Float64Array;
}

/**
 * Canaries with a coordinate of their own: an entry of the weight. A coin says for each whether it is in the data. In every
 * step it pushes its coordinate up or down, by another coin: noise that is used twice is subtracted so, and noise that is common to
 * all coordinates is told from what the canaries do by the coordinates' median.
 */
export function playOwnCoordinates(audited: Audited, options: OwnCoordinateOptions): OwnCoordinates {
  const { canaries, steps, seed, lots, replace = false } = options;
  const placedAnew = options.coordinates !== undefined;
  const coordinates = options.coordinates ?? canaries;
  const sizes = sizesFor(audited);
  const side = Math.ceil(Math.sqrt(coordinates));
  const coins = publicGenerator(seed, 'poison');
  const included = Array.from({ length: placedAnew ? 0 : canaries }, () => coin(coins));
  const params = weightFor(audited, side, 'matmul');
  const start = new Float32Array(params.size);
  const observations = new Observations();
  const scores = new Float64Array(included.length);
  const everyone = Int32Array.from(included, (_, i) => i);
  let step: TrainingStep | undefined;
  try {
    step = audited.makeStep(params);
    for (let t = 0; t < steps; t++) {
      const batch = lots?.[t] ?? everyone;
      const moving = placedAnew ? batch.subarray(0, coordinates / 2) : batch;
      const signs = Float64Array.from({ length: coordinates }, () => (coin(coins) ? 1 : -1));
      const present: { at: number; push: number }[] = [];
      const inside = new Int8Array(coordinates);
      const groups = new Int8Array(coordinates).fill(ungrouped);
      for (let k = 0; k < moving.length; k++) {
        const at = placedAnew ? k : moving[k]!;
        const isIn = placedAnew ? coin(coins) : included[at]!;
        inside[at] = isIn ? 1 : -1;
        if (!isIn && !replace) continue;
        const { norm, group } = sizeOf(k, sizes);
        groups[at] = group;
        present.push({ at, push: norm * signs[at]! * inside[at]! });
      }
      accumulateOwn(audited, step, side, present);
      step.finish();
      const moved = params.values();
      params.load(start);
      const centre = medianOfSome(moved, coordinates);
      // Four times as many observations outside of the batch as inside are plenty.
      const stride = Math.max(1, Math.floor(coordinates / (2 * Math.max(1, moving.length))));
      for (let at = 0; at < coordinates; at++) {
        const score = signs[at]! * (moved[at]! - centre);
        if (!placedAnew) scores[at]! += score;
        if (lots === undefined) continue;
        const outside = replace ? inside[at] === -1 : inside[at] !== 1 && (at + t) % stride === 0;
        if (inside[at] === 1 || outside) observations.add(inside[at] === 1, score, groups[at]);
      }
    }
  } finally {
    step?.free();
    params.free();
  }
  if (lots === undefined) {
    for (const [i, score] of scores.entries()) {
      const group = included[i] || replace ? sizeOf(i, sizes).group : ungrouped;
      observations.add(included[i]!, score, group);
    }
  }
  return { observations, included, scores };
}

/** Pieces of canaries, every other one through a layer with two positions, which add up. */
function accumulateOwn(
  audited: Audited,
  step: TrainingStep,
  side: number,
  present: readonly { readonly at: number; readonly push: number }[],
): void {
  const pieceSize = Math.max(1, Math.min(examplesAtOnce, Math.ceil(present.length / 2)));
  for (let from = 0, piece = 0; from < present.length; from += pieceSize, piece++) {
    const positions = 1 + (piece % 2);
    const some = present.slice(from, from + pieceSize);
    const canaries = some.map(({ at, push }) => pushingOne(at, push, side, positions));
    accumulate(audited, step, side, positions === 1 ? 'matmul' : 'dense', canaries);
  }
}

/** Its update moves one coordinate by `push`, in so many positions. */
function pushingOne(at: number, push: number, side: number, positions: number): Canary {
  const row = { at: Math.floor(at / side), value: 1 };
  const column = { at: at % side, value: -push / positions };
  return { rows: Array(positions).fill(row), columns: Array(positions).fill(column) };
}

/** Median of up to 255 of the first `count` values: what is common to all. */
function medianOfSome(values: Float32Array, count: number): number {
  const stride = Math.ceil(count / 255);
  const some = Float32Array.from({ length: Math.ceil(count / stride) }, (_, i) => values[i * stride]!).sort();
  return some[some.length >> 1]!;
}

/** The smallest weight whose noise tells how large it is. */
const pairSide = 8;

export interface Pairs {
  /** What the canary's coordinate became, and the squared length of all others, which are noise alone. */
  readonly moved: Observations;
  readonly spread: Observations;
}

/**
 * Batches of a witness, who is always there and pushes one way, and of one canary, by a coin, that pushes the other way, harder. If each is
 * clipped it moves the sum by C. If their sum is clipped instead, it goes from -C to C; if the noisy sum is divided by how many
 * there are, the noise tells.
 */
export function playPairs(
  audited: Audited,
  { steps, seed }: { readonly steps: number; readonly seed: number },
): Pairs {
  const coins = publicGenerator(seed, 'poison', 3);
  const sizes = sizesFor(audited);
  const [moved, spread] = [new Observations(), new Observations()];
  const params = weightFor(audited, pairSide, 'matmul');
  const start = new Float32Array(params.size);
  let step: TrainingStep | undefined;
  try {
    step = audited.makeStep(params);
    for (let t = 0; t < steps; t++) {
      const isIn = coin(coins);
      const at = (coins.next() >>> 0) % params.size;
      const pushing = (push: number) => pushingOne(at, push, pairSide, 1);
      // Far above the witness, whose size a bound may not reach where it is not known.
      const hard = pushing(sizeOf(8 * t, sizes).norm + 10 * sizes.witness);
      const witness = pushing(-sizes.witness);
      accumulate(audited, step, pairSide, 'matmul', isIn ? [witness, hard] : [witness]);
      step.finish();
      const values = params.values();
      moved.add(isIn, values[at]!);
      values[at] = 0;
      spread.add(
        isIn,
        values.reduce((square, x) => square + x * x, 0),
      );
      params.load(start);
    }
  } finally {
    step?.free();
    params.free();
  }
  return { moved, spread };
}

/** Sizes of canaries that are tried. */
const pairsMeasured = 8;

/** The most that a canary moves the update of such a pair, for a step without noise whose update is the sum. */
export function measurePairs(audited: Audited): number {
  const sizes = sizesFor(audited);
  const params = weightFor(audited, 1, 'matmul');
  const start = new Float32Array(1);
  const step = audited.makeStep(params);
  const movedBy = (pushes: readonly number[]): number => {
    const batch = pushes.map((push) => pushingOne(0, push, 1, 1));
    accumulate(audited, step, 1, 'matmul', batch);
    step.finish();
    const [moved] = params.values();
    params.load(start);
    return moved!;
  };
  let most = 0;
  try {
    for (let k = 0; k < pairsMeasured; k++) {
      const alone = movedBy([-sizes.witness]);
      most = Math.max(most, Math.abs(movedBy([-sizes.witness, sizeOf(k, sizes).norm]) - alone));
    }
  } finally {
    step.free();
    params.free();
  }
  return most;
}

/** Rows and columns of the weight on which cancelling canaries are placed. */
const positionsSide = 8;
export const lotCoordinates = positionsSide * positionsSide;
/** What the witnesses put on each coordinate, in clip norms, half of it before the canaries and half after them. */
const witnessed = 8;

/**
 * Canaries whose two positions cancel: their gradient is 0, so they may change nothing. Each is put on a coordinate where
 * witnesses, who are always there, add 8 clip norms in all. Where gradients are measured in one way and summed in another, the two
 * large products are added one by one, and float32 loses what the witnesses added before them.
 * @param lots steps, through a dense layer and a convolution in turn, each with coins of its own
 */
export function playCancellingPositions(
  audited: Audited,
  { lots, seed }: { readonly lots: number; readonly seed: number },
): Observations {
  const side = positionsSide;
  const coins = publicGenerator(seed, 'poison', 1);
  const observations = new Observations();
  const { witness: size, cancelling } = sizesFor(audited);
  // Each witness' gradient is the same everywhere: it adds C / side to every coordinate.
  const nothing: Entries = { at: 0, value: 0 };
  const all = (value: number): Entries => ({ at: 'everywhere', value });
  const witness: Canary = { rows: [all(1), nothing], columns: [all(-size / side), nothing] };
  const witnesses: Canary[] = Array((witnessed * side) / 2).fill(witness);
  const half = lots / 2;
  for (const layer of ['dense', 'conv'] as const) {
    const params = weightFor(audited, side, layer);
    const start = new Float32Array(params.size);
    let step: TrainingStep | undefined;
    try {
      step = audited.makeStep(params);
      for (let t = 0; t < half; t++) {
        const included = Array.from(start, () => coin(coins));
        const present = [...included.keys()].filter((i) => included[i]);
        const batch = [
          ...witnesses,
          ...present.map((i) => cancellingCanary(i, side, cancelling)),
          ...witnesses,
        ];
        accumulate(audited, step, side, layer, batch);
        step.finish();
        for (const [i, moved] of params.values().entries()) observations.add(included[i]!, moved);
        params.load(start);
      }
    } finally {
      step?.free();
      params.free();
    }
  }
  return observations;
}

/** Its rows are each other's opposites, or, for every other one, its columns are. */
function cancellingCanary(i: number, side: number, size: number): Canary {
  const row = (value: number): Entries => ({ at: Math.floor(i / side), value });
  const column = (value: number): Entries => ({ at: i % side, value });
  return i % 2 === 0
    ? { rows: [row(size), row(-size)], columns: [column(-1), column(-1)] }
    : { rows: [row(size), row(size)], columns: [column(-1), column(1)] };
}
