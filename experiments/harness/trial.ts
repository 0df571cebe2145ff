import { createHash } from 'node:crypto';
import { GradshapeError } from 'gradshape';

/** Typed arrays on SharedArrayBuffers, by name: sent to every worker once, without a copy. */
export type SharedArrays = Record<string, SharedArray>;
export type SharedArray = Uint8Array | Int32Array | Float32Array | Float64Array;

/** Seeds of the independent draws of a trial. Arms of a paired comparison share the seeds of what they share. */
export interface Seeds {
  data: number;
  init: number;
  order: number;
  noise: number;
}

/** A spec as an experiment writes it: what differs from the trial's defaults, and the seed (one for all draws, or each). */
export type SpecInput<Spec> = Partial<Spec> & { seed: number | Seeds };

/** A spec as the trial gets it: every field there, and the four seeds. */
export type FullSpec<Spec> = Spec & { seed: Seeds };

export interface TrialContext<Shared extends SharedArrays = SharedArrays> {
  /** The kernel build to make the engine with; part of the trial's key. */
  kernels: 'base' | 'relaxed';
  /** What the trial's `shared` returned; on SharedArrayBuffers, so don't write to it. */
  shared: Shared;
  /** One per worker and for its whole life: keep the engine and its data sets here (see `remember`). */
  memo: Map<string, unknown>;
}

/**
 * A kind of trial: a pure function of a small JSON spec. Same spec, same kernel build, same data: same result.
 * The result must be plain JSON (no typed arrays, no NaN).
 */
export interface Trial<
  Spec extends object = object,
  Result = unknown,
  Shared extends SharedArrays = SharedArrays,
> {
  /** `import.meta.url` of the module that exports the trial: workers import it from there. */
  module: string;
  /** In the ledger and in `trial.js --trial NAME`; the module's file name where it lives in `experiments/trials/`. */
  name: string;
  /** Raise it when a change of code changes results: older ledger lines are then ignored. */
  version: number;
  /** One line, for `list.js`. */
  description: string;
  /** Every field of the spec but `seed`, with its default. A spec may set no other fields. */
  defaults: Spec;
  /** Loads the data that the given specs need, once, in the parent. Its hash is part of each trial's key. */
  shared?(options: { data?: string }, specs: readonly FullSpec<Spec>[]): Shared | Promise<Shared>;
  /** Names of the shared arrays this spec reads; default all. Others don't enter its key. */
  uses?(spec: FullSpec<Spec>): readonly (keyof Shared & string)[];
  run(spec: FullSpec<Spec>, context: TrialContext<Shared>): Result | Promise<Result>;
}

/** Gives a trial its types; the value is the argument. */
export function defineTrial<Spec extends object, Result, Shared extends SharedArrays = SharedArrays>(
  trial: Trial<Spec, Result, Shared>,
): Trial<Spec, Result, Shared> {
  return trial;
}

/** The value under `key` in a worker's memo, made on first use. */
export function remember<Value>(memo: Map<string, unknown>, key: string, make: () => Value): Value {
  if (!memo.has(key)) memo.set(key, make());
  return memo.get(key) as Value;
}

/** Copies a typed array to a SharedArrayBuffer. */
export function toShared<A extends SharedArray>(array: A): A {
  const buffer = new SharedArrayBuffer(array.byteLength);
  const copy = new (array.constructor as new (b: SharedArrayBuffer) => A)(buffer);
  copy.set(array);
  return copy;
}

/**
 * JSON with sorted keys: equal values give equal text. Throws NOT_JSON where JSON.stringify would drop or change
 * something without a word (undefined, NaN, typed arrays, class instances).
 */
