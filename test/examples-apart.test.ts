// In a loss under perExample every example must be treated alone. What could mix examples is refused by name: host reads, other
// batches' examples, and what was computed from a whole batch before.
import {
  asExamples,
  type Batch,
  type BatchLoss,
  concat,
  conv2d,
  countCorrect,
  crossEntropy,
  div,
  gradients,
  groupNorm,
  matmul,
  mean,
  mul,
  Parameters,
  perExample,
  reshape,
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
import {
  constant,
  d,
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

test.run();
