export { type FlipOptions, flipLabels } from './label-flip.js';
export { type Patch, type PatchBackdoorOptions, patchBackdoor, stampPatch } from './patch.js';
export type { Budget, Json, PoisonedSet, PoisonSpec } from './poisoned-set.js';
export { type WatermarkOptions, watermarkCollision } from './watermark.js';
