import {
  type Batch,
  type BatchLoss,
  type Dataset,
  GradshapeError,
  type Parameters,
  type Strategy,
} from '../engine/index.js';
import { batchLoss, type LogitsLoss, type Model, type Optimizer, type Schedule } from '../nn/index.js';
import {
  type Accountant,
  type AccountantName,
  accountantFromJSON,
  calibrateNoiseMultiplier,
  type PrivacyEvent,
  type PrivacyGuarantee,
  type PrivacyPhase,
} from './accounting/index.js';
import { shown } from './accounting/validate.js';
import { auditPlan, type PlanAudit, withAudit } from './audit-plan.js';
import type { GroupedLot } from './lot-groups.js';
import { type PrivacyPlan, type PrivacyPlanOptions, privacyPlan } from './plan.js';
import {
  type CheckpointOwner,
  loadStates,
  readPrivateCheckpoint,
  writePrivateCheckpoint,
} from './private-checkpoint.js';
import { type PrivateStep, privateStep } from './private-step.js';
import type { Release } from './release.js';
import { type Ledger, ledgerOfWeights, ledgersOf, type RunPart, strangeUpdates, takeUp } from './released.js';
import type { Sampler } from './sampling.js';
import { isSeeded, markSeeded } from './seeded-phases.js';
import { type TrainingStatement, trainingStatement } from './training-statement.js';
import { type ModelIssue, validateModel } from './validate-model.js';

/** What a private training needs beside its plan. */
export interface PrivateTrainingOptions extends Omit<PrivacyPlanOptions, 'datasetSize'> {
  readonly model: Model;
  readonly params: Parameters;
  /** SGD gives DP-SGD, Adam gives DP-Adam. */
  readonly optimizer: Optimizer;
  readonly data: Dataset;
  /** @default crossEntropy */
  readonly loss?: LogitsLoss;
  /** Learning rate by step. @default the optimizer's learning rate, always */
  readonly schedule?: Schedule;
  /** The most examples in memory at once: larger batches are taken in pieces, with the same bits. @default no limit */
  readonly maxPhysicalBatch?: number;
  /** How per-example gradients are made. @default 'ghost' */
  readonly strategy?: Strategy;
  /**
   * Also report each batch's size and mean loss. They are computed from the examples without noise, so they leak what ε promises to
   * hide, and ε does not cover them: show them to nobody who must not see the data, and choose nothing by them.
   * @default false
   */
  readonly diagnostics?: boolean;
  /**
   * Audit the plan with canaries before training (see `auditPlan`), and say in the statement what that proved. With secure noise and sampling
   * of its own, and none of the data. @default false
   */
  readonly audit?: boolean;
}

/** What may be known of a step without costing privacy, and, with `diagnostics`, what may not. */
export interface PrivateStepReport {
  /** Counts from 0. */
  readonly step: number;
  readonly epoch: number;
  /** σ of this step: its noise over its bound; 0 where the rule has no bound. What is counted is no larger. */
  readonly noiseMultiplier: number;
  /** The most that one example could add to this step's sum; null where nothing bounds it. */
  readonly bound: number | null;
  readonly noiseStd: number;
  /** Not private, and null unless asked for: examples drawn, and the mean of their losses (null for an empty batch). */
  readonly batchSize: number | null;
  readonly loss: number | null;
}

/**
 * A training whose every step is counted. It draws its own batches: there is no way to give it one that its accountant doesn't
 * know of. Only what the steps leave in the weights is covered by ε. Accuracies and losses on the training data, or on validation data
 * that must stay private, leak; so do choices made by them: stopping early, keeping the best epoch, or the best of several trainings.
 */
