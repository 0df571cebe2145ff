import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { rowMajor } from 'gradshape/ndarray';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { cifarSet } from '../experiments/data/cifar10.js';
import { readIdx } from '../experiments/data/fashion-mnist.js';
import {
  type FindOptions,
  fromArrays,
  hashSet,
  loadCifar10,
  loadCsv,
  loadDressCoat,
  loadFashionMnist,
  loadLocation30,
  loadNpy,
  selectRows,
  shareSet,
} from '../experiments/data/index.js';
import { readNpy } from '../experiments/data/npy.js';
import { readTar } from '../experiments/data/tar.js';
import { makeTar, rejectsWith, throwsWith } from './data-helpers.js';

const test = suite('data');
const folder = mkdtempSync(join(tmpdir(), 'gradshape-data-'));
const offline: FindOptions = { data: folder, download: false };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test.before(() => {
  process.env.XDG_CACHE_HOME = join(folder, 'cache');
  delete process.env.GRADSHAPE_DATA;
});
test.after(() => rmSync(folder, { recursive: true }));

test('dress against coat: counts, classes, split and hash', () => {
  const { train, validation, test: held, hash } = loadDressCoat();
  const perClass = (y: Int32Array) => [0, 1].map((label) => y.filter((value) => value === label).length);
  assert.equal(perClass(train.y), [5400, 5400]);
  assert.equal(perClass(validation.y), [600, 600]);
  assert.equal(perClass(held.y), [1000, 1000]);
  for (const set of [train, validation, held]) {
    assert.is(set.x.length, set.y.length * 784);
    assert.equal(set.shape, [28, 28, 1]);
    assert.is(set.scale, 1 / 255);
    assert.equal(set.classes, ['dress', 'coat']);
    assert.ok(set.x.buffer instanceof SharedArrayBuffer && set.y.buffer instanceof SharedArrayBuffer);
  }
  assert.match(hash, /^[0-9a-f]{64}$/);
});

test('dress against coat: the same images, in the same order, as in Fashion-MNIST', async () => {
  const full = await loadFashionMnist({ download: false }).catch(() => undefined);
  if (!full) return console.log('(Fashion-MNIST is not on this machine: left out)');
  assert.is(full.train.y.length, 60_000);
  const task = loadDressCoat();
  const of = (set: typeof full.train) =>
    selectRows(
      set,
      [...set.y.keys()].filter((i) => set.y[i] === 3 || set.y[i] === 4),
    );
  assert.ok(Buffer.from(of(full.test).x).equals(Buffer.from(task.test.x)));
  assert.equal(
    of(full.test).y.map((label) => label - 3),
    task.test.y,
  );

  const all = of(full.train);
  const seen = [0, 0];
  const rows = { train: [] as number[], validation: [] as number[] };
  all.y.forEach((label, i) => {
    rows[seen[label - 3]!++ < 5400 ? 'train' : 'validation'].push(i);
  });
  for (const part of ['train', 'validation'] as const) {
    const expected = selectRows(all, rows[part]);
    assert.ok(Buffer.from(expected.x).equals(Buffer.from(task[part].x)), part);
    assert.equal(
      expected.y.map((label) => label - 3),
      task[part].y,
    );
  }
});

test('a worker sees the same memory', async () => {
  const set = shareSet(fromArrays({ x: [1, 2, 3, 4], y: [0, 1] }));
  const source = `const { parentPort, workerData } = require('node:worker_threads'); workerData.x[3] = 9; parentPort.postMessage(workerData.y.length);`;
  const worker = new Worker(source, { eval: true, workerData: set });
  const count = await new Promise((resolve) => worker.once('message', resolve));
  await worker.terminate();
  assert.is(count, 2);
  assert.is(set.x[3], 9);
});

test('arrays: kept, shaped and counted', () => {
  const x = Float32Array.of(0, 1, 2, 3, 4, 5);
  const set = fromArrays({ x, y: [2, 0], shape: [3, 1] });
  assert.is(set.x, x);
  assert.equal(set, { x, y: Int32Array.of(2, 0), shape: [3, 1], scale: 1, classes: ['0', '1', '2'] });
  assert.equal(fromArrays({ x, y: [0, 1, 1] }).shape, [2]);
});

