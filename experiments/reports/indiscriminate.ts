import {
  finishedSeeds,
  formatInterval,
  formatSummary,
  groupBy,
  pairedDifference,
  type Summary,
  summarize,
  type TrialResult,
} from '../harness/index.js';
import { indiscriminateResults, PAPER_CLEAN_ACCURACY, textResults } from '../paper/index.js';
import { type Comparison, type Figure, lineFigure, type Report, type Table } from '../report/index.js';
import type { AccuracyCurves, ShapedTraining } from '../tasks/dress-coat.js';

/** What a trial of these experiments has at least: poisons as a share of the clean set, and how training was shaped. */
export interface IndiscriminateSpec extends ShapedTraining {
  readonly ratio: number;
}

/** What the report is about, in the paper's words. */
export interface IndiscriminateAttack {
  /** In the authors' files. */
  readonly id: 'label_flip' | 'slab';
  /** '40 % …' */
  readonly poisons: string;
  /** The clip norm that the paper's text compares with vanilla training. */
  readonly clipNorm: number;
  /** Letters of its panels in Figure 4: by clip norm, by noise. */
  readonly panels: readonly [string, string];
  /** Accuracy that clipping at that norm adds at 40 %, as the paper has it, and where it says so. */
  readonly gain: number;
  readonly gainSource: string;
}

type Trial = TrialResult<IndiscriminateSpec, AccuracyCurves>;
type Arm = Pick<IndiscriminateSpec, 'clipNorm' | 'noiseStd'>;

/** Which epoch's test accuracy counts: the paper's choice peeks at the test data. */
const protocols = {
  'best epoch on test (the paper’s)': ({ test }: AccuracyCurves) => Math.max(...test),
  'epoch chosen on validation': (result: AccuracyCurves) => result.test[validatedEpoch(result)]!,
  'last epoch': ({ test }: AccuracyCurves) => test.at(-1)!,
} as const;
type Protocol = keyof typeof protocols;
const protocolNames = Object.keys(protocols) as Protocol[];
const [papers, validated] = protocolNames as [Protocol, Protocol];

const vanilla: Arm = { clipNorm: null, noiseStd: 0 };
/** The arm that noise is added to. */
const clip4: Arm = { clipNorm: 4, noiseStd: 0 };
const paperRate = 0.01;
const heaviest = 0.4;

function validatedEpoch({ validation }: AccuracyCurves): number {
  return validation.indexOf(Math.max(...validation));
}

const percent = (ratio: number): string => `${Math.round(ratio * 100)} %`;

function armName({ clipNorm, noiseStd }: Arm): string {
  if (clipNorm === null) return noiseStd === 0 ? 'vanilla' : `noise ${noiseStd}`;
  return noiseStd === 0 ? `C = ${clipNorm}` : `C = ${clipNorm}, noise ${noiseStd}`;
}

/** The trials, by what they differ in but the seed. */
class Results {
  private readonly groups: Map<string, Trial[]>;
  readonly arms: readonly Arm[];
  readonly ratios: readonly number[];
  readonly rates: readonly number[];

  /** The arm that is compared with vanilla. */
  readonly clipped: Arm;

  constructor(
    trials: readonly Trial[],
    readonly attack: IndiscriminateAttack,
  ) {
    this.clipped = { clipNorm: attack.clipNorm, noiseStd: 0 };
    const distinct = <T>(values: readonly T[]): T[] => [...new Set(values)];
    this.groups = groupBy(trials, ({ spec }) => key(spec, spec.ratio, spec.learningRate));
    this.arms = [...groupBy(trials, ({ spec }) => armName(spec)).values()].map(([first]) => first!.spec);
    this.ratios = distinct(trials.map(({ spec }) => spec.ratio)).sort((a, b) => a - b);
    this.rates = distinct(trials.map(({ spec }) => spec.learningRate)).sort((a, b) => a - b);
  }

  /** One a seed, in the seeds' order; empty where the grid has none. */
  trials(arm: Arm, ratio: number, rate = paperRate): Trial[] {
    return this.groups.get(key(arm, ratio, rate)) ?? [];
  }

