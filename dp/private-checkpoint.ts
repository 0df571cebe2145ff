import { checkSeed, GradshapeError, type Parameters, sameShape, showShape } from '../engine/index.js';
import {
  type Model,
  type Optimizer,
  type OptimizerState,
  readSafetensors,
  type Safetensors,
  type StoredTensor,
  writeSafetensors,
} from '../nn/index.js';
import {
  type AccountantState,
  accountantFromJSON,
  createAccountant,
  type PrivacyPhase,
} from './accounting/index.js';
import { shown } from './accounting/validate.js';
import { crc32 } from './checksum.js';
import type { PrivacyPlan } from './plan.js';
import type { RunPart } from './released.js';

/** What a private training goes on from, beside weights and optimizer. */
export interface PrivateState {
  readonly version: 2;
  /** The plan's fingerprint after `step` steps. */
  readonly plan: string;
  readonly step: number;
  /** Orders shuffled epochs; of a seeded training, its seed; null where there is neither. */
  readonly publicSeed: number | null;
  readonly accountant: AccountantState;
  /** The runs that made the steps, one after another: by them, forks of a checkpoint are known. None in seeded trainings. */
  readonly runs: readonly RunPart[];
  /**
   * What other trainings left in the weights, beyond the account; how often they were updated without one, and whether they were replaced
   * after the training's first step.
   */
  readonly others: {
    readonly phases: readonly PrivacyPhase[];
    readonly seeded: boolean;
    readonly updates: number;
    readonly replaced: boolean;
  };
  /** Whether an audit refuted the training. */
  readonly refuted: boolean;
  /** Whether its `previous` was noised from a seed. */
  readonly seededPast: boolean;
  readonly shaper: Readonly<Record<string, number>>;
}

/** What a checkpoint belongs to. */
export interface CheckpointOwner {
  readonly params: Parameters;
  readonly optimizer: Optimizer;
  readonly model: Model;
  readonly plan: PrivacyPlan;
  readonly seed?: number;
}

/** All that a checkpoint says, checked. */
export interface PrivateCheckpoint {
  readonly state: PrivateState;
  readonly values: Float32Array;
  readonly optimizer: OptimizerState;
}

interface Metadata {
  /** The model's description; null where it has none. */
  readonly model: unknown;
  /** Names and shapes of the parameters, in the block's order. */
  readonly layout: readonly (readonly [string, readonly number[]])[];
  readonly frozen: readonly string[];
  readonly optimizer: unknown;
  /** Names of the optimizer's vectors. */
  readonly vectors: readonly string[];
  readonly counters: Readonly<Record<string, number>>;
  readonly state: PrivateState;
}

const version = 2;
const format = 'gradshape';
const [weights, moment] = ['params', 'optimizer.'] as const;

/**
 * Weights, the optimizer's vectors, and the rest as one JSON string in the metadata, beside a checksum of all these. Other entries may be
 * added to the metadata (`readSafetensors`, `writeSafetensors`); the checksum doesn't cover them.
 */
export function writePrivateCheckpoint(
  owner: CheckpointOwner,
  state: Omit<PrivateState, 'version'>,
): Uint8Array<ArrayBuffer> {
  const { params, optimizer } = owner;
  const { vectors, counters } = optimizer.state();
  const metadata: Metadata = {
    ...identityOf(owner),
    vectors: Object.keys(vectors),
    counters,
    state: { version, ...state },
  };
  const vector = (values: Float32Array): StoredTensor => ({ shape: [values.length], values });
  const text = JSON.stringify(metadata);
  const tensors = new Map([
    [weights, vector(params.values())],
    ...Object.entries(vectors).map(([name, values]): [string, StoredTensor] => [
      moment + name,
      vector(values),
    ]),
  ]);
  return writeSafetensors({
    metadata: { format, private: text, checksum: checksumOf(text, tensors) },
    tensors,
  });
}

/** Of the training's own metadata, and of the tensors by name and value. */
function checksumOf(text: string, tensors: Safetensors['tensors']): string {
  const parts = [...tensors].flatMap(([name, { values }]) => [
    name,
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  ]);
  return crc32([text, ...parts])
    .toString(16)
    .padStart(8, '0');
}

