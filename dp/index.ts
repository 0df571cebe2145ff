export * from './accounting/index.js';
export { type ClipOptions, clipFactors } from './clip.js';
export {
  type AddNoiseOptions,
  addNoise,
  type NoiseSource,
  noiseGrid,
  secureNoise,
  seededNoise,
} from './noise.js';
export { type PrivateStep, type PrivateStepOptions, privateStep } from './private-step.js';
export { geometricSchedule, linearSchedule, type Scheduled } from './schedules.js';
export { type ReleaseContext, type Shaper, type ShapingContext, sensitivityOf } from './shaper.js';
export * from './shapers/index.js';
