import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';

/** The rows of one of this folder's CSV files, by column. */
export function rowsOf(file: string): Record<string, string>[] {
  return parse(readFileSync(fileURLToPath(new URL(file, import.meta.url))), { columns: true });
}
