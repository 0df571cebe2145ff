export * from './accounting/index.js';
export { type ClipOptions, clipFactors } from './clip.js';
export { type AddNoiseOptions, addNoise, type NoiseSource, secureNoise, seededNoise } from './noise.js';
export { type PrivateStep, type PrivateStepOptions, privateStep } from './private-step.js';