  /** Whether the arms that everything is compared with are there; a run that was stopped early lacks them. */
  get comparable(): boolean {
    const arms = [vanilla, this.clipped, clip4, ...this.arms.filter(({ noiseStd }) => noiseStd > 0)];
    return this.trials(vanilla, 0).length > 0 && arms.every((arm) => this.trials(arm, heaviest).length > 0);
  }

  ratiosOf(arm: Arm): number[] {
    return this.ratios.filter((ratio) => this.trials(arm, ratio).length > 0);
  }

  accuracies(arm: Arm, ratio: number, protocol: Protocol, rate = paperRate): number[] {
    return this.trials(arm, ratio, rate).map(({ result }) => protocols[protocol](result));
  }

  /** Test accuracies with both epoch and learning rate chosen on validation, seed by seed. */
  tuned(arm: Arm, ratio: number): { accuracies: number[]; rates: number[] } {
    const byRate = this.rates
      .map((rate) => this.trials(arm, ratio, rate))
      .filter((trials) => trials.length > 0);
    const seeds = byRate[0]?.length ?? 0;
    const chosen = Array.from({ length: seeds }, (_, seed) => {
      const candidates = byRate.map((trials) => trials[seed]!);
      const score = ({ result }: Trial): number => Math.max(...result.validation);
      return candidates.reduce((best, trial) => (score(trial) > score(best) ? trial : best));
    });
    return {
      accuracies: chosen.map(({ result }) => protocols[validated](result)),
      rates: chosen.map(({ spec }) => spec.learningRate),
    };
  }

  /** Relative accuracy drop against the same seed's clean vanilla model under the same protocol. */
  rad(arm: Arm, ratio: number, protocol: Protocol): Summary {
    const clean = this.accuracies(vanilla, 0, protocol);
    return summarize(
      this.accuracies(arm, ratio, protocol).map((accuracy, i) => (clean[i]! - accuracy) / clean[i]!),
    );
  }
}

function key({ clipNorm, noiseStd }: Arm, ratio: number, rate: number): string {
  return [clipNorm, noiseStd, ratio, rate].join(' ');
}

/** Figure 4: figures, the paper's numbers beside ours, and what the choice of the epoch does to them. */
export function indiscriminateReport(trials: readonly Trial[], attack: IndiscriminateAttack): Report {
  const { finished, left } = finishedSeeds(trials);
  const results = new Results(finished, attack);
  if (!results.comparable) {
    return {
      summary: ['No seed has what a comparison needs yet: accuracies alone, of all trials that are done.'],
      tables: [accuracyTable(new Results(trials, attack))],
      csvRows: trials.map(csvRow),
    };
  }
  return {
    summary: [
      ...(left > 0 ? [`${left} seeds are not finished, and left out here.`] : []),
      ...summary(results),
    ],
    figures: [clipFigure(results), noiseFigure(results), protocolFigure(results), ...curveFigures(results)],
    comparisons: comparisons(results),
    tables: [accuracyTable(results), protocolTable(results), rateTable(results)].filter(
      ({ rows }) => rows.length > 0,
    ),
    csvRows: trials.map(csvRow),
  };
}

function summary(results: Results): string[] {
  const gain = (protocol: Protocol): Summary =>
    pairedDifference(
      results.accuracies(results.clipped, heaviest, protocol),
      results.accuracies(vanilla, heaviest, protocol),
    );
  const tuned = pairedDifference(
    results.tuned(results.clipped, heaviest).accuracies,
    results.tuned(vanilla, heaviest).accuracies,
  );
  const verdict = ({ low, high }: Summary): string =>
    low === null || high === null
      ? 'one seed: undecided'
      : low > 0
        ? 'clipping helps'
        : high < 0
          ? 'clipping hurts'
          : 'no difference is shown';
  return [
    `Clean accuracy of the vanilla model, best epoch on test: ${formatSummary(summarize(results.accuracies(vanilla, 0, papers)))} (the paper: ${PAPER_CLEAN_ACCURACY}).`,
    `With ${percent(heaviest)} ${results.attack.poisons}, what clipping at C = ${results.attack.clipNorm} adds to the accuracy depends on who chooses the epoch (differences paired by seed):`,
    ...protocolNames.map(
      (protocol) => `${protocol}: ${formatInterval(gain(protocol))}: ${verdict(gain(protocol))}.`,
    ),
    ...(results.rates.length > 1
      ? [
          `epoch and learning rate chosen on validation, each arm its own: ${formatInterval(tuned)}: ${verdict(tuned)}.`,
        ]
      : []),
  ];
}