test('arrays: what is wrong is named', () => {
  const arrays = (source: Parameters<typeof fromArrays>[0]) => () => fromArrays(source);
  for (const part of ['x', 'y'] as const) {
    for (const value of [undefined, null, 3]) {
      const source = { x: [1], y: [0], name: 'mine', [part]: value };
      throwsWith('DATA_INVALID', arrays(source as never), new RegExp(`mine: ${part} is ${value};`));
    }
  }
  for (const none of [undefined, null])
    throwsWith('DATA_INVALID', arrays(none as never), /data: x is undefined/);
  throwsWith('DATA_EMPTY', arrays({ x: [], y: [] }), /empty/);
  throwsWith('SHAPE_MISMATCH', arrays({ x: [1, 2, 3], y: [0, 1] }), /got 3/);
  throwsWith('SHAPE_MISMATCH', arrays({ x: [1, 2, 3, 4], y: [0, 1], shape: [3] }), /2 x 3 = 6/);
  throwsWith('SHAPE_MISMATCH', arrays({ x: [1, 2], y: [0, 1], shape: [-1, -1] }));
  throwsWith('DATA_NOT_FINITE', arrays({ x: [1, 2, 3, Number.NaN], y: [0, 1] }), /NaN in row 1, column 1/);
  throwsWith('DATA_NOT_FINITE', arrays({ x: [1, -Infinity], y: [0, 1] }), /-Infinity in row 1/);
  throwsWith('DATA_NOT_FINITE', arrays({ x: [1, 1e39], y: [0, 1] }), /1e\+39 in row 1/);
  throwsWith('DATA_NOT_FINITE', arrays({ x: [1], y: [0], scale: Number.NaN }), /scale/);
  throwsWith(
    'LABEL_OUT_OF_RANGE',
    arrays({ x: [1, 2], y: [0, 2], classes: ['a', 'b'] }),
    /row 1.*is 2.*0 to 1/,
  );
  for (const label of [-1, 0.5, Number.NaN, 1e9])
    throwsWith('LABEL_OUT_OF_RANGE', arrays({ x: [1, 2], y: [0, label] }));
});

test('hash: depends on values, labels, shape, scale and type, not on where they lie', () => {
  const base = fromArrays({ x: Float32Array.of(1, 2, 3, 4), y: [0, 1] });
  assert.is(hashSet(shareSet(base)), hashSet(base));
  const others = [
    { ...base, x: Float32Array.of(1, 2, 3, 5) },
    { ...base, x: Uint8Array.of(1, 2, 3, 4) },
    { ...base, y: Int32Array.of(1, 0) },
    { ...base, shape: [2, 1] },
    { ...base, scale: 0.5 },
    { ...base, classes: ['a', 'b', 'c'] },
  ].map(hashSet);
  assert.is(new Set([...others, hashSet(base)]).size, 7);
});

test('rows: any selection, and none that does not exist', () => {
  const rows = fc.array(fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 3, maxLength: 3 }), {
    minLength: 1,
    maxLength: 9,
  });
  fc.assert(
    fc.property(rows, fc.infiniteStream(fc.nat()), (table, stream) => {
      const set = fromArrays({ x: Uint8Array.from(table.flat()), y: table.map((_, i) => i) });
      const picked = [...stream.take(5)].map((i) => i % table.length);
      const part = selectRows(set, picked);
      assert.equal(
        [...part.x],
        picked.flatMap((i) => table[i]!),
      );
      assert.equal([...part.y], picked);
    }),
    { numRuns: 50 },
  );
  throwsWith('SHAPE_MISMATCH', () => selectRows(fromArrays({ x: [1], y: [0] }), [1]), /Row 1/);
});

test('csv: header, quotes, label by name, classes by size', async () => {
  const path = join(folder, 'a.csv');
  writeFileSync(path, '\uFEFFwidth,"the class",height\r\n1,10,-2.5\r\n"3",9,4e2\r\n\r\n5,10,0\r\n');
  const set = await loadCsv(path, { label: 'the class' });
  assert.equal([...set.x], [1, -2.5, 3, 400, 5, 0]);
  assert.equal([...set.y], [1, 0, 1]);
  assert.equal(set.classes, ['9', '10']);
  assert.equal(set.shape, [2]);
});

