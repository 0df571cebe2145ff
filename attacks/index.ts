export { type FlipOptions, flipLabels } from './label-flip.js';
export { type LinearMaximum, type LinearMaximumProblem, maximizeLinear } from './linear-maximum.js';
export { CraftAborted, type CraftProgress, type LongCraft } from './long-craft.js';
export { type Patch, type PatchBackdoorOptions, patchBackdoor, stampPatch } from './patch.js';
export type { Budget, Json, PoisonedSet, PoisonSpec } from './poisoned-set.js';
export { type SlabOptions, type SlabParameters, type SlabPoint, type SlabState, slabAttack } from './slab.js';
export { type SphereAndSlab, sphereAndSlab } from './sphere-and-slab.js';
export { type WatermarkOptions, watermarkCollision } from './watermark.js';