function radSeries(results: Results, arms: readonly Arm[]) {
  return arms.map((arm) => ({
    name: armName(arm),
    points: results.ratiosOf(arm).map((ratio) => {
      const rad = results.rad(arm, ratio, papers);
      return { x: ratio, y: rad.mean, low: rad.low, high: rad.high };
    }),
  }));
}

function clipFigure(results: Results): Figure {
  const arms = results.arms.filter(({ noiseStd }) => noiseStd === 0);
  const names = new Set(arms.map(armName));
  const reference = [
    ...paperPoints(results, (c) => c.noiseStd === 0),
    ...textResults()
      .filter(
        ({ attack, model, source }) =>
          attack === results.attack.id && model === 'vanilla' && source === 'paper_text',
      )
      .map(({ rad }) => ({ x: heaviest, y: rad, series: 'vanilla' })),
  ].filter(({ series }) => names.has(series));
  return lineFigure({
    title: `Figure 4 (${results.attack.panels[0]}): accuracy lost to ${results.attack.poisons}, by clip norm`,
    x: { label: 'poisons, as a share of the clean set', format: '.0%' },
    y: { label: 'RAD, best epoch on test', format: '.3f' },
    series: radSeries(results, arms),
    reference,
    caption:
      'RAD: (clean vanilla accuracy − accuracy) / clean vanilla accuracy, each seed against its own clean model.',
  });
}

function paperPoints(results: Results, keep: (c: { noiseStd: number }) => boolean) {
  return indiscriminateResults()
    .filter((c) => c.attack === results.attack.id && keep(c))
    .map((c) => ({ x: c.ratio, y: c.rad, series: armName(c) }));
}

function noiseFigure(results: Results): Figure {
  const noisy = results.arms.filter(({ noiseStd, clipNorm }) => clipNorm === 4 && noiseStd > 0);
  const arms = [clip4, ...noisy];
  const label = ({ noiseStd }: Arm): string => (noiseStd === 0 ? 'none' : String(noiseStd));
  const atHeaviest = paperPointsByNoise(results).filter(({ x }) => arms.some((arm) => label(arm) === x));
  return lineFigure({
    title: `Figure 4 (${results.attack.panels[1]}): accuracy lost at ${percent(heaviest)}, by noise (C = 4)`,
    x: { label: 'standard deviation of the noise on the sum of 300 gradients (σ · C)', scale: 'category' },
    y: { label: 'RAD, best epoch on test', format: '.3f' },
    series: [
      {
        name: 'C = 4 with noise',
        points: arms.map((arm) => {
          const rad = results.rad(arm, heaviest, papers);
          return { x: label(arm), y: rad.mean, low: rad.low, high: rad.high };
        }),
      },
    ],
    intervals: 'bar',
    reference: atHeaviest,
    caption: 'The paper prints σ · C as its noise multiplier; it stops where noise begins to matter.',
  });
}

function paperPointsByNoise(results: Results) {
  return indiscriminateResults()
    .filter((c) => c.attack === results.attack.id && c.clipNorm === 4 && c.ratio === heaviest)
    .map((c) => ({
      x: c.noiseStd === 0 ? 'none' : String(c.noiseStd),
      y: c.rad,
      series: 'C = 4 with noise',
    }));
}