test('csv: no header, label by index from the end, words as classes, other delimiter', async () => {
  const path = join(folder, 'b.csv');
  writeFileSync(path, '1;2;no\n3;4;yes\n');
  const options = { label: -1, header: false, delimiter: ';' };
  assert.equal((await loadCsv(path, options)).classes, ['no', 'yes']);
  const set = await loadCsv(path, { ...options, classes: ['yes', 'maybe', 'no'], shape: [1, 2], scale: 0.1 });
  assert.equal([...set.y], [2, 0]);
  assert.equal(set.shape, [1, 2]);
  assert.is(set.scale, 0.1);
});

test('csv: what is wrong is named', async () => {
  const path = join(folder, 'bad.csv');
  const load = (text: string, options: Partial<Parameters<typeof loadCsv>[1]> = {}) => {
    writeFileSync(path, text);
    return loadCsv(path, { label: 'y', ...options });
  };
  await rejectsWith('DATA_UNREADABLE', loadCsv(join(folder, 'none.csv'), { label: 0 }), /none\.csv/);
  await rejectsWith('DATA_EMPTY', load('x,y\n'), /below the header/);
  await rejectsWith('DATA_EMPTY', load(''));
  await rejectsWith('DATA_EMPTY', load('y\n1\n'));
  await rejectsWith('DATA_COLUMN', load('x,y\n1,2\n', { label: 'z' }), /'z'.*'x', 'y'/);
  await rejectsWith('DATA_COLUMN', load('1,2\n', { header: false }), /index/);
  await rejectsWith('DATA_COLUMN', load('1,2\n', { label: 2, header: false }), /0 to 1/);
  await rejectsWith('DATA_CORRUPT', load('x,y\n1,2\n1,2,3\n'), /line 3/);
  await rejectsWith('DATA_CORRUPT', load('x,y\n"1,2\n'));
  await rejectsWith('DATA_NOT_NUMERIC', load('x,y\n1,0\n,1\n'), /row 1, column 'x'.*is ''/);
  await rejectsWith('DATA_NOT_NUMERIC', load('x,y\nred,0\n'), /is 'red'/);
  for (const cell of ['NaN', 'inf', '-Infinity', '1e40'])
    await rejectsWith('DATA_NOT_FINITE', load(`x,y\n${cell},0\n`), /row 0/);
  await rejectsWith('LABEL_OUT_OF_RANGE', load('x,y\n1,c\n', { classes: ['a', 'b'] }), /'c'.*a, b/);
  await rejectsWith('LABEL_OUT_OF_RANGE', load('x,y\n1,\n'), /is ''/);
});

/** An NPY file as NumPy writes it. */
function npy(descr: string, shape: string, data: ArrayBufferView, version = 1, order = 'False'): Uint8Array {
  const lengthBytes = version === 1 ? 2 : 4;
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const header = `${text.padEnd(Math.ceil((text.length + 9 + lengthBytes) / 64) * 64 - 9 - lengthBytes)}\n`;
  const length = Buffer.alloc(lengthBytes);
  length.writeUIntLE(header.length, 0, lengthBytes);
  const body = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([
    Buffer.from('\x93NUMPY', 'latin1'),
    Buffer.from([version, 0]),
    length,
    Buffer.from(header),
    body,
  ]);
}

