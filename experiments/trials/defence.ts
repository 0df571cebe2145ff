import {
  activationClusteringFilter,
  backGradientPoisons,
  type Engine,
  evaluate,
  exampleLosses,
  type Filtered,
  flipLabels,
  flipRankedLabels,
  influencePoisons,
  type LabelledSet,
  lossFilter,
  nearestNeighbourFilter,
  type PoisonedSet,
  patchBackdoor,
  type Rows,
  removedShares,
  roniFilter,
  rowsOf,
  selectRows,
  slabFilter,
  spectralFilter,
  sphereFilter,
  stampPatch,
  svdFilter,
  watermarkCollision,
} from 'gradshape';
import { defineTrial, type FullSpec, remember, type TrialContext } from '../harness/index.js';
import { type DistinctPoison, distinctPoisons } from '../tasks/distinct.js';
import {
  type Images,
  images,
  type ShapedTraining,
  sharedImages,
  trainShaped,
  workbench,
} from '../tasks/dress-coat.js';
import { craftedSlab } from './slab.js';

export const attacks = [
  'none',
  'label flip',
  'ranked label flip',
  'slab',
  'influence',
  'back-gradient',
  'watermark',
  'backdoor',
  'clean-label backdoor',
] as const;
export const filters = [
  'sphere',
  'slab',
  'loss',
  'k-NN',
  'SVD',
  'RONI',
  'spectral signatures',
  'activation clustering',
] as const;

export interface DefenceSpec extends ShapedTraining {
  readonly attack: (typeof attacks)[number];
  /** Poisons as a share of the clean training set; they are added to it. */
  readonly ratio: number;
  /** What is removed before training; shaping is beside it, not instead. */
  readonly filter: (typeof filters)[number] | null;
  /** The share of each class that the filter keeps. */
  readonly keep: number;
  /** Slab, influence and back-gradient: steps of the attack. */
  readonly iterations: number;
}

export interface DefenceResult {
  /** Shares of clean examples and of poisons that the filter removed; null without a filter, or without poisons. */
  readonly removed: { readonly clean: number | null; readonly poison: number | null } | null;
  /** Accuracy after each epoch. */
  readonly validation: readonly number[];
  readonly test: readonly number[];
  /** Share of the test's dresses that are taken for coats with the patch on, after each epoch; null for other attacks. */
  readonly backdoor: readonly number[] | null;
  /** The first of the different poisons; how many there are, and of how many poisons. */
  readonly distinct: readonly DistinctPoison[];
  readonly distinctCount: number;
  readonly count: number;
}

const patch = { size: 4 };
/** Dresses and coats; a backdoor makes coats of dresses. */
const [dress, target] = [0, 1];
/** Watermarks: dresses, and called that, which are more coat than dress. */
const alpha = 0.6;
/** Epochs of the model whose losses the loss filter reads. */
const lossEpochs = 5;

/** Filters and shapers side by side: what is removed before training, or how its gradients are shaped. */
export const defence = defineTrial<DefenceSpec, DefenceResult, Images>({
  module: import.meta.url,
  name: 'defence',
  version: 3,
  description: 'Poisoned dress against coat, filtered before training or shaped during it',
  defaults: {
    attack: 'none',
    ratio: 0.4,
    filter: null,
    keep: 0.7,
    iterations: 30,
    clipNorm: null,
    noiseStd: 0,
    learningRate: 0.01,
    batchSize: 300,
    epochs: 40,
  },
  shared: () => sharedImages(),
  async run(spec, context) {
    const { engine, sets } = workbench(context);
    const poisoned = await poisonedSet(spec, context, engine);
    const distinct = distinctPoisons(poisoned, Infinity);
    const filtered = spec.filter === null ? null : await filterOf(spec, poisoned, engine, context);
    const test = images(context.shared, 'test');
    using triggered = engine.dataset(stampPatch(dressesAsCoats(test), patch));
    using data =
      filtered === null
        ? engine.dataset({ ...poisoned, base: sets.train })
        : engine.dataset({ ...selectRows(rowsOf(poisoned), filtered.kept), shape: test.shape });
    const curves = { validation: [] as number[], test: [] as number[], backdoor: [] as number[] };
    trainShaped(spec, data, ({ model, params }) => {
      curves.validation.push(evaluate(model, params, sets.validation).accuracy);
      curves.test.push(evaluate(model, params, sets.test).accuracy);
      curves.backdoor.push(evaluate(model, params, triggered).accuracy);
    });
    return {
      ...curves,
      removed: filtered === null ? null : removedShares(poisoned, filtered),
      backdoor: spec.attack.endsWith('backdoor') ? curves.backdoor : null,
      distinct: distinct.slice(0, 8),
      distinctCount: distinct.length,
      count: poisoned.poison.length,
    };
  },
});

