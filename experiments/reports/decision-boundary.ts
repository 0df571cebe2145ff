import ndarray, { type NdArray } from 'ndarray';
import { twoMoons } from '../data/two-moons.js';
import {
  finishedSeeds,
  formatInterval,
  formatSummary,
  pairedDifference,
  summarize,
  type TrialResult,
} from '../harness/index.js';
import {
  type Comparison,
  type Figure,
  type Pixels,
  pngAddress,
  type Report,
  type Table,
} from '../report/index.js';
import {
  type DecisionBoundaryResult,
  type DecisionBoundarySpec,
  field,
} from '../trials/decision-boundary.js';

type Trial = TrialResult<DecisionBoundarySpec, DecisionBoundaryResult>;
interface Arm {
  readonly name: string;
  readonly trials: readonly Trial[];
}

const nameOf = ({ clipNorm, noiseMultiplier, learningRate }: DecisionBoundarySpec): string =>
  `${clipNorm === null ? 'vanilla' : `C = ${clipNorm}, σ = ${noiseMultiplier}`}, rate ${learningRate}`;

/** At which the private models come nearest to the paper's accuracy. */
const comparedRate = 0.5;

/** Figure 10. */
export function decisionBoundaryReport(trials: readonly Trial[]): Report {
  const { finished } = finishedSeeds(trials);
  const names = [...new Set(finished.map(({ spec }) => nameOf(spec)))];
  const arms = names.map(
    (name): Arm => ({ name, trials: finished.filter(({ spec }) => nameOf(spec) === name) }),
  );
  return {
    summary: summary(arms),
    figures: arms.filter(({ trials }) => trials[0]!.spec.learningRate === comparedRate).map(heatmap),
    comparisons: comparisons(arms),
    tables: [table(arms)],
    csvRows: trials.map(({ spec: { seed, ...spec }, result: { grid: _, ...result }, key }) => ({
      ...spec,
      ...result,
      seed: seed.init,
      key,
    })),
  };
}

const column = (arm: Arm, of: (result: DecisionBoundaryResult) => number): number[] =>
  arm.trials.map(({ result }) => of(result));

const isPaper =
  (noiseMultiplier: number, rate = comparedRate) =>
  (arm: Arm) => {
    const { spec } = arm.trials[0]!;
    if (spec.learningRate !== rate) return false;
    return noiseMultiplier === 0
      ? spec.clipNorm === null
      : spec.clipNorm === 1 && spec.noiseMultiplier === noiseMultiplier;
  };

function comparisons(arms: readonly Arm[]): Comparison[] {
  const vanilla = arms.find(isPaper(0));
  const dp = arms.find(isPaper(1));
  if (!vanilla || !dp) return [];
  const accuracy = (arm: Arm, paper: number): Comparison => ({
    what: `test accuracy, ${arm.name}`,
    paper,
    ours: summarize(column(arm, ({ test }) => test)),
    kind: 'level',
    source: 'text',
    trials: arm.trials,
  });
  const difference = (
    what: string,
    of: (result: DecisionBoundaryResult) => number,
    kind: 'above' | 'below',
  ) => ({
    what: `${what}, ${dp.name} minus vanilla, ${kind}`,
    paper: 0,
    ours: pairedDifference(column(dp, of), column(vanilla, of)),
    kind,
    source: 'text, no number',
    trials: [...vanilla.trials, ...dp.trials],
  });
  return [
    accuracy(vanilla, 0.98),
    accuracy(dp, 0.97),
    difference('length of the boundary (“more complex”)', ({ boundary }) => boundary, 'above'),
    difference('uncertain share of the plane (“narrow band”)', ({ uncertain }) => uncertain, 'below'),
  ];
}

function summary(arms: readonly Arm[]): string[] {
  return arms.map((arm) => {
    const vanilla = arms.find(isPaper(0, arm.trials[0]!.spec.learningRate));
    const say = (of: (result: DecisionBoundaryResult) => number) =>
      formatSummary(summarize(column(arm, of)), 3);
    const start = `${arm.name}: test accuracy ${say(({ test }) => test)}, boundary ${say(({ boundary }) => boundary)} long, ${say(({ uncertain }) => uncertain)} of the plane uncertain`;
    if (vanilla === undefined || arm === vanilla || arm.trials.length !== vanilla.trials.length)
      return `${start}.`;
    const of = ({ boundary }: DecisionBoundaryResult) => boundary;
    return `${start}; boundary minus vanilla’s ${formatInterval(pairedDifference(column(arm, of), column(vanilla, of)), 3)}.`;
  });
}

