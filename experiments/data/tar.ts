import { GradshapeError } from 'gradshape';

const BLOCK = 512;

/**
 * The regular files in a tar archive (POSIX ustar; blocks of 512 bytes), by name without folders, as views.
 *
 * @throws GradshapeError DATA_CORRUPT
 */
export function readTar(archive: Uint8Array, path: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  let at = 0;
  // A block of zeros ends the archive.
  while (at + BLOCK <= archive.length && archive[at] !== 0) {
    const header = archive.subarray(at, at + BLOCK);
    const size = octal(header, 124, 12);
    // The checksum is taken with its own eight bytes as spaces.
    const sum = header.reduce((total, byte, i) => total + (i >= 148 && i < 156 ? 0x20 : byte), 0);
    const start = at + BLOCK;
    if (octal(header, 148, 8) !== sum || !(start + size <= archive.length)) {
      throw new GradshapeError(
        'DATA_CORRUPT',
        `${path}: damaged or truncated tar archive (at byte ${at} of ${archive.length}). Delete the file and get it again.`,
      );
    }
    const type = header[156];
    if (type === 0 || type === 0x30 /* '0' */) {
      const name = text(header, 0, 100).split('/').at(-1)!;
      files.set(name, archive.subarray(start, start + size));
    }
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

function text(header: Uint8Array, start: number, length: number): string {
  const field = header.subarray(start, start + length);
  const end = field.indexOf(0);
  return String.fromCharCode(...(end < 0 ? field : field.subarray(0, end)));
}

/** NaN when it is not a number, which fails every check above. */
function octal(header: Uint8Array, start: number, length: number): number {
  return Number.parseInt(text(header, start, length).trim(), 8);
}