export interface PrivateTraining {
  readonly plan: PrivacyPlan;
  readonly params: Parameters;
  /** What the model made slow: see `validateModel`. */
  readonly warnings: readonly ModelIssue[];
  /** What the audit of the plan found, of all its steps at δ = 1e-5 (`audit.at` has others); null where none was asked for. */
  readonly audit: PlanAudit | null;
  /** Steps done. */
  readonly step: number;
  /** All that this training released so far, `previous` included; for a later training on the same data, its `previous`. */
  readonly released: readonly PrivacyPhase[];
  /**
   * One step: draws a batch, shapes and sums its gradients, adds noise, updates. A step whose noise is less than what the plan counts
   * for it, since a schedule answered otherwise when it was asked again, is not made.
   * @throws PLAN_EXHAUSTED, TRAINING_FAILED, NOISE_INVALID
   */
  next(): PrivateStepReport;
  /** The steps that are left, or those up to the end of an epoch (counted from 0; see the plan's `stepsAfter`). */
  run(options?: { readonly untilEpoch?: number }): Generator<PrivateStepReport, void, void>;
  /**
   * What this training has spent so far, `previous` included, by the plan's accountant or another. It is the training's own account:
   * what else was released from the same data, or is in the same weights, is in `statement`.
   * @throws DELTA_OUT_OF_RANGE, ACCOUNTANT_UNKNOWN
   */
  getEpsilon(delta: number, accountant?: AccountantName): PrivacyGuarantee;
  /**
   * What has been promised so far, in words and numbers. Its ε is for all that is in the weights: if other trainings of this process
   * were made with the same parameters, their steps are counted, too. What this process released from the same data into other weights
   * is named, with the ε of all together.
   *
   * Never private are weights that something without an account updated (ordinary training, a private step by hand), before the first
   * step or after it, or that `params.load` replaced after it. Pre-training on public data is fine: load its weights into the parameters
   * with `params.load(values)` before the first step.
   * @throws DELTA_OUT_OF_RANGE
   */
  statement(delta: number): TrainingStatement;
  /**
   * Weights, optimizer, account and position as one safetensors file. No key of noise, sampling or dropout is in it; a seed is, if there
   * is one. Written between steps, it neither loses nor double-counts one: a step that was made after it is made, and counted, again.
   * Several trainings that go on from one checkpoint are releases of their own: see `statement`.
   * @throws TRAINING_FAILED
   */
  save(): Uint8Array<ArrayBuffer>;
  /**
   * Takes up a checkpoint of the same model, parameters, optimizer and account. The plan's past must be the checkpoint's; its future may
   * differ: for more epochs, load it into a training with a longer plan. What is refused changes nothing.
   * @throws CHECKPOINT_INVALID, CHECKPOINT_VERSION, CHECKPOINT_MISMATCH, PLAN_MISMATCH, TRAINING_STARTED
   */
  load(bytes: Uint8Array): void;
  free(): void;
  [Symbol.dispose](): void;
}

/**
 * A private training in the shape of Opacus' `make_private`: model, optimizer and data in, DP-SGD (Abadi et al. 2016,
 * Algorithm 1) out, with sampler, clipping, noise and accountant from one plan. ε covers the weights, and nothing else that was seen of
 * the training: losses and accuracies on private examples, and what is chosen by them, leak.
 * @throws as `privacyPlan`, `privateStep` and, where one is asked for, `auditPlan`; TRAIN_OPTIONS_INVALID, ENGINE_MISMATCH;
 * MODEL_NOT_PRIVATE, with a hint, where a model can't be trained privately
 * @example
 * const training = makePrivate({ model, params, optimizer, data, batchSize: 4, epochs: 2, clipNorm: 1, noiseMultiplier: 1.1 });
 * for (const { step, epoch } of training.run()) console.log(step, epoch);
 * console.log(training.getEpsilon(1e-5).epsilon, formatStatement(training.statement(1e-5)));
 */
export function makePrivate(options: PrivateTrainingOptions): PrivateTraining {
  checkOptions('makePrivate', options);
  return new Training(options, privacyPlan({ ...options, datasetSize: options.data.count }));
}

export interface PrivateTargetOptions extends Omit<PrivateTrainingOptions, 'noiseMultiplier'> {
  /** ε to keep within when all steps are done, together with `previous`; by accountant `gdp` approximately. */
  readonly targetEpsilon: number;
  readonly targetDelta: number;
}

