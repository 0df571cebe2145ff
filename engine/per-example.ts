import { type BatchLoss, type BatchTensors, type RuledUse, trace } from './batch-gradient.js';
import { checkFlat, checkSums, type Weights } from './checks.js';
import type { Engine } from './engine.js';
import { GradshapeError } from './errors.js';
import { GradientsSlice, type SliceableGradients, usedWeights, weightedSumsOf } from './gradients-slice.js';
import { LoopGradients } from './loop-gradients.js';
import type { Use } from './op.js';
import type { ParameterEntry, Parameters } from './parameters.js';
import { bytesPerElement, changesOf, type Tensor } from './tensor.js';

/**
 * How per-example gradients are made: one example at a time (`loop`), all of them in memory (`materialize`), or never
 * formed where that is cheaper (`ghost`).
 */
export type Strategy = 'ghost' | 'materialize' | 'loop';

export interface PerExampleOptions {
  /** @default 'ghost' */
  readonly strategy?: Strategy;
}

/** The examples' squared gradient norms, in f64. */
export class Norms {
  constructor(
    /** f64 [batch] */
    readonly squared: Tensor,
  ) {}

  /** The norms as host numbers. */
  values(): Float64Array {
    return (this.squared.values() as Float64Array).map(Math.sqrt);
  }

  /** The norms as an f32 tensor [batch]. */
  tensor(): Tensor {
    const { engine, size, examples } = this.squared;
    const norms = engine.allocate([size], 'f32', 'norms');
    engine.kernels.sqrtF64ToF32(norms.address, this.squared.address, size);
    norms.examples = examples;
    return norms;
  }
}

/** The gradients of every example of a batch, by what can be asked of them. Lives in the scope it was made in. */
export interface PerExampleGradients {
  /** The strategy that ran. */
  readonly strategy: Strategy;
  /** Why it is not the strategy that was asked for; null when it is. */
  readonly fallback: string | null;
  /** f32 [batch] */
  readonly losses: Tensor;
  readonly batch: number;
  /**
   * ‖gᵢ‖ over all trainable parameters, or over one; where a gradient is a sum over positions that is never formed, what its
   * rounding can add to it is counted, so that no more is summed than was measured. @throws PARAMETER_UNKNOWN
   */
  norms(parameter?: string): Norms;
  /** ⟨gᵢ, direction⟩, f64 [batch]; `direction` is flat, laid out like the parameters. */
  dots(direction: Tensor): Tensor;
  /**
   * Σᵢ wᵢ·gᵢ for each row of weights: flat tensors laid out like the parameters, 0 for frozen ones. More than 320 examples are
   * summed in groups, and the groups in float64 (docs/arithmetic.md).
   * @param weights finite numbers, 0 where `norms()` has said that a gradient is not finite; null: all ones
   * @param into tensors to add to, one a row; default: new ones in the open scope
   */
  weightedSums(weights: readonly (Weights | null)[], into?: readonly Tensor[]): Tensor[];
  /** All gradients, f32 [batch, parameters]. */
  array(): Tensor;
  /** The gradients of the examples from…to−1, as views. */
  slice(from: number, to: number): PerExampleGradients;
  /** Makes the gradients that are not finite 0: they add nothing to sums, whatever their weights. Their norms stay as they were. */
  discardNonFinite(): void;
}

/**
 * The gradients of each example's own loss. Strategies agree to rounding. `ghost` and `materialize` take one forward
 * and one backward pass, and fall back where no rule holds: `ghost` instantiates a parameter that is used twice; both
 * become `loop` when a parameter is reached through an op without a per-example rule.
 * @param loss one number an example, [batch]; must not mix examples
 * @throws EXAMPLES_MIXED, LOSS_SHAPE, NO_SECOND_ORDER, STRATEGY_UNKNOWN
 * @example
 * const g = perExample((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, data.batch([0, 1, 2]));
 * g.norms().values();
 */
export function perExample<B extends BatchTensors>(
  loss: BatchLoss<B>,
  params: Parameters,
  batch: B,
  { strategy = 'ghost' }: PerExampleOptions = {},
): PerExampleGradients {
  if (strategy !== 'ghost' && strategy !== 'materialize' && strategy !== 'loop') {
    throw new GradshapeError(
      'STRATEGY_UNKNOWN',
      `perExample: strategy is '${String(strategy)}'; expected 'ghost', 'materialize' or 'loop'.`,
    );
  }
  if (strategy === 'loop') return new LoopGradients(loss, params, batch, null);
  const { losses, uses, unruled } = trace(loss, params, batch, { examplesApart: true, ruledOnly: true });
  const [first] = unruled;
  if (first !== undefined) {
    const [entry, { op }] = first;
    return new LoopGradients(
      loss,
      params,
      batch,
      `'${entry.name}' is used by ${op}, which has no per-example rule there`,
    );
  }
  return new RuledGradients(params, losses, uses, strategy);
}

