import { allRuns } from './ten-steps.js';

console.log(JSON.stringify(await allRuns()));
