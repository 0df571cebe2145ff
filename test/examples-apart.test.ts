// In a loss under perExample every example must be treated alone. What could mix examples is refused by name: host reads, other
// batches' examples, what was computed from a whole batch before, and users' ops that don't do what they say.
import {
  asExamples,
  type Batch,
  type BatchLoss,
  concat,
  conv2d,
  countCorrect,
  createEngineSync,
  crossEntropy,
  defineOp,
  denseLayer,
  div,
  dropout,
  type Forward,
  gradients,
  groupNorm,
  matmul,
  mean,
  mul,
  type OpDefinition,
  Parameters,
  perExample,
  reshape,
  type Strategy,
  slice,
  sliceBatch,
  softmax,
  square,
  sub,
  sum,
  sumGradient,
  type Tensor,
  transpose,
} from 'gradshape';
import { toNdarray } from 'gradshape/ndarray';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const [count, d, k] = [12, 4, 3];
const data = engine.dataset({
  x: Float32Array.from({ length: count * d }, (_, i) => Math.sin(i * i + 1)),
  y: Int32Array.from({ length: count }, (_, i) => i % k),
  shape: [d],
});
const params = new Parameters(engine, [
  { name: 'w', shape: [d, k] },
  { name: 'b', shape: [k] },
]);
params.load(Float32Array.from({ length: params.size }, (_, i) => Math.cos(3 * i) / 2));
const strategies: Strategy[] = ['ghost', 'materialize', 'loop'];
const indices = [0, 3, 5, 7, 9];

const logits = (p: Parameters, x: Tensor): Tensor => denseLayer(x, p.get('w'), p.get('b'));
const plain: BatchLoss<Batch> = (p, { x, y }) => crossEntropy(logits(p, x), y);

/** The loss must be refused with this code by each strategy, and leave nothing behind. */
function refused(code: string, name: string, loss: BatchLoss<Batch>, of = strategies): void {
  for (const strategy of of) {
    engine.scope(() => {
      const batch = data.batch(indices, { seed: 1 });
      throwsCode(code, () => {
        perExample(loss, params, batch, { strategy });
        assert.unreachable(`${name} passed under ${strategy}`);
      });
      assert.is(engine.recorder.examplesApart, false);
      assert.is(engine.recorder.inside, 0);
      batch.x.values();
      perExample(plain, params, batch, { strategy });
    });
  }
}

const constant = (host: ArrayLike<number>, shape: number[]): Tensor => engine.tensor(host, shape);

test('host reads of examples are refused, whatever they are read through', () => {
  const reads: Record<string, (b: Batch, p: Parameters) => unknown> = {
    'values of the batch': ({ x }) => x.values(),
    'a view of it': ({ x }) => x.view(),
    'its address': ({ x }) => engine.kernels.sum(x.address, x.size),
    labels: ({ y }) => y.values(),
    'the labels’ address': ({ y }) => y.address,
    indices: ({ x }) => x.examples!.indices!.values(),
    'the indices’ view': ({ y }) => y.examples!.indices!.view(),
    'values of a reshape': ({ x }) => reshape(x, [x.shape[0]!, 2, 2]).values(),
    'values of a slice': ({ x }) => slice(x, [0, 1], [-1, 2]).values(),
    'a part of the batch': (b) => sliceBatch(b, 0, 1).x.values(),
    'one example’s label': (b) => sliceBatch(b, 0, 1).y.item(),
    'one example’s sum': (b) => sum(sliceBatch(b, 0, 1).x, { axes: 1 }).item(),
    'values of logits': ({ x }, p) => logits(p, x).values(),
    'values of losses': ({ x, y }, p) => crossEntropy(logits(p, x), y).view(),
    'an ndarray': ({ x }) => toNdarray(x),
    'an ndarray by view': ({ x }) => toNdarray(x, { copy: false }),
    'a metric': ({ x, y }, p) => countCorrect(logits(p, x), y),
    'values in a scope': ({ x }) => engine.scope(() => mul(x, 2).values()),
    'what a scope returns': ({ x }) => engine.scope(() => ({ t: mul(x, 2) })).t.values(),
    'another batch': () => data.batch([1, 2]).x.values(),
    'the data set’s labels': () => data.y,
    'a gradient to the batch': ({ x, y }, p) =>
      gradients((t) => crossEntropy(logits(p, t), y), [x]).gradients[0]!.values(),
    'the seed of a gradient': ({ x }) => gradients((t) => mul(t, 1), [x]).value.values(),
    'a sorted copy': ({ x }) => [...mean(x, { axes: 1 }).values()].sort(),
    'losses without their flag': ({ x, y }, p) => {
      const losses = crossEntropy(logits(p, x), y);
      losses.examples = null;
      return losses.values();
    },
    'a flag from the batch': ({ x, y }) => {
      const rows = constant(new Float32Array(x.size), [...x.shape]);
      rows.examples = y.examples;
    },
    'a flag by asExamples': ({ x }) => asExamples(constant(new Float32Array(x.size), [...x.shape]), x),
    'the flag of another': ({ x }) => {
      x.examples = data.batch(indices).x.examples;
    },
  };
  for (const [name, read] of Object.entries(reads)) {
    refused('EXAMPLES_READ', name, (p, b) => {
      read(b, p);
      return plain(p, b);
    });
    const proxied = (b: Batch) => new Proxy(b, {});
    refused('EXAMPLES_READ', `${name}, by a proxy`, (p, b) => {
      read(proxied(b), p);
      return plain(p, b);
    });
  }
});