/** One parameter's gradients: left as factors of the rule, or instantiated in rows of memory. */
type Held =
  | { readonly entry: ParameterEntry; readonly kind: 'ghost'; readonly of: RuledUse }
  | { readonly entry: ParameterEntry; readonly kind: 'rows'; readonly rows: Tensor };

class RuledGradients implements SliceableGradients {
  readonly fallback: string | null;
  readonly batch: number;
  private readonly engine: Engine;
  private readonly held: readonly Held[];
  /** All gradients in one array, under `materialize`. */
  private readonly whole: Tensor | null;
  private readonly known = new Map<string, Norms>();
  /** What `changes` was when norms were first measured. */
  private measured: number | null = null;
  /** Examples whose gradients were not finite. */
  private discarded: readonly number[] = [];
  /** Whether all of those are known and discarded. */
  private allFinite = false;
  /** Uses without what was discarded: made once, however many groups are summed. */
  private readonly cleaned = new Map<RuledUse, Use>();

  constructor(
    private readonly params: Parameters,
    readonly losses: Tensor,
    private readonly uses: ReadonlyMap<ParameterEntry, readonly RuledUse[]>,
    readonly strategy: 'ghost' | 'materialize',
  ) {
    this.engine = params.engine;
    this.batch = losses.size;
    const used = params.trainableEntries.filter((entry) => uses.has(entry));
    const tied = used.filter((entry) => uses.get(entry)!.length > 1).map(({ name }) => `'${name}'`);
    this.fallback =
      strategy === 'ghost' && tied.length > 0 ? `${tied.join(', ')} used more than once: instantiated` : null;
    if (strategy === 'materialize') {
      this.whole = this.materialize();
      this.held = [];
    } else {
      this.whole = null;
      this.held = used.map((entry) => this.hold(entry));
    }
  }

  private hold(entry: ParameterEntry): Held {
    const uses = this.uses.get(entry)!;
    const of = uses[0]!;
    const ghost = uses.length === 1 && of.rule.ghost?.addRange !== undefined && of.rule.ghost.cheaper(of.use);
    if (ghost) return { entry, kind: 'ghost', of };
    const rows = this.engine.allocate(
      [this.batch, entry.size],
      'f32',
      `per-example gradients of '${entry.name}'`,
    );
    this.instantiate(entry, rows.address, entry.size);
    return { entry, kind: 'rows', rows };
  }

  private instantiate(entry: ParameterEntry, out: number, stride: number): void {
    this.engine.recorder.own(() => {
      this.uses.get(entry)!.forEach((ruled, i) => {
        ruled.rule.instantiate(this.useOf(ruled), out, stride, i > 0);
      });
    });
  }

  private materialize(): Tensor {
    const { size } = this.params;
    const whole = this.engine.allocate([this.batch, size], 'f32', 'per-example gradients');
    whole.examples = this.losses.examples;
    const covered = [...this.uses.keys()].reduce((sum, entry) => sum + entry.size, 0);
    if (covered < size) this.engine.kernels.fill(whole.address, 0, whole.size);
    for (const entry of this.uses.keys()) this.instantiate(entry, whole.address + entry.offset * 4, size);
    this.clearDiscarded(whole);
    return whole;
  }

  norms(parameter?: string): Norms {
    const key = parameter ?? '';
    let norms = this.known.get(key);
    if (norms === undefined || !norms.squared.owner.alive) {
      this.measured ??= this.changes();
      norms = new Norms(this.squaredNorms(parameter));
      this.known.set(key, norms);
    }
    return norms;
  }

  /** How often what the gradients are made of may have been changed in place. */
  private changes(): number {
    let total = 0;
    for (const uses of this.uses.values()) {
      for (const { use } of uses) for (const input of use.inputs) total += changesOf(input);
    }
    return total;
  }

