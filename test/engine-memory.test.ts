// Scopes and blocks: what is returned keeps its numbers, what is not is refused by name, and nothing overlaps or grows.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import {
  add,
  asExamples,
  type BlockTensor,
  createEngineSync,
  dropout,
  type Engine,
  GradshapeError,
  mul,
  Parameters,
  perExample,
  publicGenerator,
  relu,
  reshape,
  type Shape,
  sliceBatch,
  square,
  sum,
  type Tensor,
} from 'gradshape/engine';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const filled = (value: number, size: number): Tensor => engine.full([size], value);
function holds(tensor: Tensor, value: number): boolean {
  const view = tensor.view();
  for (let i = 0; i < view.length; i++) if (view[i] !== value) return false;
  return true;
}

test('a scope returns tensors alone, in arrays and in plain objects; the rest ends with it', () => {
  engine.scope(() => {
    let late: Tensor | undefined;
    const alone = engine.scope(() => filled(1, 5));
    const list = engine.scope(() => {
      late = filled(9, 3);
      return [filled(2, 3), [filled(3, 4)]] as const;
    });
    const named = engine.scope(() => ({ a: filled(4, 2), deep: { b: filled(5, 2) }, n: 7, none: null }));
    assert.ok(holds(alone, 1) && holds(list[0], 2) && holds(list[1][0]!, 3));
    assert.ok(holds(named.a, 4) && holds(named.deep.b, 5));
    assert.is(named.n, 7);
    assert.match(
      throwsCode('TENSOR_USED_LATE', () => late!.values()),
      /\[3\].*scope has ended.*return it/,
    );
    throwsCode('TENSOR_USED_LATE', () => relu(late!));
    throwsCode('TENSOR_USED_LATE', () => add(alone, late!));
  });
});

test('tensors returned in another order than they were made, from the first scope that allocates', () => {
  engine.scope(() => {
    const [c, b, a] = engine.scope(() => {
      const made = [filled(1, 20), filled(2, 20), filled(3, 20)];
      return made.reverse();
    });
    assert.ok(holds(a!, 1) && holds(b!, 2) && holds(c!, 3));
  });
});

test('tensors returned across chunks, larger ones first', () => {
  engine.scope(() => {
    const back = engine.scope(() => {
      const small = filled(1, 1000);
      const big = filled(2, 200_000);
      const next = filled(3, 60_000);
      const last = filled(4, 500_000);
      return { last, next, big, small };
    });
    const after = filled(5, 300_000);
    assert.ok(holds(back.small, 1) && holds(back.big, 2) && holds(back.next, 3) && holds(back.last, 4));
    assert.ok(holds(after, 5));
  });
});

test('the same tensor twice, its reshaped alias, and slices of it', () => {
  engine.scope(() => {
    const kept = engine.scope(() => {
      const x = engine.tensor([1, 2, 3, 4, 5, 6], [6]);
      const y = filled(7, 16);
      const { x: second } = sliceBatch({ x: asExamples(x) }, 1, 2);
      const { x: last } = sliceBatch({ x }, 5, 6);
      return [x, x, reshape(x, [2, 3]), second, last, reshape(x, [3, 2]), y];
    });
    const [x, again, matrix, second, last, other, y] = kept as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    assert.is(x, again);
    for (const alias of [x, matrix, other]) assert.equal([...alias.values()], [1, 2, 3, 4, 5, 6]);
    assert.equal([...second.values(), ...last.values()], [2, 6]);
    assert.ok(holds(y, 7));
    x.view()[0] = 8;
    assert.is(matrix.values()[0], 8, 'an alias stays an alias');
  });
});

test('a returned alias of a block or of an outer tensor stays where it is', () => {
  const block = engine.block([1, 2, 3, 4]);
  engine.scope(() => {
    const outer = filled(3, 4);
    const [a, b] = engine.scope(() => [reshape(block, [2, 2]), reshape(outer, [2, 2])] as const);
    assert.is(a.address, block.address);
    assert.is(b.address, outer.address);
  });
  const alias = engine.scope(() => reshape(block, [4, 1]));
  assert.equal([...alias.values()], [1, 2, 3, 4]);
  block.free();
  assert.match(
    throwsCode('TENSOR_USED_LATE', () => alias.values()),
    /block was freed/,
  );
});

