export { type FlipOptions, flipLabels } from './label-flip.js';
export type { Budget, PoisonedSet } from './poisoned-set.js';
