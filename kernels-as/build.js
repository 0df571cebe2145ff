// Compiles the kernels twice from one source: base SIMD and relaxed SIMD (fused multiply-add). Writes the two wasm
// files to dist/kernels, and engine/kernels.generated.ts: the exports' TypeScript types and both files in base64.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import asc from 'assemblyscript/asc';

const root = fileURLToPath(new URL('..', import.meta.url));
const builds = { base: ['simd'], relaxed: ['simd', 'relaxed-simd'] };

/** Compiles `entry` with the given features to `outFile`; throws with the compiler's own words when it fails. */
export async function compile(entry, features, outFile) {
  const options = [
    entry,
    ...features.flatMap((feature) => ['--enable', feature]),
    ...['--runtime', 'stub', '--optimizeLevel', '3', '--shrinkLevel', '0', '--converge', '--noAssert'],
    ...['--uncheckedBehavior', 'always', '--importMemory', '--baseDir', root, '--outFile', outFile],
  ];
  const { error, stderr } = await asc.main(options);
  if (error) throw new Error(`kernels-as does not compile:\n${stderr.toString()}`);
}

/** The exported functions as TypeScript members, read from the AssemblyScript sources of the families. */
async function exportTypes() {
  const index = await readFile(`${root}kernels-as/index.ts`, 'utf8');
  const members = [];
  for (const [, file] of index.matchAll(/export \* from '\.\/([\w-]+)'/g)) {
    const source = await readFile(`${root}kernels-as/${file}.ts`, 'utf8');
    for (const [, name, parameters, result] of source.matchAll(
      /^export function (\w+)\(([^)]*)\): ([\w]+)/gm,
    )) {
      const typed = parameters
        .split(',')
        .map((parameter) => parameter.trim())
        .filter((parameter) => parameter !== '')
        .map((parameter) => `${parameter.split(':')[0].trim()}: number`)
        .join(', ');
      members.push(`  ${name}(${typed}): ${result === 'void' ? 'void' : 'number'};`);
    }
  }
  return `export interface KernelExports {\n${members.join('\n')}\n}\n`;
}

async function build() {
  await mkdir(`${root}dist/kernels`, { recursive: true });
  const inline = [];
  for (const [name, features] of Object.entries(builds)) {
    await compile('kernels-as/index.ts', features, `dist/kernels/${name}.wasm`);
    const bytes = await readFile(`${root}dist/kernels/${name}.wasm`);
    inline.push(`export const ${name}Base64: string =\n  '${bytes.toString('base64')}';\n`);
    console.log(`kernels: ${name}.wasm ${bytes.length} bytes`);
  }
  const head = '// Made by kernels-as/build.js from kernels-as/*.ts. Do not edit.\n\n';
  await writeFile(`${root}engine/kernels.generated.ts`, head + (await exportTypes()));
  await writeFile(`${root}engine/kernels.bytes.generated.ts`, head + inline.join('\n'));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await build();
