// Optimizers and schedules against float64 JavaScript, in the papers' forms.
import fc from 'fast-check';
import { createEngine, Parameters } from 'gradshape/engine';
import {
  adam,
  constantRate,
  cosineDecay,
  exponentialDecay,
  linearWarmup,
  type Optimizer,
  optimizerFromJSON,
  sgd,
  stepDecay,
} from 'gradshape/nn';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { throwsCode } from './engine-helpers.js';

const engine = await createEngine();

/** One number's way under an optimizer, in float64: gradient and learning rate in, parameter out. */
type Oracle = (p: number, g: number, learningRate: number) => number;

function sgdOracle(momentum: number, nesterov: boolean, weightDecay: number): Oracle {
  let v = 0;
  return (p, gradient, learningRate) => {
    const g = gradient + weightDecay * p;
    v = momentum * v + g;
    return p - learningRate * (nesterov ? g + momentum * v : v);
  };
}

function adamOracle(
  beta1: number,
  beta2: number,
  epsilon: number,
  weightDecay: number,
  decoupled: boolean,
): Oracle {
  let [m, v, t] = [0, 0, 0];
  return (p, gradient, learningRate) => {
    const g = gradient + (decoupled ? 0 : weightDecay * p);
    t++;
    m = beta1 * m + (1 - beta1) * g;
    v = beta2 * v + (1 - beta2) * g * g;
    const step = m / (1 - beta1 ** t) / (Math.sqrt(v / (1 - beta2 ** t)) + epsilon);
    return p * (decoupled ? 1 - learningRate * weightDecay : 1) - learningRate * step;
  };
}

const gradientAt = (i: number, step: number): number => Math.sin(1 + 3 * i + 5 * step) * (1 + i);

/** The largest error of `steps` updates of `size` numbers, against one oracle a number. */
function follow(optimizer: Optimizer, oracle: () => Oracle, size: number, steps: number): number {
  const params = new Parameters(engine, [{ name: 'p', shape: [size] }]);
  const expected = Array.from({ length: size }, (_, i) => Math.fround(Math.cos(i)));
  params.load(expected);
  const oracles = expected.map(oracle);
  const batchSize = 32;
  for (let step = 0; step < steps; step++) {
    const learningRate = 0.01 / (1 + step / 10);
    engine.scope(() => {
      const sum = engine.tensor(expected.map((_, i) => batchSize * gradientAt(i, step)));
      optimizer.update(params, sum, batchSize, { learningRate });
    });
    oracles.forEach((update, i) => {
      expected[i] = update(expected[i]!, gradientAt(i, step), learningRate);
    });
  }
  const actual = params.values();
  assert.is(optimizer.steps, steps);
  params.free();
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]!)));
}

test('SGD, momentum, Nesterov and weight decay follow float64', () => {
  for (const [momentum, nesterov, weightDecay] of [
    [0, false, 0],
    [0, false, 0.1],
    [0.9, false, 0],
    [0.9, false, 0.1],
    [0.9, true, 0],
    [0.5, true, 0.1],
  ] as const) {
    using optimizer = sgd({ learningRate: 1, momentum, nesterov, weightDecay });
    const error = follow(optimizer, () => sgdOracle(momentum, nesterov, weightDecay), 11, 50);
    assert.ok(error < 1e-5, `${momentum} ${nesterov} ${weightDecay}: ${error}`);
  }
});

test('Adam and AdamW follow float64', () => {
  for (const [beta1, beta2, epsilon, weightDecay, decoupled] of [
    [0.9, 0.999, 1e-8, 0, false],
    [0.9, 0.999, 1e-8, 0.1, false],
    [0.9, 0.999, 1e-8, 0.1, true],
    [0.5, 0.9, 1e-3, 0, false],
    [0, 0.99, 1e-8, 0, false],
  ] as const) {
    using optimizer = adam({ learningRate: 1, beta1, beta2, epsilon, weightDecay, decoupled });
    const error = follow(optimizer, () => adamOracle(beta1, beta2, epsilon, weightDecay, decoupled), 11, 50);
    assert.ok(error < 1e-5, `${beta1} ${beta2} ${epsilon} ${weightDecay} ${decoupled}: ${error}`);
  }
});

