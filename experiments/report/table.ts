import CliTable from 'cli-table3';
import type { TrialResult } from '../harness/experiment.js';
import { escapeHtml } from './html.js';

export type Cell = string | number | null;

export interface Table {
  title: string;
  /** A sentence under the title. */
  note?: string;
  columns: readonly string[];
  rows: readonly TableRow[];
}

export interface TableRow {
  cells: readonly Cell[];
  /** The trials behind the row: the report shows their commands. */
  trials?: readonly TrialResult[];
}

/** A table for the terminal. */
export function terminalTable(table: Table): string {
  const plain = { head: [], border: [], compact: true };
  const colAligns = table.columns.map((_, i) => (isNumeric(table, i) ? 'right' : 'left') as 'right' | 'left');
  const cli = new CliTable({ head: [...table.columns], colAligns, style: plain });
  for (const { cells } of table.rows) cli.push(cells.map(cellText));
  return `${table.title}\n${cli.toString()}${table.note ? `\n${table.note}` : ''}`;
}

/** A table for the page, each row with its commands behind a fold. */
export function htmlTable(table: Table): string {
  const numeric = table.columns.map((_, i) => (isNumeric(table, i) ? ' class="number"' : ''));
  const folds = table.rows.some((row) => row.trials?.length);
  const head = table.columns.map((label, i) => `<th${numeric[i]}>${escapeHtml(label)}</th>`).join('');
  const body = table.rows.map(({ cells, trials }) => {
    const tds = cells.map((cell, i) => `<td${numeric[i]}>${escapeHtml(cellText(cell))}</td>`).join('');
    return `<tr>${tds}${folds ? `<td class="fold">${commands(trials ?? [])}</td>` : ''}</tr>`;
  });
  return `<h3>${escapeHtml(table.title)}</h3>
${table.note ? `<p>${escapeHtml(table.note)}</p>` : ''}
<div class="wide"><table>
<thead><tr>${head}${folds ? '<th class="fold">commands</th>' : ''}</tr></thead>
<tbody>
${body.join('\n')}
</tbody></table></div>`;
}

function commands(trials: readonly TrialResult[]): string {
  if (trials.length === 0) return '';
  const lines = trials.map(({ command }) => escapeHtml(command)).join('\n');
  return `<details><summary>${trials.length} trial${trials.length === 1 ? '' : 's'}</summary><pre>${lines}</pre></details>`;
}

function cellText(cell: Cell): string {
  return cell === null ? '–' : String(cell).replace(/^-(?=\d)/, '−');
}

function isNumeric(table: Table, column: number): boolean {
  const cells = table.rows.map(({ cells }) => cells[column] ?? null).filter((cell) => cell !== null);
  return cells.length > 0 && cells.every((cell) => /^[-−+]?[\d.]/.test(String(cell)));
}
