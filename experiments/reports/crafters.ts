import { formatInterval, groupBy, pairedDifference, summarize, type TrialResult } from '../harness/index.js';
import type { Cell, Report, Table } from '../report/index.js';
import type { DefenceResult, DefenceSpec } from '../trials/defence.js';
import { best, percent, poisonPictures, validated } from './defences.js';

type Trial = TrialResult<DefenceSpec, DefenceResult>;
type Accuracy = (result: DefenceResult) => number;

/** An attack at a ratio: its trials without defence and with clipping, the same seeds in the same order. */
interface Row {
  readonly attack: string;
  readonly ratio: number;
  readonly vanilla: readonly Trial[];
  readonly clipped: readonly Trial[];
}

/** What each crafter does at the same budget, and what clipping does about it. */
export function craftersReport(trials: readonly Trial[]): Report {
  const clean = new Map(
    trials
      .filter(({ spec }) => spec.attack === 'none')
      .map(({ spec, result }) => [JSON.stringify(spec.seed), result]),
  );
  const paired = trials.filter(({ spec }) => spec.attack !== 'none' && clean.has(JSON.stringify(spec.seed)));
  const rows = [...groupBy(paired, ({ spec }) => `${spec.attack} ${spec.ratio}`).values()]
    .map(rowOf)
    .filter(({ vanilla }) => vanilla.length > 0);
  const rads = (group: readonly Trial[], accuracy: Accuracy): number[] =>
    group.map(({ spec, result }) => {
      const baseline = accuracy(clean.get(JSON.stringify(spec.seed))!);
      return (baseline - accuracy(result)) / baseline;
    });
  return {
    summary: [
      ...[...groupBy(rows, ({ ratio }) => ratio)].map(([ratio, group]) => {
        const order = group
          .map(({ attack, vanilla }) => ({ attack, harm: summarize(rads(vanilla, validated)) }))
          .sort((a, b) => b.harm.mean - a.harm.mean)
          .map(({ attack, harm }) => `${attack} ${formatInterval(harm, 3)}`);
        return `RAD without defence at ${percent(ratio)}, epoch chosen on validation, from the strongest: ${order.join('; ')}.`;
      }),
      'Every attacker sees the clean training images and nothing of the victim. Label flips are drawn anew for each seed; the poisons of slab, influence and back-gradient are crafted once. Watermarks are 60 % coat, 40 % dress, called dress.',
    ],
    tables: [
      table(rows, best, 'best epoch on test (the paper’s)'),
      table(rows, validated, 'epoch chosen on validation'),
    ],
    sections: poisonPictures(groupBy(paired, ({ spec }) => spec.attack)),
  };

  function table(rows: readonly Row[], accuracy: Accuracy, protocol: string): Table {
    return {
      title: `Relative accuracy drop by crafter, ${protocol}`,
      note:
        'RAD against the same seed’s clean undefended model; what clipping saves is the paired difference of the two RADs; means and 95 % intervals over seeds. ' +
        'Crafting: the longest trial of the attack less the shortest undefended one, since a worker crafts once; flips and watermarks are crafted in every trial.',
      columns: ['attack', 'ratio', 'RAD', 'RAD, C = 4', 'clipping saves', 'distinct poisons', 'crafting, s'],
      rows: rows.map(({ attack, ratio, vanilla, clipped }) => {
        const [bare, shaped] = [rads(vanilla, accuracy), rads(clipped, accuracy)];
        const saved = bare.length === shaped.length ? formatInterval(pairedDifference(bare, shaped)) : null;
        return {
          cells: [
            attack,
            percent(ratio),
            formatInterval(summarize(bare)),
            shaped.length > 0 ? formatInterval(summarize(shaped)) : null,
            saved,
            distinctCell(vanilla[0]!),
            craftingSeconds([...vanilla, ...clipped], vanilla),
          ],
          trials: [...vanilla, ...clipped],
        };
      }),
    };
  }
}

function rowOf(group: readonly Trial[]): Row {
  const { attack, ratio } = group[0]!.spec;
  return {
    attack,
    ratio,
    vanilla: group.filter(({ spec }) => spec.clipNorm === null),
    clipped: group.filter(({ spec }) => spec.clipNorm !== null),
  };
}

function distinctCell({ result: { distinctCount, count } }: Trial): string {
  const counted = (value: number): string => value.toLocaleString('en-US');
  return `${counted(distinctCount)} of ${counted(count)} (${((100 * distinctCount) / count).toPrecision(2)} %)`;
}

function craftingSeconds(all: readonly Trial[], vanilla: readonly Trial[]): Cell {
  const shortest = Math.min(...vanilla.map(({ seconds }) => seconds));
  return Math.round(Math.max(...all.map(({ seconds }) => seconds)) - shortest);
}