/** What must be the same again. */
function identityOf({ params, optimizer, model }: CheckpointOwner) {
  const trained = new Set(params.trainableEntries.map(({ name }) => name));
  return {
    model: 'toJSON' in model ? model : null,
    layout: params.entries.map(({ name, shape }) => [name, shape] as const),
    frozen: params.entries.map(({ name }) => name).filter((name) => !trained.has(name)),
    optimizer: optimizer.toJSON(),
  };
}

/**
 * Reads a checkpoint and checks all of it against what it is to go on with; changes nothing.
 * @throws CHECKPOINT_INVALID, CHECKPOINT_VERSION, CHECKPOINT_MISMATCH, PLAN_MISMATCH
 */
export function readPrivateCheckpoint(bytes: Uint8Array, owner: CheckpointOwner): PrivateCheckpoint {
  const file = wholeFile(bytes);
  const metadata = metadataOf(file);
  const { state } = metadata;
  checkPlan(state, owner.plan);
  checkAccount(state, owner.plan);
  checkIdentity(metadata, owner);
  checkSeeds(state, owner);
  return { state, ...tensorsOf(file, metadata, owner) };
}

/** Takes up the states of rule and optimizer; if one of them is refused, both are as before. */
export function loadStates(found: PrivateCheckpoint, { plan, optimizer, params }: CheckpointOwner): void {
  const { shaper, steps } = plan;
  const { step, shaper: state } = found.state;
  const before = shaper.state?.();
  try {
    shaper.loadState?.(state);
    const bound = shaper.bound(step);
    if (step < steps && plan.countedNoise(step) > 0 && !(bound !== null && bound > 0 && bound < Infinity)) {
      throw new GradshapeError(
        'CHECKPOINT_INVALID',
        `load: with the checkpoint's state ${JSON.stringify(state)}, ${shaper.toString()} has a bound of ${bound}; expected a finite number above 0.`,
      );
    }
    // Last, since it alone has no way back: it checks before it changes anything.
    optimizer.loadState(params, found.optimizer);
  } catch (error) {
    if (before !== undefined) shaper.loadState?.(before);
    throw error;
  }
}

/** The file, if it is as `writeSafetensors` writes it to the byte. */
function wholeFile(bytes: Uint8Array): Safetensors {
  if (!(bytes instanceof Uint8Array)) {
    throw new GradshapeError(
      'CHECKPOINT_INVALID',
      `load: ${shown(bytes)} is no checkpoint; expected the bytes that training.save() gave, a Uint8Array.`,
    );
  }
  const file = readFile(bytes);
  const again = writeSafetensors(file);
  if (again.length === bytes.length && again.every((byte, i) => byte === bytes[i])) return file;
  throw invalid('its header is not as it was written');
}

function readFile(bytes: Uint8Array): Safetensors {
  try {
    return readSafetensors(bytes);
  } catch (error) {
    if ((error as { code?: string }).code !== 'DTYPE_MISMATCH') throw error;
    throw invalid('its header names another type than F32');
  }
}