/**
 * The same with the least noise that keeps within a target (Opacus' `make_private_with_epsilon`): σ is rounded up, and the target
 * never exceeded by this training and its `previous`. (Other trainings on the same data that `previous` doesn't hold are not known here.)
 * That is so by bounds: with accountant `gdp`, or sampling `nominal-poisson`, the target is kept by an approximation alone, which the true
 * ε may exceed, and the statement says so.
 * @throws as `makePrivate`; EPSILON_OUT_OF_RANGE, DELTA_OUT_OF_RANGE, TARGET_UNREACHABLE
 * @example
 * const training = makePrivateWithEpsilon({
 *   ...{ model, params, optimizer, data, clipNorm: 1, batchSize: 4, epochs: 2 },
 *   targetEpsilon: 3,
 *   targetDelta: 1e-5,
 * });
 * training.plan.epsilon(1e-5).epsilon <= 3 // true
 */
export function makePrivateWithEpsilon(options: PrivateTargetOptions): PrivateTraining {
  checkOptions('makePrivateWithEpsilon', options);
  const { targetEpsilon, targetDelta, accountant = 'pld', data } = options;
  const planWith = (noiseMultiplier: number): PrivacyPlan =>
    privacyPlan({ ...options, noiseMultiplier, datasetSize: data.count });
  const { value } = calibrateNoiseMultiplier({ targetEpsilon, targetDelta, accountant }, (sigma) => {
    const plan = planWith(sigma);
    return [...plan.previous, ...plan.phases()];
  });
  return new Training({ ...options, noiseMultiplier: value }, planWith(value));
}

class Training implements PrivateTraining {
  readonly params: Parameters;
  readonly warnings: readonly ModelIssue[];
  readonly audit: PlanAudit | null;
  readonly #options: PrivateTrainingOptions;
  readonly #loss: BatchLoss<Batch>;
  readonly #update: PrivateStep;
  #sampler: Sampler;
  #accountant: Accountant;
  /** Orders shuffled epochs; public, and kept in checkpoints. */
  #publicSeed: number | null;
  #failed = false;
  /** What this process released from the data, and into the weights; the latter null before the first step. */
  readonly #data: readonly Ledger[];
  #weights: Ledger | null = null;
  /** The runs before this one, and this one's name. */
  #runs: readonly RunPart[] = [];
  readonly #run = randomName();
  /** Whether an audit refuted the training, here or before the checkpoint that it was taken up from. */
  #refuted = false;
  /** Whether `previous`, here or before the checkpoint, was noised from a seed. */
  #seededPast: boolean;
  /** What `params.replacements` was at the first step: another count says that the weights were replaced since. Null before that step. */
  #replacements: number | null = null;
  /** Whether they were replaced before the checkpoint. */
  #replaced = false;
  #takenUp: { readonly step: number; readonly times: number } | null = null;