test("Adam's first step has the size of the learning rate, whatever the gradient's", () => {
  using params = new Parameters(engine, [{ name: 'p', shape: [4] }]);
  using optimizer = adam({ learningRate: 0.01 });
  engine.scope(() => optimizer.update(params, engine.tensor([1e-4, -1, 100, -1e6]), 1));
  [...params.values()].forEach((value, i) => {
    assert.ok(Math.abs(value + [0.01, -0.01, 0.01, -0.01][i]!) < 2e-6, String(value));
  });
});

test('frozen parameters and their moments stay', () => {
  const shapes = [
    { name: 'a', shape: [5] },
    { name: 'b', shape: [3] },
    { name: 'c', shape: [6] },
  ];
  for (const make of [() => sgd({ learningRate: 0.1, momentum: 0.9 }), () => adam({ learningRate: 0.1 })]) {
    using params = new Parameters(engine, shapes);
    using optimizer = make();
    params.freeze(['b']);
    engine.scope(() => optimizer.update(params, engine.full([14], 1), 1));
    params.values().forEach((value, i) => {
      assert.is(value === 0, i >= 5 && i < 8, `number ${i}`);
    });
    for (const vector of Object.values(optimizer.state().vectors)) {
      assert.equal([...vector.subarray(5, 8)], [0, 0, 0]);
    }
  }
});

test('a state moved to another optimizer goes on to the same bits', () => {
  for (const make of [
    () => sgd({ learningRate: 0.1, momentum: 0.9 }),
    () => sgd({ learningRate: 0.1 }),
    () => adam({ learningRate: 0.1 }),
  ]) {
    using straight = new Parameters(engine, [{ name: 'p', shape: [7] }]);
    using resumed = new Parameters(engine, [{ name: 'p', shape: [7] }]);
    using first = make();
    using second = optimizerFromJSON(JSON.parse(JSON.stringify(make())));
    const update = (optimizer: Optimizer, params: Parameters, step: number): void =>
      engine.scope(() => {
        optimizer.update(params, engine.tensor(Array.from({ length: 7 }, (_, i) => gradientAt(i, step))), 3);
      });
    for (let step = 0; step < 5; step++) update(first, straight, step);
    resumed.load(straight.values());
    second.loadState(resumed, first.state());
    assert.is(second.steps, 5);
    for (let step = 5; step < 9; step++) {
      update(first, straight, step);
      update(second, resumed, step);
    }
    assert.equal(straight.values(), resumed.values());
  }
});

test('an optimizer frees its memory, and starts afresh', () => {
  using params = new Parameters(engine, [{ name: 'p', shape: [1000] }]);
  const before = engine.memory.bytesInUse;
  const optimizer = adam({ learningRate: 0.1 });
  engine.scope(() => optimizer.update(params, engine.full([1000], 1), 1));
  assert.ok(engine.memory.bytesInUse >= before + 8000);
  optimizer.free();
  assert.is(engine.memory.bytesInUse, before);
  assert.is(optimizer.steps, 0);
});