  private squaredNorms(parameter: string | undefined): Tensor {
    const { kernels } = this.engine;
    const squared = this.examplesTensor();
    if (parameter === undefined) {
      if (this.whole !== null) {
        kernels.rowSquaredNorms(squared.address, this.whole.address, this.batch, this.params.size, 0);
        return squared;
      }
      for (const { entry } of this.held) {
        kernels.sumF64(squared.address, this.norms(entry.name).squared.address, this.batch);
      }
      return squared;
    }
    this.params.get(parameter);
    const entry = this.params.entries.find(({ name }) => name === parameter)!;
    const held = this.heldOf(entry);
    if (held?.kind === 'ghost') this.engine.recorder.own(() => this.ghostNorms(held, squared));
    else if (held) kernels.rowSquaredNorms(squared.address, held.rows.address, this.batch, entry.size, 0);
    return squared;
  }

  private ghostNorms({ entry, of: { rule, use } }: Held & { kind: 'ghost' }, squared: Tensor): void {
    const ghost = rule.ghost!;
    const positions = ghost.positions(use);
    if (positions === 1) {
      ghost.squaredNorms(use, squared.address, 0);
      return;
    }
    const terms = this.examplesTensor();
    ghost.squaredNorms(use, squared.address, terms.address);
    raiseNorms(squared.view() as Float64Array, terms.view() as Float64Array, positions, entry.size);
  }

  /** What is held of a parameter; under `materialize`, its columns of the array. Undefined when the loss doesn't use it. */
  private heldOf(entry: ParameterEntry): Held | undefined {
    if (this.whole === null) return this.held.find((held) => held.entry === entry);
    if (!this.uses.has(entry)) return undefined;
    const { kernels } = this.engine;
    const rows = this.engine.allocate([this.batch, entry.size], 'f32', 'per-example gradients');
    const columns = this.whole.address + entry.offset * 4;
    kernels.copyStrided(rows.address, columns, 1, 1, this.batch, entry.size, 0, 0, this.params.size, 1);
    return { entry, kind: 'rows', rows };
  }

  private examplesTensor(): Tensor {
    const tensor = this.engine.allocate([this.batch], 'f64', 'norms');
    this.engine.kernels.fill(tensor.address, 0, this.batch * 2);
    tensor.examples = this.losses.examples;
    return tensor;
  }

  dots(direction: Tensor): Tensor {
    checkFlat('dots', direction, this.params);
    const total = this.examplesTensor();
    const addRows = (rows: number, stride: number, along: number, size: number): void => {
      const dots = total.view();
      for (let i = 0; i < this.batch; i++) {
        dots[i]! += this.engine.kernels.dot(rows + i * stride * 4, along, size);
      }
    };
    if (this.whole !== null) {
      addRows(this.whole.address, this.params.size, direction.address, this.params.size);
      return total;
    }
    for (const held of this.held) {
      const { offset, size } = held.entry;
      const along = direction.address + offset * 4;
      if (held.kind === 'rows') {
        addRows(held.rows.address, size, along, size);
      } else {
        const part = this.examplesTensor();
        this.engine.recorder.own(() => held.of.rule.ghost!.dots(held.of.use, along, part.address));
        this.engine.kernels.sumF64(total.address, part.address, this.batch);
      }
    }
    return total;
  }

  weightedSums(weights: readonly (Weights | null)[], into?: readonly Tensor[]): Tensor[] {
    checkSums(weights, into, this.params);
    return weightedSumsOf(this, weights, into);
  }

  addRange(weights: Tensor | null, from: number, to: number, into: Tensor): void {
    const { engine, params } = this;
    const { kernels } = engine;
    const given = weights ?? engine.full([to - from], 1);
    if (this.measured !== null && this.measured !== this.changes()) throw batchChanged();
    this.leaveOut(given, from);
    const at = usedWeights(given, this.discarded, from).address;
    const columnSums = (out: number, rows: Tensor, size: number): void =>
      kernels.columnSums(out, rows.address + from * size * 4, at, to - from, size, 1);
    if (this.whole !== null) {
      columnSums(into.address, this.whole, params.size);
      return;
    }
    this.engine.recorder.own(() => {
      for (const held of this.held) {
        const out = into.address + held.entry.offset * 4;
        if (held.kind === 'rows') columnSums(out, held.rows, held.entry.size);
        else held.of.rule.ghost!.addRange(this.useOf(held.of), at, from, to, out);
      }
    });
  }

  slice(from: number, to: number): PerExampleGradients {
    return new GradientsSlice(this, from, to);
  }

  get size(): number {
    return this.params.size;
  }

  array(): Tensor {
    return this.whole ?? this.materialize();
  }

