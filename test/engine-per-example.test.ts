// Per-example gradients: three strategies, one answer; and what must not be answered by ghost norms is not.
import fc from 'fast-check';
import { clipFactors } from 'gradshape/dp';
import {
  add,
  asExamples,
  type BatchLoss,
  broadcastTo,
  createEngineSync,
  crossEntropy,
  type Dataset,
  denseLayer,
  div,
  dropout,
  exp,
  gradients,
  logSoftmax,
  matmul,
  max,
  mean,
  mul,
  Parameters,
  type PerExampleGradients,
  perExample,
  relu,
  reshape,
  type Strategy,
  sigmoid,
  sliceBatch,
  softmax,
  square,
  sub,
  sum,
  sumGradient,
  type Tensor,
  tanh,
  transpose,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

interface Batch {
  readonly x: Tensor;
  readonly y: Tensor;
}
type Loss = BatchLoss<Batch>;

const engine = createEngineSync();
const strategies: Strategy[] = ['loop', 'materialize', 'ghost'];

/** A small generator of its own: numbers in (−1, 1) from a seed. */
function noise(seed: number): () => number {
  let state = seed + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

const host = (t: Tensor): number[] => Array.from(t.values());
const largest = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);

function close(
  actual: readonly number[],
  expected: readonly number[],
  tolerance: number,
  what: string,
): void {
  assert.is(actual.length, expected.length, what);
  const scale = tolerance * (largest(expected) + 1e-3);
  actual.forEach((x, i) => {
    assert.ok(Math.abs(x - expected[i]!) <= scale, `${what}[${i}]: ${x}, expected ${expected[i]} ± ${scale}`);
  });
}

interface Network {
  readonly data: Dataset;
  readonly params: Parameters;
  readonly loss: Loss;
  readonly count: number;
  free(): void;
}

type Step = (p: Parameters, x: Tensor) => Tensor;

/** A random network on random data: dense layers of several spellings, activations, dropout, elementwise parameters. */
function network(g: fc.GeneratorValue): Network {
  const int = (min: number, max: number): number => g(() => fc.integer({ min, max }));
  const random = noise(g(fc.nat));
  const count = int(1, 7);
  const positions = [0, 1, 2, 3, 5][int(0, 4)]!;
  let width = int(1, 6);
  const shape = positions === 0 ? [width] : [positions, width];
  const specs: { name: string; shape: number[] }[] = [];
  const steps: Step[] = [];
  const parameter = (name: string, ...own: number[]): ((p: Parameters) => Tensor) => {
    const full = `${specs.length}.${name}`;
    specs.push({ name: full, shape: own });
    return (p) => p.get(full);
  };
  const layer = (next: number): void => {
    const kind = int(0, 3);
    if (kind === 0) {
      const w = parameter('weight', width, next);
      steps.push((p, x) => matmul(x, w(p)));
    } else if (kind === 1) {
      const [w, b] = [parameter('weight', next, width), parameter('bias', next)];
      steps.push((p, x) => add(b(p), matmul(x, w(p), { transposeB: true })));
    } else {
      const [w, b] = [parameter('weight', width, next), parameter('bias', next)];
      steps.push((p, x) => denseLayer(x, w(p), b(p), kind === 2 ? 'relu' : 'none'));
    }
    width = next;
  };
  for (let i = int(1, 3); i > 0; i--) {
    layer(int(1, 12));
    const extra = int(0, 6);
    if (extra === 1) {
      const scale = parameter('scale', width);
      steps.push((p, x) => mul(scale(p), x));
    } else if (extra === 2 && positions > 0) {
      const table = parameter('table', 1, positions, width);
      steps.push((p, x) => sub(x, table(p)));
    } else if (extra === 3) {
      const one = parameter('one');
      steps.push((p, x) => div(x, exp(one(p)))); // exp of a parameter has no rule
    } else if (extra === 4) {
      const one = parameter('one', 1);
      steps.push((p, x) => div(x, add(square(x), one(p))));
    }
    const activation = [(x: Tensor) => x, relu, tanh, sigmoid][int(0, 3)]!;
    steps.push((_, x) => activation(x));
    if (int(0, 2) === 0) steps.push((_, x) => dropout(x, 0.3, i));
  }
  if (positions > 0) {
    const flat = positions * width;
    if (int(0, 1) === 0) steps.push((_, x) => mean(x, { axes: 1 }));
    else {
      steps.push((_, x) => reshape(x, [x.shape[0]!, flat]));
      width = flat;
    }
  }
  layer(3);
  const squares = int(0, 2) === 0;
  const params = new Parameters(engine, specs);
  params.load(Float32Array.from({ length: params.size }, () => random() + 0.05));
  const size = shape.reduce((a, b) => a * b, 1);
  const data = engine.dataset({
    x: Float32Array.from({ length: count * size }, () => 2 * random()),
    y: Uint8Array.from({ length: count }, () => Math.floor(1.5 * (random() + 1))),
    shape,
  });
  return {
    data,
    params,
    count,
    loss: (p, b) => {
      const logits = steps.reduce((x, step) => step(p, x), b.x);
      return squares ? mean(square(logits), { axes: 1 }) : crossEntropy(logits, b.y);
    },
    free() {
      data.free();
      params.free();
    },
  };
}

/** Runs `body` on random networks, in a scope. */
function onNetworks(runs: number, seed: number, body: (n: Network, g: fc.GeneratorValue) => void): void {
  fc.assert(
    fc.property(fc.gen(), (g) => {
      const n = network(g);
      engine.scope(() => body(n, g));
      n.free();
    }),
    { seed, numRuns: runs, endOnFailure: true, includeErrorInReport: true },
  );
}

const everything = (count: number) => Array.from({ length: count }, (_, i) => i);
const random = { seed: 5, step: 2 };

/** What of a handle's parameters is kept in which form. */
const forms = (g: PerExampleGradients): string[] =>
  (g as unknown as { held?: { kind: string }[] }).held?.map(({ kind }) => kind) ?? [];

test('loop, materialize and ghost agree on random networks', () => {
  const seen = new Set<string>();
  onNetworks(150, 1, ({ params, loss, data, count }, g) => {
    if (g(fc.boolean)) params.freeze([params.entries[0]!.name]);
    const batch = data.batch(everything(count), random);
    const draw = noise(g(fc.nat));
    const vector = (n: number) => Float32Array.from({ length: n }, draw);
    const weights = [vector(count), vector(count).map((w, i) => (i % 2 ? w : 0))];
    const direction = engine.tensor(vector(params.size));
    const [loop, ...others] = strategies.map((strategy) => perExample(loss, params, batch, { strategy })) as [
      PerExampleGradients,
      PerExampleGradients,
      PerExampleGradients,
    ];
    const gradient = host(loop.array());
    const rows = Array.from({ length: count }, (_, i) =>
      gradient.slice(i * params.size, (i + 1) * params.size),
    );
    close(
      [...loop.norms().values()],
      rows.map((row) => Math.hypot(...row)),
      1e-6,
      'the loop’s norms',
    );
    for (const other of others) {
      const tolerance = 2e-5;
      forms(other).forEach((form) => {
        seen.add(form);
      });
      seen.add(other.strategy);
      assert.is(other.batch, count);
      assert.equal(other.fallback === null, other.strategy !== 'loop');
      close(host(other.losses), host(loop.losses), 1e-6, 'losses');
      close([...other.norms().values()], [...loop.norms().values()], tolerance, 'norms');
      close(host(other.norms().tensor()), [...loop.norms().values()], tolerance, 'norms as a tensor');
      for (const { name } of params.entries) {
        close([...other.norms(name).values()], [...loop.norms(name).values()], tolerance, `norms of ${name}`);
      }
      close(host(other.dots(direction)), host(loop.dots(direction)), tolerance, 'dots');
      close(host(other.array()), gradient, tolerance, 'array');
      const sums = other.weightedSums(weights);
      loop.weightedSums(weights).forEach((expected, i) => {
        close(host(sums[i]!), host(expected), tolerance, `weighted sum ${i}`);
      });
    }
    close(
      host(sumGradient(loss, params, batch).gradient),
      host(loop.weightedSums([null])[0]!),
      2e-5,
      'sumGradient',
    );
    for (const { name, offset, size } of params.entries) {
      if (params.trainableEntries.some((entry) => entry.name === name)) continue;
      assert.is(largest(rows.flatMap((row) => row.slice(offset, offset + size))), 0, 'frozen');
    }
  });
  assert.equal([...seen].sort(), ['ghost', 'loop', 'materialize', 'rows']);
});

interface Held {
  kind: string;
  entry: { offset: number; size: number };
  of: { use: unknown; rule: { ghost: { positions(use: unknown): number } } };
}

test('sumGradient is the weighted sum with ones, to the bit where examples have one position', () => {
  onNetworks(60, 2, ({ params, loss, data, count }) => {
    const batch = data.batch(everything(count), random);
    const g = perExample(loss, params, batch);
    if (g.strategy === 'loop') return;
    const [ones, unweighted] = g.weightedSums([new Float32Array(count).fill(1), null]);
    close(host(unweighted!), host(ones!), 1e-6, 'all ones');
    const gradient = host(sumGradient(loss, params, batch).gradient);
    close(gradient, host(ones!), 1e-6, 'sumGradient');
    const { held } = g as unknown as { held: Held[] };
    for (const { kind, entry, of } of held) {
      const part = (values: number[]) => values.slice(entry.offset, entry.offset + entry.size);
      if (kind !== 'ghost' || of.rule.ghost.positions(of.use) > 1) continue;
      assert.equal(part(gradient), part(host(ones!)));
      assert.equal(part(host(unweighted!)), part(host(ones!)));
    }
  });
});

test('a batch in pieces gives the bits of the whole: norms, sums, losses', () => {
  onNetworks(120, 3, ({ params, loss, data, count }, g) => {
    const cut = g(() => fc.nat(count));
    const indices = everything(count).map((i) => (i * 3 + 1) % count);
    const draw = noise(7);
    const weights = Float32Array.from({ length: count }, draw);
    const strategy = strategies[g(() => fc.nat(2))]!;
    const whole = data.batch(indices, random);
    const at = perExample(loss, params, whole, { strategy });
    const [expected] = at.weightedSums([weights]);
    const pieces = g(fc.boolean)
      ? [data.batch(indices.slice(0, cut), random), data.batch(indices.slice(cut), random)]
      : [sliceBatch(whole, 0, cut), sliceBatch(whole, cut, count)];
    const into = engine.full([params.size], 0);
    const norms: number[] = [];
    const losses: number[] = [];
    pieces.forEach((piece, i) => {
      const of = perExample(loss, params, piece, { strategy });
      norms.push(...of.norms().values());
      losses.push(...of.losses.values());
      const returned = of.weightedSums([weights.slice(i === 0 ? 0 : cut, i === 0 ? cut : count)], [into]);
      assert.is(returned[0], into);
    });
    assert.equal(losses, host(at.losses));
    assert.equal(norms, [...at.norms().values()]);
    assert.equal(
      host(into).map((x) => x + 0),
      host(expected!).map((x) => x + 0),
    ); // −0 is 0
  });
});

test('an empty batch: no norms, sums of 0, for each strategy', () => {
  onNetworks(40, 4, ({ params, loss, data }) => {
    for (const strategy of strategies) {
      const g = perExample(loss, params, data.batch([], random), { strategy });
      assert.is(g.batch, 0);
      assert.equal([...g.norms().values(), ...host(g.losses), ...host(g.array())], []);
      assert.equal(g.array().shape, [0, params.size]);
      assert.equal(host(g.weightedSums([[]])[0]!), new Array(params.size).fill(0));
      assert.equal(host(g.dots(engine.full([params.size], 1))), []);
      g.discardNonFinite();
    }
    assert.equal(
      host(sumGradient(loss, params, data.batch([], random)).gradient),
      new Array(params.size).fill(0),
    );
  });
});

/** One example's loss in float64 for 'dense tanh dense cross-entropy' on [T, d], the mean over positions between. */
function float64Loss(
  p: Float64Array,
  x: number[][],
  y: number,
  [d, h, c]: readonly [number, number, number],
): number {
  const hidden = new Array<number>(h).fill(0);
  for (const row of x) {
    for (let j = 0; j < h; j++) {
      let z = p[d * h + j]!;
      for (let i = 0; i < d; i++) z += row[i]! * p[i * h + j]!;
      hidden[j]! += Math.tanh(z) / x.length;
    }
  }
  const from = d * h + h;
  const logits = Array.from({ length: c }, (_, k) =>
    hidden.reduce((z, value, j) => z + value * p[from + j * c + k]!, p[from + h * c + k]!),
  );
  const top = Math.max(...logits);
  return top + Math.log(logits.reduce((total, z) => total + Math.exp(z - top), 0)) - logits[y]!;
}

test('norms against a float64 network, and clipped gradients within C', () => {
  const [d, h, c] = [5, 8, 3] as const;
  for (const [seed, positions] of [
    [1, 1],
    [2, 2],
    [3, 6],
    [4, 12],
  ] as const) {
    const draw = noise(seed);
    const count = 6;
    const params = new Parameters(engine, [
      { name: 'w0', shape: [d, h] },
      { name: 'b0', shape: [h] },
      { name: 'w1', shape: [h, c] },
      { name: 'b1', shape: [c] },
    ]);
    params.load(Float32Array.from({ length: params.size }, draw));
    const x = Float32Array.from({ length: count * positions * d }, () => 3 * draw());
    const y = Array.from({ length: count }, (_, i) => i % c);
    using data = engine.dataset({ x, y, shape: [positions, d] });
    const loss: Loss = (p, b) => {
      const hidden = mean(tanh(denseLayer(b.x, p.get('w0'), p.get('b0'))), { axes: 1 });
      return crossEntropy(denseLayer(hidden, p.get('w1'), p.get('b1')), b.y);
    };
    const values = Float64Array.from(params.values());
    const truth = y.map((label, e) => {
      const rows = Array.from({ length: positions }, (_, t) =>
        Array.from(x.subarray((e * positions + t) * d, (e * positions + t + 1) * d)),
      );
      const slopes = values.map((value, i) => {
        const f = (step: number) => float64Loss(values.with(i, value + step), rows, label, [d, h, c]);
        return (8 * (f(1e-3) - f(-1e-3)) - (f(2e-3) - f(-2e-3))) / 12e-3; // error O(h⁴)
      });
      return { norm: Math.hypot(...slopes), loss: float64Loss(values, rows, label, [d, h, c]) };
    });
    engine.scope(() => {
      const batch = data.batch(y.map((_, i) => i));
      for (const strategy of strategies) {
        const g = perExample(loss, params, batch, { strategy });
        close(
          host(g.losses),
          truth.map((t) => t.loss),
          1e-6,
          'losses',
        );
        close(
          [...g.norms().values()],
          truth.map((t) => t.norm),
          2e-6,
          'norms',
        );
        for (const clipNorm of [0.01, 0.3, 1, 100]) {
          const factors = host(clipFactors(g.norms(), { clipNorm }));
          factors.forEach((factor, i) => {
            const weights = new Float32Array(count);
            weights[i] = factor;
            const [alone] = g.weightedSums([weights]);
            const norm = Math.hypot(...host(alone!));
            assert.ok(norm <= clipNorm, `‖clipped‖ is ${norm}, above ${clipNorm}`);
            assert.ok(
              factor * truth[i]!.norm <= clipNorm * (1 + 1e-6),
              `${factor} · ${truth[i]!.norm} > ${clipNorm}`,
            );
            assert.ok(factor === 1 || norm > clipNorm * (1 - 1e-5), 'and not clipped by more than needed');
          });
        }
      }
    });
    params.free();
  }
});

/** Parameters 'w' [d, d] and 'b' [d], a batch of three examples with d = 3. */
function small(positions = 0) {
  const params = new Parameters(engine, [
    { name: 'w', shape: [3, 3] },
    { name: 'b', shape: [3] },
  ]);
  const draw = noise(11);
  params.load(Float32Array.from({ length: params.size }, draw));
  const shape = positions === 0 ? [3] : [positions, 3];
  const x = Float32Array.from({ length: 3 * 3 * Math.max(positions, 1) }, draw);
  const data = engine.dataset({ x, y: [0, 1, 2], shape });
  return { params, data };
}

test('a parameter used twice: ghost instantiates it, and norms are of the sum of its gradients', () => {
  const { params, data } = small();
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    const doubled: Loss = (p, { x }) => sum(add(matmul(x, p.get('w')), matmul(x, p.get('w'))), { axes: 1 });
    const chained: Loss = (p, { x, y }) => crossEntropy(matmul(tanh(matmul(x, p.get('w'))), p.get('w')), y);
    for (const loss of [doubled, chained]) {
      const [loop, materialize, ghost] = strategies.map((strategy) =>
        perExample(loss, params, batch, { strategy }),
      );
      assert.is(ghost!.strategy, 'ghost');
      assert.is(ghost!.fallback, "'w' used more than once: instantiated");
      assert.is(materialize!.fallback, null);
      for (const g of [materialize!, ghost!]) {
        close([...g.norms().values()], [...loop!.norms().values()], 1e-6, 'norms');
        close(
          host(g.weightedSums([[1, -2, 0.5]])[0]!),
          host(loop!.weightedSums([[1, -2, 0.5]])[0]!),
          1e-6,
          'sums',
        );
      }
    }
    // The gradient is 2·x for each of w's three columns; norms that add would give √2 of it.
    const norms = perExample(doubled, params, batch).norms().values();
    const x = host(batch.x);
    close(
      [...norms],
      [0, 1, 2].map((i) => 2 * Math.sqrt(3) * Math.hypot(...x.slice(3 * i, 3 * i + 3))),
      1e-6,
      'by hand',
    );
  });
  data.free();
  params.free();
});