test('npy: types, versions and shapes', () => {
  const cases: [string, ArrayBufferView, number[]][] = [
    ['|u1', Uint8Array.of(1, 255), [1, 255]],
    ['|b1', Uint8Array.of(1, 0), [1, 0]],
    ['|i1', Int8Array.of(-1, 5), [-1, 5]],
    ['<i2', Int16Array.of(-300, 5), [-300, 5]],
    ['<u4', Uint32Array.of(4e9, 5), [4e9, 5]],
    ['<i4', Int32Array.of(-70000, 5), [-70000, 5]],
    ['<i8', BigInt64Array.of(-3n, 5n), [-3, 5]],
    ['<f4', Float32Array.of(0.5, -2), [0.5, -2]],
    ['<f8', Float64Array.of(0.1, 1e300), [0.1, 1e300]],
  ];
  for (const [descr, data, expected] of cases) {
    for (const version of [1, 2, 3]) {
      const array = readNpy(npy(descr, '(2,)', data, version), 'x.npy');
      assert.equal(array.shape, [2]);
      assert.equal([...rowMajor(array)], expected, descr);
    }
  }
  assert.equal(readNpy(npy('|u1', '(1, 2, 3)', new Uint8Array(6)), 'x.npy').shape, [1, 2, 3]);
  assert.equal(readNpy(npy('|u1', '()', new Uint8Array(1)), 'x.npy').shape, []);
});

test('npy: Fortran order, as in a file of NumPy’s own', async () => {
  // np.save('fortran-order.npy', np.asfortranarray(np.arange(24, dtype='<i2').reshape(2, 3, 4)))
  const path = fileURLToPath(new URL('fixtures/fortran-order.npy', import.meta.url));
  const bytes = readFileSync(path);
  assert.match(bytes.toString('latin1'), "'fortran_order': True");
  const array = readNpy(bytes, path);
  assert.equal(array.shape, [2, 3, 4]);
  assert.is(array.get(1, 2, 0), 20);
  const y = join(folder, 'two.npy');
  writeFileSync(y, npy('|u1', '(2, 1)', Uint8Array.of(0, 1), 1, 'True'));
  const set = await loadNpy(path, y);
  assert.equal(set.shape, [3, 4]);
  assert.equal([...set.x], [...Array(24).keys()]);
  assert.equal([...set.y], [0, 1]);
});

test('npy: any shape in Fortran order: the first index runs fastest (NEP 1)', () => {
  const shapes = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 });
  fc.assert(
    fc.property(shapes, (shape) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const stored = Float64Array.from({ length: size }, (_, i) => i);
      const text = `(${shape.map((n) => `${n},`).join(' ')})`;
      const array = readNpy(npy('<f8', text, stored, 1, 'True'), 'x.npy');
      assert.equal(array.shape, shape);
      // Where an element lies in the file, for its index in C order.
      const place = Array.from({ length: size }, (_, i) => {
        let rest = i;
        const index = shape.map(() => 0);
        for (let axis = shape.length - 1; axis >= 0; axis--) {
          index[axis] = rest % shape[axis]!;
          rest = Math.floor(rest / shape[axis]!);
        }
        return index.reduceRight((at, n, axis) => n + shape[axis]! * at, 0);
      });
      assert.equal([...rowMajor(array)], place);
    }),
    { seed: 1, numRuns: 200 },
  );
});

test('npy: what is wrong is named', () => {
  const two = Float32Array.of(1, 2);
  const read = (bytes: Uint8Array) => () => readNpy(bytes, 'x.npy');
  throwsWith('DATA_UNSUPPORTED', read(npy('>f4', '(2,)', two)), />f4/);
  throwsWith('DATA_UNSUPPORTED', read(npy('<c8', '(1,)', two)), /<c8/);
  throwsWith('DATA_UNSUPPORTED', read(npy('|O', '(1,)', two)), /\|O/);
  throwsWith('DATA_CORRUPT', read(npy('<f4', '(3,)', two)), /needs 12 bytes.*got 8/);
  throwsWith('DATA_CORRUPT', read(npy('<f4', '(2,)', two).subarray(0, 40)));
  throwsWith('DATA_CORRUPT', read(npy('<f4', '(2,)', two).subarray(0, 8)));
  throwsWith('DATA_CORRUPT', read(Buffer.from('PK\x03\x04 surely no array')), /not an NPY/);
});