test('a returned batch still knows its examples', () => {
  using data = engine.dataset({ x: Float32Array.of(1, 2, 3, 4), y: [0, 1, 0, 1], shape: [1] });
  engine.scope(() => {
    const batch = engine.scope(() => data.batch([3, 1], { seed: 1 }));
    assert.equal([...batch.x.examples!.indices!.values()], [3, 1]);
    assert.is(dropout(batch.x, 0.5).size, 2);
  });
});

test('a cyclic object can be returned', () => {
  engine.scope(() => {
    const back = engine.scope(() => {
      const node: { x: Tensor; self?: unknown } = { x: filled(2, 3) };
      node.self = node;
      return node;
    });
    assert.ok(holds(back.x, 2));
  });
});

/** A program of random allocations, scopes and returns, checked against what each tensor was filled with. */
type Step = { make: number } | { scope: Step[]; keep: number[]; alias: boolean };
const steps = fc.letrec<{ step: Step; steps: Step[] }>((tie) => ({
  step: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    fc.record({ make: fc.oneof(fc.nat(40), fc.nat(3000), fc.constantFrom(70_000, 120_000)) }),
    fc.record({ scope: tie('steps'), keep: fc.array(fc.nat(20), { maxLength: 5 }), alias: fc.boolean() }),
  ),
  steps: fc.array(tie('step'), { maxLength: 6 }),
})).steps;

test('whatever is made and returned, in any order, keeps its numbers', () => {
  let serial = 0;
  const play = (program: readonly Step[]): [Tensor, number][] => {
    const alive: [Tensor, number][] = [];
    const check = () => {
      for (const [tensor, value] of alive) assert.ok(holds(tensor, value));
    };
    for (const step of program) {
      if ('make' in step) alive.push([filled(++serial, step.make), serial]);
      else {
        const values: number[] = [];
        const kept = engine.scope(() => {
          const inner = play(step.scope);
          const chosen = inner.length === 0 ? [] : step.keep.map((i) => inner[i % inner.length]!);
          values.push(...chosen.map(([, value]) => value));
          return chosen.map(([tensor], i) => (step.alias && i % 2 ? reshape(tensor, [1, -1]) : tensor));
        });
        alive.push(...kept.map((tensor, i): [Tensor, number] => [tensor, values[i]!]));
      }
    }
    check();
    return alive;
  };
  fc.assert(
    fc.property(steps, (program) => {
      serial = 0;
      engine.scope(() => {
        play(program);
      });
    }),
    { seed: 1, numRuns: 200 },
  );
});

test('NO_SCOPE: outside a scope, and from the outermost', () => {
  assert.match(
    throwsCode('NO_SCOPE', () => engine.full([2, 3], 0)),
    /\[2, 3\].*engine\.scope.*engine\.block/,
  );
  assert.match(
    throwsCode('NO_SCOPE', () => engine.scope(() => filled(1, 2))),
    /outermost.*values\(\)/,
  );
  throwsCode('NO_SCOPE', () => perExample(() => filled(1, 1), new Parameters(engine, []), {}));
  assert.is(engine.scopes.current, null);
});

test('ASYNC_SCOPE: an async function, whose own failure is nobody else’s', async () => {
  assert.match(
    throwsCode('ASYNC_SCOPE', () => engine.scope(async () => 1)),
    /async.*synchronous/,
  );
  const failures: unknown[] = [];
  const listen = (reason: unknown) => failures.push(reason);
  process.on('unhandledRejection', listen);
  throwsCode('ASYNC_SCOPE', () =>
    engine.scope(async () => {
      await null;
      engine.full([1], 0);
    }),
  );
  await new Promise((done) => setTimeout(done, 5));
  process.off('unhandledRejection', listen);
  assert.equal(failures, []);
});