test('masked, transposed, squeezed and decayed parameters fall back to loop, by name', () => {
  const { params, data } = small(2);
  const classes = (logits: Tensor, y: Tensor) => crossEntropy(mean(logits, { axes: 1 }), y);
  engine.scope(() => {
    const batch = data.batch([2, 0, 1]);
    const mask = engine.tensor([1, 0, 1, 0, 1, 0, 1, 1, 0], [3, 3]);
    const losses: Record<string, Loss> = {
      mul: (p, { x, y }) => classes(matmul(x, mul(p.get('w'), mask)), y),
      transpose: (p, { x, y }) => classes(matmul(x, transpose(p.get('w'))), y),
      reshape: (p, { x, y }) => classes(matmul(x, reshape(reshape(p.get('w'), [9]), [3, 3])), y),
      exp: (p, { x, y }) => classes(matmul(x, exp(p.get('w'))), y),
      square: (p, { x, y }) => add(classes(matmul(x, p.get('w')), y), mul(sum(square(p.get('w'))), 0.1)),
    };
    for (const [op, loss] of Object.entries(losses)) {
      const expected = perExample(loss, params, batch, { strategy: 'loop' });
      assert.is(expected.fallback, null);
      for (const strategy of ['ghost', 'materialize'] as const) {
        const g = perExample(loss, params, batch, { strategy });
        assert.is(g.strategy, 'loop');
        assert.is(g.fallback, `'w' is used by ${op}, which has no per-example rule there`);
        assert.equal([...g.norms().values()], [...expected.norms().values()]);
        assert.ok(
          g
            .norms('w')
            .values()
            .every((norm) => norm > 0),
        );
      }
    }
    // Decay belongs to every example's gradient: three times in the sum.
    const decay: Loss = (p, { x }) => add(mul(sum(x, { axes: [1, 2] }), 0), sum(mul(p.get('w'), p.get('w'))));
    const [total] = perExample(decay, params, batch).weightedSums([[1, 1, 1]]);
    close(host(total!), [...host(params.get('w')).map((w) => 6 * w), 0, 0, 0], 1e-6, 'decay');
    close(host(sumGradient(decay, params, batch).gradient), host(total!), 1e-6, 'sumGradient');
  });
  data.free();
  params.free();
});