test('host reads of a batch captured outside, and of what was made of it there', () => {
  for (const made of [
    ({ x }: Batch) => x,
    ({ y }: Batch) => y,
    ({ x }: Batch) => reshape(x, [-1]),
    ({ x }: Batch) => transpose(x),
    ({ x }: Batch) => mean(x, { axes: 0 }),
    ({ x }: Batch) => mul(mean(x), 2),
    ({ x }: Batch) => slice(x, [0, 0], [1, -1]),
    (b: Batch) => sliceBatch(b, 0, 2).x,
  ]) {
    engine.scope(() => {
      const captured = made(data.batch(indices));
      refused('EXAMPLES_READ', String(made), (p, b) => {
        captured.values();
        return plain(p, b);
      });
    });
  }
});

test('a gradient inside the loss to what all examples share is a sum over them', () => {
  const shared = new Parameters(engine, [
    { name: 'filter', shape: [2, 2, 1, 2] },
    { name: 'scale', shape: [2] },
    { name: 'w', shape: [2, k] },
  ]);
  shared.load(Float32Array.from({ length: shared.size }, (_, i) => Math.sin(i + 1)));
  const losses = (p: Parameters, { x, y }: Batch): Tensor => {
    const maps = conv2d(reshape(x, [-1, 2, 2, 1]), p.get('filter'), null, { padding: 'same' });
    const normal = groupNorm(maps, p.get('scale'), p.get('scale'), 1);
    return crossEntropy(matmul(mean(mul(normal, p.get('scale')), { axes: [1, 2] }), p.get('w')), y);
  };
  engine.scope(() => {
    perExample(losses, shared, data.batch(indices));
    for (const { name } of shared.entries) {
      throwsCode('EXAMPLES_MIXED', () =>
        perExample(
          (p, b: Batch) => {
            const { gradients: found } = gradients(() => losses(p, b), [p.get(name)]);
            return mul(losses(p, b), sum(found[0]!));
          },
          shared,
          data.batch(indices),
        ),
      );
    }
  });
  shared.free();
});

test('a Proxy of a tensor is no tensor', () => {
  const hidden = (t: Tensor): Tensor =>
    new Proxy(t, { get: (of, key) => (key === 'examples' ? null : Reflect.get(of, key, of)) });
  refused('NOT_A_TENSOR', 'a proxy', (p, b) => {
    const centre = mean(hidden(b.x), { axes: 0 });
    return crossEntropy(logits(p, sub(b.x, centre)), b.y);
  });
});

