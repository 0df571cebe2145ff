/** Privacy accounting: events in, (ε, δ) out; calibration, certificates, statements and the statistics of audits. */
export type { Accountant, AccountantName, AccountantState, PrivacyGuarantee } from './accountant.js';
export {
  accountantFromJSON,
  createAccountant,
  gdpAccountant,
  pldAccountant,
  type RdpOptions,
  rdpAccountant,
} from './accountants.js';
export {
  type AttackCounts,
  type AuditVerdict,
  auditVerdict,
  clopperPearson,
  epsilonLowerBound,
  gaussianMuLowerBound,
  type OneRunAudit,
  oneRunEpsilonLowerBound,
  oneRunPValue,
} from './audit.js';
export {
  type Calibration,
  type CalibrationTarget,
  calibrateNoiseMultiplier,
  calibrateSamplingRate,
  calibrateSteps,
  type PhasesFor,
} from './calibrate.js';
export type { NeighbouringRelation, PrivacyEvent, PrivacyPhase } from './events.js';
export { formatLowerBound, formatUpperBound } from './format.js';
export { gaussianDelta, gaussianEpsilon } from './gaussian.js';
export {
  type AttackSuccessBound,
  attackSuccessBound,
  type GroupBound,
  type GroupCertificate,
  groupCertificate,
} from './group.js';
export { oneRunGaussianEpsilonLowerBound } from './one-run-gaussian.js';
export { AUTHORS_ORDERS, type RdpConversion } from './rdp.js';
export { formatStatement, type NoiseOrigin, type PrivacyStatement, privacyStatement } from './statement.js';