test('ops that mix examples are EXAMPLES_MIXED in each strategy', () => {
  const { params, data } = small();
  const flat: Loss = (p, { x, y }) => crossEntropy(matmul(x, p.get('w')), y);
  const logits = (p: Parameters, x: Tensor) => matmul(x, p.get('w'));
  const mixing: Record<string, Loss> = {
    'sum over the batch': (p, b) => sum(logits(p, b.x), { axes: 0 }),
    'sum over everything': (p, b) => sum(logits(p, b.x)),
    'mean over the batch': (p, b) => sum(sub(logits(p, b.x), mean(logits(p, b.x), { axes: 0 })), { axes: 1 }),
    'mean kept': (p, b) =>
      sum(sub(logits(p, b.x), mean(logits(p, b.x), { axes: 0, keepDims: true })), { axes: 1 }),
    'max over the batch': (p, b) => sum(sub(logits(p, b.x), max(b.x, { axes: [0, 1] })), { axes: 1 }),
    'softmax over the batch': (p, b) => sum(softmax(logits(p, b.x), 0), { axes: 1 }),
    'log-softmax over the batch': (p, b) => sum(logSoftmax(logits(p, b.x), 0), { axes: 1 }),
    'reshape across': (p, b) => crossEntropy(reshape(reshape(logits(p, b.x), [-1]), [-1, 3]), b.y),
    'transpose of axis 0': (p, b) => crossEntropy(transpose(logits(p, b.x)), b.y),
    'the batch times itself': (p, b) =>
      sum(matmul(logits(p, b.x), logits(p, b.x), { transposeB: true }), { axes: 1 }),
    'a sum as a product': (p, b) =>
      sum(matmul(engine.full([b.x.shape[0]!, b.x.shape[0]!], 1), logits(p, b.x)), { axes: 1 }),
    'the batch as weights of stacks': (p, b) =>
      sum(matmul(asExamples(engine.full([b.x.shape[0]!, 2, b.x.shape[0]!], 1)), logits(p, b.x)), {
        axes: [1, 2],
      }),
    'own rows for a stack': (p, b) =>
      sum(matmul(reshape(logits(p, b.x), [-1, 1, 3]), engine.full([b.x.shape[0]!, 3, 2], 1)), {
        axes: [1, 2],
      }),
    '[batch] against [batch, batch]': (p, b) =>
      sum(add(sum(logits(p, b.x), { axes: 1 }), engine.full([b.x.shape[0]!, b.x.shape[0]!], 0)), { axes: 1 }),
    '[batch] against [batch, 1]': (p, b) => {
      const total = sum(logits(p, b.x), { axes: 1, keepDims: true });
      return sum(mul(total, sum(b.x, { axes: 1 })), { axes: 1 });
    },
    'rows that are not the examples': (p, b) =>
      sum(mul(logits(p, b.x), engine.full([b.x.shape[0]! === 1 ? 2 : b.x.shape[0]!, 3], 1)), { axes: 1 }),
    'a broadcast over the batch': (p, b) =>
      sum(broadcastTo(logits(p, b.x), [2, b.x.shape[0]!, 3]), { axes: [0, 2] }),
    'labels of nobody': (p, b) =>
      crossEntropy(logits(p, b.x), engine.tensor(new Array(b.x.shape[0]).fill(0), undefined, 'i32')),
  };
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    for (const [name, loss] of Object.entries(mixing)) {
      for (const strategy of strategies) {
        const text = throwsCode('EXAMPLES_MIXED', () => {
          perExample(loss, params, batch, { strategy });
          assert.unreachable(`${name} passed under ${strategy}`);
        });
        assert.match(text, /mixes the examples.*Keep axis 0/);
      }
    }
    // The same is fine outside, where a batch is a batch.
    sumGradient((p, b: Batch) => sum(logits(p, b.x), { axes: 0 }), params, batch);
    perExample(flat, params, batch);
  });
  data.free();
  params.free();
});