test('EXAMPLES_READ says what to do', () => {
  engine.scope(() => {
    const message = throwsCode('EXAMPLES_READ', () =>
      perExample(
        (p, b: Batch) => {
          b.y.values();
          return plain(p, b);
        },
        params,
        data.batch(indices),
      ),
    );
    assert.match(
      message,
      /Tensor i32 \[5\].*inside a loss under perExample.*operations.*defineOp.*outside the loss/,
    );
  });
});

test('outside such losses all may be read', () => {
  engine.scope(() => {
    const batch = data.batch(indices);
    batch.x.values();
    const reading: BatchLoss<Batch> = (p, b) => {
      b.x.values();
      return plain(p, b);
    };
    sumGradient(reading, params, batch);
    const g = perExample(plain, params, batch);
    assert.is(g.losses.values().length, indices.length);
    gradients((x) => mul(x, x.view()[0]!), [batch.x]);
  });
});

function withoutFlag(tensor: Tensor): Tensor {
  tensor.examples = null;
  return tensor;
}

test('what was computed from a whole batch outside is no constant inside', () => {
  engine.scope(() => {
    const { x } = data.batch(indices);
    const before: Record<string, Tensor> = {
      mean: mean(x, { axes: 0 }),
      'scaled mean': mul(mean(x, { axes: 0 }), 2),
      'a batch whose flag was taken': withoutFlag(data.batch(indices).x),
      'a row': reshape(slice(x, [2, 0], [1, -1]), [-1]),
      product: reshape(matmul(engine.full([1, indices.length], 1), x), [-1]),
    };
    for (const [name, statistic] of Object.entries(before)) {
      refused('EXAMPLES_MIXED', name, (p, b) => crossEntropy(logits(p, sub(b.x, statistic)), b.y));
    }
    const told = constant(before.mean!.values(), [d]); // whoever copies it answers for it
    perExample((p, b: Batch) => crossEntropy(logits(p, sub(b.x, told)), b.y), params, data.batch(indices));
  });
});

test('rows of another batch are other examples, whatever their shape', () => {
  const other = (b: Batch): Batch => data.batch(indices.slice(0, b.x.shape[0]!));
  const losses: Record<string, BatchLoss<Batch>> = {
    'labels of another batch': (p, b) => crossEntropy(logits(p, b.x), other(b).y),
    mixup: (p, b) => crossEntropy(logits(p, add2(b.x, other(b).x)), b.y),
    'a pair’s distance': (p, b) => sum(square(sub(logits(p, b.x), logits(p, other(b).x))), { axes: 1 }),
    'stacked products': (p, b) =>
      sum(matmul(reshape(logits(p, b.x), [-1, 1, k]), reshape(logits(p, other(b).x), [-1, k, 1])), {
        axes: [1, 2],
      }),
    'joined features': (p, b) =>
      sum(square(logits(p, slice(concat([b.x, other(b).x], 1), [0, 0], [-1, d]))), { axes: 1 }),
    'losses of another batch': (p, b) => plain(p, other(b)),
    'losses of a captured part': (p, b) => plain(p, sliceBatch(b, 0, b.x.shape[0]!)),
    'examples that it makes up': (p, b) =>
      crossEntropy(logits(p, mul(b.x, asExamples(engine.full([b.x.shape[0]!, 1], 2)))), b.y),
    'joined batches': (p, b) => {
      const joined = sum(square(logits(p, concat([b.x, b.x], 0))), { axes: 1 });
      return slice(joined, [0], [b.x.shape[0]!]);
    },
    'products between rows': (p, b) => {
      const z = logits(p, b.x);
      return sum(matmul(softmax(matmul(z, z, { transposeB: true })), z), { axes: 1 });
    },
    'a division by the batch’s own mean': (p, b) =>
      crossEntropy(logits(p, div(b.x, mean(b.x, { axes: 0, keepDims: true }))), b.y),
  };
  for (const [name, loss] of Object.entries(losses)) refused('EXAMPLES_MIXED', name, loss);
});
const add2 = (a: Tensor, b: Tensor): Tensor => sub(a, mul(b, -1));