test('wrong settings and arguments are named errors', () => {
  throwsCode('LEARNING_RATE_INVALID', () => sgd({ learningRate: -0.1 }));
  throwsCode('LEARNING_RATE_INVALID', () => adam({ learningRate: Number.NaN }));
  throwsCode('LEARNING_RATE_INVALID', () => adam({ learningRate: Number.POSITIVE_INFINITY }));
  throwsCode('OPTIMIZER_INVALID', () => sgd({ learningRate: 1, momentum: 1 }));
  throwsCode('OPTIMIZER_INVALID', () => sgd({ learningRate: 1, nesterov: true }));
  throwsCode('OPTIMIZER_INVALID', () => sgd({ learningRate: 1, weightDecay: -1 }));
  throwsCode('OPTIMIZER_INVALID', () => adam({ learningRate: 1, beta2: 1 }));
  throwsCode('OPTIMIZER_INVALID', () => adam({ learningRate: 1, beta1: -0.1 }));
  throwsCode('OPTIMIZER_INVALID', () => adam({ learningRate: 1, epsilon: -1 }));
  throwsCode('OPTIMIZER_INVALID', () => optimizerFromJSON({ kind: 'lion' } as never));
  using params = new Parameters(engine, [{ name: 'p', shape: [3] }]);
  using others = new Parameters(engine, [{ name: 'p', shape: [3] }]);
  using optimizer = adam({ learningRate: 0.1 });
  engine.scope(() => {
    const gradient = engine.full([3], 1);
    throwsCode('SHAPE_MISMATCH', () => optimizer.update(params, engine.full([4], 1), 1));
    throwsCode('SHAPE_MISMATCH', () => optimizer.update(params, engine.tensor([1, 2, 3], [3], 'i32'), 1));
    for (const batchSize of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      throwsCode('BATCH_SIZE_INVALID', () => optimizer.update(params, gradient, batchSize));
    }
    throwsCode('LEARNING_RATE_INVALID', () => optimizer.update(params, gradient, 1, { learningRate: -1 }));
    assert.is(optimizer.steps, 0);
    optimizer.update(params, gradient, 1);
    throwsCode('OPTIMIZER_IN_USE', () => optimizer.update(others, gradient, 1));
  });
  const { vectors, counters } = optimizer.state();
  throwsCode('OPTIMIZER_STATE_INVALID', () =>
    optimizer.loadState(params, { vectors: { firstMoment: new Float32Array(2) }, counters }),
  );
  throwsCode('OPTIMIZER_STATE_INVALID', () =>
    optimizer.loadState(params, { vectors, counters: { steps: 1 } }),
  );
});

const near = (actual: number, expected: number): void =>
  assert.ok(Math.abs(actual - expected) <= 1e-11 * Math.abs(expected) + 1e-15, `${actual} ${expected}`);

test('schedules follow their formulas', () => {
  const step = fc.nat(5000);
  fc.assert(
    fc.property(step, fc.integer({ min: 1, max: 3000 }), (t, steps) => {
      near(constantRate(0.3)(t), 0.3);
      near(
        stepDecay({ learningRate: 0.3, factor: 0.5, every: steps })(t),
        0.3 * 0.5 ** Math.floor(t / steps),
      );
      near(exponentialDecay({ learningRate: 0.3, factor: 0.999 })(t), 0.3 * 0.999 ** t);
      const x = Math.min(t / steps, 1);
      near(cosineDecay({ learningRate: 0.3, steps, final: 0.1 })(t), 0.1 + 0.1 * (1 + Math.cos(Math.PI * x)));
      const warm = linearWarmup({ steps, schedule: exponentialDecay({ learningRate: 0.3, factor: 0.999 }) });
      near(warm(t), t < steps ? (0.3 * (t + 1)) / steps : 0.3 * 0.999 ** (t - steps));
    }),
  );
  near(cosineDecay({ learningRate: 0.3, steps: 10 })(10), 0);
});

test('wrong schedules are named errors', () => {
  const code = 'SCHEDULE_INVALID';
  throwsCode(code, () => constantRate(-1));
  throwsCode(code, () => stepDecay({ learningRate: 1, factor: 0.5, every: 0 }));
  throwsCode(code, () => exponentialDecay({ learningRate: 1, factor: Number.NaN }));
  throwsCode(code, () => cosineDecay({ learningRate: 1, steps: 1.5 }));
  throwsCode(code, () => linearWarmup({ steps: 0, schedule: constantRate(1) }));
});

test.run();
