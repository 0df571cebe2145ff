// Trains any model on any data set, vanilla or DP, with progress, checkpoints and a learning curve: node experiments/train.js --help
import { runMain } from './harness/experiment.js';
import { parseCommand } from './training/options.js';
import { runTraining } from './training/run.js';

await runMain(async () => runTraining(parseCommand(process.argv.slice(2))));