test('a batch that holds different examples is refused, and one that says they are the same is not', () => {
  engine.scope(() => {
    const batch = data.batch(indices);
    const two: BatchLoss<Batch & { partner: Tensor }> = (p, b) =>
      crossEntropy(logits(p, add2(b.x, b.partner)), b.y);
    const rotated = data.batch([...indices.slice(1), indices[0]!]);
    for (const strategy of strategies) {
      for (const loss of [two, plain]) {
        const message = throwsCode('EXAMPLES_MIXED', () =>
          perExample(loss, params, { ...batch, partner: rotated.x }, { strategy }),
        );
        assert.match(message, /'x' and 'partner'.*asExamples\(partner, x\)/);
      }
    }
    const same = data.batch(indices);
    const views = { ...batch, partner: asExamples(same.x, batch.x) };
    const loop = perExample(two, params, views, { strategy: 'loop' }).norms().values();
    perExample(two, params, views)
      .norms()
      .values()
      .forEach((norm, i) => {
        assert.ok(Math.abs(norm - loop[i]!) < 1e-5 * loop[i]!);
      });
    const noise = asExamples(
      constant(new Float32Array(indices.length * d).fill(0.5), [indices.length, d]),
      batch.x,
    );
    perExample(two, params, { ...batch, partner: noise });
    const part = sliceBatch({ ...batch, noise }, 1, 3);
    assert.is(part.noise.examples, part.x.examples);
    assert.equal([...part.x.examples!.indices!.values()], indices.slice(1, 3));
  });
});

test('asExamples(tensor, like) checks the count, and indices where both are known', () => {
  engine.scope(() => {
    const { x } = data.batch(indices);
    assert.match(
      throwsCode('SHAPE_MISMATCH', () => asExamples(engine.full([4, 2], 0), x)),
      /4 rows for the 5 examples/,
    );
    assert.match(
      throwsCode('NOT_A_BATCH', () => asExamples(x, engine.full([5], 0))),
      /asExamples\(tensor\)/,
    );
    assert.match(
      throwsCode('EXAMPLES_MIXED', () => asExamples(data.batch([0, 3, 5, 7, 8]).x, x)),
      /row 4 .* example 8 and example 9/,
    );
  });
});

// Users' ops.

type Row = OpDefinition<undefined>;
const host = (t: Tensor): Float32Array => t.values() as Float32Array;
const rowsOf = (t: Tensor): number => t.shape[0]!;

/** x with the mean over the batch taken away: what an honest 'apart' never does. */
function centred(values: Float32Array, rows: number): Float32Array {
  const size = values.length / rows;
  const means = new Float32Array(size);
  values.forEach((value, i) => {
    means[i % size]! += value / rows;
  });
  return values.map((value, i) => value - means[i % size]!);
}

const doubled: Row = {
  name: 'doubled',
  examples: 'apart',
  shape: ([x]) => x!.shape,
  forward: ({ inputs: [x], output }) => void output.view().set(host(x!).map((v) => 2 * v)) as undefined,
  backward: ({ dOutput }) => [mul(dOutput, 2)],
};
const through =
  (row: Row): BatchLoss<Batch> =>
  (p, { x, y }) =>
    crossEntropy(defineOp(row)([logits(p, x)]), y);

test('a user’s op must say what it does with examples', () => {
  const { examples: _, ...silent } = doubled;
  refused('EXAMPLES_UNDECLARED', 'silent', through(silent));
  refused('EXAMPLES_MIXED', 'mixed', through({ ...doubled, examples: 'mixed' }));
  const loss = through(doubled);
  engine.scope(() => {
    for (const strategy of strategies) {
      const g = perExample(loss, params, data.batch(indices), { strategy });
      const builtIn = perExample(
        (p, { x, y }: Batch) => crossEntropy(mul(logits(p, x), 2), y),
        params,
        data.batch(indices),
      );
      assert.equal([...g.norms().values()].map(Math.fround), [...builtIn.norms().values()].map(Math.fround));
    }
    sumGradient(through(silent), params, data.batch(indices)); // outside nothing need be said
    throwsCode('OP_INVALID', () => defineOp({ ...doubled, examples: 'both' as 'apart' }));
  });
});