test('npy: a set of two files', async () => {
  const [x, y] = [join(folder, 'x.npy'), join(folder, 'y.npy')];
  writeFileSync(x, npy('|u1', '(2, 2, 2)', Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)));
  writeFileSync(y, npy('<i8', '(2,)', BigInt64Array.of(1n, 0n)));
  const set = await loadNpy(x, y, { shape: [2, 2, 1], scale: 1 / 255 });
  assert.ok(set.x instanceof Uint8Array);
  assert.equal(
    [set.shape, [...set.y], set.classes],
    [
      [2, 2, 1],
      [1, 0],
      ['0', '1'],
    ],
  );
  assert.equal((await loadNpy(x, y)).shape, [2, 2]);
  writeFileSync(y, npy('<i4', '(3,)', Int32Array.of(1, 0, 1)));
  await rejectsWith('SHAPE_MISMATCH', loadNpy(x, y), /\[2,2,2\].*\[3\]/);
});

test('idx: read, and what is wrong is named', () => {
  const bytes = Uint8Array.of(0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6);
  assert.equal(readIdx(bytes, 'x'), { shape: [2, 3], values: bytes.subarray(12) });
  throwsWith('DATA_CORRUPT', () => readIdx(bytes.subarray(0, 17), 'x'), /announces \[2,3\], 6 bytes, but 5/);
  throwsWith('DATA_CORRUPT', () => readIdx(bytes.subarray(0, 7), 'x'));
  throwsWith('DATA_CORRUPT', () => readIdx(Buffer.from('<html>'), 'x'), /not an IDX/);
});

test('tar: members without folders; damage is noticed', () => {
  const big = new Uint8Array(1300).fill(7);
  const archive = makeTar({
    'set/a.bin': Uint8Array.of(1, 2, 3),
    'set/b.bin': big,
    empty: new Uint8Array(0),
  });
  const files = readTar(archive, 'x.tar');
  assert.equal([...files.keys()], ['a.bin', 'b.bin', 'empty']);
  assert.equal([...files.get('a.bin')!], [1, 2, 3]);
  assert.is(sha256(files.get('b.bin')!), sha256(big));
  throwsWith('DATA_CORRUPT', () => readTar(archive.subarray(0, 2000), 'x.tar'), /truncated/);
  const damaged = Uint8Array.from(archive);
  damaged[1030] = 1;
  throwsWith('DATA_CORRUPT', () => readTar(damaged, 'x.tar'), /x\.tar.*byte 1024/);
});

test('cifar-10 records: planes become pixels', () => {
  const record = new Uint8Array(3073);
  record[0] = 9;
  for (let i = 0; i < 1024; i++) {
    record[1 + i] = i % 251;
    record[1025 + i] = (i + 1) % 251;
    record[2049 + i] = (i + 2) % 251;
  }
  const set = cifarSet([record, record], 'x');
  assert.equal(set.shape, [32, 32, 3]);
  assert.equal([...set.y], [9, 9]);
  for (const i of [0, 1, 500, 1023]) {
    for (const start of [0, 3072]) {
      assert.equal(
        [...set.x.subarray(start + 3 * i, start + 3 * i + 3)],
        [i % 251, (i + 1) % 251, (i + 2) % 251],
      );
    }
  }
  throwsWith('DATA_CORRUPT', () => cifarSet([record.subarray(1)], 'x'), /3072 bytes/);
  throwsWith('DATA_EMPTY', () => cifarSet([], 'x'));
  record[0] = 10;
  throwsWith('LABEL_OUT_OF_RANGE', () => cifarSet([record], 'x'), /record 0.*is 10/);
});

test('what is not found says where it was looked for and how to get it', async () => {
  for (const [load, file] of [
    [loadCifar10, 'cifar-10-binary.tar.gz'],
    [loadLocation30, 'dataset_location.tgz'],
  ] as const) {
    const error = await rejectsWith('DATA_NOT_FOUND', load(offline), /download: not allowed/);
    for (const part of [file, folder, join(folder, 'cache', 'gradshape'), '--data', 'https://'])
      assert.ok(error.message.includes(part), `${part} in: ${error.message}`);
  }
  const missing = { ...offline, data: join(folder, 'missing') };
  await rejectsWith('DATA_NOT_FOUND', loadFashionMnist(missing), /missing .* does not exist/);
});