test('an example of its own shape: a parameter with the batch’s length on axis 0 is refused', () => {
  const params = new Parameters(engine, [
    { name: 'rows', shape: [3, 2] },
    { name: 'stack', shape: [3, 2, 2] },
    { name: 'one', shape: [3] },
  ]);
  engine.scope(() => {
    const x = asExamples(engine.full([3, 2], 1));
    const losses: BatchLoss<{ x: Tensor }>[] = [
      (p, b) => sum(mul(b.x, p.get('rows')), { axes: 1 }),
      (p, b) => add(sum(b.x, { axes: 1 }), p.get('one')),
      (p, b) => sum(matmul(reshape(b.x, [-1, 1, 2]), p.get('stack')), { axes: [1, 2] }),
    ];
    for (const loss of losses) {
      for (const strategy of ['ghost', 'materialize'] as const) {
        throwsCode('EXAMPLES_MIXED', () => perExample(loss, params, { x }, { strategy }));
      }
    }
  });
  params.free();
});

test('LOSS_SHAPE: an averaged loss, a matrix of losses, no tensor, and no batch in it', () => {
  const { params, data } = small();
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    const rowsOf = (p: Parameters, b: Batch) => matmul(b.x, p.get('w'));
    for (const strategy of strategies) {
      const code = (loss: Loss) =>
        throwsCode('LOSS_SHAPE', () => perExample(loss, params, batch, { strategy }));
      assert.match(
        code((p, b) => rowsOf(p, b)),
        /\[batch\]/,
      );
      code((p, b) => sum(rowsOf(p, b), { axes: 1, keepDims: true }));
      code((p) => sum(p.get('w')));
      code(() => 3 as unknown as Tensor);
      code(() => undefined as unknown as Tensor);
      // An average is caught where it mixes the examples.
      throwsCode('EXAMPLES_MIXED', () =>
        perExample((p, b: Batch) => mean(rowsOf(p, b)), params, batch, { strategy }),
      );
    }
    throwsCode('LOSS_SHAPE', () => sumGradient(() => 3 as unknown as Tensor, params, batch));
  });
  data.free();
  params.free();
});