test('a declaration is checked, forward and backward, by an example alone', () => {
  const write = ({ output }: Forward<undefined>, values: ArrayLike<number>): undefined =>
    void output.view().set(values) as undefined;
  let calls = 0;
  const lies: Record<string, Partial<Row>> = {
    'the batch’s mean': { forward: (c) => write(c, centred(host(c.inputs[0]!), rowsOf(c.output))) },
    'the same, by a function that says it keeps them': {
      examples: ([x]) => x!.examples,
      forward: (c) => write(c, centred(host(c.inputs[0]!), rowsOf(c.output))),
    },
    'a running sum down the rows': {
      forward: (c) =>
        write(
          c,
          host(c.inputs[0]!).map((v, i, all) => (i >= k ? v + all[i - k]! : v)),
        ),
    },
    'the next row’s first number': {
      forward: (c) =>
        write(
          c,
          host(c.inputs[0]!).map((v, i, all) => v + (all[i + k] ?? 0)),
        ),
    },
    'the mean, beside a number that drowns it': {
      forward: (c) =>
        write(
          c,
          centred(host(c.inputs[0]!), rowsOf(c.output)).map((v, i) => (i % k === 0 ? 1e30 : v)),
        ),
    },
    'the mean, at odd calls': {
      forward: (c) => {
        const values = host(c.inputs[0]!);
        return write(c, calls++ % 2 === 0 ? values : centred(values, rowsOf(c.output)));
      },
    },
    'the mean, at even calls': {
      forward: (c) => {
        const values = host(c.inputs[0]!);
        return write(c, calls++ % 2 === 1 ? values : centred(values, rowsOf(c.output)));
      },
    },
    'the count of rows': {
      forward: (c) =>
        write(
          c,
          host(c.inputs[0]!).map((v) => v / rowsOf(c.output)),
        ),
    },
    'the place in the batch': {
      forward: (c) =>
        write(
          c,
          host(c.inputs[0]!).map((v, i) => v * (i + 1)),
        ),
    },
    'an error for one example alone': {
      forward: (c) => {
        if (rowsOf(c.output) < 2) throw new Error('too few');
        return write(c, host(c.inputs[0]!));
      },
    },
    'another shape for one example alone': {
      shape: ([x]) => (x!.shape[0] === 1 ? [1, k + 1] : x!.shape),
    },
    'twice the rows': {
      examples: ([x]) => x!.examples,
      shape: ([x]) => [2 * x!.shape[0]!, k],
      forward: (c) => write(c, [...host(c.inputs[0]!), ...host(c.inputs[0]!)]),
    },
    'the mean, in backward': {
      backward: ({ dOutput }) => [constant(centred(host(dOutput), rowsOf(dOutput)), [...dOutput.shape])],
    },
    'a table op over the batch, in backward': {
      backward: ({ dOutput }) => [sub(dOutput, mean(dOutput, { axes: 0 }))],
    },
    'the mean of the inputs, in backward': {
      backward: ({ inputs: [x], dOutput }) => [mul(dOutput, mean(square(x!)))],
    },
    'the mean, before its activation': {
      beforeActivation: ({ dOutput }) =>
        constant(centred(host(dOutput), rowsOf(dOutput)), [...dOutput.shape]),
    },
    'nothing for one example alone, in backward': {
      backward: ({ dOutput }) => [rowsOf(dOutput) === 1 ? null : dOutput],
    },
  };
  for (const [name, lie] of Object.entries(lies)) {
    calls = 0;
    refused('EXAMPLES_MIXED', name, through({ ...doubled, ...lie }), ['ghost', 'materialize']);
  }
});

test('an op that begins to lie later is found within as many calls as there are examples', () => {
  let lying = false;
  const late = through({
    ...doubled,
    forward: ({ inputs: [x], output }) => {
      const values = host(x!).map((v) => 2 * v);
      // Only the last row, and only among others.
      if (lying && rowsOf(x!) > 1) values[values.length - 1]! += values[0]!;
      return void output.view().set(values) as undefined;
    },
  });
  const once = () => engine.scope(() => void perExample(late, params, data.batch(indices)));
  for (let i = 0; i < 9; i++) once();
  lying = true;
  let calls = 0;
  throwsCode('EXAMPLES_MIXED', () => {
    while (calls++ < indices.length) once();
  });
});

