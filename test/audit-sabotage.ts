// Private steps that break their promise, for the audits to find, and what each has to be found at.
import {
  addNoise,
  type CanaryAuditOptions,
  type NoiseSource,
  type PrivacyEvent,
  poissonSampler,
  privateStep,
  type Sampler,
  secureNoise,
  seededNoise,
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
  readonly inPlace?: boolean;
  readonly noise?: NoiseSource;
  /** The noise on each of so many numbers; default: independent, by `addNoise`. */
  readonly draw?: (count: number, step: number) => Float32Array;
  /** What an example is weighted by; default: clipping to the clip norm. */
  readonly weight?: (norm: number, step: number) => number;
  /** The noise on number i, of all that is drawn. */
  readonly spoil?: (noise: Float32Array, i: number) => number;
  /** Clips the sum of the batch. */
  readonly clipSum?: boolean;
  /** Divides by how many examples came. */
  readonly byBatch?: boolean;
}

/**
 * DP-SGD on an audit's canaries, { row, column }: [B, …, side] each, whose gradient is Σ_t row[t]ᵀ · column[t]. Norms are measured in
 * float64, exactly, from the positions' dot products. In place it is what the ghost rule was: it sums what it doesn't measure.
 */
export function handMadeStep(params: Parameters, settings: HandMadeStep): TrainingStep {
  const { engine } = params;
  const { inPlace = false, noiseStd, noise = secureNoise(), draw, clipSum = false } = settings;
  const { spoil = (z: Float32Array, i: number) => z[i]! } = settings;
  const { weight = (norm) => Math.min(1, settings.clipNorm / norm) } = settings;
  const total = new Float64Array(params.size);
  const round = inPlace ? Math.fround : (x: number) => x;
  let examples = 0;
  return {
    step: 0,
    accumulate<B extends BatchTensors>(_: unknown, batch: B) {
      const { row, column } = batch as unknown as { row: Tensor; column: Tensor };
      const side = row.shape.at(-1)!;
      const positions = row.size / side / row.shape[0]!;
      const [rows, columns] = [sparse(row, side), sparse(column, side)];
      for (let first = 0; first < rows.length; first += positions, examples++) {
        const mine = Array.from({ length: positions }, (_, t) => first + t);
        let square = 0;
        for (const t of mine)
          for (const u of mine) square += dot(rows[t]!, rows[u]!) * dot(columns[t]!, columns[u]!);
        const factor = clipSum ? 1 : weight(Math.sqrt(Math.max(0, square)), this.step);
        const own = new Map<number, number>();
        for (const t of mine) {
          for (const [r, a] of rows[t]!) {
            for (const [c, b] of columns[t]!) {
              const at = r * side + c;
              const next = round((inPlace ? total[at]! : (own.get(at) ?? 0)) + round(factor * a * b));
              if (inPlace) total[at] = next;
              else own.set(at, next);
            }
          }
        }
        for (const [at, value] of own) total[at]! += value;
      }
      return undefined;
    },
    finish() {
      const factor = clipSum
        ? Math.min(1, settings.clipNorm / Math.sqrt(total.reduce((square, x) => square + x * x, 0)))
        : 1;
      const divisor = settings.byBatch ? Math.max(1, examples) : expectedBatchSize;
      engine.scope(() => {
        const drawn = engine.full([total.length], 0);
        if (draw === undefined) addNoise(drawn, { std: noiseStd, noise, step: this.step });
        const extra = draw?.(total.length, this.step) ?? Float32Array.from(drawn.values());
        params.load(
          Float32Array.from(
            params.values(),
            (value, i) => value - Math.fround(Math.fround(factor * total[i]!) + spoil(extra, i)) / divisor,
          ),
        );
      });
      total.fill(0);
      examples = 0;
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
  /** Where each sampler and each step has its randomness from: by default the system, or `repeatable`. */
  readonly fresh?: Fresh;
}

interface Fresh {
  seed(): number;
  noise(): NoiseSource;
  poisson(options: { engine: Engine; count: number; samplingRate: number }): Sampler;
}

const fromSystem: Fresh = {
  seed: () => Math.floor(Math.random() * 1e9),
  noise: secureNoise,
  poisson: poissonSampler,
};

/** Every sampler and every step that is made has a seed of its own, so that none foretells another, and the test repeats. */
export function repeatable(seed: number): Fresh {
  let next = 1000 * seed;
  return {
    seed: () => next++,
    noise: () => ({ ...seededNoise(next++), kind: 'secure' }),
    poisson: (options) => ({ ...poissonSampler({ ...options, seed: next++ }), source: 'secure' }),
  };
}

type Audit = Pick<CanaryAuditOptions, 'makeStep' | 'sampler' | 'claim'>;

/** What is wrong with a step, the share of audits that must say so (at most so many, for the honest one), and the step. */
interface Fault {
  readonly name: string;
  readonly share: number;
  readonly sampledOnly?: boolean;
  /** For a test. @default 20 */
  readonly runs?: number;
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
    const { engine, sigma, rate, strategy, fresh = fromSystem } = setting;
    return {
      claim: claimOf(setting),
      ...(rate < 1 && {
        sampler: (count) => fresh.poisson({ engine, count, samplingRate: rate }),
      }),
      makeStep: (params) => {
        const { noiseStd, ...rest } = change(sigma);
        return privateStep({
          ...{ params, optimizer: sgd({ learningRate: 1 }), clipNorm, expectedBatchSize, strategy },
          noise: fresh.noise(),
          ...(noiseStd === undefined ? { noiseMultiplier: sigma } : { noiseStd }),
          ...rest,
        });
      },
    };
  };

const honest = stepWith(() => ({}));

const handMade =
  (settings: Partial<HandMadeStep>) =>
  (setting: Setting): Audit => ({
    ...honest(setting),
    makeStep: (params) => {
      const noise = (setting.fresh ?? fromSystem).noise();
      return handMadeStep(params, { clipNorm, noiseStd: setting.sigma * clipNorm, noise, ...settings });
    },
  });

/** An honest step whose batches others draw. */
const drawnBy =
  (sampler: (setting: Setting, count: number) => Sampler) =>
  (setting: Setting): Audit => ({ ...honest(setting), sampler: (count) => sampler(setting, count) });

const clip = (norm: number): number => Math.min(1, clipNorm / norm);
const publicOrder = ({ rate, fresh = fromSystem }: Setting, count: number): Sampler =>
  shuffledSampler({ count, batchSize: Math.round(count * rate), seed: fresh.seed() });

export const faults: readonly Fault[] = [
  { name: 'honest', share: 0.05, audit: honest },
  { name: 'honest, made by hand', share: 0.05, runs: 4, audit: handMade({}) },
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
  { name: 'cancelling positions', share: 0.95, audit: handMade({ inPlace: true }) },
  { name: "the batch's sum is clipped", share: 0.95, runs: 2, audit: handMade({ clipSum: true }) },
  {
    name: 'clips above 100 C only',
    share: 0.95,
    runs: 2,
    audit: handMade({ weight: (n) => (n > 100 ? 1 / n : 1) }),
  },
  {
    name: 'clips below 10,000 C only',
    share: 0.95,
    runs: 2,
    audit: handMade({ weight: (n) => (n < 1e4 ? clip(n) : 1) }),
  },
  {
    name: 'clips in step 0 only',
    share: 0.95,
    runs: 2,
    audit: handMade({ weight: (n, step) => (step === 0 ? clip(n) : 1) }),
  },
  {
    name: 'second half of the noise is the first',
    share: 0.95,
    runs: 2,
    audit: handMade({ spoil: (z, i) => z[i % Math.ceil(z.length / 2)]! }),
  },
  {
    name: 'noise in equal pairs',
    share: 0.95,
    runs: 2,
    audit: handMade({ spoil: (z, i) => z[i - (i % 2)]! }),
  },
  {
    name: 'no noise on 1 % of coordinates',
    share: 0.95,
    runs: 2,
    audit: handMade({ spoil: (z, i) => (i % 100 === 0 ? 0 : z[i]!) }),
  },
  { name: 'divides by the drawn batch', share: 0.95, runs: 2, audit: handMade({ byBatch: true }) },
  {
    name: 'noise from a known seed',
    share: 0.95,
    runs: 2,
    audit: (s) => handMade({ noise: seededNoise(7) })(s),
  },
  { name: 'public order', share: 0.8, sampledOnly: true, audit: drawnBy(publicOrder) },
  {
    name: 'public order, said to be secret',
    share: 0.8,
    runs: 4,
    sampledOnly: true,
    audit: drawnBy((setting, count) => ({
      ...publicOrder(setting, count),
      kind: 'poisson',
      source: 'secure',
    })),
  },
  {
    name: 'one lot in each step',
    share: 0.8,
    runs: 4,
    sampledOnly: true,
    audit: drawnBy(({ engine, rate, fresh = fromSystem }, count) => {
      const sampler = fresh.poisson({ engine, count, samplingRate: rate });
      const lot = sampler.draw(0);
      return { ...sampler, draw: () => lot };
    }),
  },
  {
    name: 'draws from a known seed',
    share: 0.7,
    runs: 4,
    sampledOnly: true,
    audit: drawnBy(({ engine, rate }, count) =>
      poissonSampler({ engine, count, samplingRate: rate, seed: 7 }),
    ),
  },
];
