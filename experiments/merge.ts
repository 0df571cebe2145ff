// Puts the ledgers of shards together: node experiments/merge.js results/indiscriminate-label-flip
import fs from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { GradshapeError } from 'gradshape';
import { runMain } from './harness/experiment.js';
import { fileError, makeFolder, replaceFile } from './harness/files.js';
import { type LedgerEntry, parseLedger } from './harness/ledger.js';
import { parse } from './harness/options.js';
import { canonicalJson } from './harness/trial.js';

await runMain(async () => {
  const command = new Command('node experiments/merge.js')
    .description(
      'Merges shard ledgers into one ledger.jsonl. Then run the experiment again, without --shard: it finds every trial done and writes the report.',
    )
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)')
    .argument('<from...>', 'ledger files, or folders with ledger*.jsonl in them')
    .option('--out <DIR>', "folder for the merged ledger.jsonl (default: the first one's)");
  parse(command, process.argv.slice(2));
  const files = command.args.flatMap(ledgersIn);
  const out: string = command.opts().out ?? path.dirname(files[0]!);

  const merged = new Map<string, { entry: LedgerEntry; file: string }>();
  let lines = 0;
  for (const file of files) {
    const { entries, tornBytes } = parseLedger(fs.readFileSync(file), file);
    if (tornBytes > 0) console.error(`${file}: half-written last line (${tornBytes} bytes) left out`);
    lines += entries.length;
    for (const entry of entries) {
      const other = merged.get(entry.key);
      if (other === undefined) merged.set(entry.key, { entry, file });
      else if (canonicalJson(other.entry.result) !== canonicalJson(entry.result)) {
        throw new GradshapeError(
          'LEDGER_CONFLICT',
          `trial ${entry.key.slice(0, 12)} (${JSON.stringify(entry.spec)}) has different results in ${other.file} and ${file}. One key must have one result: raise the trial's version if its code changed, and leave one of the files out.`,
        );
      }
    }
  }
  makeFolder(out);
  const target = path.join(out, 'ledger.jsonl');
  replaceFile(target, [...merged.values()].map(({ entry }) => `${JSON.stringify(entry)}\n`).join(''));
  console.log(
    `${target}: ${merged.size} trials from ${files.length} ledger(s), ${lines - merged.size} duplicate(s)`,
  );
  return 0;
});

function ledgersIn(from: string): string[] {
  try {
    if (!fs.statSync(from).isDirectory()) return [from];
    const names = fs.readdirSync(from).filter((name) => /^ledger.*\.jsonl$/.test(name));
    if (names.length > 0) return names.sort().map((name) => path.join(from, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw fileError(error, from);
  }
  throw new GradshapeError(
    'LEDGER_NOT_FOUND',
    `no ledger*.jsonl at ${from}; give a ledger, or a folder that an experiment wrote.`,
  );
}
