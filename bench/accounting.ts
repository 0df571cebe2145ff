import { type AccountantName, createAccountant, type PrivacyPhase } from 'gradshape';
import { type Figure, median, type Setting } from './measure.js';

interface Query {
  phases: PrivacyPhase[];
  /** Asked for ε at this δ, and for δ at that ε. */
  delta: number;
}

const poisson = (samplingRate: number, noiseMultiplier: number, steps: number): PrivacyPhase => ({
  mechanism: 'poissonSampledGaussian',
  samplingRate,
  noiseMultiplier,
  steps,
});

/** Usual settings, and the corners of what is promised: q from 1e-6, 1e6 steps, δ down to 1e-12, next to no noise. */
const queries: Readonly<Record<string, Query>> = {
  'fashion-mnist': { phases: [poisson(0.01, 1.1, 1500)], delta: 1e-5 },
  opacus: { phases: [poisson(0.04, 1.5, 2250)], delta: 1e-5 },
  'fixed-size': {
    phases: [
      {
        mechanism: 'fixedSizeSampledGaussian',
        datasetSize: 60000,
        batchSize: 600,
        noiseMultiplier: 2.2,
        steps: 1500,
      },
    ],
    delta: 1e-5,
  },
  'two-phases': { phases: [poisson(0.01, 1.1, 1500), poisson(0.001, 0.7, 3000)], delta: 1e-6 },
  'million-steps': { phases: [poisson(0.5, 30, 1e6)], delta: 1e-5 },
  'tiny-rate': { phases: [poisson(1e-6, 0.5, 1e6)], delta: 1e-3 },
  'tiny-rate-tiny-delta': { phases: [poisson(1e-6, 1, 1e6)], delta: 1e-12 },
  'small-rate-little-noise': { phases: [poisson(1e-4, 0.5, 1e6)], delta: 1e-12 },
  'next-to-no-noise': { phases: [poisson(0.01, 1e-8, 1000)], delta: 1e-5 },
};

/** Samples of a query: the quicker ones more often. */
const times = { rdp: 15, pld: 3 };

/** Milliseconds of processor time a query, the slower of its two directions: ε from δ, and δ from ε. */
export async function accountingSuite({ kernels, wanted }: Setting): Promise<Figure[]> {
  if (kernels !== 'base') return []; // no kernels here
  const figures: Figure[] = [];
  for (const accountant of ['rdp', 'pld'] as const) {
    for (const [setting, query] of Object.entries(queries)) {
      const name = `accountant/${accountant}/${setting}`;
      if (wanted(name)) figures.push({ name, unit: 'ms', value: slowerDirection(accountant, query) });
    }
  }
  return figures;
}

/** The figures' names, for their bars. */
export function accountingFigures(accountant: keyof typeof times): string[] {
  return Object.keys(queries).map((setting) => `accountant/${accountant}/${setting}`);
}

function slowerDirection(
  name: Extract<AccountantName, keyof typeof times>,
  { phases, delta }: Query,
): number {
  const { epsilon } = createAccountant(name, phases).epsilon(delta);
  const measure = (query: () => void): number =>
    median(Array.from({ length: times[name] }, () => processorTime(query)));
  return Math.max(
    measure(() => createAccountant(name, phases).epsilon(delta)),
    measure(() => createAccountant(name, phases).delta(epsilon)),
  );
}

function processorTime(task: () => void): number {
  const start = process.cpuUsage();
  task();
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}
