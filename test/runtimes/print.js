import { allBuilds } from './ten-steps.js';

console.log(JSON.stringify(await allBuilds()));