async function poisonedSet(
  { attack, ratio, iterations, seed }: FullSpec<DefenceSpec>,
  context: TrialContext<Images>,
  engine: Engine,
): Promise<PoisonedSet> {
  const base = images(context.shared, 'train');
  const random = { ratio, seed: seed.data };
  // What takes long to craft is the same for all training seeds, as in the paper.
  const crafted = (crafter: typeof influencePoisons): Promise<PoisonedSet> =>
    remember(context.memo, JSON.stringify([attack, ratio, iterations]), () =>
      crafter(base, { engine, ratio, seed: 1, iterations }),
    );
  switch (attack) {
    case 'none':
      return flipLabels(base, { count: 0, seed: seed.data });
    case 'label flip':
      return flipLabels(base, random);
    case 'ranked label flip':
      return flipRankedLabels(base, { engine, ...random });
    case 'influence':
      return crafted(influencePoisons);
    case 'back-gradient':
      return crafted(backGradientPoisons);
    case 'watermark':
      return watermarkCollision(base, { ...random, base: dress, target, alpha });
    case 'slab':
      return (await craftedSlab(context, ratio, 1, { iterations })).poisoned;
    case 'backdoor':
    case 'clean-label backdoor':
      return patchBackdoor(base, { ...random, patch, label: target, cleanLabel: attack !== 'backdoor' });
  }
}

/** The patched test's images that are not of the target's class, under the target's label. */
function dressesAsCoats({ x, y, shape, scale = 1 }: LabelledSet): LabelledSet {
  const size = x.length / y.length;
  const dresses = Array.from(y).flatMap((label, i) => (label === target ? [] : [i]));
  const chosen = new Uint8Array(dresses.length * size);
  dresses.forEach((from, i) => {
    chosen.set(x.subarray(from * size, (from + 1) * size), i * size);
  });
  return { x: chosen, y: new Int32Array(dresses.length).fill(target), shape, scale };
}

/** Their poisons are the same for all training seeds. */
const fixedAttacks: readonly string[] = ['slab', 'influence', 'back-gradient'];

/** Filters see the whole poisoned set; what is the same for all training seeds is computed once a worker. */
function filterOf(
  spec: FullSpec<DefenceSpec>,
  poisoned: PoisonedSet,
  engine: Engine,
  { shared, memo }: TrialContext<Images>,
): Promise<Filtered> {
  const { attack, ratio, filter, keep, iterations, seed } = spec;
  const data = fixedAttacks.includes(attack) ? 0 : seed.data;
  const key = JSON.stringify([attack, ratio, filter, keep, iterations, data]);
  return remember(memo, `filtered ${key}`, async () => {
    const rows = rowsOf(poisoned);
    switch (filter!) {
      case 'sphere':
        return sphereFilter(rows, { keep });
      case 'slab':
        return slabFilter(rows, { keep });
      case 'loss':
        return lossFilter(rows.y, losses(rows, engine, data), { keep });
      case 'k-NN':
        return nearestNeighbourFilter(engine, rows, { keep });
      case 'SVD':
        return svdFilter(engine, rows, { keep });
      case 'RONI':
        return roniFilter(engine, rows, { keep, trusted: images(shared, 'validation'), seed: data });
      case 'spectral signatures':
        return spectralFilter(engine, rows, { keep });
      case 'activation clustering':
        return activationClusteringFilter(engine, rows, { keep });
    }
  });
}

/** The loss of each example under a model trained on all of them. */
function losses(rows: Rows, engine: Engine, seed: number): Float64Array {
  const set = { x: rows.x, y: rows.y, shape: [28, 28, 1] };
  using data = engine.dataset(set);
  const training = { clipNorm: null, noiseStd: 0, learningRate: 0.01, batchSize: 300, epochs: lossEpochs };
  const seeds = { data: seed, init: seed, order: seed, noise: seed };
  let found: Float64Array = new Float64Array(0);
  let epoch = 0;
  trainShaped({ ...training, seed: seeds }, data, ({ model, params }) => {
    if (++epoch === lossEpochs) found = exampleLosses(model, params, set);
  });
  return found;
}