test('an error inside ends its scopes, and leaves the outer one as it was', () => {
  engine.scope(() => {
    const before = filled(1, 10);
    const scope = engine.scopes.current;
    const mark = engine.memory.arenaMark();
    assert.throws(
      () =>
        engine.scope(() =>
          engine.scope(() => {
            filled(2, 400_000);
            throw new Error('out');
          }),
        ),
      /out/,
    );
    assert.is(engine.scopes.current, scope);
    assert.equal(engine.memory.arenaMark(), mark);
    assert.ok(holds(before, 1));
  });
  assert.is(engine.scopes.current, null);
});

test('an error inside a gradient leaves no recording behind', () => {
  const params = new Parameters(engine, [{ name: 'w', shape: [3] }]);
  const { recorder } = engine;
  const kept = recorder as unknown as { records: unknown[] };
  engine.scope(() => {
    const x = asExamples(engine.full([2, 3], 1));
    for (const strategy of ['ghost', 'loop'] as const) {
      const failing = () => {
        mul(x, params.get('w'));
        throw new Error('mine');
      };
      assert.throws(() => perExample(failing, params, { x }, { strategy }), /mine/);
      assert.is(recorder.active, false);
      assert.is(recorder.examplesApart, false);
      assert.equal(kept.records, []);
    }
    sum(x, { axes: 0 });
  });
  params.free();
});

test('blocks are freed and taken again, and never overlap: thousands of random sizes', () => {
  const own = createEngineSync();
  const used = own.memory.bytesInUse;
  const play = () => {
    const random = publicGenerator(1, 'data');
    const live: [BlockTensor, number][] = [];
    for (let i = 1; i <= 5000; i++) {
      if (live.length === 40 || (live.length > 0 && uniformInt(random, 0, 2) === 0)) {
        const [[block, value]] = live.splice(uniformInt(random, 0, live.length - 1), 1) as [
          [BlockTensor, number],
        ];
        assert.ok(holds(block, value));
        block.free();
        block.free(); // a second time is nothing
      } else {
        const block = own.allocateBlock([uniformInt(random, 0, 3000)], 'f32', 'a test');
        assert.ok(holds(block, 0), 'blocks start at 0');
        block.view().fill(i);
        live.push([block, i]);
      }
    }
    for (const [block, value] of live) assert.ok(holds(block, value));
    for (const [block] of live) block.free();
    assert.is(own.memory.bytesInUse, used);
  };
  play();
  const bytes = own.memory.bytes;
  play();
  play();
  assert.is(own.memory.bytes, bytes);
});

test('a failed data set or parameter block leaves no memory behind', () => {
  const before = engine.memory.bytesInUse;
  const one = { x: Float32Array.of(1), y: [0], shape: [1] };
  throwsCode('DATA_NOT_FINITE', () =>
    engine.dataset({ base: one, added: [one, { ...one, x: Float32Array.of(Number.NaN) }] }),
  );
  throwsCode(
    'PARAMETER_DUPLICATE',
    () =>
      new Parameters(engine, [
        { name: 'a', shape: [2] },
        { name: 'a', shape: [2] },
      ]),
  );
  assert.is(engine.memory.bytesInUse, before);

  const small = createEngineSync({ memoryLimit: 4e6 });
  const used = small.memory.bytesInUse;
  throwsCode('MEMORY_LIMIT', () =>
    small.dataset({ x: new Uint8Array(1_000_000), y: new Uint8Array(1_000_000), shape: [1] }),
  );
  assert.is(small.memory.bytesInUse, used);
});

test('a data set keeps working after another that shared its base is freed, and says when its base is gone', () => {
  const x = Uint8Array.of(10, 20, 30, 40);
  const base = engine.dataset({ x, y: [0, 1, 0, 1], shape: [1], scale: 0.1 });
  const composed = engine.dataset({ base, added: [{ x: Float32Array.of(5), y: [1], shape: [1] }] });
  const other = engine.dataset({ base, added: [], y: [1, 1, 1, 1] });
  other.free();
  engine.scope(() => {
    assert.equal([...composed.batch([4, 0]).x.values()], [5, 1]);
    base.free();
    throwsCode('TENSOR_USED_LATE', () => base.batch([0]));
    throwsCode('TENSOR_USED_LATE', () => composed.batch([4]));
  });
  composed.free();
});

