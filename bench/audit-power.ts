// What share of audits finds each fault: node bench/audit-power.js [--runs 100] [--strategy ghost] [--kernels base]. Noise, and the draws of
// secret samplers, are the system's own: no two runs are alike. Exits with 1 where a share misses its bar.
import { parseArgs } from 'node:util';
import { auditCanaries, createEngineSync, type Strategy } from 'gradshape';
import { faults } from '../test/audit-sabotage.js';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100' },
    strategy: { type: 'string', default: 'ghost' },
    kernels: { type: 'string', default: 'base' },
  },
});
const runs = Number(values.runs);
const strategy = values.strategy as Strategy;
const engine = createEngineSync({ kernels: values.kernels as 'base' | 'relaxed' });
const settings = [1, 0.1].flatMap((rate) => [0.6, 1, 2].map((sigma) => ({ rate, sigma })));

const cells = (texts: readonly string[]): string => `| ${texts.join(' | ')} |`;
console.log(
  `Audits that say 'violated', of ${runs} each (${strategy}, ${values.kernels}); in brackets: undecided`,
);
console.log(cells(['', ...settings.map(({ rate, sigma }) => `q = ${rate}, σ = ${sigma}`), 'bar']));
console.log(cells(['---', ...settings.map(() => '---:'), '---']));
let missed = false;
for (const { name, share, sampledOnly = false, audit } of faults) {
  const row = settings.map(({ rate, sigma }) => {
    if (sampledOnly && rate === 1) return '';
    let [found, undecided] = [0, 0];
    for (let seed = 0; seed < runs; seed++) {
      const options = audit({ engine, rate, sigma, strategy });
      const { verdict } = auditCanaries({ engine, seed, ...options });
      if (verdict === 'violated') found++;
      if (verdict === 'undecided') undecided++;
    }
    missed ||= name.startsWith('honest') ? found > share * runs : found < share * runs;
    return `${found}${undecided > 0 ? ` (${undecided})` : ''}`;
  });
  console.log(cells([name, ...row, `${name.startsWith('honest') ? '≤' : '≥'} ${share * 100} %`]));
}
if (missed) process.exitCode = 1;