test('frozen parameters: no norm, no sum, and the others as they were', () => {
  const { params, data } = small();
  const loss: Loss = (p, { x, y }) => crossEntropy(denseLayer(x, p.get('w'), p.get('b')), y);
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    for (const strategy of strategies) {
      params.unfreeze();
      const all = perExample(loss, params, batch, { strategy });
      const [whole] = all.weightedSums([[1, 2, 3]]);
      params.freeze(['w']);
      const some = perExample(loss, params, batch, { strategy });
      assert.equal([...some.norms('w').values()], [0, 0, 0]);
      assert.equal([...some.norms().values()], [...all.norms('b').values()]);
      const [part] = some.weightedSums([[1, 2, 3]]);
      assert.equal(host(part!), [...new Array(9).fill(0), ...host(whole!).slice(9)]);
      const into = engine.full([12], 7);
      some.weightedSums([[0, 0, 0]], [into]);
      assert.equal(host(into), new Array(12).fill(7));
      params.freeze();
      const none = perExample(loss, params, batch, { strategy });
      assert.equal(
        [...none.norms().values(), ...host(none.weightedSums([[1, 1, 1]])[0]!)],
        new Array(15).fill(0),
      );
      close(host(none.losses), host(all.losses), 1e-6, 'losses');
    }
  });
  data.free();
  params.free();
});

