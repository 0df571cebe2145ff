import { accountingFigures } from './accounting.js';
import { watched } from './anatomy.js';
import type { Figure } from './measure.js';

/** A figure held against its bar. */
export interface Bar {
  readonly what: string;
  readonly measured: number;
  readonly unit: string;
  readonly bar: string;
  readonly holds: boolean;
}

type Lookup = (name: string) => number;

/** [what, figures it needs, how it is computed, unit, relation, bar] */
type BarRule = readonly [string, readonly string[], (of: Lookup) => number, string, '≤' | '≥', number];

const shareOfPeak = (name: string, bar: number): BarRule => [
  `${name} / peak`,
  [name, 'peak'],
  (of) => (100 * of(name)) / of('peak'),
  '%',
  '≥',
  bar,
];
/** Share of the peak that was sampled in turn with the convolutions. */
const shareOfConvPeak = (name: string, bar: number): BarRule => [
  `${name} / peak`,
  [name, 'conv/peak'],
  (of) => (100 * of(name)) / of('conv/peak'),
  '%',
  '≥',
  bar,
];
const overVanilla = (w: string): BarRule => [
  `step/${w}: ghost / vanilla`,
  [`step/${w}/ghost`, `step/${w}/vanilla`],
  (of) => of(`step/${w}/ghost`) / of(`step/${w}/vanilla`),
  '×',
  '≤',
  1.3,
];
const overPlain = (training: string): BarRule => [
  `anatomy/${training}: watched / plain`,
  [`anatomy/${training}/watched`, `anatomy/${training}/plain`],
  (of) => of(`anatomy/${training}/watched`) / of(`anatomy/${training}/plain`),
  '×',
  '≤',
  1.5,
];
const atMost = (name: string, unit: string, bar: number): BarRule => [
  name,
  [name],
  (of) => of(name),
  unit,
  '≤',
  bar,
];

const rules: readonly BarRule[] = [
  ['gemm/nn/512x512x512', ['gemm/nn/512x512x512'], (of) => of('gemm/nn/512x512x512'), 'GFLOP/s', '≥', 33],
  shareOfPeak('gemm/nn/512x512x512', 85),
  shareOfPeak('gemm/nn/1024x1024x1024', 85),
  shareOfPeak('gemm/nn/100x256x784', 80),
  shareOfPeak('gemm/nt/100x784x256', 80),
  shareOfPeak('gemm/tn/784x256x100', 80),
  ...['forward', 'input', 'filter'].flatMap((pass) => [
    shareOfConvPeak(`conv/${pass}/100x32x32x32x32`, 75),
    shareOfConvPeak(`conv-direct/${pass}/100x32x32x32x32`, 75),
  ]),
  atMost('noise/seeded', 'ns', 2.5),
  atMost('noise/secure', 'ns', 6),
  overVanilla('W1'),
  overVanilla('W2'),
  overVanilla('W3'),
  overVanilla('W4'),
  ...Object.keys(watched).map(overPlain),
  atMost('step/W1/ghost', 'ms', 0.35),
  atMost('step/W2/ghost', 'ms', 1),
  atMost('step/W3/ghost', 'ms', 4),
  atMost('step/W4/vanilla', 'ms', 400),
  atMost('memory/W4/ghost', 'MB', 300),
  ...accountingFigures('rdp').map((name) => atMost(name, 'ms', 5)),
  ...accountingFigures('pld').map((name) => atMost(name, 'ms', 500)),
  [
    'cold start beyond an empty process',
    ['cold-start', 'cold-start/empty-node'],
    (of) => of('cold-start') - of('cold-start/empty-node'),
    'ms',
    '≤',
    150,
  ],
];

/** The bars that these figures can be held against (plain names: base kernels on this Node). */
export function barsOf(figures: readonly Figure[]): Bar[] {
  const values = new Map(figures.map(({ name, value }) => [name, value]));
  return rules
    .filter(([, needs]) => needs.every((name) => values.has(name)))
    .map(([what, , compute, unit, relation, bar]) => {
      const measured = compute((name) => values.get(name)!);
      return {
        what,
        measured,
        unit,
        bar: `${relation} ${bar} ${unit}`,
        holds: relation === '≤' ? measured <= bar : measured >= bar,
      };
    });
}
