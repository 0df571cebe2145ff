import { formatInterval, formatSummary, groupBy, summarize, type TrialResult } from '../harness/index.js';
import { imageGrid, type Report, type Section, type Table } from '../report/index.js';
import type { DefenceResult, DefenceSpec } from '../trials/defence.js';
import { picturesOf } from './poison-pictures.js';

type Trial = TrialResult<DefenceSpec, DefenceResult>;

export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function defenceName({ filter, clipNorm, noiseStd, keep }: DefenceSpec): string {
  if (filter !== null) return `${filter} (keeps ${Math.round(keep * 100)} %)`;
  if (clipNorm === null) return 'none';
  return noiseStd === 0 ? `clip ${clipNorm}` : `clip ${clipNorm}, noise ${noiseStd}`;
}

/** Best epoch on test, as the paper has it; the epoch that validation chooses. */
export const best = ({ test }: DefenceResult): number => Math.max(...test);
export const validated = ({ test, validation }: DefenceResult): number =>
  test[validation.indexOf(Math.max(...validation))]!;

/** What each defence removes, and what accuracy is left. */
export function defencesReport(trials: readonly Trial[]): Report {
  const clean = new Map(
    trials
      .filter(({ spec }) => spec.attack === 'none' && defenceName(spec) === 'none')
      .map((trial) => [JSON.stringify(trial.spec.seed), trial.result]),
  );
  const paired = trials.filter(({ spec }) => clean.has(JSON.stringify(spec.seed)));
  const byAttack = groupBy(paired, ({ spec }) => spec.attack);
  const tables = [...byAttack.values()]
    .filter((group) => new Set(group.map(({ spec }) => defenceName(spec))).size > 1)
    .map((group) => attackTable(group, clean));
  return {
    summary: [
      ...[...byAttack].flatMap(([attack, group]) =>
        attack === 'none' ? [] : sentences(attack, group, clean),
      ),
      'Filters see inputs and labels only, keep the share of each class that has the lowest scores, and are told neither the attack nor how many poisons there are. The loss filter reads a model trained for 5 epochs on the poisoned set; RONI has the 1,200 clean validation images, and judges groups of 50.',
      'Spectral signatures and activation clustering were made for the last hidden layer of a network that learned the backdoor. A linear model has none, so they read the images.',
    ],
    tables,
    sections: poisonPictures(byAttack),
  };
}

function rads(
  group: readonly Trial[],
  clean: ReadonlyMap<string, DefenceResult>,
  accuracy: (result: DefenceResult) => number,
): number[] {
  return group.map(({ spec, result }) => {
    const baseline = accuracy(clean.get(JSON.stringify(spec.seed))!);
    return (baseline - accuracy(result)) / baseline;
  });
}

function sentences(
  attack: string,
  group: readonly Trial[],
  clean: ReadonlyMap<string, DefenceResult>,
): string[] {
  const backdoor = attack.endsWith('backdoor');
  const arms = [...groupBy(group, ({ spec }) => defenceName(spec))].map(([name, own]) => ({
    name,
    harm: summarize(backdoor ? successes(own) : rads(own, clean, validated)),
    isFilter: own[0]!.spec.filter !== null,
  }));
  const least = (filter: boolean) =>
    arms
      .filter(({ name, isFilter }) => isFilter === filter && name !== 'none')
      .sort((a, b) => a.harm.mean - b.harm.mean)[0];
  const none = arms.find(({ name }) => name === 'none');
  const parts = [
    none && `without defence ${formatInterval(none.harm)}`,
    ...[true, false].map((filter) => {
      const arm = least(filter);
      return arm && `best ${filter ? 'filter' : 'shaper'}, ${arm.name}, ${formatInterval(arm.harm)}`;
    }),
  ].filter((part) => part !== undefined);
  const what = backdoor ? 'dresses taken for coats with the patch, last epoch' : 'RAD at the validated epoch';
  return [`${attack}, ${what}: ${parts.join('; ')}.`];
}

function successes(group: readonly Trial[]): number[] {
  return group.map(({ result }) => result.backdoor!.at(-1)!);
}

function attackTable(group: readonly Trial[], clean: ReadonlyMap<string, DefenceResult>): Table {
  const { attack, ratio } = group[0]!.spec;
  const backdoor = attack.endsWith('backdoor');
  const share = ratio / (1 + ratio);
  return {
    title: `${attack}: ${percent(ratio)} of the clean set added, ${percent(share)} of the poisoned set`,
    note: 'RAD against the same seed’s clean undefended model under the same protocol; mean and 95 % interval over seeds.',
    columns: [
      'defence',
      'clean removed',
      'poison removed',
      'RAD, best epoch on test (the paper’s)',
      'RAD, epoch chosen on validation',
      ...(backdoor ? ['dresses taken for coats with the patch, last epoch'] : []),
    ],
    rows: [...groupBy(group, ({ spec }) => defenceName(spec))].map(([name, own]) => ({
      cells: [
        name,
        removedCell(own, 'clean'),
        removedCell(own, 'poison'),
        formatSummary(summarize(rads(own, clean, best))),
        formatSummary(summarize(rads(own, clean, validated))),
        ...(backdoor ? [formatSummary(summarize(successes(own)))] : []),
      ],
      trials: own,
    })),
  };
}

function removedCell(group: readonly Trial[], kind: 'clean' | 'poison'): string | null {
  const shares = group.flatMap(({ result }) => result.removed?.[kind] ?? []);
  return shares.length === 0 ? null : percent(summarize(shares).mean);
}

/** A grid of images an attack. */
export function poisonPictures(byAttack: ReadonlyMap<string, Trial[]>): Section[] {
  return [...byAttack]
    .filter(([, group]) => group[0]!.result.distinct.length > 0)
    .map(([attack, group]) =>
      imageGrid(
        `Poisons: ${attack}`,
        'The first distinct poisons, most copies first, of one seed.',
        picturesOf(group[0]!.result.distinct),
        3,
      ),
    );
}
