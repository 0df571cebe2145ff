// Runs one trial and prints it as JSON: node experiments/trial.js --trial NAME --spec '{"seed":1}'
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Command, Option } from 'commander';
import { GradshapeError } from 'gradshape';
import { packageVersion, resolveKernels, runMain } from './harness/experiment.js';
import { parse } from './harness/options.js';
import { fullSpec, hashShared, importTrial, runTrial, type SpecInput, trialKey } from './harness/trial.js';

await runMain(async () => {
  const command = new Command('node experiments/trial.js')
    .description('Runs one trial in this process and prints it as JSON, in the form of a ledger line.')
    .helpOption('-h, --help', 'show this')
    .showHelpAfterError('(--help shows the options)')
    .requiredOption(
      '--trial <name>',
      'a trial in experiments/trials/, or the path of a module that exports one',
    )
    .requiredOption('--spec <json>', 'its spec; fields left out have their defaults')
    .option('--data <DIR>', 'folder with data sets, searched first')
    .addOption(
      new Option('--kernels <build>', 'WebAssembly build')
        .choices(['base', 'relaxed', 'auto'])
        .default('base'),
    );
  parse(command, process.argv.slice(2));
  const options = command.opts();

  const trial = await importTrial(trialModule(options.trial));
  const spec = fullSpec(trial, parseSpec(options.spec));
  const kernels = resolveKernels(options.kernels);
  const shared =
    (await trial.shared?.(options.data === undefined ? {} : { data: options.data }, [spec])) ?? {};
  const { json, seconds } = await runTrial(trial, spec, { kernels, shared, memo: new Map() });
  const key = trialKey(trial, spec, kernels, hashShared(shared));
  const versions = { node: process.versions.node, gradshape: packageVersion(), kernels };
  const entry = {
    key,
    trial: trial.name,
    version: trial.version,
    spec,
    result: JSON.parse(json),
    versions,
    seconds,
  };
  console.log(JSON.stringify(entry, null, 2));
  return 0;
});

function trialModule(name: string): string {
  const folder = fileURLToPath(new URL('./trials/', import.meta.url));
  const file = /[\\/]|\.js$/.test(name) ? path.resolve(name) : path.join(folder, `${name}.js`);
  if (fs.existsSync(file)) return pathToFileURL(file).href;
  const there = fs.existsSync(folder) ? fs.readdirSync(folder).filter((f) => f.endsWith('.js')) : [];
  const names = there.map((f) => path.basename(f, '.js')).join(', ') || 'none';
  throw new GradshapeError(
    'TRIAL_UNKNOWN',
    `no trial '${name}'; there are: ${names}. Or give the path of a module that exports one.`,
  );
}

function parseSpec(text: string): SpecInput<object> {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new GradshapeError(
      'SPEC_INVALID',
      `--spec is not JSON: ${(error as Error).message}. Expected such as '{"seed":1}'.`,
    );
  }
}
