import type { TrialResult } from '../harness/experiment.js';
import { formatInterval, type Summary } from '../harness/stats.js';
import type { Table } from './table.js';

/** One of the paper's numbers and what we measured for it. */
export interface Comparison {
  what: string;
  paper: number;
  ours: Summary;
  /**
   * An effect has a sign (a difference, a RAD); a level, such as an accuracy, has none worth agreeing on. 'above' and
   * 'below': the paper says no more than on which side of a bound the value lies.
   */
  kind: 'effect' | 'level' | 'above' | 'below';
  /** Where the paper's number comes from. */
  source?: string;
  digits?: number;
  /** Where the paper's number can come about without an attack: why, and what our control run without one has for it. */
  artefact?: { because: string; control: Summary };
  trials?: readonly TrialResult[];
}

export type Verdict = 'reproduced' | 'partly' | 'not reproduced' | 'artefact' | 'undecided';

/**
 * The rule: *reproduced* when the sign agrees and the paper's value lies in our 95 % interval, *partly* when only the
 * sign agrees, *not reproduced* when neither does. *Undecided* when there is no interval (one seed), or when the value
 * lies inside an interval whose mean has the other sign. Levels have no sign: inside the interval or not. A bound
 * is reproduced when our interval lies beyond it, partly when our mean does. *Artefact* goes before all of these: there is an explanation without an attack, and the control run shows it.
 */
export function verdict(comparison: Comparison): Verdict {
  const { paper, ours, artefact } = comparison;
  const plain = verdictWithoutControl(comparison);
  if (artefact === undefined) return plain;
  const shows =
    holds(artefact.control, paper) || (plain === 'reproduced' && holds(artefact.control, ours.mean));
  return shows ? 'artefact' : plain;
}

function holds({ low, high }: Summary, value: number): boolean {
  return low !== null && high !== null && low <= value && value <= high;
}

function verdictWithoutControl({ paper, ours, kind }: Comparison): Verdict {
  if (ours.low === null || ours.high === null) return 'undecided';
  if (kind === 'above' || kind === 'below') {
    const side = kind === 'above' ? 1 : -1;
    const beyond = (value: number): boolean => side * (value - paper) > 0;
    if (!beyond(ours.mean)) return 'not reproduced';
    return beyond(ours.low) && beyond(ours.high) ? 'reproduced' : 'partly';
  }
  const inside = holds(ours, paper);
  if (kind === 'level') return inside ? 'reproduced' : 'not reproduced';
  const sameSign = Math.sign(paper) === Math.sign(ours.mean);
  if (inside) return sameSign || paper === 0 ? 'reproduced' : 'undecided';
  return sameSign ? 'partly' : 'not reproduced';
}

export const VERDICT_RULE =
  'Reproduced: the sign agrees and the paper’s value lies in our 95 % interval (over seeds). Partly: only the sign agrees. ' +
  'Not reproduced: neither. Undecided: one seed, or an interval that holds the paper’s value around a mean of the other sign. ' +
  'For levels, such as an accuracy, only the interval counts; for bounds, whether all of it, or our mean alone, lies beyond. Artefact, before all of these: the number has an explanation ' +
  'without an attack, and the interval of a control run without one holds the paper’s value, or ours where that reproduces the paper’s.';

/** The paper's numbers beside ours. */
export function comparisonTable(comparisons: readonly Comparison[]): Table {
  return {
    title: 'The paper’s numbers beside ours',
    columns: ['what', 'paper', 'ours [95 % interval]', 'seeds', 'verdict', 'the paper’s number is from'],
    rows: comparisons.map((c) => ({
      cells: [
        c.what,
        number(c.paper, c),
        formatInterval(c.ours, c.digits),
        c.ours.n,
        verdict(c),
        c.source ?? 'the paper',
      ],
      ...(c.trials && { trials: c.trials }),
    })),
  };
}

/** A sentence for each comparison that is not reproduced. */
export function disagreements(comparisons: readonly Comparison[]): string[] {
  return comparisons.filter((c) => verdict(c) !== 'reproduced').map(sentence);
}

function sentence(c: Comparison): string {
  const { low, high, mean, n } = c.ours;
  const ours = `ours is ${formatInterval(c.ours, c.digits)} (${n} seed${n === 1 ? '' : 's'})`;
  const start = `${c.what}: the paper has ${number(c.paper, c)}, ${ours}`;
  if (verdict(c) === 'artefact') {
    return `${start}; an artefact: the control without an attack has ${formatInterval(c.artefact!.control, c.digits)}. ${c.artefact!.because}`;
  }
  if (low === null || high === null) return `${start}; one seed has no interval, so nothing is decided.`;
  if (verdict(c) === 'undecided')
    return `${start}; the interval holds the paper’s value, but our mean has the other sign.`;
  if (c.kind === 'above' || c.kind === 'below') return `${start}; expected ${c.kind} it.`;
  const outside = c.paper < low ? 'below' : 'above';
  const bySign =
    c.kind === 'level'
      ? ''
      : Math.sign(c.paper) === Math.sign(mean)
        ? 'the sign agrees, but '
        : 'the sign is the other, and ';
  return `${start}; ${bySign}the paper’s value lies ${outside} our interval.`;
}

function number(value: number, { digits = 4 }: Comparison): string {
  return value.toFixed(digits).replace('-', '−');
}