function metadataOf({ metadata, tensors }: Safetensors): Metadata {
  let parsed: Partial<Metadata> | null = null;
  try {
    parsed = JSON.parse(metadata.private!) as Partial<Metadata> | null;
  } catch {
    // Said below.
  }
  const checksum = metadata.checksum;
  if (checksum !== undefined && metadata.private !== undefined) {
    const found = checksumOf(metadata.private, tensors);
    if (found !== checksum) throw invalid(`its checksum is ${checksum}, and its content's ${found}`);
  }
  const state = parsed?.state as Partial<PrivateState> | undefined;
  if (typeof state !== 'object' || state === null) {
    throw new GradshapeError(
      'CHECKPOINT_INVALID',
      "load: the file is no private training's checkpoint; expected what training.save() wrote. For weights alone use loadWeights(params, bytes).",
    );
  }
  if (state.version !== version) {
    throw new GradshapeError(
      'CHECKPOINT_VERSION',
      `load: the checkpoint has format ${String(state.version)}; expected ${version}. An older one does not say what model and account it is of: ` +
        'go on with the gradshape that wrote it, or begin a new training from its weights, with its account as `previous`.',
    );
  }
  if (checksum === undefined || metadata.format !== format)
    throw invalid("its 'format' or 'checksum' is gone");
  const { layout, frozen, vectors, counters } = parsed!;
  const { plan, step, publicSeed, accountant, runs, others, refuted, seededPast, shaper } = state;
  const damaged = Object.entries({
    layout: Array.isArray(layout) && layout.every((entry) => isText(entry?.[0]) && Array.isArray(entry[1])),
    frozen: Array.isArray(frozen) && frozen.every(isText),
    vectors: Array.isArray(vectors) && vectors.every(isText),
    counters: isRecord(counters),
    plan: isText(plan),
    step: isCount(step),
    publicSeed: publicSeed === null || isCount(publicSeed),
    accountant: phasesOf(() => accountantFromJSON(accountant!)) !== undefined,
    runs: isRuns(runs, step),
    others:
      typeof others?.seeded === 'boolean' &&
      typeof others.replaced === 'boolean' &&
      isCount(others.updates) &&
      // Each for itself: they need not have one relation.
      Array.isArray(others.phases) &&
      others.phases.every((phase) => phasesOf(() => createAccountant('rdp', [phase])) !== undefined),
    refuted: typeof refuted === 'boolean',
    seededPast: typeof seededPast === 'boolean',
    shaper: isRecord(shaper),
  }).find(([, sound]) => !sound)?.[0];
  if (damaged === undefined) return parsed as Metadata;
  throw invalid(`'${damaged}' of its metadata is missing or damaged`);
}

const isText = (value: unknown): value is string => typeof value === 'string';
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isRecord = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  Object.values(value).every(Number.isFinite);

/** One after another, up to the checkpoint's step. */
function isRuns(runs: readonly RunPart[] | undefined, step: unknown): boolean {
  if (!Array.isArray(runs)) return false;
  const sound = (part: RunPart, i: number): boolean =>
    isText(part?.run) && isCount(part.step) && part.step >= (runs[i - 1]?.step ?? 0);
  return runs.every(sound) && (runs.length === 0 || runs.at(-1).step === step);
}

function phasesOf(
  make: () => { readonly phases: readonly PrivacyPhase[] },
): readonly PrivacyPhase[] | undefined {
  try {
    return make().phases;
  } catch {
    return undefined;
  }
}

/** Whether the plan's first steps are those that were made. */
function checkPlan({ step, plan: made }: PrivateState, plan: PrivacyPlan): void {
  if (step > plan.steps) {
    throw new GradshapeError(
      'PLAN_MISMATCH',
      `load: the checkpoint has ${step} steps behind it, and this plan ends after ${plan.steps}; expected a plan of at least as many.`,
    );
  }
  const expected = plan.fingerprint(step);
  if (made === expected) return;
  throw new GradshapeError(
    'PLAN_MISMATCH',
    `load: the checkpoint was made under another plan, and its account would not fit this one: ${differences(made, expected)}. Make the training with ` +
      'the plan that it was saved under, which may have more steps; or begin a new training, with `previous` for what this one released.',
  );
}

/** What two fingerprints say differently, by name. */
function differences(made: string, expected: string): string {
  let then: Record<string, unknown>;
  try {
    then = JSON.parse(made) as Record<string, unknown>;
  } catch {
    throw invalid("'plan' of its metadata is damaged");
  }
  const now = JSON.parse(expected) as Record<string, unknown>;
  const [before, after] = [then, now].map((plan) => (name: string) => JSON.stringify(plan?.[name]));
  return Object.keys(now)
    .filter((name) => before!(name) !== after!(name))
    .map((name) => `${name} was ${before!(name)}, and is ${after!(name)}`)
    .join('; ');
}

