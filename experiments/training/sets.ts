import { GradshapeError, nearestName, permutation, publicGenerator } from 'gradshape';
import {
  combineHashes,
  hashSet,
  type LabelledSet,
  loadCifar10,
  loadCsv,
  loadDressCoat,
  loadFashionMnist,
  loadLocation30,
  loadNpy,
  selectRows,
} from '../data/index.js';
import type { RunSettings } from './options.js';

/** What a run trains and tests on. */
export interface TrainingSets {
  readonly train: LabelledSet;
  readonly test: LabelledSet;
  /** Clean examples apart from both, where the set has them. */
  readonly validation?: LabelledSet;
  /** Test examples that are not the published ones: reported apart. */
  readonly inexactTest?: LabelledSet;
  readonly hash: string;
  /** What a reader of the results must know. */
  readonly notes: readonly string[];
}

type Loader = (settings: RunSettings, data: string | undefined) => Promise<TrainingSets>;

const find = (data: string | undefined) => (data === undefined ? {} : { data });

const loaders: Record<string, Loader> = {
  'dress-coat': async () => ({ ...loadDressCoat(), notes: [] }),
  'fashion-mnist': async (_, data) => ({ ...(await loadFashionMnist(find(data))), notes: [] }),
  cifar10: async ({ inexactTest }, data) => {
    const set = await loadCifar10({ ...find(data), ...(inexactTest === undefined ? {} : { inexactTest }) });
    if (set.exact) return { ...set, notes: [] };
    const { test, exactTest } = set;
    const rows = (from: number, to: number) =>
      selectRows(
        test,
        Array.from({ length: to - from }, (_, i) => from + i),
      );
    const rest = `${test.y.length - exactTest} of ${test.y.length} test images are not the published ones`;
    if (exactTest === 0) return { ...set, notes: [`${rest}.`] };
    const inexact = rows(exactTest, test.y.length);
    return {
      ...set,
      test: rows(0, exactTest),
      inexactTest: inexact,
      notes: [`${rest}: they are reported apart.`],
    };
  },
  location30: async (settings, data) => {
    const { hash, ...set } = await loadLocation30(find(data));
    return { ...heldOut(set, settings), hash };
  },
};

export const setNames: readonly string[] = Object.keys(loaders);

/** A set by name, or the user's own from files. Errors: SET_UNKNOWN and those of the loaders. */
export async function loadSets(settings: RunSettings, data: string | undefined): Promise<TrainingSets> {
  const { set, testSet, limit } = settings;
  let sets: TrainingSets;
  if (Object.hasOwn(loaders, set)) {
    sets = await loaders[set]!(settings, data);
  } else {
    const own = await loadFiles(set, settings);
    const test = testSet === undefined ? undefined : await loadFiles(testSet, settings, own.classes);
    sets =
      test === undefined
        ? { ...heldOut(own, settings), hash: hashSet(own) }
        : { train: own, test, hash: combineHashes(hashSet(own), hashSet(test)), notes: [] };
  }
  if (limit === undefined || limit >= sets.train.y.length) return sets;
  const note = `Trained on the first ${limit} of ${sets.train.y.length} examples.`;
  const first = Array.from({ length: limit }, (_, i) => i);
  return { ...sets, train: selectRows(sets.train, first), notes: [...sets.notes, note] };
}

/** A share of the examples, drawn by the seed, for testing. */
function heldOut(set: LabelledSet, { holdout, seed }: RunSettings): Omit<TrainingSets, 'hash'> {
  const count = set.y.length;
  const kept = Math.max(1, Math.round(count * holdout));
  if (kept >= count) {
    throw new GradshapeError(
      'DATA_EMPTY',
      `${count} examples can't be split into training and test sets; give a test set of its own with --test-set.`,
    );
  }
  const order = permutation(count, publicGenerator(seed, 'data'));
  return {
    train: selectRows(set, order.subarray(kept)),
    test: selectRows(set, order.subarray(0, kept)),
    notes: [`Tested on ${kept} of the ${count} examples, held out by the seed.`],
  };
}

async function loadFiles(files: string, settings: RunSettings, classes?: string[]): Promise<LabelledSet> {
  const { label, header, shape, scale } = settings;
  const common = {
    ...(shape && { shape }),
    ...(scale !== undefined && { scale }),
    ...(classes && { classes }),
  };
  const [x, y, ...more] = files.split(',');
  if (x!.endsWith('.npy') && y?.endsWith('.npy') && more.length === 0) return loadNpy(x!, y, common);
  if (/\.(csv|tsv)(\.gz)?$/.test(files)) {
    const delimiter = files.includes('.tsv') ? '\t' : ',';
    return loadCsv(files, {
      ...common,
      header,
      delimiter,
      label: /^-?\d+$/.test(label) ? Number(label) : label,
    });
  }
  const near = nearestName(files, setNames);
  throw new GradshapeError(
    'SET_UNKNOWN',
    `there is no data set '${files}'${near === undefined ? '.' : `; did you mean '${near}'?`} There are ${setNames.join(', ')}; ` +
      'your own come as file.csv, or as x.npy,y.npy.',
  );
}