test('MEMORY_LIMIT says how much was asked, what for, and the limit', () => {
  const small = createEngineSync({ memoryLimit: 8 * 1024 * 1024 });
  const text = throwsCode('MEMORY_LIMIT', () =>
    small.scope(() => {
      small.full([2000, 3000], 0);
    }),
  );
  assert.match(
    text,
    /tensor of shape \[2000, 3000\] asked for 22\.9 MB.*in use.*limit is 8\.0 MB.*smaller batch/,
  );
  assert.match(
    throwsCode('MEMORY_LIMIT', () => small.block(new Float32Array(3e6))),
    /engine\.block of shape \[3000000\]/,
  );
  small.scope(() => assert.is(small.full([1000], 1).size, 1000));
  throwsCode('MEMORY_LIMIT', () => createEngineSync({ memoryLimit: 100 }));
  throwsCode('MEMORY_LIMIT', () => createEngineSync({ memoryLimit: Number.NaN }));
});

test('tensors are read right after the memory has grown', () => {
  const own = createEngineSync();
  const block = own.block([1, 2, 3]);
  own.scope(() => {
    const x = own.tensor([4, 5, 6]);
    const stale = x.view();
    const before = own.memory.bytes;
    own.full([4_000_000], 7);
    assert.ok(own.memory.bytes > before);
    assert.is(stale.length, 0, 'a kept view is detached, not wrong');
    assert.equal([...x.values(), ...block.values()], [4, 5, 6, 1, 2, 3]);
  });
});

test('f64 tensors are aligned, and read back, wherever they lie', () => {
  engine.scope(() => {
    engine.full([1], 1);
    for (const size of [1, 3, 7]) {
      const tensor = engine.tensor(new Float64Array(size).fill(Math.PI), [size], 'f64');
      assert.is(tensor.address % 64, 0);
      assert.ok(holds(tensor, Math.PI));
    }
  });
});

test('wasm memory and the JavaScript heap are flat over thousands of steps', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const heap = () => {
    collect();
    return process.memoryUsage().heapUsed;
  };
  const own: Engine = createEngineSync();
  const params = new Parameters(own, [{ name: 'w', shape: [6, 4] satisfies Shape }]);
  const data = own.dataset({
    x: Float32Array.from({ length: 60 }, (_, i) => i / 60),
    y: new Uint8Array(10),
    shape: [6],
  });
  const step = (i: number) =>
    own.scope(() => {
      const batch = data.batch([i % 10, (i + 3) % 10], { seed: 1, step: i });
      const loss = (p: Parameters, b: typeof batch) =>
        sum(square(mul(dropout(b.x, 0.5), sum(p.get('w'), { axes: 1 }))), { axes: 1 });
      const g = perExample(loss, params, batch, { strategy: i % 2 ? 'ghost' : 'loop' });
      g.weightedSums([g.norms().tensor()]);
      const trial = own.block(new Float32Array(100 + (i % 7)));
      trial.free();
      if (i % 5 === 0) throwsCode('SHAPE_MISMATCH', () => g.dots(own.full([1], 1)));
    });
  for (let i = 0; i < 500; i++) step(i);
  const bytes = own.memory.bytes;
  const used = own.memory.bytesInUse;
  // Compiled code is on the heap too, and comes when it likes: a leak shows in every window, compilation in some.
  const growths = [0, 1, 2, 3].map(() => {
    const before = heap();
    for (let i = 0; i < 1500; i++) step(i);
    return heap() - before;
  });
  assert.is(own.memory.bytes, bytes);
  assert.is(own.memory.bytesInUse, used);
  const bytesAStep = Math.min(...growths) / 1500;
  assert.ok(bytesAStep < 16, `the heap grew by ${growths.join(', ')} bytes in 1,500 steps each`);
});

test('errors are GradshapeError with a code', () => {
  try {
    engine.full([1], 1);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, GradshapeError);
    assert.is((error as GradshapeError).name, 'GradshapeError');
  }
});

test.run();
