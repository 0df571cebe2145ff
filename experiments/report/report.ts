import path from 'node:path';
import type { TrialResult } from '../harness/experiment.js';
import { replaceFile } from '../harness/files.js';
import { type Comparison, comparisonTable, disagreements, VERDICT_RULE } from './compare.js';
import { type CsvRow, toCsv } from './csv.js';
import { type Figure, figureHtml } from './figure.js';
import { escapeHtml, htmlPage, htmlText, type Section } from './html.js';
import { htmlTable, type Table, terminalTable } from './table.js';

/** What an experiment makes of its results; every part is optional. */
export interface Report {
  /** What came out, a sentence each. */
  summary?: readonly string[];
  figures?: readonly Figure[];
  /** The paper's numbers beside ours; verdicts and disagreements are worked out from them. */
  comparisons?: readonly Comparison[];
  tables?: readonly Table[];
  sections?: readonly Section[];
  /** Default: one row a trial, with its spec and the plain numbers of its result. */
  csvRows?: readonly CsvRow[];
}

/** What the page says of the run itself. */
export interface RunFacts {
  title: string;
  description: string;
  paperFigure: string | undefined;
  /** Said on top, such as that trials are missing. */
  warnings: readonly string[];
  /** What was run: label and text. */
  settings: readonly (readonly [string, string])[];
  failures: readonly { command: string; message: string }[];
}

/** Tables, comparisons and disagreements for the terminal. */
export function terminalReport(report: Report): string {
  const { comparisons = [], tables = [], summary = [] } = report;
  const parts = [...tables.map(terminalTable)];
  if (comparisons.length > 0) {
    parts.push(terminalTable(comparisonTable(comparisons)), VERDICT_RULE);
    parts.push(['Where we disagree', ...bullets(disagreements(comparisons))].join('\n'));
  }
  if (summary.length > 0) parts.push(['What came out', ...bullets(summary)].join('\n'));
  return parts.join('\n\n');
}

function bullets(lines: readonly string[]): string[] {
  return lines.length > 0 ? lines.map((line) => `- ${line}`) : ['- nowhere'];
}

/** The whole page. */
export async function reportPage(report: Report, facts: RunFacts): Promise<string> {
  const { summary = [], figures = [], comparisons = [], tables = [], sections = [] } = report;
  const page: Section[] = [];
  if (facts.warnings.length > 0) {
    const html = facts.warnings.map((text) => `<p class="warning">${escapeHtml(text)}</p>`).join('\n');
    page.push({ title: 'Not complete', html });
  }
  if (summary.length > 0) page.push({ title: 'What came out', html: htmlText(summary) });
  if (figures.length > 0) {
    const drawn: string[] = [];
    for (const figure of figures) drawn.push(await figureHtml(figure));
    page.push({
      title: facts.paperFigure ? `Figures (${facts.paperFigure})` : 'Figures',
      html: drawn.join('\n'),
    });
  }
  if (comparisons.length > 0) {
    const { title, ...table } = comparisonTable(comparisons);
    const apart = disagreements(comparisons);
    page.push({ title, html: `${htmlText([VERDICT_RULE])}${htmlTable({ title: '', ...table })}` });
    page.push({ title: 'Where we disagree', html: htmlText(apart.length > 0 ? apart : ['Nowhere.']) });
  }
  if (tables.length > 0) page.push({ title: 'Tables', html: tables.map(htmlTable).join('\n') });
  page.push(...sections);
  if (facts.failures.length > 0) {
    const rows = facts.failures.map(({ command, message }) => ({ cells: [message, command] }));
    page.push({
      title: 'Trials that failed',
      html: htmlTable({ title: '', columns: ['error', 'command'], rows }),
    });
  }
  const settings = facts.settings.map(
    ([label, text]) => `<tr><th>${escapeHtml(label)}</th><td><code>${escapeHtml(text)}</code></td></tr>`,
  );
  page.push({ title: 'What was run', html: `<div class="wide"><table>${settings.join('\n')}</table></div>` });
  return htmlPage({ title: facts.title, lead: facts.description, sections: page });
}

/** Writes `report<suffix>.html` and `results<suffix>.csv` into `folder`; returns their paths. Errors: those of `fileError`. */
export async function writeReport(
  folder: string,
  suffix: string,
  report: Report,
  facts: RunFacts,
  results: readonly TrialResult[],
): Promise<{ html: string; csv: string }> {
  const html = path.join(folder, `report${suffix}.html`);
  const csv = path.join(folder, `results${suffix}.csv`);
  replaceFile(csv, toCsv(report.csvRows ?? results.map(plainRow)));
  replaceFile(html, await reportPage(report, facts));
  return { html, csv };
}

function plainRow({ spec, result, key, seconds }: TrialResult): CsvRow {
  const { seed, ...rest } = spec;
  const row: Record<string, string | number | boolean | null> = {};
  for (const [name, value] of Object.entries(rest))
    row[name] = isPlain(value) ? value : JSON.stringify(value);
  for (const [name, value] of Object.entries(seed)) row[`seed_${name}`] = value;
  if (isPlain(result)) row.result = result;
  else for (const [name, value] of Object.entries(result as object)) if (isPlain(value)) row[name] = value;
  return { ...row, seconds, key };
}

function isPlain(value: unknown): value is string | number | boolean | null {
  return value === null || typeof value !== 'object';
}