/** The account is a function of the plan: one that says less was damaged, or made smaller. */
function checkAccount({ step, accountant }: PrivateState, plan: PrivacyPlan): void {
  const found = JSON.stringify(accountantFromJSON(accountant).phases);
  const expected = JSON.stringify(plan.accountantAfter(step).phases);
  if (found === expected) return;
  throw invalid(`after ${step} steps its account is ${found}, and the plan's is ${expected}`);
}

function checkIdentity(metadata: Metadata, owner: CheckpointOwner): void {
  const own = identityOf(owner);
  if (JSON.stringify(metadata.optimizer) !== JSON.stringify(own.optimizer)) {
    throw mismatch(
      `the optimizer was ${JSON.stringify(metadata.optimizer)}, and is ${JSON.stringify(own.optimizer)}`,
    );
  }
  const layoutOf = (layout: Metadata['layout']): string =>
    layout.map(([name, shape]) => `${name} ${showShape(shape)}`).join(', ');
  const same =
    metadata.layout.length === own.layout.length &&
    own.layout.every(([name, shape], i) => {
      const [storedName, storedShape] = metadata.layout[i]!;
      return name === storedName && sameShape(shape, storedShape);
    });
  if (!same) {
    throw mismatch(`the parameters were ${layoutOf(metadata.layout)}, and are ${layoutOf(own.layout)}`);
  }
  if (JSON.stringify(metadata.model) !== JSON.stringify(own.model)) {
    throw mismatch(`the model was ${JSON.stringify(metadata.model)}, and is ${JSON.stringify(own.model)}`);
  }
  if (JSON.stringify(metadata.frozen) !== JSON.stringify(own.frozen)) {
    throw mismatch(`frozen were ${JSON.stringify(metadata.frozen)}, and are ${JSON.stringify(own.frozen)}`);
  }
}

/** Under another seed the steps to come would not be those of one run: a shuffled epoch could show an example twice. */
function checkSeeds({ publicSeed, runs, step }: PrivateState, { seed, plan }: CheckpointOwner): void {
  const shuffled = plan.sampling === 'shuffled' || plan.sampling === 'nominal-poisson';
  if (seed !== undefined) {
    if (publicSeed === seed) return;
    throw mismatch(`the seed was ${publicSeed}, and is ${seed}`);
  }
  if (shuffled) {
    if (publicSeed === null) throw invalid("'publicSeed' is missing, which orders its shuffled epochs");
    checkSeed('load', publicSeed);
  }
  if (step > 0 && runs.length === 0) throw invalid("'runs' is empty, and some run made its steps");
}

function tensorsOf({ tensors }: Safetensors, metadata: Metadata, { params }: CheckpointOwner) {
  const expected = [weights, ...metadata.vectors.map((name) => moment + name)];
  const extra = [...tensors.keys()].find((name) => !expected.includes(name));
  if (extra !== undefined) throw invalid(`it has a tensor '${extra}'; expected ${expected.join(', ')}`);
  const valuesOf = (name: string): Float32Array => {
    const { values } = tensors.get(name) ?? {};
    if (values?.length !== params.size) {
      throw invalid(
        `its '${name}' has ${values?.length ?? 'no'} numbers; expected ${params.size}, one a parameter`,
      );
    }
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad < 0) return values;
    throw invalid(`its '${name}' holds ${values[bad]} at ${bad}, with which no training goes on`);
  };
  const vectors = metadata.vectors.map((name) => [name, valuesOf(moment + name)] as const);
  return {
    values: valuesOf(weights),
    optimizer: { vectors: Object.fromEntries(vectors), counters: metadata.counters },
  };
}

function invalid(what: string): GradshapeError {
  return new GradshapeError(
    'CHECKPOINT_INVALID',
    `load: the checkpoint is damaged: ${what}. Nothing was changed; expected what training.save() wrote, such as an earlier copy.`,
  );
}

function mismatch(what: string): GradshapeError {
  return new GradshapeError(
    'CHECKPOINT_MISMATCH',
    `load: ${what}. Nothing was changed; expected the model, parameters, optimizer and seed that were saved.`,
  );
}