  constructor(
    options: PrivateTrainingOptions,
    readonly plan: PrivacyPlan,
  ) {
    const { model, params, optimizer, data, maxPhysicalBatch, strategy = 'ghost' } = options;
    checkPhysical(maxPhysicalBatch);
    if (typeof (options.audit ?? false) !== 'boolean') {
      const given = JSON.stringify(options.audit);
      throw new GradshapeError(
        'TRAIN_OPTIONS_INVALID',
        `makePrivate: audit is ${given}; expected true or false.`,
      );
    }
    this.#options = { ...options, ...(options.previous && { previous: [...options.previous] }) };
    this.params = params;
    this.#seededPast = isSeeded(options.previous ?? []);
    this.#loss = batchLoss(model, options.loss);
    const issues = validateModel(this.#loss, params, { shape: data.shape });
    const [refused] = issues.filter(({ severity }) => severity === 'error');
    if (refused !== undefined) {
      throw new GradshapeError(
        'MODEL_NOT_PRIVATE',
        `makePrivate: ${refused.message} (${refused.code}) ${refused.hint}`,
      );
    }
    this.warnings = issues;
    this.audit = options.audit ? auditPlan(plan, { engine: params.engine, strategy }) : null;
    this.#refuted = this.audit?.verdict === 'violated';
    this.#accountant = plan.accountantAfter(0);
    const shuffled = plan.sampling === 'shuffled' || plan.sampling === 'nominal-poisson';
    this.#publicSeed = options.seed ?? (shuffled ? randomSeed() : null);
    this.#sampler = plan.sampler(params.engine, this.#publicSeed);
    this.#data = ledgersOf(data);
    this.#update = privateStep({
      params,
      optimizer,
      shaper: plan.shaper,
      noiseMultiplier: plan.noiseMultiplier,
      expectedBatchSize: plan.batchSize,
      noise: plan.noise(),
      strategy,
    });
  }

  get step(): number {
    return this.#update.step;
  }

  get released(): readonly PrivacyPhase[] {
    const { phases } = this.#accountant;
    if (this.plan.origin === 'seeded' || this.#seededPast) markSeeded(phases);
    for (const ledger of [...this.#data, this.#openWeights()]) ledger.know(phases);
    return phases;
  }

  next(): PrivateStepReport {
    const { plan, step } = this;
    if (step >= plan.steps) {
      throw new GradshapeError(
        'PLAN_EXHAUSTED',
        `all ${plan.steps} steps of the plan are done; one more would spend more than it says. For more, load training.save() into a ` +
          'training with a longer plan, or make another with previous: training.released, so that both are counted.',
      );
    }
    this.#checkWhole();
    const { bound, noiseStd, noiseMultiplier } = this.#update.release();
    checkRelease({ step, bound, noiseStd, noiseMultiplier }, plan.countedNoise(step));
    const { schedule, diagnostics = false } = this.#options;
    const update = schedule === undefined ? {} : { learningRate: schedule(step) };
    this.#failed = true;
    // Counted before it is made: whatever goes wrong in between, nothing is released that was not counted.
    const weights = this.#count(step);
    const lot = this.#sampler.lot(step);
    const lossSum = this.#accumulate(lot, step);
    const { length: drawn } = lot.indices;
    this.#update.finish(update);
    weights.updates++;
    this.#failed = false;
    return {
      ...{ step, bound, noiseStd, noiseMultiplier },
      epoch: plan.epochOf(step),
      batchSize: diagnostics ? drawn : null,
      loss: diagnostics && drawn > 0 ? lossSum / drawn : null,
    };
  }

  #checkWhole(): void {
    if (!this.#failed) return;
    throw new GradshapeError(
      'TRAINING_FAILED',
      'an earlier step ended in an error, perhaps with part of its batch summed; expected a new training, into which the last checkpoint is loaded.',
    );
  }

  /** Counts a step in all accounts; returns the weights' ledger. */
  #count(step: number): Ledger {
    const { plan, params } = this;
    const weights = this.#openWeights();
    this.#replacements ??= params.replacements;
    const ledgers = [...this.#data, weights];
    if (plan.origin === 'seeded') for (const ledger of ledgers) ledger.seeded = true;
    const event = plan.releasedBy(step);
    if (event !== null) {
      this.#accountant.step(event);
      for (const ledger of ledgers) ledger.step(event, plan.origin);
    }
    return weights;
  }

  /** The weights' ledger, with this training's account in it: at its first step, and whenever other weights were loaded. */
  #openWeights(): Ledger {
    const weights = ledgerOfWeights(this.params);
    if (weights === this.#weights) return weights;
    const { previous = [] } = this.#options;
    if (this.#weights === null) for (const ledger of [...this.#data, weights]) ledger.addPrevious(previous);
    else weights.add(this.#accountant.phases);
    this.#weights = weights;
    return weights;
  }

  /** Whether other weights were loaded after the first step. */
  #wasReplaced(): boolean {
    const since = this.#replacements;
    return this.#replaced || (since !== null && this.params.replacements !== since);
  }

  /** Shapes and sums the lot's gradients, piece by piece, in its groups; returns the sum of the losses. */
  #accumulate({ indices, groups }: GroupedLot, step: number): number {
    const { data, maxPhysicalBatch = Infinity } = this.#options;
    const { engine } = this.params;
    // Keys dropout, which goes by an example's place in the data: if the masks could be known, one example's absence would show in those
    // of all after it. So the key is secret, new at each step, and never kept; but a seeded run repeats itself.
    const seed = this.#options.seed ?? randomSeed();
    let lossSum = 0;
    for (let from = 0; from < indices.length; from += maxPhysicalBatch) {
      engine.scope(() => {
        const to = Math.min(from + maxPhysicalBatch, indices.length);
        const batch = data.batch(indices.subarray(from, to), {
          seed,
          step,
          groups: groups.subarray(from, to),
        });
        const losses = this.#update.accumulate(this.#loss, batch)!;
        lossSum += engine.kernels.sum(losses.address, losses.size);
      });
    }
    return lossSum;
  }

  *run({ untilEpoch }: { readonly untilEpoch?: number } = {}): Generator<PrivateStepReport, void, void> {
    const { plan } = this;
    const last = untilEpoch === undefined ? plan.steps : plan.stepsAfter(untilEpoch + 1);
    while (this.step < last) yield this.next();
  }

  getEpsilon(delta: number, accountant: AccountantName = this.plan.accountant): PrivacyGuarantee {
    const state = { ...this.#accountant.toJSON(), accountant };
    return accountantFromJSON(state).epsilon(delta);
  }

  statement(delta: number): TrainingStatement {
    const { audit, step } = this;
    // Before the first step: of all steps, which are those that are promised.
    const audited = audit?.at(delta, ...(step > 0 ? [step] : []));
    const statement = trainingStatement({
      ...{ plan: this.plan, delta, account: this.#accountant, takenUp: this.#takenUp },
      ...{ weights: ledgerOfWeights(this.params), data: this.#data, updates: strangeUpdates(this.params) },
      refuted: this.#refuted || audited?.verdict === 'violated',
      replaced: this.#wasReplaced(),
      seededPast: this.#seededPast,
    });
    return audited === undefined ? statement : withAudit(statement, audited);
  }

  get #owner(): CheckpointOwner {
    const { model, params, optimizer, seed } = this.#options;
    return { model, params, optimizer, plan: this.plan, ...(seed !== undefined && { seed }) };
  }

  save(): Uint8Array<ArrayBuffer> {
    this.#checkWhole();
    const { step, plan } = this;
    const weights = ledgerOfWeights(this.params);
    const part = { run: this.#run, step };
    const secure = plan.origin === 'secure';
    if (secure) for (const ledger of this.#data) ledger.knowRun(part);
    return writePrivateCheckpoint(this.#owner, {
      plan: plan.fingerprint(step),
      step,
      publicSeed: this.#publicSeed,
      accountant: this.#accountant.toJSON(),
      runs: secure ? [...this.#runs, part] : [],
      others: {
        phases: weights.beyond(this.#accountant.phases),
        seeded: weights.seeded,
        updates: strangeUpdates(this.params),
        replaced: this.#wasReplaced(),
      },
      refuted: this.#refuted,
      seededPast: this.#seededPast,
      shaper: plan.shaper.state?.() ?? {},
    });
  }

  load(bytes: Uint8Array): void {
    const { params, plan } = this;
    const { previous = [] } = this.#options;
    if (this.step > 0 || this.#failed) {
      throw new GradshapeError(
        'TRAINING_STARTED',
        `load: ${this.step} steps were made already, and loading would forget them; expected a new training.`,
      );
    }
    const found = readPrivateCheckpoint(bytes, this.#owner);
    const { state } = found;
    const accountant = plan.accountantAfter(state.step);
    const sampler = plan.sampler(params.engine, state.publicSeed);
    loadStates(found, this.#owner);
    // Nothing fails from here on.
    params.load(found.values);
    this.#accountant = accountant;
    this.#publicSeed = state.publicSeed;
    this.#sampler = sampler;
    this.#update.step = state.step;
    this.#runs = state.runs;
    this.#refuted ||= state.refuted;
    this.#seededPast ||= state.seededPast;
    this.#weights = ledgerOfWeights(params);
    this.#weights.add(accountant.phases);
    this.#weights.add(state.others.phases);
    this.#weights.seeded ||= state.others.seeded;
    this.#weights.strangeUpdates = state.others.updates;
    this.#replacements = params.replacements;
    this.#replaced = state.others.replaced;
    for (const ledger of this.#data) {
      ledger.addPrevious(previous);
      const fork = ledger.addRuns(state.runs, plan.phases);
      // A fork in the middle of a shuffled epoch releases the rest of that epoch once more.
      const epoch = fork ? releaseAtHand(plan, state.step) : null;
      if (epoch !== null) ledger.step(epoch, plan.origin);
    }
    const part = state.runs.at(-1);
    this.#takenUp = { step: state.step, times: part === undefined ? 1 : takeUp(part) };
  }

  free(): void {
    this.#update.free();
  }

  [Symbol.dispose](): void {
    this.free();
  }
}

/** A step with less noise for its bound than is counted for it must not be made. */
function checkRelease({ step, noiseMultiplier, noiseStd, bound }: Omit<Release, 'sigma'>, counted: number) {
  // A product's quotient is equal to rounding.
  const enough = noiseMultiplier >= counted * (1 - 1e-12);
  if (counted === 0 || enough) return;
  throw new GradshapeError(
    'NOISE_INVALID',
    `step ${step}: the noise would be ${noiseStd} for a bound of ${bound}, a noise multiplier of ${noiseMultiplier}, and the plan counts ${counted}; ` +
      'the step is not made. Expected schedules that say the same of a step whenever they are asked: functions of the step alone.',
  );
}

/** The release that a step is in the middle of: a shuffled epoch; null between two of them. */
function releaseAtHand(plan: PrivacyPlan, step: number): PrivacyEvent | null {
  if (step === plan.steps || plan.releasedBy(step) !== null) return null;
  let first = step;
  while (plan.releasedBy(first) === null) first--;
  return plan.releasedBy(first);
}

/** 53 bits of the runtime's cryptographic generator: all that a seed holds. */
function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [number, number];
  return (high >>> 11) * 4294967296 + low;
}

/** A run's name, 128 bits: tells runs apart, and says nothing of them. */
function randomName(): string {
  const words = [...crypto.getRandomValues(new Uint32Array(4))];
  return words.map((word) => word.toString(16).padStart(8, '0')).join('');
}

/** @throws TRAIN_OPTIONS_INVALID, ENGINE_MISMATCH */
function checkOptions(caller: string, options: Partial<PrivateTrainingOptions> | undefined): void {
  const { model, params, optimizer, data } = options ?? {};
  const sound = {
    model: typeof model?.apply === 'function',
    params: typeof params?.trainableEntries === 'object',
    optimizer: typeof optimizer?.update === 'function',
    data: typeof data?.batch === 'function',
  };
  const missing = Object.entries(sound).find(([, there]) => !there)?.[0] as keyof typeof sound | undefined;
  if (missing !== undefined) {
    throw new GradshapeError(
      'TRAIN_OPTIONS_INVALID',
      `${caller}: ${missing} is ${shown(options?.[missing])}; expected { model, params, optimizer, data, … }: a model, parameters from model.init, an ` +
        'optimizer such as sgd, and a data set from engine.dataset.',
    );
  }
  if (params!.engine === data!.engine) return;
  throw new GradshapeError(
    'ENGINE_MISMATCH',
    `${caller}: the parameters and the data live in two engines; expected both in one.`,
  );
}

function checkPhysical(maxPhysicalBatch: number | undefined): void {
  if (maxPhysicalBatch === undefined) return;
  if (Number.isSafeInteger(maxPhysicalBatch) && maxPhysicalBatch >= 1) return;
  throw new GradshapeError(
    'BATCH_SIZE_INVALID',
    `makePrivate: maxPhysicalBatch is ${shown(maxPhysicalBatch)}; expected a whole number from 1.`,
  );
}