test('damaged files are refused by name', async () => {
  const place = join(folder, 'fashion-mnist');
  const images = join(place, 'train-images-idx3-ubyte.gz');
  mkdirSync(place);
  const load = (bytes: Uint8Array) => {
    writeFileSync(images, bytes);
    return loadFashionMnist(offline);
  };
  const packed = gzipSync(new Uint8Array(47_040_016), { level: 1 });
  await rejectsWith(
    'DATA_CHECKSUM',
    load(packed),
    /fashion-mnist.train-images-idx3-ubyte\.gz.*expected c59f468a.*got [0-9a-f]{64}/,
  );
  await rejectsWith('DATA_CORRUPT', load(packed.subarray(0, 1000)), /gzip stream.*unexpected end/);
  await rejectsWith(
    'DATA_CORRUPT',
    load(new Uint8Array(100)),
    /truncated: expected 47040016 bytes unzipped, got 100/,
  );
  await rejectsWith(
    'DATA_CORRUPT',
    load(gzipSync(new Uint8Array(48_000_000), { level: 1 })),
    /at most 47040016/,
  );
  rmSync(place, { recursive: true });

  writeFileSync(join(folder, 'data_batch_1.bin'), new Uint8Array(3073));
  await rejectsWith('DATA_CORRUPT', loadCifar10(offline), /data_batch_1\.bin.*expected 30730000/);
  rmSync(join(folder, 'data_batch_1.bin'));
  writeFileSync(join(folder, 'test_batch.bin'), new Uint8Array(30_730_000));
  await rejectsWith(
    'DATA_CHECKSUM',
    loadCifar10(offline),
    /test_batch\.bin.*expected 803d5f7f.*--inexact-test/,
  );
  rmSync(join(folder, 'test_batch.bin'));

  mkdirSync(join(folder, 'location30'));
  const archive = join(folder, 'location30', 'dataset_location.tgz');
  writeFileSync(archive, gzipSync(makeTar({ other: Uint8Array.of(1) })));
  await rejectsWith('DATA_CORRUPT', loadLocation30(offline), /holds no file bangkok/);
  writeFileSync(archive, gzipSync(makeTar({ bangkok: new Uint8Array(4_492_469) })));
  await rejectsWith('DATA_CHECKSUM', loadLocation30(offline), /2ca8f7fc/);
  rmSync(archive);
  mkdirSync(archive);
  await rejectsWith('DATA_UNREADABLE', loadLocation30(offline), /dataset_location\.tgz/);
});

const elsewhere = process.env.GRADSHAPE_DATA;
test('cifar-10 and location-30, where they are on this machine (GRADSHAPE_DATA)', async () => {
  if (!elsewhere || !existsSync(elsewhere)) return console.log('(GRADSHAPE_DATA is not set: left out)');
  const find: FindOptions = { data: elsewhere, download: false };
  const missing = (error: { code: string }) => {
    if (error.code !== 'DATA_NOT_FOUND') throw error;
  };
  const cifar = await loadCifar10(find).catch(missing);
  if (cifar) {
    const means = [0, 0, 0];
    for (let i = 0; i < cifar.train.x.length; i++) means[i % 3]! += cifar.train.x[i]! / 255 / (50_000 * 1024);
    // The channel means that everybody normalises with.
    [0.49139968, 0.48215841, 0.44653091].forEach((mean, i) => {
      assert.ok(Math.abs(mean - means[i]!) < 1e-7, `${means[i]}`);
    });
    assert.is(cifar.exactTest, 10_000);
  }
  const location = await loadLocation30(find).catch(missing);
  if (location) {
    assert.is(location.y.length, 5010);
    const ones = location.x.filter((value) => value === 1).length;
    assert.ok(Math.abs(ones / location.x.length - 0.1204) < 5e-5);
    assert.is(location.y.filter((label) => label === 7).length, 308);
  }
});

test('the embedded file keeps its licence beside it', () => {
  const notice = readFileSync(
    new URL('../experiments/data/LICENSE-fashion-mnist.txt', import.meta.url),
    'utf8',
  );
  assert.match(notice, /MIT License/);
  assert.match(notice, /2017 Zalando SE/);
});

test.run();
