// Puts what the experiments' ledgers hold on one page, in the paper's order: node experiments/report.js
import fs from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { GradshapeError } from 'gradshape';
import { type Experiment, imported, runMain, type TrialResult, trialCommand } from './harness/experiment.js';
import { makeFolder, replaceFile } from './harness/files.js';
import { type LedgerEntry, parseLedger } from './harness/ledger.js';
import { parse, parseOptions, type Size } from './harness/options.js';
import { canonicalJson, type FullSpec, fullSpec } from './harness/trial.js';
import { VERDICT_RULE, verdict } from './report/compare.js';
import { figureHtml } from './report/figure.js';
import {
  comparisonTable,
  disagreements,
  escapeHtml,
  htmlPage,
  htmlTable,
  htmlText,
  type Report,
  type Section,
  terminalTable,
} from './report/index.js';
import { OVERALL_RULE, overall, paperOrder } from './report/overall.js';

interface Found {
  readonly experiment: Experiment;
  readonly size: Size;
  /** Trials of the size's grid that are in the ledger, and how many it has. */
  readonly results: TrialResult[];
  readonly planned: number;
}

await runMain(async () => {
  const command = new Command('node experiments/report.js')
    .description(
      'Gathers the results of all experiments into one page, in the paper’s order: what the paper says, what came out here, and the verdict.',
    )
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)')
    .option('--results <DIR>', 'folder of the experiments’ folders', 'results')
    .option('--out <FILE>', 'the page (default: report.html in the results’ folder)');
  parse(command, process.argv.slice(2));
  const { results, out = path.join(results, 'report.html') } = command.opts<{
    results: string;
    out?: string;
  }>();
  const experiments = (await allExperiments()).filter(({ paperFigure }) => paperFigure !== undefined);
  experiments.sort((a, b) => paperOrder(a.paperFigure!, b.paperFigure!));
  const rows: (string | null)[][] = [];
  const sections: Section[] = [];
  for (const experiment of experiments) {
    const found = readResults(experiment, path.join(results, experiment.name, 'ledger.jsonl'));
    const report = found && (await reportOf(found));
    const verdicts = (report?.comparisons ?? []).map(verdict);
    rows.push([
      experiment.paperFigure!,
      experiment.name,
      report ? overall(verdicts) : 'not run',
      ...[
        report ? counts(verdicts) : null,
        found && `${found.size}: ${found.results.length} of ${found.planned}`,
      ],
    ]);
    sections.push(await sectionOf(experiment, found, report));
  }
  if (sections.length === 0 || rows.every(([, , result]) => result === 'not run')) {
    throw new GradshapeError(
      'LEDGER_NOT_FOUND',
      `no results in ${results}; run an experiment first, such as node experiments/indiscriminate-label-flip.js, or name the folder with --results.`,
    );
  }
  const table = {
    title: 'Figure by figure',
    note: OVERALL_RULE,
    columns: ['figure', 'experiment', 'verdict', 'of the single numbers', 'trials'],
    rows: rows.map((cells) => ({ cells })),
  };
  makeFolder(path.dirname(out));
  replaceFile(
    out,
    htmlPage({
      title: 'The paper, figure by figure',
      lead: 'Hong et al. 2020, “On the Effectiveness of Mitigating Data Poisoning Attacks with Gradient Shaping”: what it says, what came out here, and the verdict, which is a rule’s and nobody’s opinion.',
      sections: [{ title: 'Verdicts', html: `${htmlText([VERDICT_RULE])}${htmlTable(table)}` }, ...sections],
    }),
  );
  console.log(`${terminalTable(table)}\n\nreport  ${out}`);
  return 0;
});