test('a parameter the loss does not use has gradient 0', () => {
  const { params, data } = small();
  engine.scope(() => {
    for (const strategy of strategies) {
      const g = perExample(
        (p, { x, y }: Batch) => crossEntropy(matmul(x, p.get('w')), y),
        params,
        data.batch([0]),
        { strategy },
      );
      assert.is(g.fallback, null);
      assert.equal([...g.norms('b').values()], [0]);
      assert.equal(host(g.weightedSums([[1]])[0]!).slice(9), [0, 0, 0]);
      throwsCode('PARAMETER_UNKNOWN', () => g.norms('c'));
    }
  });
  data.free();
  params.free();
});

test('a gradient that is not finite is discarded: sums are those without it, and the batch stays as it was', () => {
  const params = new Parameters(engine, [
    { name: 'w0', shape: [2, 4] },
    { name: 'b0', shape: [4] },
    { name: 's', shape: [4] },
    { name: 'w1', shape: [4, 2] },
  ]);
  params.load(Float32Array.from({ length: params.size }, noise(5)).map((w) => 2 * w));
  const huge = 3e38;
  for (const positions of [1, 2, 3]) {
    const x = Float32Array.from({ length: 4 * 2 * positions }, noise(6));
    x[2 * positions + 1] = huge; // in example 1
    using data = engine.dataset({ x, y: [0, 1, 0, 1], shape: [positions, 2] });
    const loss: Loss = (p, b) => {
      const hidden = mul(denseLayer(b.x, p.get('w0'), p.get('b0')), p.get('s'));
      return crossEntropy(mean(matmul(hidden, p.get('w1')), { axes: 1 }), b.y);
    };
    engine.scope(() => {
      for (const strategy of strategies) {
        const batch = data.batch([0, 1, 2, 3]);
        const g = perExample(loss, params, batch, { strategy });
        const norms = [...g.norms().values()];
        assert.equal(norms.map(Number.isFinite), [true, false, true, true]);
        const factors = clipFactors(g.norms(), { clipNorm: 0.5 });
        assert.is(factors.values()[1], 0);
        engine.scope(() => g.discardNonFinite());
        const [actual] = g.weightedSums([factors]);
        assert.ok(host(g.weightedSums([[1, 0, 1, 1]])[0]!).every(Number.isFinite));
        const others = perExample(loss, params, data.batch([0, 2, 3]), { strategy });
        const [expected] = others.weightedSums([host(factors).filter((_, i) => i !== 1)]);
        assert.equal(
          host(actual!).map((v) => v + 0),
          host(expected!).map((v) => v + 0),
          strategy,
        );
        assert.ok(host(actual!).some((v) => v !== 0));
        assert.equal(host(batch.x), [...x]);
        g.discardNonFinite();
      }
    });
  }
  params.free();
});

