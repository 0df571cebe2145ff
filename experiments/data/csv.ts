import { CsvError, parse } from 'csv-parse/sync';
import { GradshapeError } from 'gradshape';
import { readWhole } from './files.js';
import { fromArrays, type LabelledSet, shareSet } from './set.js';

export interface CsvOptions {
  /** The label's column: its name (with a header), or its index from 0; a negative index counts from the end. */
  label: string | number;
  /** Whether the first line names the columns; default true. */
  header?: boolean;
  /** Default `,`. */
  delimiter?: string;
  /**
   * Class names as written in the label column, in order. Default: the labels that occur, numbers by size, other text by
   * character code. Give a test set the classes of its training set.
   */
  classes?: string[];
  /** Shape of one example; default: flat. */
  shape?: number[];
  /** Factor from stored values to what a model sees; default 1. */
  scale?: number;
}

/**
 * Reads a set from a CSV file: one example a line, one column for the label, all others numbers.
 *
 * @throws GradshapeError DATA_UNREADABLE, DATA_CORRUPT (broken quotes, lines of different length), DATA_COLUMN (no such label
 *   column), DATA_NOT_NUMERIC, and what `fromArrays` throws
 */
export async function loadCsv(path: string, options: CsvOptions): Promise<LabelledSet> {
  const { header = true, delimiter = ',', scale = 1 } = options;
  const records = parseRecords(await readWhole(path), path, delimiter);
  const names = header ? records.shift() : undefined;
  if (records.length === 0) {
    throw new GradshapeError(
      'DATA_EMPTY',
      `${path}: no rows${header ? ' below the header' : ''}; at least one is needed.`,
    );
  }
  const width = records[0]!.length;
  const column = labelColumn(options.label, names, width, path);

  const x = new Float32Array(records.length * (width - 1));
  let at = 0;
  records.forEach((record, row) => {
    record.forEach((cell, i) => {
      if (i === column) return;
      const where = () =>
        `${path}: row ${row}, column ${names ? `'${names[i]}'` : i} (rows from 0, without the header)`;
      const value = cell.trim() === '' ? Number.NaN : Number(cell);
      if (Number.isNaN(value)) {
        const code = /^[+-]?(nan|inf)$/i.test(cell.trim()) ? 'DATA_NOT_FINITE' : 'DATA_NOT_NUMERIC';
        throw new GradshapeError(
          code,
          `${where()} is '${cell}', expected a number. Remove or fill in such rows first.`,
        );
      }
      if (!Number.isFinite(Math.fround(value))) {
        throw new GradshapeError('DATA_NOT_FINITE', `${where()} is '${cell}', expected a finite float32.`);
      }
      x[at++] = value;
    });
  });

  const labels = records.map((record) => record[column]!.trim());
  const classes = options.classes ?? classNames(labels);
  const numberOf = new Map(classes.map((name, i) => [name, i]));
  const y = labels.map((label, row) => {
    const number = numberOf.get(label);
    if (number !== undefined && label !== '') return number;
    throw new GradshapeError(
      'LABEL_OUT_OF_RANGE',
      `${path}: the label of row ${row} (from 0) is '${label}', which is none of the ${classes.length} classes ` +
        `${classes.slice(0, 10).join(', ')}${classes.length > 10 ? ', …' : ''}.`,
    );
  });
  return shareSet(
    fromArrays({ x, y, scale, classes, name: path, ...(options.shape ? { shape: options.shape } : {}) }),
  );
}

function parseRecords(bytes: Uint8Array, path: string, delimiter: string): string[][] {
  try {
    return parse(bytes as Buffer, { bom: true, delimiter, skip_empty_lines: true });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new GradshapeError('DATA_CORRUPT', `${path}: not a well-formed CSV file: ${error.message}.`, {
      cause: error,
    });
  }
}

function labelColumn(
  label: string | number,
  names: string[] | undefined,
  width: number,
  path: string,
): number {
  if (typeof label === 'string') {
    const column = names ? names.indexOf(label) : -1;
    if (column >= 0) return column;
    throw new GradshapeError(
      'DATA_COLUMN',
      names
        ? `${path}: no column is called '${label}'; there are ${names.map((name) => `'${name}'`).join(', ')}.`
        : `${path}: the label column '${label}' is a name, but the file was said to have no header; give its index.`,
    );
  }
  const column = label < 0 ? width + label : label;
  if (Number.isInteger(column) && column >= 0 && column < width) return column;
  throw new GradshapeError(
    'DATA_COLUMN',
    `${path}: label column ${label} does not exist; there are ${width} columns, 0 to ${width - 1} (or -${width} to -1).`,
  );
}

/** The labels that occur: by size when all are numbers, else by character code. */
function classNames(labels: string[]): string[] {
  const names = [...new Set(labels)].filter((label) => label !== '').sort();
  return names.some((name) => Number.isNaN(Number(name)))
    ? names
    : names.sort((a, b) => Number(a) - Number(b));
}
