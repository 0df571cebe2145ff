import fc from 'fast-check';
import { createEngineSync } from 'gradshape';
import { fromNdarray, rowMajor, toNdarray } from 'gradshape/ndarray';
import ndarray from 'ndarray';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsWith } from './data-helpers.js';

const engine = createEngineSync();

/** An array's numbers, row by row, by its own accessor. */
function rowByRow(array: ndarray.NdArray, at: number[] = []): number[] {
  if (at.length === array.shape.length) return [array.get(...at)];
  return Array.from({ length: array.shape[at.length]! }, (_, i) => rowByRow(array, [...at, i])).flat();
}

test('toNdarray is a live view of the same numbers', () => {
  engine.scope(() => {
    const tensor = engine.tensor([1, 2, 3, 4, 5, 6], [2, 3]);
    const array = toNdarray(tensor);
    assert.equal(array.shape, [2, 3]);
    assert.is(array.dtype, 'float32');
    assert.is(array.get(1, 0), 4);
    array.set(1, 0, 40);
    assert.equal([...tensor.values()], [1, 2, 3, 40, 5, 6]);
    assert.is(array.data.buffer, engine.memory.wasm.buffer);
    assert.is(toNdarray(engine.tensor(7)).get(), 7);
    assert.is(toNdarray(engine.tensor([3, 1], [2], 'i32')).dtype, 'int32');
  });
});

test('a copy outlives the tensor', () => {
  const tensor = engine.block([1, 2]);
  const array = toNdarray(tensor, { copy: true });
  tensor.view().fill(9);
  tensor.free();
  assert.equal(rowByRow(array), [1, 2]);
  throwsWith('TENSOR_USED_LATE', () => toNdarray(tensor));
});

test('fromNdarray and rowMajor read any view: sliced, stepped, reversed, transposed, one element picked', () => {
  const views = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }).chain((shape) =>
    fc.record({
      shape: fc.constant(shape),
      lo: fc.tuple(...shape.map((n) => fc.integer({ min: 0, max: n - 1 }))),
      step: fc.tuple(...shape.map(() => fc.constantFrom(1, 2, -1, -2))),
      order: fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }),
      pick: fc.boolean(),
      kind: fc.constantFrom('float32', 'float64', 'int32', 'uint8', 'list', 'generic'),
    }),
  );
  fc.assert(
    fc.property(views, ({ shape, lo, step, order, pick, kind }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const array = ndarray(data(kind, size), shape)
        .lo(...lo)
        .step(...step)
        .transpose(...order);
      const view = pick ? array.pick(0) : array;
      engine.scope(() => {
        const tensor = fromNdarray(engine, view);
        assert.equal(tensor.shape, view.shape);
        assert.is(tensor.dtype, kind === 'int32' ? 'i32' : 'f32');
        assert.equal([...tensor.values()], rowByRow(view));
      });
      if (ArrayBuffer.isView(view.data)) {
        const values = rowMajor(view as ndarray.NdArray<Uint8Array>);
        assert.is(values.constructor, view.data.constructor);
        assert.equal([...values], rowByRow(view));
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

function data(kind: string, size: number): ndarray.Data<number> {
  const numbers = Array.from({ length: size }, (_, i) => i + 1);
  if (kind === 'float32') return Float32Array.from(numbers);
  if (kind === 'float64') return Float64Array.from(numbers);
  if (kind === 'int32') return Int32Array.from(numbers);
  if (kind === 'uint8') return Uint8Array.from(numbers);
  if (kind === 'list') return numbers;
  return {
    length: size,
    get: (i: number) => numbers[i]!,
    set: (i: number, value: number) => {
      numbers[i] = value;
    },
  };
}

test('rowMajor copies only what does not lie row by row', () => {
  const array = ndarray(Uint8Array.of(1, 2, 3, 4, 5, 6), [3, 2]);
  assert.is(rowMajor(array.lo(1)).buffer, array.data.buffer);
  assert.equal(rowMajor(array.lo(1)), Uint8Array.of(3, 4, 5, 6));
  assert.is.not(rowMajor(array.transpose(1, 0)).buffer, array.data.buffer);
  assert.equal(rowMajor(ndarray(new Int32Array(0), [0, 3])), new Int32Array(0));
});

test('there and back, in the dtype asked for, and empty', () => {
  engine.scope(() => {
    const tensor = engine.tensor([1.5, -2, 3, 4], [2, 2]);
    assert.equal(fromNdarray(engine, toNdarray(tensor)).values(), tensor.values());
    assert.equal(
      fromNdarray(engine, toNdarray(tensor), { dtype: 'f64' }).values(),
      Float64Array.of(1.5, -2, 3, 4),
    );
    assert.is(fromNdarray(engine, ndarray(new Float32Array(0), [0, 3])).size, 0);
  });
  throwsWith('NO_SCOPE', () => fromNdarray(engine, ndarray([1])));
});

test.run();