test('a user’s op may read what it is given, and nothing else', () => {
  const reading =
    (read: (c: Forward<undefined>, b: Batch) => unknown): BatchLoss<Batch> =>
    (p, b) =>
      crossEntropy(
        defineOp({
          ...doubled,
          forward: (c) => {
            read(c, b);
            return doubled.forward(c);
          },
        })([logits(p, b.x)]),
        b.y,
      );
  const allowed: ((c: Forward<undefined>) => unknown)[] = [
    ({ inputs: [x] }) => [x!.values(), x!.view(), x!.address],
    ({ output }) => output.view(),
    ({ inputs: [x] }) => x!.examples!.indices!.values(),
    ({ inputs: [x] }) => mul(x!, 2).values(),
    ({ inputs: [x] }) => defineOp(doubled)([mul(x!, 2)]).values(),
    ({ inputs: [x] }) => gradients((t) => square(t), [x!]).gradients[0]!.values(),
    ({ inputs: [x] }) => {
      const own = engine.full([...x!.shape], 1);
      own.examples = x!.examples;
      return own.view();
    },
  ];
  for (const read of allowed) {
    engine.scope(() => void perExample(reading(read), params, data.batch(indices)));
  }
  let stash: Tensor;
  const others: Record<string, (c: Forward<undefined>, b: Batch) => unknown> = {
    'a captured tensor': (_, b) => b.x.values(),
    'what a table op makes of it': (_, b) => sum(b.x, { axes: 1 }).values(),
    'what a user’s op makes of it': (_, b) => defineOp(doubled)([b.x]).values(),
    labels: (_, b) => b.y.address,
    'a captured tensor, by taking its flag': (_, b) => {
      b.x.examples = null;
    },
  };
  for (const [name, read] of Object.entries(others)) refused('EXAMPLES_READ', name, reading(read));
  refused('EXAMPLES_READ', 'an input kept for later', (p, b) => {
    const keep = reading(({ inputs: [x] }) => {
      stash = x!;
    });
    const losses = keep(p, b);
    stash.values();
    return losses;
  });
  refused(
    'EXAMPLES_MIXED',
    'a table op over the batch',
    reading(({ inputs: [x] }) => mean(x!, { axes: 0 })),
    ['ghost'],
  );
});

test('the same in its backward', () => {
  const backward =
    (read: (dOutput: Tensor, b: Batch) => Tensor): BatchLoss<Batch> =>
    (p, b) =>
      crossEntropy(
        defineOp({ ...doubled, backward: ({ dOutput }) => [read(dOutput, b)] })([logits(p, b.x)]),
        b.y,
      );
  engine.scope(() => {
    const allowed = backward((dOutput) =>
      mul(sum(mul(dOutput, 2), { axes: [] }), 1 + 0 * dOutput.values()[0]!),
    );
    perExample(allowed, params, data.batch(indices));
    sumGradient(
      backward((dOutput, b) => mul(dOutput, b.x.values()[0]!)),
      params,
      data.batch(indices),
    );
  });
  const others: Record<string, (dOutput: Tensor, b: Batch) => Tensor> = {
    'a captured tensor': (dOutput, b) => mul(dOutput, b.x.values()[0]!),
    'what a table op makes of it': (dOutput, b) => mul(dOutput, mean(b.x)),
    'rows of it': (dOutput, b) => mul(dOutput, slice(b.x, [0, 0], [-1, k])),
    'another batch': (dOutput) => mul(dOutput, mean(data.batch([1, 2]).x)),
    'a captured tensor without its flag': (dOutput, b) => {
      b.x.examples = null;
      return mul(dOutput, b.x.values()[0]!);
    },
    'a captured tensor with another': (dOutput, b) => {
      b.x.examples = { indices: null, random: null };
      return mul(dOutput, b.x.values()[0]!);
    },
  };
  for (const [name, read] of Object.entries(others)) {
    refused('EXAMPLES_READ', name, backward(read), ['ghost', 'materialize']);
  }
});

