export { type Cifar10, type Cifar10Options, loadCifar10 } from './cifar10.js';
export { type CsvOptions, loadCsv } from './csv.js';
export { type DressCoat, loadDressCoat } from './dress-coat.js';
export { loadFashionMnist } from './fashion-mnist.js';
export type { FindOptions } from './files.js';
export { type Location30, loadLocation30 } from './location30.js';
export { loadNpy, type NpyOptions } from './npy.js';
export {
  type ArraySource,
  combineHashes,
  fromArrays,
  hashSet,
  type LabelledSet,
  type Splits,
  selectRows,
  shareSet,
} from './set.js';
