export { attackNames, type CraftContext, craft } from './craft.js';
export * from './filters/index.js';
export {
  backGradientPoisons,
  type GradientPoisonOptions,
  type GradientPoisonParameters,
  type GradientPoisonState,
  influencePoisons,
} from './gradient-poisons.js';
export { type FlipOptions, flipLabels } from './label-flip.js';
export { type LinearMaximum, type LinearMaximumProblem, maximizeLinear } from './linear-maximum.js';
export { CraftAborted, type CraftProgress, type LongCraft } from './long-craft.js';
export { type Patch, type PatchBackdoorOptions, patchBackdoor, stampPatch } from './patch.js';
export { baseHash, loadPoison, savePoison } from './poison-file.js';
export type { Budget, Json, PoisonedSet, PoisonSpec } from './poisoned-set.js';
export { flipRankedLabels, type RankedFlipOptions } from './ranked-flip.js';
export { type SlabOptions, type SlabParameters, type SlabPoint, type SlabState, slabAttack } from './slab.js';
export { type Rows, type SphereAndSlab, sphereAndSlab } from './sphere-and-slab.js';
export { exampleLosses, type SurrogateOptions } from './surrogate.js';
export { verifyPoison } from './verify.js';
export { type WatermarkOptions, watermarkCollision } from './watermark.js';