test('in a gradient inside the loss, a user’s backward keeps examples apart too', () => {
  const penalised =
    (row: Row): BatchLoss<Batch> =>
    (p, { x, y }) => {
      const { gradients: found } = gradients((t) => crossEntropy(defineOp(row)([logits(p, t)]), y), [x]);
      return sum(square(found[0]!), { axes: 1 });
    };
  engine.scope(() => void perExample(penalised(doubled), params, data.batch(indices)));
  refused(
    'EXAMPLES_MIXED',
    'host numbers',
    penalised({ ...doubled, backward: ({ dOutput }) => [constant(host(dOutput), [...dOutput.shape])] }),
  );
  refused('EXAMPLES_READ', 'captured numbers', (p, b) =>
    penalised({
      ...doubled,
      backward: ({ dOutput }) => {
        b.x.values();
        return [mul(dOutput, 2)];
      },
    })(p, b),
  );
});

test('randomness of a user’s op belongs to the example', () => {
  const random = (draw: (c: Forward<undefined>, i: number) => number): Row => ({
    ...doubled,
    forward: (c) =>
      void c.output.view().set(host(c.inputs[0]!).map((v, i) => v * draw(c, Math.floor(i / k)))) as undefined,
  });
  refused('EXAMPLES_MIXED', 'anyone’s', through(random(() => Math.random())), ['ghost']);
  const keyed = random(({ inputs: [x] }, i) => {
    const { indices: at, random: state } = x!.examples!;
    return Math.sin(at!.values()[i]! * 12.9 + state!.seed);
  });
  engine.scope(() => {
    const loss = through(keyed);
    for (let i = 0; i < 5; i++) perExample(loss, params, data.batch(indices, { seed: i }));
    // The table's dropout, inside of it, is the example's own.
    const dropped = through({
      ...doubled,
      forward: ({ inputs: [x], output }) => void output.view().set(dropout(x!, 0.5).values()) as undefined,
    });
    perExample(dropped, params, data.batch(indices, { seed: 1 }));
  });
});

test('several inputs: what all examples share is left whole, labels are cut with their rows', () => {
  const weighted = defineOp({
    name: 'weighted',
    dtypes: ['f32', 'i32', 'f32'],
    examples: 'apart',
    shape: ([x]) => x!.shape,
    forward: ({ inputs, output }) => {
      const [losses, labels, weights] = inputs.map((input) => input.values());
      return void output.view().set(losses!.map((v, i) => v * weights![labels![i]!]!)) as undefined;
    },
    backward: ({ engine: own, inputs: [, labels, weights], dOutput }) => {
      const [y, w] = [labels!.values(), weights!.values()];
      const factors = own.tensor(
        Float32Array.from(y, (label) => w[label]!),
        [...dOutput.shape],
      );
      factors.examples = dOutput.examples;
      return [mul(dOutput, factors), null, null];
    },
  });
  engine.scope(() => {
    const classWeights = constant([1, 2, 0.5], [k]);
    const loss: BatchLoss<Batch> = (p, b) => weighted([plain(p, b), b.y, classWeights]);
    const plainNorms = perExample(plain, params, data.batch(indices)).norms().values();
    for (const strategy of strategies) {
      const g = perExample(loss, params, data.batch(indices), { strategy }).norms().values();
      indices.forEach((index, i) => {
        const expected = plainNorms[i]! * [1, 2, 0.5][index % k]!;
        assert.ok(Math.abs(g[i]! - expected) < 1e-5 * expected);
      });
    }
    // A table whose rows happen to be as many as the examples is no row of them.
    const rows = constant(
      new Float32Array(indices.length).map((_, i) => i + 1),
      [indices.length],
    );
    const byPlace = defineOp({
      name: 'byPlace',
      examples: 'apart',
      shape: ([x]) => x!.shape,
      forward: ({ inputs: [x, w], output }) =>
        void output.view().set(host(x!).map((v, i) => v * host(w!)[i]!)) as undefined,
      backward: ({ dOutput }) => [dOutput, null],
    });
    refused('EXAMPLES_MIXED', 'by place', (p, b) => byPlace([plain(p, b), rows]), ['ghost']);
  });
});

test.run();
