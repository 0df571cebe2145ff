// Lists the experiments and the trials there are: node experiments/list.js
import fs from 'node:fs';
import { imported } from './harness/experiment.js';
import { importTrial } from './harness/trial.js';

const TOOLS = ['list.js', 'trial.js', 'merge.js'];
const here = new URL('./', import.meta.url);
const scripts = fs.readdirSync(here).filter((file) => file.endsWith('.js') && !TOOLS.includes(file));

console.log('Experiments (node experiments/NAME.js --help)');
for (const file of scripts.sort()) {
  const source = fs.readFileSync(new URL(file, here), 'utf8');
  console.log(
    line(file.slice(0, -3), source.includes('runExperiment(') ? await titleOf(file) : firstComment(source)),
  );
}

const trials = new URL('./trials/', here);
console.log("\nTrials (node experiments/trial.js --trial NAME --spec '…')");
for (const file of fs.existsSync(trials) ? fs.readdirSync(trials).sort() : []) {
  if (!file.endsWith('.js')) continue;
  const { name, version, description } = await importTrial(new URL(file, trials).href);
  console.log(line(name, `${description} (version ${version})`));
}

async function titleOf(file: string): Promise<string> {
  const before = imported.length;
  await import(new URL(file, here).href);
  const experiment = imported[before];
  if (experiment === undefined) return '';
  return experiment.paperFigure ? `${experiment.title} (${experiment.paperFigure})` : experiment.title;
}

function firstComment(source: string): string {
  return /^\s*(?:\/\/|\/\*\*?\s*\*?)\s*(.+)/.exec(source)?.[1]?.replace(/\s*\*\/\s*$/, '') ?? '';
}

function line(name: string, text: string): string {
  return `  ${name.padEnd(30)} ${text}`;
}