function table(arms: readonly Arm[]): Table {
  const cells = (arm: Arm, of: (result: DecisionBoundaryResult) => number) =>
    formatSummary(summarize(column(arm, of)), 3);
  return {
    title: 'Accuracy, and the shape of the boundary',
    note: 'The boundary’s length is measured along the cells of the grid, in the plane’s units. Uncertain: neither class has 90 %.',
    columns: [
      '',
      'training accuracy',
      'test accuracy',
      'length of the boundary',
      'uncertain share',
      'norm of the weights',
    ],
    rows: arms.map((arm) => ({
      cells: [
        arm.name,
        ...[
          ({ train }: DecisionBoundaryResult) => train,
          ({ test }: DecisionBoundaryResult) => test,
          ({ boundary }: DecisionBoundaryResult) => boundary,
          ({ uncertain }: DecisionBoundaryResult) => uncertain,
          ({ weightNorm }: DecisionBoundaryResult) => weightNorm,
        ].map((of) => cells(arm, of)),
      ],
      trials: arm.trials,
    })),
  };
}

/** Colours of probabilities 0 to 1, evenly spaced: blue, white, orange. */
const ramp = [
  [19, 75, 133],
  [137, 187, 221],
  [243, 238, 234],
  [243, 165, 91],
  [127, 59, 8],
] as const;

/** Probabilities by row from the bottom and column, as the pixels of a picture. */
export function confidencePixels(grid: NdArray<number[]>): Pixels {
  const upright = grid.step(-1, 1);
  const [rows, columns] = grid.shape as [number, number];
  const pixels = ndarray(new Uint8Array(rows * columns * 3), [rows, columns, 3]);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      color(upright.get(row, column)).forEach((value, channel) => {
        pixels.set(row, column, channel, value);
      });
    }
  }
  return pixels;
}

function color(p: number): number[] {
  const at = p * (ramp.length - 1);
  const i = Math.min(Math.floor(at), ramp.length - 2);
  return ramp[i]!.map((from, channel) => Math.round(from + (at - i) * (ramp[i + 1]![channel]! - from)));
}

/** The first seed's confidence over the plane, and its training points. */
function heatmap({ name, trials: [trial] }: Arm): Figure {
  const { spec, result } = trial!;
  const picture = confidencePixels(ndarray([...result.grid], [spec.cells, spec.cells]));
  const { x, y } = twoMoons({ count: 1000, noise: spec.moonNoise, seed: spec.seed.data });
  const places = ndarray(x as Float32Array, [1000, 2]);
  const points = Array.from({ length: 700 }, (_, i) => ({
    ...{ x: places.get(i, 0), y: places.get(i, 1) },
    moon: y[i] === 0 ? 'upper moon' : 'lower moon',
  }));
  const corners = { x: field.from[0], x2: field.to[0], y: field.from[1], y2: field.to[1] };
  const axis = { grid: false, title: null };
  const scale = (i: 0 | 1) => ({ domain: [field.from[i], field.to[i]], nice: false });
  const at = {
    x: { field: 'x', type: 'quantitative' as const, scale: scale(0), axis },
    y: { field: 'y', type: 'quantitative' as const, scale: scale(1), axis },
  };
  return {
    title: `Confidence: ${name} (test accuracy ${result.test.toFixed(3)})`,
    caption: 'Probability of the lower moon over the plane, and the training points; the first seed.',
    spec: {
      width: 520,
      height: 340,
      layer: [
        {
          data: { values: [corners] },
          mark: { type: 'image', aspect: false, smooth: false, url: pngAddress(picture) },
          encoding: {
            ...at,
            x2: { field: 'x2' },
            y2: { field: 'y2' },
            // The picture has its colours; this makes their legend.
            color: {
              datum: 0,
              type: 'quantitative',
              scale: {
                domain: ramp.map((_, i) => i / (ramp.length - 1)),
                range: ramp.map((rgb) => `rgb(${rgb})`),
                interpolate: 'rgb',
              },
              legend: { title: 'p(lower)' },
            },
          },
        },
        {
          data: { values: points },
          mark: { type: 'point', filled: true, size: 14, opacity: 0.8 },
          encoding: {
            ...at,
            fill: {
              field: 'moon',
              type: 'nominal',
              scale: { domain: ['upper moon', 'lower moon'], range: ['#0b2a4a', '#7a1f00'] },
              legend: { title: null },
            },
          },
        },
      ],
    },
  };
}
