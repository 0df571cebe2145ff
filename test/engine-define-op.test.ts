// A user's own op is a row like the built-in ones: gradients, second order, examples, per-example rules.
import {
  createEngineSync,
  defineOp,
  gradients,
  matmul,
  mul,
  type OpDefinition,
  Parameters,
  type PerExampleRule,
  perExample,
  type Strategy,
  square,
  sum,
  sumGradient,
  type Tensor,
} from 'gradshape/engine';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = createEngineSync();
const data = engine.dataset({
  x: Float32Array.from({ length: 12 }, (_, i) => Math.sin(i + 1)),
  y: new Uint8Array(4),
  shape: [3],
});
const strategies: Strategy[] = ['loop', 'materialize', 'ghost'];

const cubeRow: OpDefinition<undefined> = {
  name: 'cube',
  examples: 'apart',
  shape: ([x]) => x!.shape,
  forward({ inputs, output }) {
    output.view().set(inputs[0]!.values().map((x) => x * x * x));
    return undefined;
  },
  backward: ({ inputs, dOutput }) => [mul(dOutput, mul(square(inputs[0]!), 3))],
};
const cube = (x: Tensor): Tensor => defineOp(cubeRow)([x]);

test('forward, gradient, and gradients of gradients', () => {
  engine.scope(() => {
    const x = engine.tensor([2, -1]);
    assert.equal([...cube(x).values()], [8, -1]);
    const derive = (fn: (x: Tensor) => Tensor) => (at: Tensor) => gradients(fn, [at]).gradients[0]!;
    assert.equal([...derive(cube)(x).values()], [12, 3]);
    assert.equal([...derive(derive(cube))(x).values()], [12, -6]);
    assert.equal([...derive(derive(derive(cube)))(x).values()], [6, 6]);
  });
});

test('attributes and saved tensors', () => {
  const power = defineOp<{ n: number }>({
    name: 'power',
    shape: ([x]) => x!.shape,
    forward({ engine: own, inputs, attributes: { n }, output }) {
      const values = inputs[0]!.values();
      const below = own.tensor(
        values.map((x) => x ** (n - 1)),
        output.shape,
      );
      output.view().set(values.map((x) => x ** n));
      return [below];
    },
    backward: ({ saved, attributes: { n }, dOutput }) => [mul(dOutput, mul(saved[0]!, n))],
    secondOrder: 'what it saves is not recorded',
  });
  engine.scope(() => {
    const cubed = (x: Tensor) => power([x], { n: 3 });
    const x = engine.tensor([2, -1]);
    assert.equal([...gradients(cubed, [x]).gradients[0]!.values()], [12, 3]);
    const text = throwsCode('NO_SECOND_ORDER', () =>
      gradients((t) => gradients(cubed, [t]).gradients[0]!, [x]),
    );
    assert.match(text, /power: .*what it saves is not recorded/);
  });
});

/** rows · scale with a scale for each column, which has its own rule for the scale. */
const rule: PerExampleRule<undefined> = {
  instantiate({ engine: own, inputs, dOutput, batch }, out, stride, accumulate) {
    const [x, g] = [inputs[0]!.values(), dOutput.values()];
    const memory = new Float32Array(own.memory.wasm.buffer);
    const size = inputs[1]!.size;
    for (let i = 0; i < batch * size; i++) {
      const at = out / 4 + Math.floor(i / size) * stride + (i % size);
      memory[at] = (accumulate ? memory[at]! : 0) + x[i]! * g[i]!;
    }
  },
  weightedSum({ engine: own, inputs, dOutput, batch }, weights, out, accumulate) {
    const [x, g] = [inputs[0]!.values(), dOutput.values()];
    const memory = new Float32Array(own.memory.wasm.buffer);
    const size = inputs[1]!.size;
    for (let j = 0; j < size; j++) {
      let total = accumulate ? memory[out / 4 + j]! : 0;
      for (let i = 0; i < batch; i++) {
        total += (weights === 0 ? 1 : memory[weights / 4 + i]!) * x[i * size + j]! * g[i * size + j]!;
      }
      memory[out / 4 + j] = total;
    }
  },
};
const scaleRow: OpDefinition<undefined> = {
  name: 'scale',
  examples: 'apart',
  shape: ([x]) => x!.shape,
  forward({ inputs, output }) {
    const [x, scale] = inputs.map((input) => input.values());
    output.view().set(x!.map((value, i) => value * scale![i % scale!.length]!));
    return undefined;
  },
  backward: ({ inputs, dOutput }) => [mul(dOutput, inputs[1]!), sum(mul(dOutput, inputs[0]!), { axes: 0 })],
};

