import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The private package of the other runtimes. */
export const runtimesFolder: string = fileURLToPath(new URL('runtimes', import.meta.url));

/**
 * Installs workerd, Deno, Bun, a current Node and esbuild, unless this lock's are there already.
 * @returns where their commands are
 */
export function installRuntimes(): string {
  const modules = `${runtimesFolder}/node_modules`;
  const marker = `${modules}/.installed-lock.json`;
  const lock = readFileSync(`${runtimesFolder}/package-lock.json`, 'utf8');
  if (!existsSync(marker) || readFileSync(marker, 'utf8') !== lock) {
    const install = ['ci', '--prefix', runtimesFolder, '--no-audit', '--no-fund'];
    const { status, stderr } = spawnSync('npm', install, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`npm ${install.join(' ')} failed:\n${stderr}`);
    writeFileSync(marker, lock);
  }
  return `${modules}/.bin`;
}
