import { type Engine, GradshapeError, type LabelledSet } from '../engine/index.js';
import { backGradientPoisons, influencePoisons } from './gradient-poisons.js';
import { flipLabels } from './label-flip.js';
import type { LongCraft } from './long-craft.js';
import { patchBackdoor } from './patch.js';
import type { PoisonedSet, PoisonSpec } from './poisoned-set.js';
import { flipRankedLabels } from './ranked-flip.js';
import { slabAttack } from './slab.js';
import { watermarkCollision } from './watermark.js';

// biome-ignore lint/suspicious/noExplicitAny: a spec is plain JSON; each crafter checks its own options
type Crafter = (base: LabelledSet, options: any) => PoisonedSet | Promise<PoisonedSet>;

const crafters: Readonly<Record<string, Crafter>> = {
  'label-flip': flipLabels,
  'ranked-label-flip': flipRankedLabels,
  watermark: watermarkCollision,
  'patch-backdoor': patchBackdoor,
  slab: slabAttack,
  influence: influencePoisons,
  'back-gradient': backGradientPoisons,
};

/** These train a model. */
const needEngine = ['ranked-label-flip', 'influence', 'back-gradient'];

/** The attacks that `craft` knows. */
export const attackNames: readonly string[] = Object.keys(crafters);

export interface CraftContext extends LongCraft<never> {
  /** For the attacks that train a model with it. */
  readonly engine?: Engine;
}

/**
 * The poisoned set of a spec: the same bits as the set that the spec came from.
 * @throws ATTACK_UNKNOWN, OPTION_INVALID, and what the attack throws
 * @example
 * const poisoned = flipLabels(set, { ratio: 0.4, seed: 1 });
 * const again = await craft(set, poisoned.spec);
 */
export async function craft(
  base: LabelledSet,
  spec: PoisonSpec,
  context: CraftContext = {},
): Promise<PoisonedSet> {
  const { attack, ...options } = spec;
  const crafter = Object.hasOwn(crafters, attack) ? crafters[attack] : undefined;
  if (crafter === undefined) {
    throw new GradshapeError(
      'ATTACK_UNKNOWN',
      `craft: there is no attack '${attack}'; there are ${attackNames.join(', ')}.`,
    );
  }
  if (needEngine.includes(attack) && context.engine === undefined) {
    throw new GradshapeError(
      'OPTION_INVALID',
      `craft: '${attack}' trains a model, and there is no engine; give one, craft(set, spec, { engine }).`,
    );
  }
  return crafter(base, { ...options, ...context });
}
