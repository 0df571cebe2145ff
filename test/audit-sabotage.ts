// Private steps that break their promise, for the audits to find, and what each has to be found at.
import {
  addNoise,
  type CanaryAuditOptions,
  type NoiseSource,
  type PrivacyEvent,
  poissonSampler,
  privateStep,
  secureNoise,
  shuffledSampler,
} from 'gradshape/dp';
import type { BatchTensors, Engine, Parameters, Strategy, Tensor } from 'gradshape/engine';
import { sgd, type TrainingStep } from 'gradshape/nn';

export const clipNorm = 1;
export const expectedBatchSize = 200;

export interface HandMadeStep {
  readonly clipNorm: number;
  readonly noiseStd: number;
  /** As float32 sums in place: the sum is rounded after each product. */
  readonly inPlace: boolean;
  readonly noise?: NoiseSource;
  /** The noise on each of so many numbers; default: independent, by `addNoise`. */
  readonly draw?: (count: number, step: number) => Float32Array;
}

/**
 * DP-SGD on an audit's canaries, { row, column }: [B, …, side] each, whose gradient is Σ_t row[t]ᵀ · column[t]. Norms are measured in
 * float64, exactly, from the positions' dot products. In place it is what the ghost rule was: it sums what it doesn't measure.
 */
export function handMadeStep(params: Parameters, settings: HandMadeStep): TrainingStep {
  const { engine } = params;
  const { inPlace, noiseStd, noise = secureNoise(), draw } = settings;
  const total = new Float64Array(params.size);
  const round = inPlace ? Math.fround : (x: number) => x;
  return {
    step: 0,
    accumulate<B extends BatchTensors>(_: unknown, batch: B) {
      const { row, column } = batch as unknown as { row: Tensor; column: Tensor };
      const side = row.shape.at(-1)!;
      const positions = row.size / side / row.shape[0]!;
      const [rows, columns] = [sparse(row, side), sparse(column, side)];
      for (let first = 0; first < rows.length; first += positions) {
        const mine = Array.from({ length: positions }, (_, t) => first + t);
        let square = 0;
        for (const t of mine)
          for (const u of mine) square += dot(rows[t]!, rows[u]!) * dot(columns[t]!, columns[u]!);
        const factor = Math.min(1, settings.clipNorm / Math.sqrt(Math.max(0, square)));
        const sum = inPlace ? total : new Float64Array(total.length);
        for (const t of mine) {
          for (const [r, a] of rows[t]!) {
            for (const [c, b] of columns[t]!) {
              const at = r * side + c;
              sum[at] = round(sum[at]! + round(factor * a * b));
            }
          }
        }
        if (!inPlace) for (let i = 0; i < total.length; i++) total[i]! += sum[i]!;
      }
      return undefined;
    },
    finish() {
      engine.scope(() => {
        const noisy = engine.tensor(Float32Array.from(total), [total.length]);
        if (draw === undefined) addNoise(noisy, { std: noiseStd, noise, step: this.step });
        const extra = draw?.(total.length, this.step);
        params.load(
          Float32Array.from(
            params.values(),
            (value, i) => value - (noisy.view()[i]! + (extra?.[i] ?? 0)) / expectedBatchSize,
          ),
        );
      });
      total.fill(0);
      this.step++;
    },
    free() {},
  };
}

type Entries = [at: number, value: number][];

function sparse(tensor: Tensor, side: number): Entries[] {
  const values = tensor.values();
  return Array.from({ length: values.length / side }, (_, i) => {
    const entries: Entries = [];
    for (let k = 0; k < side; k++) if (values[i * side + k] !== 0) entries.push([k, values[i * side + k]!]);
    return entries;
  });
}

function dot(a: Entries, b: Entries): number {
  const other = new Map(b);
  return a.reduce((sum, [at, value]) => sum + value * (other.get(at) ?? 0), 0);
}

export interface Setting {
  readonly engine: Engine;
  readonly sigma: number;
  /** q: 1 is all canaries in each step. */
  readonly rate: number;
  readonly strategy: Strategy;
  /** Draws and noise from it, so that a test repeats; default: from the system. */
  readonly seed?: number;
  readonly noise: NoiseSource;
}

type Audit = Pick<CanaryAuditOptions, 'makeStep' | 'sampler' | 'claim'>;

/** What is wrong with a step, the share of audits that must say so (at most so many, for the honest one), and the step. */
interface Fault {
  readonly name: string;
  readonly share: number;
  readonly sampledOnly?: boolean;
  audit(setting: Setting): Audit;
}

export function claimOf({ sigma, rate }: Setting): PrivacyEvent {
  const noiseMultiplier = sigma;
  if (rate === 1) return { mechanism: 'gaussian', noiseMultiplier };
  return { mechanism: 'poissonSampledGaussian', samplingRate: rate, noiseMultiplier };
}

interface Change {
  readonly noiseMultiplier?: number;
  readonly noiseStd?: number;
  readonly clipNorm?: number;
}

const stepWith =
  (change: (sigma: number) => Change) =>
  (setting: Setting): Audit => {
    const { engine, sigma, rate, seed, strategy, noise } = setting;
    return {
      claim: claimOf(setting),
      ...(rate < 1 && {
        sampler: (count) =>
          poissonSampler({ engine, count, samplingRate: rate, ...(seed !== undefined && { seed }) }),
      }),
      makeStep: (params) => {
        const { noiseStd, ...rest } = change(sigma);
        return privateStep({
          ...{ params, optimizer: sgd({ learningRate: 1 }), clipNorm, expectedBatchSize, strategy, noise },
          ...(noiseStd === undefined ? { noiseMultiplier: sigma } : { noiseStd }),
          ...rest,
        });
      },
    };
  };

const honest = stepWith(() => ({}));

export const faults: readonly Fault[] = [
  { name: 'honest', share: 0.05, audit: honest },
  { name: 'no noise', share: 0.95, audit: stepWith(() => ({ noiseMultiplier: 0 })) },
  { name: 'noise halved', share: 0.95, audit: stepWith((sigma) => ({ noiseMultiplier: sigma / 2 })) },
  {
    name: 'noise for half the clip norm',
    share: 0.95,
    audit: stepWith((sigma) => ({ noiseStd: (sigma * clipNorm) / 2 })),
  },
  {
    name: 'no clipping',
    share: 0.95,
    audit: stepWith((sigma) => ({ clipNorm: Infinity, noiseStd: sigma * clipNorm })),
  },
  {
    name: 'cancelling positions',
    share: 0.95,
    audit: (setting) => ({
      ...honest(setting),
      makeStep: (params) =>
        handMadeStep(params, {
          ...{ clipNorm, noiseStd: setting.sigma * clipNorm, inPlace: true, noise: setting.noise },
        }),
    }),
  },
  {
    name: 'public order',
    share: 0.8,
    sampledOnly: true,
    audit: (setting) => ({
      ...honest(setting),
      sampler: (count) =>
        shuffledSampler({ count, batchSize: Math.round(count * setting.rate), seed: setting.seed ?? 1 }),
    }),
  },
];