function protocolFigure(results: Results): Figure {
  const point = (x: string, difference: Summary) => ({
    x,
    y: difference.mean,
    low: difference.low,
    high: difference.high,
  });
  const equalRates = results.rates.filter(
    (rate) => results.trials(results.clipped, heaviest, rate).length > 0,
  );
  const series = equalRates.map((rate) => ({
    name: `both at rate ${rate}${rate === paperRate ? ' (the paper’s)' : ''}`,
    points: protocolNames.map((protocol) =>
      point(
        protocol,
        pairedDifference(
          results.accuracies(results.clipped, heaviest, protocol, rate),
          results.accuracies(vanilla, heaviest, protocol, rate),
        ),
      ),
    ),
  }));
  const tuned = pairedDifference(
    results.tuned(results.clipped, heaviest).accuracies,
    results.tuned(vanilla, heaviest).accuracies,
  );
  return lineFigure({
    title: `What clipping (C = ${results.attack.clipNorm}) adds at ${percent(heaviest)}, by who chooses the epoch`,
    x: { label: 'the epoch that counts', scale: 'category' },
    y: { label: 'accuracy with clipping − without', format: '+.4f' },
    series: [...series, { name: 'each at its validated rate', points: [point(validated, tuned)] }],
    intervals: 'bar',
    caption:
      'By learning rate. Above 0 clipping helps. Differences are paired: both arms of a seed share initial weights, order and poisons.',
  });
}

function curveFigures(results: Results): Figure[] {
  const arms = [vanilla, results.clipped];
  const curve = (arm: Arm, pick: (result: AccuracyCurves) => readonly number[], name: string) => {
    const curves = results.trials(arm, heaviest).map(({ result }) => pick(result));
    const epochs = curves[0]?.length ?? 0;
    const points = Array.from({ length: epochs }, (_, epoch) => {
      const { mean, low, high } = summarize(curves.map((values) => values[epoch]!));
      return { x: epoch + 1, y: mean, low, high };
    });
    return { name: `${armName(arm)}${name}`, points };
  };
  const x = { label: 'epoch' };
  return [
    lineFigure({
      title: `Test accuracy while training on ${percent(heaviest)} ${results.attack.poisons}`,
      x,
      y: { label: 'test accuracy', format: '.3f' },
      series: arms.map((arm) => curve(arm, ({ test }) => test, '')),
    }),
    lineFigure({
      title: 'Training accuracy: clean images and poisons',
      x,
      y: { label: 'accuracy', format: '.0%' },
      series: arms.flatMap((arm) => [
        curve(arm, ({ clean }) => clean, ', clean'),
        curve(arm, ({ poison }) => poison ?? [], ', poisons'),
      ]),
      caption: 'Accuracy on poisons: how many are given the wrong label they carry.',
    }),
  ];
}

function comparisons(results: Results): Comparison[] {
  const clean: Comparison = {
    what: 'clean accuracy, vanilla',
    paper: PAPER_CLEAN_ACCURACY,
    ours: summarize(results.accuracies(vanilla, 0, papers)),
    kind: 'level',
    source: 'repository',
    trials: results.trials(vanilla, 0),
  };
  const text = textResults()
    .filter(({ attack }) => attack === results.attack.id)
    .map(({ clipNorm, rad, source }) => ({ arm: { clipNorm, noiseStd: 0 }, rad, source }))
    .filter(({ arm }) => results.trials(arm, heaviest).length > 0)
    .map(({ arm, rad, source }): Comparison => {
      return {
        what: `RAD at ${percent(heaviest)}, ${armName(arm)}`,
        paper: rad,
        ours: results.rad(arm, heaviest, papers),
        kind: 'effect',
        source: source === 'paper_text' ? 'text' : 'repository, JAX run',
        trials: results.trials(arm, heaviest),
      };
    });
  const repository = indiscriminateResults()
    .filter(({ attack, ratio }) => attack === results.attack.id && ratio > 0.05)
    .filter((c) => results.trials(c, c.ratio).length > 0)
    .map(
      (c): Comparison => ({
        what: `RAD at ${percent(c.ratio)}, ${armName(c)}`,
        paper: c.rad,
        ours: results.rad(c, c.ratio, papers),
        kind: 'effect',
        source: 'repository, one seed',
        trials: results.trials(c, c.ratio),
      }),
    );
  const gain: Comparison[] = protocolNames.map((protocol) => ({
    what: `accuracy at ${percent(heaviest)}, ${armName(results.clipped)} minus vanilla, ${protocol}`,
    paper: results.attack.gain,
    ours: pairedDifference(
      results.accuracies(results.clipped, heaviest, protocol),
      results.accuracies(vanilla, heaviest, protocol),
    ),
    kind: 'effect',
    source: results.attack.gainSource,
  }));
  return [clean, ...text, ...gain, ...repository];
}

