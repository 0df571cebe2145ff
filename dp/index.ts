export * from './accounting/index.js';
export {
  auditCanaries,
  type CanaryAuditOptions,
  type CanaryAuditResult,
  type CanaryFinding,
  type CountedBound,
} from './audit-canaries.js';
export type { Finding as AuditFinding } from './audit-findings.js';
export { auditPlan, type PlanAudit, type PlanAuditOptions } from './audit-plan.js';
export {
  type AuditRun,
  auditMembership,
  auditPoisoning,
  type RunsAuditOptions,
  type RunsAuditResult,
} from './audit-runs.js';
export { type ClipOptions, clipFactors } from './clip.js';
export type { GroupedLot } from './lot-groups.js';
export {
  makePrivate,
  makePrivateWithEpsilon,
  type PrivateStepReport,
  type PrivateTargetOptions,
  type PrivateTraining,
  type PrivateTrainingOptions,
} from './make-private.js';
export {
  type AddNoiseOptions,
  addNoise,
  type NoiseSource,
  noiseGrid,
  secureNoise,
  seededNoise,
} from './noise.js';
export { type PrivacyPlan, type PrivacyPlanOptions, privacyPlan, type Sampling } from './plan.js';
export { type PrivateStep, type PrivateStepOptions, privateStep } from './private-step.js';
export type { Release } from './release.js';
export {
  fixedSizeSampler,
  poissonSampler,
  type Sampler,
  type SecretSamplerOptions,
  shuffledSampler,
} from './sampling.js';
export { geometricSchedule, linearSchedule, type Scheduled } from './schedules.js';
export { type ReleaseContext, type Shaper, type ShapingContext, sensitivityOf } from './shaper.js';
export * from './shapers/index.js';
export type { TrainingStatement } from './training-statement.js';
export { type ModelIssue, validateModel } from './validate-model.js';