test('what was not finite is left out by one copy of the batch, however many groups are summed', () => {
  const own = createEngineSync();
  const count = 20_000;
  const x = Float32Array.from({ length: count * 50 }, (_, i) => Math.sin(i));
  x.fill(3e38, 0, 50);
  const data = own.dataset({ x, y: Int32Array.from({ length: count }, (_, i) => i % 2), shape: [50] });
  const params = new Parameters(own, [
    { name: 'w', shape: [50, 2] },
    { name: 'b', shape: [2] },
  ]);
  params.load(Float32Array.from({ length: params.size }, (_, i) => Math.cos(i)));
  own.scope(() => {
    const batch = data.batch(Int32Array.from({ length: count }, (_, i) => i));
    const g = perExample((p, b) => crossEntropy(denseLayer(b.x, p.get('w'), p.get('b')), b.y), params, batch);
    g.norms();
    const before = own.memory.bytesInUse;
    g.discardNonFinite();
    const [sum] = g.weightedSums([null]);
    assert.ok(host(sum!).every(Number.isFinite));
    const copies = (own.memory.bytesInUse - before) / (count * 52 * 4);
    assert.ok(copies < 3, `${copies} times the batch, for ${count / 256} groups`);
  });
});

test('weightedSums: rows of weights in any form, and into tensors that fit', () => {
  const { params, data } = small();
  const loss: Loss = (p, { x, y }) => crossEntropy(denseLayer(x, p.get('w'), p.get('b')), y);
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    for (const strategy of strategies) {
      const g = perExample(loss, params, batch, { strategy });
      const rows = g.weightedSums([[1, 2, 3], Float32Array.of(1, 2, 3), engine.tensor([1, 2, 3])]);
      for (const row of rows) assert.equal(host(row), host(rows[0]!));
      assert.equal(g.weightedSums([]), []);
      const into = [engine.full([12], 1), engine.full([12], 2)];
      g.weightedSums(
        [
          [1, 2, 3],
          [0, 0, 0],
        ],
        into,
      );
      close(
        host(into[0]!),
        host(rows[0]!).map((v) => v + 1),
        1e-6,
        'into',
      );
      assert.equal(host(into[1]!), new Array(12).fill(2));
      const wrong = (weights: number[][], tensors?: Tensor[]) =>
        throwsCode('SHAPE_MISMATCH', () => g.weightedSums(weights, tensors));
      assert.match(wrong([[1, 2]]), /\[2\].*\[3\], one number an example/);
      assert.match(wrong([[1, 2, 3]], [engine.full([11], 0)]), /\[11\].*\[12\]/);
      wrong(
        [
          [1, 2, 3],
          [1, 2, 3],
        ],
        [engine.full([12], 0)],
      );
      assert.match(
        throwsCode('SHAPE_MISMATCH', () => g.dots(engine.full([3], 0))),
        /dots.*\[3\].*\[12\]/,
      );
      const other = createEngineSync();
      other.scope(() => {
        throwsCode('ENGINE_MISMATCH', () => g.dots(other.full([12], 0)));
        throwsCode('ENGINE_MISMATCH', () => g.weightedSums([other.full([3], 0)]));
        throwsCode('ENGINE_MISMATCH', () => g.weightedSums([[1, 2, 3]], [other.full([12], 0)]));
      });
    }
    throwsCode('SHAPE_MISMATCH', () => sumGradient(loss, params, batch, engine.full([11], 0)));
    throwsCode('STRATEGY_UNKNOWN', () => perExample(loss, params, batch, { strategy: 'fast' as Strategy }));
  });
  data.free();
  params.free();
});

