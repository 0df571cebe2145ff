// A user's op under perExample: it declares what it does with examples, is checked, and is refused where it does something else.
import {
  type Batch,
  type BatchLoss,
  crossEntropy,
  defineOp,
  dropout,
  type Forward,
  gradients,
  mean,
  mul,
  type OpDefinition,
  perExample,
  slice,
  square,
  sub,
  sum,
  sumGradient,
  type Tensor,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';
import {
  constant,
  data,
  engine,
  indices,
  k,
  logits,
  params,
  plain,
  refused,
  strategies,
} from './examples-helpers.js';

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
