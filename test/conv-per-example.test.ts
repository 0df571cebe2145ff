// Per-example gradients of convolutions: the rule against a naive float64 convolution, the strategies against each other.
import fc from 'fast-check';
import {
  asExamples,
  conv2d,
  createEngineSync,
  denseLayer,
  maxPool2d,
  opTable,
  Parameters,
  type PerExampleRule,
  perExample,
  reshape,
  type Shape,
  sizeOf,
  sliceBatch,
  square,
  sum,
  sumGradient,
  type Tensor,
  tanh,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  addUp,
  type Convolution,
  convolutions,
  filterGradients,
  optionsOf,
  outputShape,
} from './conv-oracle.js';
import { near, same } from './kernel-harness.js';
import { numbers } from './numeric.js';

const engine = createEngineSync();
const rule = opTable.conv2d.perExample[1];

type Attributes = typeof rule extends PerExampleRule<infer A> ? A : never;

/** A use of the filter, with random numbers. */
function useOf(c: Convolution, seed: number) {
  const shape = outputShape(c);
  const x = numbers(seed, sizeOf(c.x));
  const dOut = numbers(seed + 1, sizeOf(shape));
  const filter = engine.tensor(numbers(seed + 2, sizeOf(c.filter)), c.filter);
  const output = engine.full(shape, 0);
  const use = {
    ...{
      engine,
      kernels: engine.kernels,
      inputs: [engine.tensor(x, c.x), filter, engine.full([shape[3]], 0)],
    },
    ...{
      attributes: { ...optionsOf(c), algorithm: 'auto', activation: 'none' } as Attributes,
      output,
      saved: [],
    },
    ...{ dOutput: engine.tensor(dOut, shape), argument: 1, batch: c.x[0] },
  };
  return { use, x, dOut, rows: filterGradients(c, x, dOut) };
}

const f64 = (count: number): Tensor => engine.allocate([count], 'f64');

test('the rule: instantiated gradients, weighted sums, ghost norms and dot products', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), fc.boolean(), (c, seed, accumulate) => {
      engine.scope(() => {
        const { use, rows } = useOf(c, seed);
        const [batch, size] = [c.x[0], sizeOf(c.filter)];
        const start = accumulate ? 0.5 : 0;
        const stride = size + 3;
        const out = engine.full([batch * stride], start);
        rule.instantiate(use, out.address, stride, accumulate);
        rows.forEach((row, i) => {
          const own = out.values().subarray(i * stride, i * stride + size);
          near(
            own,
            row.map((g) => g + start),
            2e-5,
            2e-5,
            `gradient ${i}`,
          );
          same(out.values().subarray(i * stride + size, (i + 1) * stride), new Float32Array(3).fill(start));
        });
        const weights = engine.tensor(numbers(seed + 3, batch));
        const total = engine.full([size], start);
        rule.weightedSum(use, weights.address, total.address, accumulate);
        const expected = addUp(rows, weights.values()).map((g) => g + start);
        near(total.values(), expected, 2e-5, 2e-5, 'weighted sum');
        const squared = f64(batch);
        rule.ghost!.squaredNorms(use, squared.address, 0);
        // In float64: exact but for its rounding.
        near(
          squared.view(),
          rows.map((row) => row.reduce((s, g) => s + g * g, 0)),
          1e-9,
          1e-9,
          'norm',
        );
        const direction = numbers(seed + 4, size);
        const dots = f64(batch);
        rule.ghost!.dots(use, engine.tensor(direction).address, dots.address);
        near(
          dots.view(),
          rows.map((row) => row.reduce((s, g, i) => s + g * direction[i]!, 0)),
          1e-4,
          1e-4,
          'dot product',
        );
      });
    }),
    { numRuns: 200 },
  );
});

test('a ghost norm is never below 0, however its terms cancel', () => {
  engine.scope(() => {
    const c: Convolution = {
      ...{ x: [1, 2, 2, 3], filter: [1, 1, 3, 1], stride: [1, 1], dilation: [1, 1], groups: 1 },
      padding: [
        [0, 0],
        [0, 0],
      ],
    };
    const { use } = useOf(c, 1);
    const x = use.inputs[0]!.view();
    for (let i = 0; i < 12; i++) x[i] = 1e3 * (1 + (i % 3) / 3);
    use.dOutput.view().set([1, -1, 1e-7, -1e-7]);
    const squared = f64(1);
    rule.ghost!.squaredNorms(use, squared.address, 0);
    assert.ok(squared.view()[0]! >= 0 && squared.view()[0]! < 1e-3, `${squared.view()[0]}`);
  });
});

test('a batch in pieces has the bits of the whole', () => {
  fc.assert(
    fc.property(convolutions, fc.nat(1e6), fc.integer({ min: 1, max: 4 }), (any, seed, piece) => {
      const c = { ...any, x: [5, ...any.x.slice(1)] as unknown as Convolution['x'] };
      engine.scope(() => {
        const { use } = useOf(c, seed);
        const size = sizeOf(c.filter);
        for (const weights of [0, engine.tensor(numbers(seed, 5)).address]) {
          const whole = engine.full([size], 0.25);
          rule.weightedSum(use, weights, whole.address, true);
          const inPieces = engine.full([size], 0.25);
          for (let from = 0; from < 5; from += piece) {
            const to = Math.min(from + piece, 5);
            const batch = sliceBatch({ x: asExamples(use.inputs[0]!), d: asExamples(use.dOutput) }, from, to);
            const inputs = [batch.x, ...use.inputs.slice(1)];
            const output = engine.full([to - from, ...use.output.shape.slice(1)], 0);
            const part = { ...use, inputs, output, dOutput: batch.d, batch: to - from };
            rule.weightedSum(part, weights && weights + from * 4, inPieces.address, true);
          }
          same(inPieces.values(), whole.values(), `pieces of ${piece}`);
        }
      });
    }),
    { numRuns: 60 },
  );
});