function accuracyTable(results: Results): Table {
  return {
    title: 'Test accuracy, best epoch on test',
    note: 'Mean and 95 % interval over seeds, learning rate 0.01. A dash: not in this size’s grid.',
    columns: ['', ...results.ratios.map(percent)],
    rows: results.arms.map((arm) => ({
      cells: [
        armName(arm),
        ...results.ratios.map((ratio) => {
          const values = results.accuracies(arm, ratio, papers);
          return values.length === 0 ? null : formatSummary(summarize(values));
        }),
      ],
      trials: results.ratios.flatMap((ratio) => results.trials(arm, ratio)),
    })),
  };
}

function protocolTable(results: Results): Table {
  const columns = protocolNames.flatMap((protocol) => [`RAD, ${protocol}`, '− vanilla’s']);
  return {
    title: `RAD at ${percent(heaviest)} by who chooses the epoch`,
    note: 'Each protocol has its own clean vanilla baseline, paired by seed; second columns are paired differences of RAD, below 0 where the shaper helps.',
    columns: ['', ...columns],
    rows: results.arms
      .filter((arm) => results.trials(arm, heaviest).length > 0)
      .map((arm) => ({
        cells: [
          armName(arm),
          ...protocolNames.flatMap((protocol) => {
            const clean = results.accuracies(vanilla, 0, protocol);
            const rads = (of: Arm) =>
              results
                .accuracies(of, heaviest, protocol)
                .map((accuracy, i) => (clean[i]! - accuracy) / clean[i]!);
            return [
              formatSummary(summarize(rads(arm))),
              formatInterval(pairedDifference(rads(arm), rads(vanilla))),
            ];
          }),
        ],
        trials: results.trials(arm, heaviest),
      })),
  };
}

function rateTable(results: Results): Table {
  const rows = results.arms.flatMap((arm) =>
    results.ratios.flatMap((ratio) => {
      const rates = results.rates.filter((rate) => results.trials(arm, ratio, rate).length > 0);
      if (rates.length < 2) return [];
      const tuned = results.tuned(arm, ratio);
      return [
        {
          cells: [
            armName(arm),
            percent(ratio),
            ...results.rates.map((rate) =>
              formatSummary(summarize(results.accuracies(arm, ratio, validated, rate))),
            ),
            formatSummary(summarize(tuned.accuracies)),
            [...new Set(tuned.rates)].sort((a, b) => a - b).join(', '),
          ],
          trials: rates.flatMap((rate) => results.trials(arm, ratio, rate)),
        },
      ];
    }),
  );
  return {
    title: 'Test accuracy by learning rate, epoch chosen on validation',
    columns: ['', 'poisons', ...results.rates.map(String), 'rate chosen on validation too', 'chosen'],
    rows,
  };
}

function csvRow({ spec, result, seconds, key: id }: Trial) {
  const { ratio, clipNorm, noiseStd, learningRate, batchSize, epochs, seed } = spec;
  const accuracies = protocolNames.map((protocol) => protocols[protocol](result));
  return {
    ratio,
    clipNorm,
    noiseStd,
    noiseMultiplier: clipNorm === null ? null : noiseStd / clipNorm,
    learningRate,
    batchSize,
    epochs,
    seed_data: seed.data,
    seed_init: seed.init,
    seed_order: seed.order,
    seed_noise: seed.noise,
    bestOnTest: accuracies[0]!,
    validated: accuracies[1]!,
    lastEpoch: accuracies[2]!,
    validatedEpoch: validatedEpoch(result) + 1,
    seconds,
    key: id,
  };
}