async function allExperiments(): Promise<Experiment[]> {
  const here = new URL('./', import.meta.url);
  for (const file of fs.readdirSync(here).sort()) {
    if (!file.endsWith('.js')) continue;
    const source = fs.readFileSync(new URL(file, here), 'utf8');
    if (/^await runExperiment\(/m.test(source)) await import(new URL(file, here).href);
  }
  return [...imported];
}

/** The largest size whose grid the ledger holds whole; else the one of which it holds most. */
function readResults(experiment: Experiment, file: string): Found | null {
  if (!fs.existsSync(file)) return null;
  const { trial } = experiment;
  const bySpec = new Map<string, LedgerEntry>();
  for (const entry of parseLedger(fs.readFileSync(file), file).entries) {
    if (entry.trial === trial.name && entry.version === trial.version)
      bySpec.set(canonicalJson(entry.spec), entry);
  }
  const found = (['full', 'quick', 'smoke'] as const).map((size): Found => {
    const specs = experiment
      .grid(size, parseOptions(experiment, [`--${size}`]))
      .map((spec) => fullSpec(trial, spec));
    const results = specs.flatMap((spec) => {
      const entry = bySpec.get(canonicalJson(spec));
      return entry === undefined ? [] : [resultOf(experiment, spec, entry)];
    });
    return { experiment, size, results, planned: specs.length };
  });
  const share = ({ results, planned }: Found): number => results.length / planned;
  const best = found.reduce((a, b) => (share(b) > share(a) ? b : a));
  return best.results.length === 0 ? null : best;
}

function resultOf(
  { trial }: Experiment,
  spec: FullSpec<object>,
  { key, result, seconds, versions }: LedgerEntry,
): TrialResult {
  return { key, spec, result, seconds, versions, command: trialCommand(trial, spec, versions.kernels) };
}

/** The experiment's report; null where too many trials are missing for it. */
async function reportOf({ experiment, size, results, planned }: Found): Promise<Report | null> {
  try {
    return await experiment.report(results, parseOptions(experiment, [`--${size}`]));
  } catch (error) {
    if (results.length === planned) throw error;
    return null;
  }
}

function counts(verdicts: readonly string[]): string {
  const each = new Map<string, number>();
  for (const one of verdicts) each.set(one, (each.get(one) ?? 0) + 1);
  return [...each].map(([name, count]) => `${count} ${name}`).join(', ') || 'none to compare';
}

async function sectionOf(
  experiment: Experiment,
  found: Found | null,
  report: Report | null,
): Promise<Section> {
  const title = `${experiment.paperFigure}: ${experiment.title}`;
  const claim = htmlText([`The paper: ${experiment.claim ?? 'no claim in a sentence.'}`]);
  const run = `node experiments/${experiment.name}.js`;
  if (found === null || report === null) {
    return { title, html: `${claim}${htmlText([`Not run, or not enough of it: ${run}`])}` };
  }
  const { summary = [], comparisons = [], figures = [] } = report;
  const verdicts = comparisons.map(verdict);
  const missing = found.planned - found.results.length;
  const drawn: string[] = [];
  for (const figure of figures) drawn.push(await figureHtml(figure));
  const fold = (label: string, html: string) =>
    html === '' ? '' : `<details><summary>${escapeHtml(label)}</summary>\n${html}\n</details>`;
  const table = comparisons.length > 0 ? htmlTable({ ...comparisonTable(comparisons), title: '' }) : '';
  const apart = disagreements(comparisons);
  return {
    title,
    html: [
      missing > 0
        ? `<p class="warning">${missing} of ${found.planned} trials are missing. Go on with: ${run}</p>`
        : '',
      claim,
      `<p><strong>Verdict: ${overall(verdicts)}</strong> (${escapeHtml(counts(verdicts))}; ${found.size}, ${found.results.length} trials)</p>`,
      summary.length > 0 ? htmlText(summary) : '',
      fold('The paper’s numbers beside ours', table),
      fold('Where we disagree', apart.length > 0 ? htmlText(apart) : ''),
      fold(`Figures (${figures.length})`, drawn.join('\n')),
    ].join('\n'),
  };
}