interface Network {
  readonly batch: number;
  readonly size: number;
  readonly channels: number;
  readonly widths: readonly [number, number];
  readonly kernels: readonly [number, number];
  readonly groups: number;
  readonly stride: number;
  readonly pool: boolean;
  readonly seed: number;
}

const networks: fc.Arbitrary<Network> = fc.record({
  batch: fc.integer({ min: 1, max: 5 }),
  size: fc.integer({ min: 5, max: 10 }),
  channels: fc.integer({ min: 1, max: 3 }),
  widths: fc
    .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 9 }))
    .map(([a, b]) => [2 * a, 2 * b]),
  kernels: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 })),
  groups: fc.constantFrom(1, 2),
  stride: fc.integer({ min: 1, max: 2 }),
  pool: fc.boolean(),
  seed: fc.nat(1e6),
}) as fc.Arbitrary<Network>;

/** Convolution, ReLU, perhaps pooling, a second convolution (strided, grouped), tanh, dense. */
function networkOf(n: Network) {
  const middle = n.pool ? n.size >> 1 : n.size;
  const last = Math.ceil(middle / n.stride);
  const shapes: Record<string, Shape> = {
    filter1: [n.kernels[0], n.kernels[0], n.channels, n.widths[0]],
    bias1: [n.widths[0]],
    filter2: [n.kernels[1], n.kernels[1], n.widths[0] / n.groups, n.widths[1]],
    bias2: [n.widths[1]],
    weight: [last * last * n.widths[1], 3],
    bias3: [3],
  };
  const params = new Parameters(
    engine,
    Object.entries(shapes).map(([name, shape]) => ({ name, shape })),
  );
  params.flat.view().set(numbers(n.seed, params.size, 0.5));
  const loss = (p: Parameters, { x }: { x: Tensor }): Tensor => {
    const at = (name: string): Tensor => p.get(name);
    let y = conv2d(x, at('filter1'), at('bias1'), { padding: 'same', activation: 'relu' });
    if (n.pool) y = maxPool2d(y, 2);
    const { stride, groups } = n;
    y = tanh(conv2d(y, at('filter2'), at('bias2'), { padding: 'same', stride, groups }));
    y = reshape(y, [x.shape[0]!, -1]);
    return sum(square(denseLayer(y, at('weight'), at('bias3'))), { axes: 1 });
  };
  const x = asExamples(
    engine.tensor(numbers(n.seed + 1, n.batch * n.size * n.size * n.channels), [
      ...[n.batch, n.size, n.size],
      n.channels,
    ]),
  );
  return { params, loss, batch: { x } };
}

test('ghost = materialize = loop on random convolutional networks, by both branches of the rule', () => {
  const branches = { ghost: 0, rows: 0 };
  fc.assert(
    fc.property(networks, (n) => {
      engine.scope(() => {
        const { params, loss, batch } = networkOf(n);
        const positions = Math.ceil((n.pool ? n.size >> 1 : n.size) / n.stride) ** 2;
        const sizes = n.kernels[1] ** 2 * (n.widths[0] / n.groups) * n.widths[1];
        branches[2 * positions ** 2 < sizes ? 'ghost' : 'rows']++;
        const weights = numbers(n.seed + 2, n.batch);
        const direction = engine.tensor(numbers(n.seed + 3, params.size));
        const results = (['loop', 'materialize', 'ghost'] as const).map((strategy) => {
          const g = perExample(loss, params, batch, { strategy });
          assert.is(g.fallback, null);
          const [total] = g.weightedSums([weights]);
          return [
            ...[
              g.losses.values(),
              g.norms().values(),
              g.norms('filter1').values(),
              g.norms('filter2').values(),
            ],
            ...[g.array().values(), total!.values(), g.dots(direction).values()],
          ];
        });
        const scale = Math.max(1, ...results[0]![1]!);
        results.slice(1).forEach((result, i) => {
          result.forEach((values, k) => {
            near(values, results[0]![k]!, 1e-5, 1e-5 * scale, `strategy ${i + 1}, result ${k}`);
          });
        });
        const { gradient } = sumGradient(loss, params, batch);
        const rows = results[0]![4]!;
        const summed = Float64Array.from({ length: params.size }, (_, j) => {
          let totalOf = 0;
          for (let i = 0; i < n.batch; i++) totalOf += rows[i * params.size + j]!;
          return totalOf;
        });
        near(gradient.values(), summed, 1e-5, 1e-5 * scale, 'vanilla');
        params.flat.free();
      });
    }),
    { numRuns: 60 },
  );
  assert.ok(branches.ghost > 3 && branches.rows > 3, JSON.stringify(branches));
});

test.run();
