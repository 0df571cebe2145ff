import {
  asExamples,
  type Batch,
  clipFactors,
  createEngineSync,
  crossEntropy,
  defineOp,
  dense,
  flatten,
  gradients,
  mul,
  type Parameters,
  perExample,
  reshape,
  sequential,
  sliceBatch,
  square,
  sum,
  type Tensor,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

// The norms of a data set's rows are computed once. They must be those of the rows as they are: changed rows, or rows that were
// never the set's, would make clip factors too large.

const engine = createEngineSync();
const count = 600;
const data = engine.dataset({
  x: Uint8Array.from({ length: count * 12 }, (_, i) => (i * 37) % 251),
  y: Int32Array.from({ length: count }, (_, i) => i % 3),
  shape: [3, 4],
  scale: 1 / 255,
});
const model = sequential(flatten(), dense(12, 3));
const params = model.init(engine, { seed: 1 });
const loss = (p: Parameters, batch: Batch) => crossEntropy(model.apply(p, batch.x), batch.y);
const indices = [599, 3, 257, 3];

function norms(strategy: 'ghost' | 'loop', change?: (batch: Batch) => void): number[] {
  return engine.scope(() => {
    const batch = data.batch(indices);
    change?.(batch);
    return [...perExample(loss, params, batch, { strategy }).norms().values()];
  });
}

function close(a: readonly number[], b: readonly number[]): void {
  a.forEach((value, i) => {
    assert.ok(Math.abs(value - b[i]!) <= 1e-6 * b[i]!, `${value} against ${b[i]}`);
  });
}

test('norms known from the data set are those of the rows', () => {
  close(norms('ghost'), norms('loop'));
});

test('a view through which the rows change makes them unknown', () => {
  const brighter = ({ x }: Batch): void => {
    x.view().fill(3, 0, 12);
  };
  close(norms('ghost', brighter), norms('loop', brighter));
  assert.ok(norms('loop', brighter)[0]! > 2 * norms('loop')[0]!);
});

/** Whether the norms known from the data set are used for a batch that was treated in some way; they must be right either way. */
function known(treat: (batch: Batch) => void): boolean {
  const before = engine.kernels;
  let used = false;
  const ghostNormsKnown = (...of: [number, number, number, number, number, number]): void => {
    used = true;
    before.ghostNormsKnown(...of);
  };
  Object.defineProperty(engine, 'kernels', { value: { ...before, ghostNormsKnown }, configurable: true });
  try {
    close(norms('ghost', treat), norms('loop', treat));
  } finally {
    Object.defineProperty(engine, 'kernels', { value: before, configurable: true });
  }
  return used;
}

test('what only reads the batch leaves them known', () => {
  const readers: Record<string, (batch: Batch) => void> = {
    nothing: () => {},
    values: ({ x, y }) => void [x.values(), y.values(), x.examples!.indices!.values()],
    'operations, also nested and differentiated': ({ x }) =>
      void gradients((t) => sum(square(reshape(mul(t, 2), [-1]))), [x]),
    'an alias and a slice': (batch) => void [reshape(batch.x, [-1, 2]), sliceBatch(batch, 1, 2)],
    'another perExample': (batch) => {
      const g = perExample(loss, params, batch);
      g.weightedSums([g.norms().values()]);
      g.dots(g.weightedSums([null])[0]!);
      g.array();
    },
    'moving to the parent scope': ({ x }) => void engine.scope(() => engine.scope(() => ({ x }))),
  };
  for (const [name, read] of Object.entries(readers)) assert.ok(known(read), name);
});

const writeTo = (tensor: Tensor): void => void tensor.view().fill(3, 0, tensor.size);

test('what can change the batch makes them unknown', () => {
  const half = ({ x }: Batch): Tensor => reshape(x, [2, -1]);
  const writers: Record<string, (batch: Batch) => void> = {
    'a view': ({ x }) => writeTo(x),
    'a view taken before the change': ({ x }) => {
      const view = x.view();
      mul(x, 2);
      view.fill(3);
    },
    'a reshape that keeps examples': ({ x }) => writeTo(reshape(x, [x.shape[0]!, 12])),
    'a reshape that does not': ({ x }) => writeTo(reshape(x, [x.size])),
    'a reshape of a reshape': (batch) => writeTo(reshape(half(batch), [-1])),
    'a sum over no axes, which is an alias': ({ x }) => writeTo(sum(x, { axes: [] })),
    'a slice': (batch) => writeTo(sliceBatch(batch, 1, 3).x),
    'a slice of a slice, reshaped': (batch) =>
      writeTo(reshape(sliceBatch(sliceBatch(batch, 0, 3), 1, 2).x, [-1])),
    'a kernel at its address': ({ x }) => engine.kernels.scaleBy(x.address, x.address, 100, x.size),
    'a kernel at an alias’s address': (batch) => {
      const { address, size } = half(batch);
      engine.kernels.fill(address, 2, size);
    },
    'a user’s op that writes into its input': ({ x }) => void scribble([x]),
    'a user’s op that writes by address': ({ x }) => void scribbleAt([x]),
    'a user’s backward that writes': ({ x }) => void gradients((t) => lateScribble([t]), [x]),
    'the indices, by which the norms are found': ({ x }) => {
      x.examples!.indices!.view().fill(7);
    },
    'an alias of the indices': ({ x }) => void reshapeOf(x.examples!.indices!).view().fill(7),
  };
  for (const [name, write] of Object.entries(writers)) assert.not.ok(known(write), name);
});

const row = {
  name: 'scribble',
  shape: ([x]: readonly Tensor[]) => x!.shape,
  backward: () => [null],
};
const scribble = defineOp({ ...row, forward: ({ inputs: [x] }) => writeTo(x!) as undefined });
const scribbleAt = defineOp({
  ...row,
  forward: ({ kernels, inputs: [x] }) => kernels.fill(x!.address, 2, x!.size) as undefined,
});
const lateScribble = defineOp({
  ...row,
  forward: ({ output }) => void output.view().fill(0) as undefined,
  backward: ({ inputs: [x], dOutput }) => {
    writeTo(x!);
    return [dOutput];
  },
});
const aliased = defineOp({ ...row, alias: true, dtypes: ['i32'], forward: () => undefined });
const reshapeOf = (tensor: Tensor): Tensor => aliased([tensor]);

test('rows that outlive the scope of their indices have their own norms', () => {
  engine.scope(() => {
    const flat = engine.scope(() => reshape(data.batch(indices).x, [-1]));
    engine.full([1000], 0);
    const x = asExamples(reshape(flat, [-1, 3, 4]));
    const y = asExamples(engine.tensor(new Int32Array(4), undefined, 'i32'), x);
    const [ghost, loop] = (['ghost', 'loop'] as const).map((strategy) =>
      perExample(loss, params, { x, y }, { strategy }).norms().values(),
    );
    close([...ghost!], [...loop!]);
  });
});

test('rows that are not the data set’s have their own norms, although their bytes are', () => {
  // Two halves of each example as examples: as many rows as a batch of twice the size would have.
  const twice = model2.init(engine, { seed: 1 });
  const halves = (p: Parameters, { x, y }: Batch) => crossEntropy(model2.apply(p, x), y);
  for (const cut of [(b: Batch) => b.x, (b: Batch) => sliceBatch(b, 0, 2).x]) {
    engine.scope(() => {
      const x = asExamples(reshape(cut(data.batch(indices)), [-1, 6]));
      const labels = engine.tensor(new Int32Array(x.shape[0]!), undefined, 'i32');
      const batch = { x, y: asExamples(labels, x) };
      const [ghost, loop] = (['ghost', 'loop'] as const).map((strategy) =>
        perExample(halves, twice, batch, { strategy }).norms().values(),
      );
      close([...ghost!], [...loop!]);
    });
  }
  twice.free();
});
const model2 = sequential(dense(6, 3));

test('a batch that is changed after its gradients were measured is not summed', () => {
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    const g = perExample(loss, params, batch);
    const factors = clipFactors(g.norms(), { clipNorm: 1 });
    g.weightedSums([factors]);
    batch.x.values();
    g.weightedSums([factors]);
    batch.x.view().fill(1e6);
    throwsCode('BATCH_CHANGED', () => g.weightedSums([factors]));
  });
});

test.run();
