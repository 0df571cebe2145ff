import { onlyExamples } from './batch.js';
import { checkFlat } from './checks.js';
import { GradshapeError } from './errors.js';
import type { PerExampleRule, Use } from './op.js';
import type { ParameterEntry, Parameters } from './parameters.js';
import { backward, type TapeRecord } from './tape.js';
import { type Examples, Tensor } from './tensor.js';

/** What a loss is computed from: tensors whose axis 0 is the examples, under any names. */
export type BatchTensors = object;

/** A loss as a function of the parameters and the batch: one number an example, f32 [batch]. */
export type BatchLoss<B> = (params: Parameters, batch: B) => Tensor;

/** A parameter's place in an op, with the rule that splits its gradient. */
export interface RuledUse {
  readonly use: Use;
  readonly rule: PerExampleRule<unknown>;
}

/** One forward and one backward pass, up to where the parameters meet the batch. */
export interface Trace {
  readonly losses: Tensor;
  readonly uses: ReadonlyMap<ParameterEntry, readonly RuledUse[]>;
  /** Parameters' gradients that came through ops without a rule (or their absence), summed over the batch. */
  readonly unruled: ReadonlyMap<ParameterEntry, { readonly op: string; readonly gradient: Tensor | null }>;
}

export interface TraceOptions {
  /** Refuses ops that mix examples, and losses that are not one number an example. */
  readonly examplesApart: boolean;
  /** Leaves out gradients that no rule can split. */
  readonly ruledOnly: boolean;
}

/**
 * Runs the loss and its backward pass, stopping where trainable parameters meet the batch: their gradients are left to
 * the rules.
 */
export function trace<B extends BatchTensors>(
  loss: BatchLoss<B>,
  params: Parameters,
  batch: B,
  options: TraceOptions,
): Trace {
  const { recorder } = params.engine;
  if (recorder.active) {
    throw new GradshapeError(
      'NO_SECOND_ORDER',
      'a batch gradient was taken inside another gradient; expected it outside. Use gradients(fn, inputs) for second order.',
    );
  }
  const examples = options.examplesApart ? onlyExamples(batch) : null;
  const entries = new Map(params.trainableEntries.map((entry) => [params.get(entry.name), entry] as const));
  const forward = (): Tensor => {
    recorder.examplesApart = options.examplesApart;
    try {
      return loss(params, batch);
    } finally {
      recorder.examplesApart = false;
    }
  };
  return recorder.run(entries.keys(), forward, (losses, tape) => {
    if (examples !== null && losses instanceof Tensor) checkExamples(losses, examples);
    return traceBackward(losses, tape, entries, options);
  });
}

/** Throws where the losses are other examples' than the batch's. */
function checkExamples(losses: Tensor, examples: Examples): void {
  if (losses.examples === null || losses.examples === examples) return;
  throw new GradshapeError(
    'EXAMPLES_MIXED',
    `perExample: the loss returned ${losses.toString()} of other examples than the batch's; expected each example's own loss, computed from ` +
      'the batch that the loss is given.',
  );
}

function traceBackward(
  losses: Tensor,
  tape: readonly TapeRecord[],
  entries: ReadonlyMap<Tensor, ParameterEntry>,
  { examplesApart, ruledOnly }: TraceOptions,
): Trace {
  if (!(losses instanceof Tensor) || losses.dtype !== 'f32') {
    throw new GradshapeError(
      'LOSS_SHAPE',
      'the loss did not return an f32 tensor; expected one number per example, [batch].',
    );
  }
  if (examplesApart && (losses.rank !== 1 || losses.examples === null)) {
    throw new GradshapeError(
      'LOSS_SHAPE',
      `perExample: the loss returned ${losses.toString()}; expected one number per example, [batch], computed from the batch. ` +
        'Do not average: the step does.',
    );
  }
  const uses = new Map<ParameterEntry, RuledUse[]>();
  const withoutRule = new Map<ParameterEntry, string>();
  const collect = (record: TapeRecord, argument: number, dOutput: Tensor): boolean => {
    const entry = entries.get(record.inputs[argument]!)!;
    const { engine, examples } = record.output;
    const rule = examples === null ? undefined : record.op.perExample?.[argument];
    if (rule === undefined) {
      withoutRule.set(entry, record.op.name);
      return ruledOnly;
    }
    const use = {
      ...record,
      engine,
      kernels: engine.kernels,
      dOutput,
      argument,
      batch: record.output.shape[0]!,
    };
    const list = uses.get(entry);
    if (list === undefined) uses.set(entry, [{ use, rule }]);
    else list.push({ use, rule });
    return true;
  };
  const seed = losses.engine.full(losses.shape, 1);
  seed.examples = losses.examples;
  const found = backward(tape, losses, seed, new Set(entries.keys()), collect);
  const unruled = new Map<ParameterEntry, { op: string; gradient: Tensor | null }>();
  for (const [view, entry] of entries) {
    const op = withoutRule.get(entry);
    if (op !== undefined) unruled.set(entry, { op, gradient: found.get(view) ?? null });
  }
  return { losses, uses, unruled };
}

/**
 * The gradient of the *sum* of the losses over the batch, flat, laid out like the parameters; frozen ones are 0. This
 * is vanilla training's gradient: the same kernels as the per-example ones, without weights.
 * @param into a flat tensor to write to; default: a new one in the open scope
 * @param accumulate add to it instead. @default true when `into` is given
 * @example
 * const { losses, gradient } = sumGradient((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, batch);
 */
export function sumGradient<B extends BatchTensors>(
  loss: BatchLoss<B>,
  params: Parameters,
  batch: B,
  into?: Tensor,
  accumulate = into !== undefined,
): { losses: Tensor; gradient: Tensor } {
  if (into !== undefined) checkFlat('sumGradient', into, params);
  const traced = trace(loss, params, batch, { examplesApart: false, ruledOnly: false });
  const gradient = into ?? params.engine.allocate([params.size], 'f32', 'the gradient');
  writeGradient(traced, params, gradient, accumulate);
  return { losses: traced.losses, gradient };
}

/** The gradient of the sum of a trace's losses, which must not be `ruledOnly`. */
export function writeGradient(
  { uses, unruled }: Trace,
  params: Parameters,
  gradient: Tensor,
  accumulate: boolean,
): void {
  const { recorder } = params.engine;
  for (const entry of params.entries) {
    const out = gradient.address + entry.offset * 4;
    let written = accumulate;
    for (const { use, rule } of uses.get(entry) ?? []) {
      recorder.own(() => rule.weightedSum(use, 0, out, written));
      written = true;
    }
    if (!written) params.engine.kernels.fill(out, 0, entry.size);
    const rest = unruled.get(entry)?.gradient;
    if (rest) params.engine.kernels.addScaled(out, rest.address, 1, entry.size);
  }
}
