// The power of the canary audit: each private step that breaks its promise is found, and honest ones are not flagged. Seeds are fixed.
import { auditCanaries } from 'gradshape/dp';
import { createEngineSync } from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { faults, repeatable } from './audit-sabotage.js';

const engine = createEngineSync();

// Fewer runs with steps that are made by hand, which take long: bench/audit-power.ts has all of them.
for (const { name, share, sampledOnly = false, runs: runsOfEach = 20, audit } of faults) {
  test(`power: ${name}`, () => {
    for (const rate of sampledOnly ? [0.1] : [1, 0.1]) {
      for (const sigma of [0.6, 1, 2]) {
        let found = 0;
        for (let seed = 0; seed < runsOfEach; seed++) {
          const fresh = repeatable(seed);
          const options = audit({ engine, rate, sigma, strategy: 'materialize', fresh });
          if (auditCanaries({ engine, seed, canaries: 2500, ...options }).verdict === 'violated') found++;
        }
        const right = name.startsWith('honest') ? found <= share * runsOfEach : found >= share * runsOfEach;
        assert.ok(right, `q = ${rate}, σ = ${sigma}: ${found} of ${runsOfEach}`);
      }
    }
  });
}

test.run();