  discardNonFinite(): void {
    if (this.allFinite) return;
    this.discard(nonFiniteExamples(this.norms()));
    this.allFinite = true;
  }

  /** Weight 0 leaves an example out, even if its gradient is not finite: where its norm says so, it is discarded. */
  private leaveOut(weights: Tensor, from: number): void {
    const norms = this.known.get('');
    if (this.allFinite || norms === undefined) return;
    const values = weights.view();
    const bad = nonFiniteExamples(norms).filter((i) => values[i - from] === 0 && !this.discarded.includes(i));
    if (bad.length > 0) this.discard([...this.discarded, ...bad]);
  }

  private discard(examples: readonly number[]): void {
    if (examples.length === 0) return;
    this.discarded = examples;
    this.cleaned.clear();
    // A weight of 0 times NaN is NaN: the numbers themselves must go.
    if (this.whole !== null) this.clearDiscarded(this.whole);
    for (const held of this.held) if (held.kind === 'rows') this.clearDiscarded(held.rows);
    for (const { use } of [...this.uses.values()].flat()) this.clearDiscarded(use.dOutput);
  }

  private clearDiscarded(tensor: Tensor): void {
    const rowBytes = (tensor.size / this.batch) * bytesPerElement(tensor.dtype);
    const memory = new Uint8Array(this.engine.memory.wasm.buffer);
    for (const i of this.discarded) {
      const start = tensor.address + i * rowBytes;
      memory.fill(0, start, start + rowBytes);
    }
  }

  /** A use without what was discarded. Its inputs are copied: they may be the caller's own batch. */
  private useOf(ruled: RuledUse): Use {
    if (this.discarded.length === 0) return ruled.use;
    const known = this.cleaned.get(ruled);
    if (known?.inputs.every(({ owner }) => owner.alive)) return known;
    const inputs = ruled.use.inputs.map((input) =>
      input.examples === null ? input : this.cleanedCopy(input),
    );
    const use = { ...ruled.use, inputs };
    this.cleaned.set(ruled, use);
    return use;
  }

  private cleanedCopy(input: Tensor): Tensor {
    const copy = this.engine.allocate(input.shape, input.dtype, 'discardNonFinite');
    const end = input.address + input.size * bytesPerElement(input.dtype);
    new Uint8Array(this.engine.memory.wasm.buffer).copyWithin(copy.address, input.address, end);
    copy.examples = input.examples;
    this.clearDiscarded(copy);
    return copy;
  }
}

function batchChanged(): GradshapeError {
  return new GradshapeError(
    'BATCH_CHANGED',
    "perExample: a view or the address of the batch's numbers was taken after the gradients' norms were measured, so that sums may be of other " +
      'gradients; expected batches to be changed before perExample, and read with values().',
  );
}

/** Indices within the batch of the examples whose gradient norm is not finite. */
function nonFiniteExamples(norms: Norms): number[] {
  const found: number[] = [];
  const squared = norms.squared.view();
  for (let i = 0; i < squared.length; i++) if (!Number.isFinite(squared[i])) found.push(i);
  return found;
}

/** Half a unit in the last place of float32 and of float64. */
const u = 1 / 16777216;
const u64 = 1 / 9007199254740992;
/** Half of float32's smallest number, and what terms may add up to without going beyond its largest. */
const smallest = 7.1e-46;
const largestTerms = 1e38;

/**
 * What a sum over T positions is at most, in the float32 in which it is added, from what it is measured to be in float64. With
 * ρ = Σ_t ‖a_t‖‖b_t‖ the measured square is right to (d + T²)·2⁻⁵³·ρ², and forming the gradient rounds it by at most
 * (T + 3)·2⁻²⁴·ρ and, among denormal numbers, by T·√d·2⁻¹⁵⁰ (docs/arithmetic.md, lemma 1). Only where positions cancel is
 * that more than rounding. A sum whose terms may go beyond float32 counts as not finite.
 */
function raiseNorms(squared: Float64Array, terms: Float64Array, positions: number, size: number): void {
  const measured = (size + positions * positions) * u64;
  const formed = (positions + 3) * u;
  const denormal = positions * Math.sqrt(size) * smallest;
  for (let i = 0; i < squared.length; i++) {
    const scale = terms[i]!;
    const norm = Math.sqrt(squared[i]! + measured * scale * scale) + formed * scale + denormal;
    squared[i] = scale <= largestTerms ? norm * norm : Infinity;
  }
}
