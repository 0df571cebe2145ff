import type { Verdict } from './compare.js';

/**
 * One verdict for a figure from those of its numbers; undecided ones don't count. *Reproduced* when all are, *artefact*
 * when all are reproduced or artefacts, *not reproduced* when all are not; else *partly*.
 */
export function overall(verdicts: readonly Verdict[]): Verdict {
  const decided = verdicts.filter((one) => one !== 'undecided');
  if (decided.length === 0) return 'undecided';
  const all = (...allowed: Verdict[]): boolean => decided.every((one) => allowed.includes(one));
  if (all('reproduced')) return 'reproduced';
  if (all('reproduced', 'artefact')) return 'artefact';
  if (all('not reproduced')) return 'not reproduced';
  return 'partly';
}

export const OVERALL_RULE =
  'A figure is reproduced when all of its numbers are, an artefact when all are reproduced or artefacts, not reproduced when all are not, ' +
  'else partly reproduced; numbers that are undecided (one seed) don’t count.';

/** Orders 'Figure 4 (a, b)' before 'Figure 4 (c, f)' before 'Figure 10'; what names no figure comes last. */
export function paperOrder(a: string, b: string): number {
  const place = (figure: string): [number, string] => {
    const [, number, part] = /Figure (\d+)(?: \((.*?)\))?/.exec(figure) ?? [];
    return [number === undefined ? Number.POSITIVE_INFINITY : Number(number), part ?? ''];
  };
  const [[m, p], [n, q]] = [place(a), place(b)];
  return m === n ? p.localeCompare(q, 'en') : m - n;
}
