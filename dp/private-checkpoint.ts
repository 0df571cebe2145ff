import { GradshapeError, type Parameters } from '../engine/index.js';
import {
  type Optimizer,
  readSafetensors,
  type Safetensors,
  type StoredTensor,
  writeSafetensors,
} from '../nn/index.js';
import type { AccountantState } from './accounting/index.js';
import type { PrivacyPlan } from './plan.js';

/** What a private training goes on from, beside weights and optimizer. */
export interface PrivateState {
  readonly version: 1;
  /** The plan's fingerprint after `step` steps. */
  readonly plan: string;
  readonly step: number;
  readonly publicSeed: number;
  readonly accountant: AccountantState;
  readonly shaper: Readonly<Record<string, number>>;
}

interface Metadata {
  readonly counters: Readonly<Record<string, number>>;
  readonly optimizer: unknown;
  readonly state: PrivateState;
}

const [weights, moment] = ['params', 'optimizer.'] as const;

/** Weights, the optimizer's vectors, and the rest as one JSON string in the metadata. */
export function writePrivateCheckpoint(
  params: Parameters,
  optimizer: Optimizer,
  state: PrivateState,
): Uint8Array<ArrayBuffer> {
  const { vectors, counters } = optimizer.state();
  const metadata: Metadata = { counters, optimizer: optimizer.toJSON(), state };
  const vector = (values: Float32Array): StoredTensor => ({ shape: [values.length], values });
  return writeSafetensors({
    metadata: { format: 'gradshape', private: JSON.stringify(metadata) },
    tensors: new Map([
      [weights, vector(params.values())],
      ...Object.entries(vectors).map(([name, values]): [string, StoredTensor] => [
        moment + name,
        vector(values),
      ]),
    ]),
  });
}

/**
 * Puts a checkpoint's weights and optimizer state in place and returns the rest. All is checked first: a checkpoint that
 * doesn't fit changes nothing.
 */
export function readPrivateCheckpoint(
  bytes: Uint8Array,
  params: Parameters,
  optimizer: Optimizer,
  plan: PrivacyPlan,
): PrivateState {
  const file = readSafetensors(bytes);
  const metadata = metadataOf(file);
  checkPlan(metadata.state, plan);
  if (JSON.stringify(metadata.optimizer) !== JSON.stringify(optimizer.toJSON())) {
    throw mismatch(
      `the optimizer was ${JSON.stringify(metadata.optimizer)}, and is ${JSON.stringify(optimizer.toJSON())}`,
    );
  }
  const values = file.tensors.get(weights)?.values;
  if (values?.length !== params.size) {
    throw mismatch(`the file has ${values?.length ?? 'no'} parameters, the model has ${params.size}`);
  }
  const vectors = [...file.tensors]
    .filter(([name]) => name.startsWith(moment))
    .map(([name, stored]) => [name.slice(moment.length), stored.values] as const);
  optimizer.loadState(params, {
    vectors: Object.fromEntries(vectors) as Record<string, Float32Array>,
    counters: metadata.counters,
  });
  params.load(values);
  return metadata.state;
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
    `load: the checkpoint was made under another plan, and its account would not fit this one. Its plan: ${made}; this one: ${expected}.`,
  );
}

function metadataOf({ metadata }: Safetensors): Metadata {
  try {
    const parsed = JSON.parse(metadata.private!) as Metadata;
    if (parsed.state.version === 1) return parsed;
  } catch {
    // Said below.
  }
  throw new GradshapeError(
    'CHECKPOINT_INVALID',
    "load: the file is no private training's checkpoint; expected what training.save() wrote. For weights alone use loadWeights(params, bytes).",
  );
}

function mismatch(what: string): GradshapeError {
  return new GradshapeError(
    'CHECKPOINT_MISMATCH',
    `load: ${what}; expected the model and optimizer that were saved.`,
  );
}