test('a handle serves inner scopes, and not after its own', () => {
  const { params, data } = small(2);
  const loss: Loss = (p, { x, y }) =>
    crossEntropy(mean(denseLayer(x, p.get('w'), p.get('b')), { axes: 1 }), y);
  const late: PerExampleGradients[] = [];
  engine.scope(() => {
    for (const strategy of strategies) {
      const g = perExample(loss, params, data.batch([0, 1, 2]), { strategy });
      const ask = () => [
        ...g.norms().values(),
        ...g.norms('w').values(),
        ...host(g.dots(engine.full([12], 1))),
        ...host(g.weightedSums([[1, 2, 3]])[0]!),
        ...host(g.array()),
      ];
      const inner = engine.scope(ask);
      engine.scope(() => engine.full([100], Number.NaN));
      assert.equal(ask(), inner);
      engine.scope(() => g.discardNonFinite());
      assert.equal(ask(), inner);
      late.push(g);
    }
  });
  engine.scope(() => {
    engine.full([1000], Number.NaN);
    for (const g of late) {
      throwsCode('TENSOR_USED_LATE', () => g.norms().values());
      throwsCode('TENSOR_USED_LATE', () => g.norms('b').values());
      throwsCode('TENSOR_USED_LATE', () => g.dots(engine.full([12], 1)));
      throwsCode('TENSOR_USED_LATE', () => g.weightedSums([[1, 2, 3]]));
      throwsCode('TENSOR_USED_LATE', () => host(g.array()));
    }
  });
  data.free();
  params.free();
});

test('a batch that was changed in place, itself or through an alias or a slice, has the norms of what it is now', () => {
  const { params, data } = small();
  const loss: Loss = (p, { x, y }) => crossEntropy(matmul(x, p.get('w')), y);
  const changes: ((x: Tensor) => void)[] = [
    (x) => void x.view().fill(2),
    (x) => void reshape(x, [3, 3]).view().fill(2),
    (x) => void sliceBatch({ x }, 1, 2).x.view().fill(2),
  ];
  for (const change of changes) {
    engine.scope(() => {
      const batch = data.batch([0, 1, 2]);
      perExample(loss, params, batch).norms();
      change(batch.x);
      const [loop, , ghost] = strategies.map((strategy) => perExample(loss, params, batch, { strategy }));
      close([...ghost!.norms().values()], [...loop!.norms().values()], 1e-6, 'norms');
    });
  }
  data.free();
  params.free();
});

test('a gradient inside the loss: an input-gradient penalty falls back, and is right', () => {
  const { params, data } = small();
  const loss: Loss = (p, b) => {
    const {
      value,
      gradients: [dx],
    } = gradients((x) => crossEntropy(tanh(matmul(x, p.get('w'))), b.y), [b.x]);
    return add(value, sum(square(dx!), { axes: 1 }));
  };
  engine.scope(() => {
    const batch = data.batch([0, 1, 2]);
    const expected = perExample(loss, params, batch, { strategy: 'loop' });
    for (const strategy of ['ghost', 'materialize'] as const) {
      const g = perExample(loss, params, batch, { strategy });
      close([...g.norms().values()], [...expected.norms().values()], 1e-5, strategy);
    }
    throwsCode('NO_SECOND_ORDER', () => gradients(() => perExample(loss, params, batch).losses, [batch.x]));
  });
  data.free();
  params.free();
});

test.run();
