import fs from 'node:fs';
import path from 'node:path';
import { GradshapeError } from 'gradshape';

/** Turns a file system error into a named one: DISK_FULL, OUTPUT_UNWRITABLE or OUTPUT_FAILED. */
export function fileError(error: unknown, file: string): GradshapeError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const cause = { cause: error };
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') {
    return new GradshapeError(
      'DISK_FULL',
      `no room left to write ${file} (${code}). What was written is safe; free some space, or name another folder with --out, and run the same command again.`,
      cause,
    );
  }
  if (['EACCES', 'EPERM', 'EROFS', 'ENOENT', 'ENOTDIR', 'EEXIST', 'EISDIR'].includes(code)) {
    return new GradshapeError(
      'OUTPUT_UNWRITABLE',
      `can't write ${file} (${code}). Name a folder that you may write to with --out.`,
      cause,
    );
  }
  return new GradshapeError('OUTPUT_FAILED', `can't write ${file}: ${(error as Error).message}.`, cause);
}

/** Makes a folder and its parents. Errors: those of `fileError`. */
export function makeFolder(folder: string): void {
  try {
    makeMissing(path.resolve(folder));
    fs.accessSync(folder, fs.constants.W_OK | fs.constants.X_OK);
  } catch (error) {
    throw fileError(error, folder);
  }
}

/** Node's own recursive mkdir tries for ever where a file system refuses with ENOENT, as /proc does. */
function makeMissing(folder: string): void {
  if (fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
  if (folder !== path.dirname(folder)) makeMissing(path.dirname(folder));
  try {
    fs.mkdirSync(folder);
  } catch (error) {
    if (!fs.statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error; // else another run was first
  }
}

/** Writes a whole file or leaves the old one as it was. Errors: those of `fileError`. */
export function replaceFile(file: string, content: string | Uint8Array): void {
  const part = path.join(path.dirname(file), `.${path.basename(file)}.${process.pid}.part`);
  try {
    fs.writeFileSync(part, content);
    fs.renameSync(part, file);
  } catch (error) {
    fs.rmSync(part, { force: true });
    throw fileError(error, file);
  }
}
