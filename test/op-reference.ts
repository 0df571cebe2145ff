// The op reference, engine/OPS.md, made from the op table. `npm run docs` writes it; a test holds it against the table.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Op, opTable } from 'gradshape';

export const opReferenceFile = fileURLToPath(new URL('../engine/OPS.md', import.meta.url));

/** The page as it should be. */
export function opReference(): string {
  const rows = Object.values(opTable as Record<string, Op<never>>).map((op) =>
    ['', `\`${op.name}\``, op.summary.replaceAll('|', '\\|'), perExample(op), secondOrder(op), '']
      .join(' | ')
      .trim(),
  );
  return `# Operations

Made by \`npm run docs\` from the op table (engine/ops/table.ts). Every op has a gradient to each f32 input.
*Per-example rule*: for a parameter at that argument (counted from 0) of a batched op, how its gradient splits into the examples' own:
*ghost* has norms without forming the gradients, *instantiated* forms them. Parameters that meet the batch through any other op make
\`perExample\` fall back to the loop strategy.

| op | what it computes | per-example rule | second order |
| --- | --- | --- | --- |
${rows.join('\n')}
`;
}

function perExample({ perExample: rules }: Op<never>): string {
  if (rules === undefined) return '–';
  return Object.entries(rules)
    .map(([argument, rule]) => `${argument}: ${rule.ghost ? 'ghost or instantiated' : 'instantiated'}`)
    .join(', ');
}

function secondOrder({ secondOrder: again }: Op<never>): string {
  return again === true ? 'yes' : `no: ${again}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(opReferenceFile, opReference());