export function canonicalJson(value: unknown, where = 'value'): string {
  if (Array.isArray(value)) return `[${value.map((v, i) => canonicalJson(v, `${where}[${i}]`)).join(',')}]`;
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype) {
    const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${fields.map(([k, v]) => `${JSON.stringify(k)}:${canonicalJson(v, `${where}.${k}`)}`).join(',')}}`;
  }
  if (value === null || typeof value === 'boolean' || typeof value === 'string' || Number.isFinite(value)) {
    return JSON.stringify(value);
  }
  const given = typeof value === 'object' ? (value as object).constructor?.name : String(value);
  throw new GradshapeError(
    'NOT_JSON',
    `${where} is ${given}; specs and results hold only null, booleans, finite numbers, strings, plain arrays and plain objects.`,
  );
}

/** Fills in the defaults and the four seeds. Errors: SPEC_INVALID, NOT_JSON. */
export function fullSpec(trial: Trial, input: SpecInput<object>): FullSpec<object> {
  const known = [...Object.keys(trial.defaults), 'seed'];
  if (typeof input !== 'object' || input === null) {
    throw new GradshapeError(
      'SPEC_INVALID',
      `the spec is ${String(input)}; expected an object with the fields ${known.join(', ')}.`,
    );
  }
  for (const field of Object.keys(input)) {
    if (!known.includes(field)) {
      throw new GradshapeError(
        'SPEC_INVALID',
        `trial ${trial.name} has no spec field '${field}'; its fields are ${known.join(', ')}.`,
      );
    }
  }
  const spec = { ...trial.defaults, ...input, seed: fullSeeds(input.seed) };
  canonicalJson(spec, 'spec'); // throws unless it is plain JSON
  return structuredClone(spec);
}

function fullSeeds(seed: number | Seeds): Seeds {
  const all = typeof seed === 'number' ? { data: seed, init: seed, order: seed, noise: seed } : seed;
  const names = ['data', 'init', 'order', 'noise'] as const;
  const good =
    typeof all === 'object' &&
    all !== null &&
    Object.keys(all).length === names.length &&
    names.every((name) => Number.isSafeInteger(all[name]) && all[name] >= 0);
  if (!good) {
    throw new GradshapeError(
      'SPEC_INVALID',
      `spec.seed is ${JSON.stringify(seed)}; expected a whole number ≥ 0, or one for each of { data, init, order, noise }.`,
    );
  }
  return all;
}

/** The spec as a person would type it: what differs from the defaults, and one seed where the four are equal. */
export function shortSpec(trial: Trial, spec: FullSpec<object>): Record<string, unknown> {
  const defaults = trial.defaults as Record<string, unknown>;
  const short: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(spec)) {
    if (field !== 'seed' && canonicalJson(value) !== canonicalJson(defaults[field])) short[field] = value;
  }
  const { data, init, order, noise } = spec.seed;
  short.seed = data === init && data === order && data === noise ? data : spec.seed;
  return short;
}

/** SHA-256 of each shared array's type, length and bytes. */
export function hashShared(shared: SharedArrays): Record<string, string> {
  const hashes: Record<string, string> = {};
  for (const [name, array] of Object.entries(shared)) {
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    hashes[name] = createHash('sha256')
      .update(`${array.constructor.name} ${array.length}\n`)
      .update(bytes)
      .digest('hex');
  }
  return hashes;
}

/** What identifies a trial in the ledger: SHA-256 over spec with defaults, trial, version, kernel build and data. */
export function trialKey(
  trial: Trial,
  spec: FullSpec<object>,
  kernels: string,
  hashes: Record<string, string>,
): string {
  const uses = trial.uses?.(spec) ?? Object.keys(hashes);
  const data = Object.fromEntries(uses.map((name) => [name, hashes[name] ?? null]));
  const identity = { trial: trial.name, version: trial.version, kernels, data, spec };
  return createHash('sha256').update(canonicalJson(identity)).digest('hex');
}

/** Runs one trial here, in this thread; the result comes back as JSON text. Errors: NOT_JSON, and the trial's own. */
export async function runTrial(
  trial: Trial,
  spec: FullSpec<object>,
  context: TrialContext,
): Promise<{ json: string; seconds: number }> {
  const start = performance.now();
  const result = await trial.run(spec, context);
  return { json: canonicalJson(result, 'result'), seconds: (performance.now() - start) / 1000 };
}

/** The trial called `name` among a module's exports. Error: TRIAL_UNKNOWN. */
export async function importTrial(module: string, name?: string): Promise<Trial> {
  const found = Object.values(await import(module)).filter(isTrial);
  const trial = name === undefined ? found[0] : found.find((t) => t.name === name);
  if (trial === undefined || (name === undefined && found.length > 1)) {
    const names = found.map((t) => t.name).join(', ') || 'none';
    throw new GradshapeError(
      'TRIAL_UNKNOWN',
      `${module} must export the trial ${name ?? '(just one)'}; it exports ${names}.`,
    );
  }
  return trial;
}

function isTrial(value: unknown): value is Trial {
  const trial = value as Trial | null;
  return typeof trial === 'object' && typeof trial?.run === 'function' && typeof trial.defaults === 'object';
}