test('parameters: by the op’s own rule, or one example at a time without one', () => {
  using params = new Parameters(engine, [
    { name: 'scale', shape: [3] },
    { name: 'w', shape: [3, 2] },
  ]);
  params.load([0.5, -1, 2, 1, 2, 3, -1, -2, 0.5]);
  engine.scope(() => {
    const batch = data.batch([0, 2, 3]);
    const weights = [1, -2, 0.5];
    const lossOf =
      (row: OpDefinition<undefined>) =>
      (p: Parameters, { x }: { x: Tensor }) =>
        sum(square(matmul(defineOp(row)([x, p.get('scale')]), p.get('w'))), { axes: 1 });
    const builtIn = perExample(
      (p, { x }: { x: Tensor }) => sum(square(matmul(mul(x, p.get('scale')), p.get('w'))), { axes: 1 }),
      params,
      batch,
    );
    const near = (a: Tensor, b: Tensor) => {
      const expected = b.values();
      a.values().forEach((value, i) => {
        assert.ok(Math.abs(value - expected[i]!) < 1e-5, `${value} ${expected[i]}`);
      });
    };
    for (const [row, ruled] of [
      [scaleRow, false],
      [{ ...scaleRow, perExample: { 1: rule } }, true],
    ] as const) {
      for (const strategy of strategies) {
        const g = perExample(lossOf(row), params, batch, { strategy });
        assert.is(g.strategy, ruled ? strategy : 'loop');
        if (!ruled && strategy !== 'loop')
          assert.match(g.fallback!, /'scale' is used by scale, which has no per-example rule/);
        near(g.norms().tensor(), builtIn.norms().tensor());
        near(g.norms('scale').tensor(), builtIn.norms('scale').tensor());
        near(g.array(), builtIn.array());
        near(g.weightedSums([weights])[0]!, builtIn.weightedSums([weights])[0]!);
      }
      near(sumGradient(lossOf(row), params, batch).gradient, builtIn.weightedSums([[1, 1, 1]])[0]!);
    }
  });
});

test('an op that mixes examples is found out by its shapes, or says so', () => {
  using params = new Parameters(engine, [{ name: 'w', shape: [3, 1] }]);
  const total = defineOp({
    name: 'total',
    examples: 'apart',
    shape: () => [1],
    forward: ({ kernels, inputs, output }) => {
      output.view()[0] = kernels.sum(inputs[0]!.address, inputs[0]!.size);
      return undefined;
    },
    backward: ({ inputs, dOutput }) => [mul(engine.full(inputs[0]!.shape, 1), dOutput)],
  });
  const centred = defineOp({ ...cubeRow, name: 'centred', examples: 'mixed' });
  const uncertain = defineOp({ ...cubeRow, name: 'uncertain', examples: () => null });
  engine.scope(() => {
    const batch = data.batch([0, 1]);
    for (const op of [total, centred, uncertain]) {
      for (const strategy of strategies) {
        if (op === total && strategy === 'loop') continue; // of one example alone, its shapes are right
        throwsCode('EXAMPLES_MIXED', () =>
          perExample(
            (p, { x }: { x: Tensor }) => sum(op([matmul(x, p.get('w'))]), { axes: [] }),
            params,
            batch,
            { strategy },
          ),
        );
      }
    }
  });
});

test('OP_INVALID names what is missing', () => {
  for (const part of ['name', 'shape', 'forward', 'backward'] as const) {
    const { [part]: _, ...rest } = cubeRow;
    const text = throwsCode('OP_INVALID', () => defineOp(rest as OpDefinition<undefined>));
    assert.match(
      text,
      new RegExp(`defineOp: ${part} is missing; expected name, shape, forward and backward`),
    );
  }
});

test.run();
