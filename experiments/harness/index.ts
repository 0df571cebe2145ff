export { type Experiment, runExperiment, type TrialResult } from './experiment.js';
export { Option, type RunOptions, type Size, someOf, wholeNumber } from './options.js';
export {
  finishedSeeds,
  formatInterval,
  formatSummary,
  groupBy,
  pairedDifference,
  type Summary,
  summarize,
} from './stats.js';
export {
  defineTrial,
  type FullSpec,
  remember,
  type Seeds,
  type SharedArrays,
  type SpecInput,
  type Trial,
  type TrialContext,
  toShared,
} from './trial.js';
