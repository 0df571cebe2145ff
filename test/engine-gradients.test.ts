// Every op of the table, forward and its gradients of first and second order, against float64 JavaScript and central
// differences in random directions, over random shapes.
import fc from 'fast-check';
import {
  absolute,
  add,
  asExamples,
  avgPool2d,
  broadcastTo,
  clip,
  concat,
  conv2d,
  createEngineSync,
  crossEntropy,
  defineOp,
  denseLayer,
  div,
  dropout,
  equal,
  exp,
  gelu,
  globalAvgPool,
  gradients,
  greater,
  groupNorm,
  l2Norm,
  layerNorm,
  leakyRelu,
  log,
  logSoftmax,
  matmul,
  max,
  maxPool2d,
  mean,
  meanSquaredError,
  mul,
  negate,
  opTable,
  pad,
  permutation,
  publicGenerator,
  relu,
  reshape,
  sigmoid,
  sign,
  slice,
  softmax,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  tanh,
  transpose,
} from 'gradshape/engine';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Nd, Shape } from './oracle.js';
import * as o from './oracle.js';

const engine = createEngineSync();

/** Draws shapes through fast-check, numbers from a seed that it drew. */
class Draw {
  private readonly random;

  constructor(private readonly g: fc.GeneratorValue) {
    this.random = publicGenerator(g(fc.nat), 'data');
  }

  int = (min: number, max: number): number => this.g(() => fc.integer({ min, max }));
  flag = (): boolean => this.g(fc.boolean);
  one = <T>(values: readonly T[]): T => values[this.int(0, values.length - 1)]!;
  /** Axes of 1 to 4, now and then 0. */
  shape = (least: number, most: number, zero = true): number[] =>
    Array.from({ length: this.int(least, most) }, () => {
      const n = this.int(zero ? -1 : 0, 8);
      return n < 0 ? 0 : Math.max(n >> 1, 1);
    });
  /** Some axes of a shape. */
  axes = (rank: number): number[] =>
    Array.from({ length: rank }, (_, axis) => axis).filter(() => this.flag());
  order = (rank: number): number[] => [...permutation(rank, this.random)];
  /** Multiples of 1/64 from low to high, which f32 holds. */
  numbers = (shape: Shape, low = -2, high = 2): Nd =>
    o.build(shape, () => uniformInt(this.random, low * 64, high * 64) / 64);
  /** The same, at least 1/8 from 0. */
  awayFrom0 = (shape: Shape): Nd =>
    o.map(this.numbers(shape, 0.125), (x) => (uniformInt(this.random, 0, 1) ? x : -x));
  /** No two are nearer than 1/64. */
  distinct = (shape: Shape): Nd => {
    const order = permutation(o.sizeOf(shape), this.random);
    let i = 0;
    return o.build(shape, () => (order[i++]! - order.length / 2) / 64);
  };
  labels = (count: number, classes: number): Int32Array =>
    Int32Array.from({ length: count }, () => uniformInt(this.random, 0, classes - 1));
  /** Two shapes that broadcast to one. */
  broadcast(): [Shape, Shape] {
    const whole = this.shape(0, 4);
    const part = (): Shape =>
      whole
        .map((n) => (this.int(0, 3) === 0 ? 1 : n))
        .slice(this.int(0, 2) === 0 ? this.int(0, whole.length) : 0);
    return [part(), part()];
  }
}

interface Case {
  /** The float inputs. */
  readonly inputs: readonly Nd[];
  readonly engine: (...inputs: Tensor[]) => Tensor;
  readonly oracle: (...inputs: Nd[]) => Nd;
}

type Pair = readonly [number, number];
type Make = (draw: Draw) => Case;

const unary =
  (op: (x: Tensor) => Tensor, f: (x: number) => number, numbers: (draw: Draw, shape: Shape) => Nd): Make =>
  (draw) => ({ inputs: [numbers(draw, draw.shape(0, 4))], engine: op, oracle: (x) => o.map(x, f) });

const anywhere = (draw: Draw, shape: Shape) => draw.numbers(shape);
const away = (draw: Draw, shape: Shape) => draw.awayFrom0(shape);
const above = (draw: Draw, shape: Shape) => draw.numbers(shape, 0.25, 3);

const binary =
  (
    op: (a: Tensor, b: Tensor) => Tensor,
    f: (a: number, b: number) => number,
    second: (draw: Draw, shape: Shape) => Nd = anywhere,
  ): Make =>
  (draw) => {
    const [a, b] = draw.broadcast();
    return { inputs: [draw.numbers(a), second(draw, b)], engine: op, oracle: (x, y) => o.zip(x, y, f) };
  };

/** Two inputs of the same shape. */
const pairwise =
  (op: (a: Tensor, b: Tensor) => Tensor, f: (a: number, b: number) => number, first = anywhere): Make =>
  (draw) => {
    const shape = draw.shape(0, 3);
    return {
      inputs: [first(draw, shape), draw.numbers(shape)],
      engine: op,
      oracle: (x, y) => o.zip(x, y, f),
    };
  };

const reduction =
  (
    op: (x: Tensor, options: { axes: readonly number[]; keepDims: boolean }) => Tensor,
    f: (x: number[]) => number,
    numbers: (draw: Draw, shape: Shape) => Nd,
    empty: boolean,
  ): Make =>
  (draw) => {
    const shape = draw.shape(0, 4, empty);
    const axes = draw.axes(shape.length);
    const keepDims = draw.flag();
    return {
      inputs: [numbers(draw, shape)],
      engine: (x) =>
        op(x, { axes: axes.map((axis) => (draw.flag() ? axis : axis - shape.length)), keepDims }),
      oracle: (x) => o.reduce(x, axes, keepDims, f),
    };
  };

const rows =
  (op: (x: Tensor, axis?: number) => Tensor, f: (row: number[]) => number[]): Make =>
  (draw) => {
    const shape = draw.shape(1, 3);
    const axis = draw.int(0, shape.length - 1);
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => op(x, axis),
      oracle: (x) => o.rowwise(x, axis, f),
    };
  };

/** Random windows over random images, and their places by hand. */
function windows(draw: Draw) {
  const shape = [draw.int(1, 2), draw.int(3, 6), draw.int(3, 6), draw.int(1, 3)];
  const window = [draw.int(1, 3), draw.int(1, 3)] as const;
  const stride = [draw.int(1, 3), draw.int(1, 3)] as const;
  const sides = window.map((n) => [draw.int(0, n - 1), draw.int(0, n - 1)]) as [
    [number, number],
    [number, number],
  ];
  const output = [0, 1].map((i) => {
    const [before, after] = sides[i] as [number, number];
    return Math.floor((shape[i + 1]! + before + after - window[i]!) / stride[i]!) + 1;
  });
  const inside = (index: readonly number[]): number[][] => {
    const [b, y, x, c] = index as [number, number, number, number];
    const found: number[][] = [];
    for (let i = 0; i < window[0]; i++) {
      for (let j = 0; j < window[1]; j++) {
        const [v, u] = [y * stride[0] + i - sides[0][0], x * stride[1] + j - sides[1][0]];
        if (v >= 0 && u >= 0 && v < shape[1]! && u < shape[2]!) found.push([b, v, u, c]);
      }
    }
    return found;
  };
  return {
    shape,
    window,
    options: { stride, padding: sides },
    attributes: { window, stride, padding: sides, shape },
    outputShape: [shape[0]!, output[0]!, output[1]!, shape[3]!],
    inside,
  };
}

/** ⟨x ⋆ filter, dOut⟩ is a sum of products of three; leaving out one of them gives a convolution or its gradients. */
function convolution(draw: Draw) {
  const groups = draw.int(1, 2);
  const [depth, outDepth] = [draw.int(1, 2), draw.int(1, 3)];
  const [batch, height, width] = [draw.int(1, 2), draw.int(3, 5), draw.int(5, 6)];
  const [kernelHeight, kernelWidth] = [draw.int(1, 2), draw.int(1, 3)];
  const [stride, dilation] = [0, 1].map(() => [draw.int(1, 2), draw.int(1, 2)] as const) as [Pair, Pair];
  const padding = [kernelHeight, kernelWidth].map(
    (n) => [draw.int(0, n - 1), draw.int(0, n - 1)] as const,
  ) as [Pair, Pair];
  const places = (size: number, kernel: number, i: 0 | 1) =>
    Math.floor((size + padding[i][0] + padding[i][1] - (kernel - 1) * dilation[i]! - 1) / stride[i]!) + 1;
  const [out, outHeight, outWidth] = [
    groups * outDepth,
    places(height, kernelHeight, 0),
    places(width, kernelWidth, 1),
  ];
  const shapes = {
    x: [batch, height, width, groups * depth],
    filter: [kernelHeight, kernelWidth, depth, out],
    dOut: [batch, outHeight, outWidth, out],
  } satisfies Record<string, Shape>;
  const oracle = (given: Partial<Record<keyof typeof shapes, Nd>>, wanted: keyof typeof shapes): Nd => {
    const result = o.build(shapes[wanted], () => 0);
    o.build([...shapes.dOut, kernelHeight, kernelWidth, depth], ([b, y, x, c, i, j, d]) => {
      const v = y! * stride[0] + i! * dilation[0] - padding[0][0];
      const u = x! * stride[1] + j! * dilation[1] - padding[1][0];
      if (v < 0 || u < 0 || v >= height || u >= width) return 0;
      const index = {
        x: [b!, v, u, Math.floor(c! / outDepth) * depth + d!],
        filter: [i!, j!, d!, c!],
        dOut: [b!, y!, x!, c!],
      };
      let product = 1;
      for (const [name, array] of Object.entries(given)) product *= o.at(array, index[name as 'x']);
      result.data[shapes[wanted].reduce((total, n, axis) => total * n + index[wanted][axis]!, 0)]! += product;
      return 0;
    });
    return result;
  };
  return { shapes, oracle, options: { stride, dilation, groups, padding } };
}

function normalised(x: Nd, groups: readonly string[], epsilon: number): Nd {
  const members = new Map<string, number[]>();
  groups.forEach((key, i) => {
    members.set(key, [...(members.get(key) ?? []), x.data[i]!]);
  });
  const statistics = new Map(
    [...members].map(([key, values]) => {
      const average = o.sumOf(values) / values.length;
      const variance = o.sumOf(values.map((v) => (v - average) ** 2)) / values.length;
      return [key, [average, Math.sqrt(variance + epsilon)] as const];
    }),
  );
  return {
    shape: x.shape,
    data: x.data.map((value, i) => {
      const [average, deviation] = statistics.get(groups[i]!)!;
      return (value - average) / deviation;
    }),
  };
}

function keys(shape: Shape, f: (index: readonly number[]) => string): string[] {
  const all: string[] = [];
  o.build(shape, (index) => {
    all.push(f(index));
    return 0;
  });
  return all;
}

const phi = (x: number) => Math.exp(-x * x * 0.5) / Math.sqrt(2 * Math.PI);
const Phi = (x: number) => 0.5 * (1 + o.erf(x / Math.SQRT2));

const cases: Record<string, Make> = {
  add: binary(add, (a, b) => a + b),
  sub: binary(sub, (a, b) => a - b),
  mul: binary(mul, (a, b) => a * b),
  div: binary(div, (a, b) => a / b, above),
  equal: binary(
    (a, b) => add(equal(a, b), mul(a, 0)),
    () => 0,
    (draw, shape) => o.map(draw.numbers(shape), (x) => x + 5),
  ),
  greater: binary(
    (a, b) => greater(a, b),
    (a, b) => (a > b ? 1 : 0),
    (draw, shape) => o.map(draw.numbers(shape), (x) => x + 1 / 128),
  ),
  negate: unary(negate, (x) => -x, anywhere),
  exp: unary(exp, Math.exp, anywhere),
  log: unary(log, Math.log, above),
  sqrt: unary(sqrt, Math.sqrt, above),
  square: unary(square, (x) => x * x, anywhere),
  absolute: unary(absolute, Math.abs, away),
  sign: unary(sign, Math.sign, away),
  tanh: unary(tanh, Math.tanh, anywhere),
  sigmoid: unary(sigmoid, o.sigmoid, anywhere),
  relu: unary(relu, (x) => Math.max(x, 0), away),
  gelu: unary(gelu, (x) => x * Phi(x), anywhere),
  tanhGradient: pairwise(
    (y, g) => defineOp(opTable.tanhGradient)([y, g]),
    (y, g) => g * (1 - y * y),
  ),
  sigmoidGradient: pairwise(
    (y, g) => defineOp(opTable.sigmoidGradient)([y, g]),
    (y, g) => g * y * (1 - y),
  ),
  reluGradient: pairwise(
    (y, g) => defineOp(opTable.reluGradient)([y, g]),
    (y, g) => (y > 0 ? g : 0),
    away,
  ),
  geluGradient: pairwise(
    (x, g) => defineOp(opTable.geluGradient)([x, g]),
    (x, g) => g * (Phi(x) + x * phi(x)),
  ),
  sum: reduction(sum, o.sumOf, anywhere, true),
  mean: reduction(mean, (x) => o.sumOf(x) / x.length, anywhere, false),
  max: reduction(
    max,
    (x) => Math.max(...x),
    (draw, shape) => draw.distinct(shape),
    false,
  ),
  reshape: (draw) => {
    const shape = draw.shape(0, 4);
    const to = draw.one<Shape>([[o.sizeOf(shape)], [1, o.sizeOf(shape), 1], [...shape].reverse()]);
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => reshape(x, to),
      oracle: ({ data }) => ({ shape: to, data }),
    };
  },
  broadcastTo: (draw) => {
    const to = draw.shape(0, 4);
    const from = to.map((n) => (draw.flag() ? n : 1)).slice(draw.int(0, to.length));
    return {
      inputs: [draw.numbers(from)],
      engine: (x) => broadcastTo(x, to),
      oracle: (x) => o.build(to, (index) => o.atBroadcast(x, index)),
    };
  },
  transpose: (draw) => {
    const shape = draw.shape(0, 4);
    const order = draw.order(shape.length);
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => transpose(x, order),
      oracle: (x) => o.transpose(x, order),
    };
  },
  matmul: (draw) => {
    const [m, n, k] = draw.shape(3, 3) as [number, number, number];
    const stacks = draw.shape(0, 2);
    const single = draw.flag();
    const transposeA = (!single || stacks.length === 0) && draw.flag();
    const transposeB = draw.flag();
    const a = [...stacks, ...(transposeA ? [k, m] : [m, k])];
    const b = [...(single ? [] : stacks), ...(transposeB ? [n, k] : [k, n])];
    return {
      inputs: [draw.numbers(a), draw.numbers(b)],
      engine: (x, y) => matmul(x, y, { transposeA, transposeB }),
      oracle: (x, y) => o.matmul(x, y, transposeA, transposeB),
    };
  },
  dense: (draw) => {
    const [inputs, outputs] = draw.shape(2, 2) as [number, number];
    const x = [...draw.shape(1, 2), inputs];
    const activation = draw.one(['none', 'relu'] as const);
    // Sums of multiples of 1/64 · 1/64, and 1/2^14 more: never near 0.
    const bias = o.map(draw.numbers([outputs]), (b) => b + (draw.flag() ? 1 : -1) / 8192);
    return {
      inputs: [draw.numbers(x), draw.numbers([inputs, outputs]), bias],
      engine: (...tensors) => denseLayer(...(tensors as [Tensor, Tensor, Tensor]), activation),
      oracle: (a, w, b) =>
        o.map(o.add(o.matmul(a!, w!), b!), (z) => (activation === 'relu' ? Math.max(z, 0) : z)),
    };
  },
  softmax: rows(softmax, o.softmaxRow),
  logSoftmax: rows(logSoftmax, (row) => o.softmaxRow(row).map(Math.log)),
  crossEntropy: (draw) => {
    const [count, classes] = [draw.int(0, 4), draw.int(1, 5)];
    const labels = draw.labels(count, classes);
    return {
      inputs: [draw.numbers([count, classes])],
      engine: (logits) => crossEntropy(logits, engine.tensor(labels, [count], 'i32')),
      oracle: (logits) =>
        o.build([count], ([i]) => {
          const row = [...logits.data.subarray(i! * classes, (i! + 1) * classes)];
          return -Math.log(o.softmaxRow(row)[labels[i!]!]!);
        }),
    };
  },
  clip: unary(
    (x) => clip(x, -0.99, 1.01),
    (x) => Math.min(Math.max(x, -0.99), 1.01),
    anywhere,
  ),
  leakyRelu: unary(
    (x) => leakyRelu(x, 0.1),
    (x) => (x > 0 ? x : 0.1 * x),
    away,
  ),
  dropout: (draw) => {
    const shape = [draw.int(0, 4), ...draw.shape(0, 2)];
    const indices = engine.tensor(
      Int32Array.from({ length: shape[0]! }, (_, i) => 7 * i),
      undefined,
      'i32',
    );
    const examples = { indices, random: { seed: draw.int(0, 99), step: 3 } };
    const drop = (x: Tensor): Tensor => {
      x.examples = examples;
      return dropout(x, 0.4, 2);
    };
    const mask = { shape, data: Float64Array.from(drop(engine.full(shape, 1)).values()) };
    assert.ok(mask.data.every((x) => x === 0 || Math.abs(x - 1 / 0.6) < 1e-6));
    return { inputs: [draw.numbers(shape)], engine: drop, oracle: (x) => o.zip(x, mask, (a, b) => a * b) };
  },
  maxPool2d: (draw) => {
    const { shape, window, options, outputShape, inside } = windows(draw);
    return {
      inputs: [draw.distinct(shape)],
      engine: (x) => maxPool2d(x, window, options),
      oracle: (x) => o.build(outputShape, (index) => Math.max(...inside(index).map((i) => o.at(x, i)))),
    };
  },
  avgPool2d: (draw) => {
    const { shape, window, options, outputShape, inside } = windows(draw);
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => avgPool2d(x, window, options),
      oracle: (x) =>
        o.build(outputShape, (index) => {
          const found = inside(index);
          return o.sumOf(found.map((i) => o.at(x, i))) / found.length;
        }),
    };
  },
  spreadMeans: (draw) => {
    const { shape, attributes, outputShape, inside } = windows(draw);
    return {
      inputs: [draw.numbers(outputShape)],
      engine: (a) => defineOp<typeof attributes>(opTable.spreadMeans)([a], attributes),
      oracle: (a) => {
        const spread = o.build(shape, () => 0);
        o.build(outputShape, (index) => {
          const found = inside(index);
          for (const i of found) {
            const offset = shape.reduce((total, n, axis) => total * n + i[axis]!, 0);
            spread.data[offset]! += o.at(a, index) / found.length;
          }
          return 0;
        });
        return spread;
      },
    };
  },
  scatterMaxima: (draw) => {
    const [count, from, to] = [draw.int(0, 3), draw.int(1, 5), draw.int(1, 5)];
    const indices = draw.labels(count * from, to);
    return {
      inputs: [draw.numbers([count, from])],
      engine: (a) =>
        defineOp<{ shape: Shape }>(opTable.scatterMaxima)([a, engine.tensor(indices, [count, from], 'i32')], {
          shape: [count, to],
        }),
      oracle: (a) =>
        o.build([count, to], ([i, j]) =>
          o.sumOf(
            Array.from({ length: from }, (_, k) => (indices[i! * from + k] === j ? o.at(a, [i!, k]) : 0)),
          ),
        ),
    };
  },
  gatherMaxima: (draw) => {
    const [count, from, to] = [draw.int(0, 3), draw.int(1, 5), draw.int(1, 5)];
    const indices = draw.labels(count * to, from);
    return {
      inputs: [draw.numbers([count, from])],
      engine: (a) =>
        defineOp<{ shape: Shape }>(opTable.gatherMaxima)([a, engine.tensor(indices, [count, to], 'i32')], {
          shape: [count, to],
        }),
      oracle: (a) => o.build([count, to], ([i, j]) => o.at(a, [i!, indices[i! * to + j!]!])),
    };
  },
  groupNorm: (draw) => {
    const [groups, depth] = [draw.int(1, 3), draw.int(1, 3)];
    const channels = groups * depth;
    const shape = [draw.int(0, 2), ...draw.shape(0, 2, false), channels];
    const group = keys(shape, (index) => `${index[0]} ${Math.floor(index.at(-1)! / depth)}`);
    return {
      inputs: [draw.numbers(shape), draw.numbers([channels]), draw.numbers([channels])],
      engine: (x, scale, offset) => groupNorm(x!, scale!, offset!, groups, { epsilon: 0.1 }),
      oracle: (x, scale, offset) =>
        o.add(
          o.zip(normalised(x!, group, 0.1), scale!, (a, b) => a * b),
          offset!,
        ),
    };
  },
  layerNorm: (draw) => {
    const features = draw.shape(1, 2, false);
    const shape = [draw.int(0, 3), ...draw.shape(0, 1, false), ...features];
    const group = keys(shape, (index) => index.slice(0, -features.length).join());
    return {
      inputs: [draw.numbers(shape), draw.numbers(features), draw.numbers(features)],
      engine: (x, scale, offset) => layerNorm(x!, scale!, offset!, { epsilon: 0.1 }),
      oracle: (x, scale, offset) =>
        o.add(
          o.zip(normalised(x!, group, 0.1), scale!, (a, b) => a * b),
          offset!,
        ),
    };
  },
  conv2d: (draw) => {
    const { shapes, options, oracle } = convolution(draw);
    const bias = draw.numbers([shapes.dOut[3]!]);
    return {
      inputs: [draw.numbers(shapes.x), draw.numbers(shapes.filter), bias],
      engine: (x, filter, b) => conv2d(x!, filter!, b!, options),
      oracle: (x, filter, b) => o.add(oracle({ x: x!, filter: filter! }, 'dOut'), b!),
    };
  },
  conv2dInputGradient: (draw) => {
    const { shapes, options, oracle } = convolution(draw);
    return {
      inputs: [draw.numbers(shapes.dOut), draw.numbers(shapes.filter)],
      engine: (dOut, filter) =>
        defineOp<object>(opTable.conv2dInputGradient as never)([dOut!, filter!], {
          ...options,
          shape: shapes.x,
        }),
      oracle: (dOut, filter) => oracle({ dOut: dOut!, filter: filter! }, 'x'),
    };
  },
  conv2dFilterGradient: (draw) => {
    const { shapes, options, oracle } = convolution(draw);
    return {
      inputs: [draw.numbers(shapes.x), draw.numbers(shapes.dOut)],
      engine: (x, dOut) =>
        defineOp<object>(opTable.conv2dFilterGradient as never)([x!, dOut!], {
          ...options,
          shape: shapes.filter,
        }),
      oracle: (x, dOut) => oracle({ x: x!, dOut: dOut! }, 'filter'),
    };
  },
  slice: (draw) => {
    const shape = draw.shape(0, 4);
    const begin = shape.map((n) => draw.int(0, n));
    const size = shape.map((n, axis) => draw.int(0, n - begin[axis]!));
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => slice(x, begin, size),
      oracle: (x) =>
        o.build(size, (index) =>
          o.at(
            x,
            index.map((i, axis) => i + begin[axis]!),
          ),
        ),
    };
  },
  pad: (draw) => {
    const shape = draw.shape(0, 4);
    const paddings = shape.map(() => [draw.int(0, 2), draw.int(0, 2)] as const);
    return {
      inputs: [draw.numbers(shape)],
      engine: (x) => pad(x, paddings, 1.5),
      oracle: (x) =>
        o.build(
          shape.map((n, axis) => n + paddings[axis]![0] + paddings[axis]![1]),
          (index) => {
            const from = index.map((i, axis) => i - paddings[axis]![0]);
            return from.every((i, axis) => i >= 0 && i < shape[axis]!) ? o.at(x, from) : 1.5;
          },
        ),
    };
  },
  concat: (draw) => {
    const shape = draw.shape(1, 3);
    const axis = draw.int(0, shape.length - 1);
    const lengths = Array.from({ length: draw.int(1, 3) }, () => draw.int(0, 3));
    return {
      inputs: lengths.map((n) => draw.numbers(shape.with(axis, n))),
      engine: (...parts) => concat(parts, axis - (draw.flag() ? shape.length : 0)),
      oracle: (...parts) =>
        o.build(shape.with(axis, o.sumOf(lengths)), (index) => {
          const starts = lengths.map((_, p) => o.sumOf(lengths.slice(0, p)));
          const part = starts.findLastIndex((start, p) => start <= index[axis]! && lengths[p]! > 0);
          return o.at(parts[part]!, index.with(axis, index[axis]! - starts[part]!));
        }),
    };
  },
};

/** Public functions made of several ops. */
const composites: Record<string, Make> = {
  meanSquaredError: (draw) => {
    const shape = [draw.int(0, 3), ...draw.shape(0, 2, false)];
    const axes = shape.map((_, axis) => axis).slice(1);
    return {
      inputs: [draw.numbers(shape), draw.numbers(shape)],
      engine: meanSquaredError,
      oracle: (a, b) =>
        o.reduce(
          o.zip(a!, b!, (x, y) => (x - y) ** 2),
          axes,
          false,
          (x) => o.sumOf(x) / x.length,
        ),
    };
  },
  l2Norm: reduction(l2Norm, (x) => Math.hypot(...x), away, false),
  globalAvgPool: (draw) => {
    const shape = draw.shape(4, 4, false);
    return {
      inputs: [draw.numbers(shape)],
      engine: globalAvgPool,
      oracle: (x) => o.reduce(x, [1, 2], false, (values) => o.sumOf(values) / values.length),
    };
  },
};

const upload = ({ data, shape }: Nd): Tensor => engine.tensor(data, shape);
const download = (t: Tensor): Nd => ({ shape: t.shape, data: Float64Array.from(t.values()) });
const zeros = ({ shape }: Nd): Nd => o.build(shape, () => 0);
const size = (a: Nd, b: Nd): number => a.data.reduce((total, x, i) => total + Math.abs(x * b.data[i]!), 1);

function close(actual: number, expected: number, tolerance: number, what: string): void {
  assert.ok(
    Math.abs(actual - expected) <= tolerance,
    `${what}: ${actual}, expected ${expected} ± ${tolerance}`,
  );
}

/** Inputs as f32 holds them. */
function drawn(make: Make, draw: Draw): Case & { weights: Nd; output: Nd } {
  const made = make(draw);
  const inputs = made.inputs.map((input) => o.map(input, Math.fround));
  const output = made.oracle(...inputs);
  return { ...made, inputs, output, weights: draw.numbers(output.shape) };
}

function checkForward(make: Make, draw: Draw): void {
  const { inputs, engine: op, output } = drawn(make, draw);
  const actual = download(op(...inputs.map(upload)));
  assert.equal(actual.shape, output.shape);
  output.data.forEach((expected, i) => {
    close(actual.data[i]!, expected, 4e-6 * (1 + Math.abs(expected)), `element ${i} of [${output.shape}]`);
  });
}

function checkFirstOrder(make: Make, draw: Draw): void {
  const { inputs, engine: op, oracle, weights } = drawn(make, draw);
  const r = upload(weights);
  const found = gradients((...x) => mul(op(...x), r), inputs.map(upload)).gradients.map(download);
  inputs.forEach((input, i) => {
    assert.equal(found[i]!.shape, input.shape);
    const v = inputs.map((other, j) => (i === j ? draw.numbers(other.shape, -1, 1) : zeros(other)));
    const expected = o.slope((x) => o.dot(oracle(...x), weights), inputs, v);
    close(o.dot(found[i]!, v[i]!), expected, 1e-5 * size(found[i]!, v[i]!), `input ${i} of [${input.shape}]`);
  });
}

function checkSecondOrder(make: Make, draw: Draw): void {
  const { inputs, engine: op, oracle, weights } = drawn(make, draw);
  const [v, w] = [0, 1].map(() => inputs.map(({ shape }) => draw.numbers(shape, -1, 1))) as [Nd[], Nd[]];
  const r = upload(weights);
  const along = v.map(upload);
  const total = (terms: Tensor[]): Tensor => terms.reduce((a, b) => add(a, b));
  const slope = (...x: Tensor[]): Tensor => {
    const first = gradients((...y) => mul(op(...y), r), x).gradients;
    return total(first.map((gradient, i) => sum(mul(gradient, along[i]!))));
  };
  const second = gradients(slope, inputs.map(upload)).gradients.map(download);
  const actual = o.sumOf(second.map((gradient, i) => o.dot(gradient, w[i]!)));
  const scale = o.sumOf(second.map((gradient, i) => size(gradient, w[i]!)));
  const expected = o.curvature((x) => o.dot(oracle(...x), weights), inputs, v, w);
  close(actual, expected, 1e-4 * scale, 'the second derivative');
}

function check(make: Make, runs: number, body: (make: Make, draw: Draw) => void): void {
  const property = fc.property(fc.gen(), (g) => {
    engine.scope(() => body(make, new Draw(g)));
  });
  fc.assert(property, { seed: 20, numRuns: runs, endOnFailure: true, includeErrorInReport: true });
}

test('every op of the table is tested here', () => {
  assert.equal(Object.keys(cases).sort(), Object.keys(opTable).sort());
});

for (const [name, make] of Object.entries({ ...cases, ...composites })) {
  test(`${name}: forward`, () => check(make, 100, checkForward));
  test(`${name}: gradients to every input`, () => check(make, 100, checkFirstOrder));
  const row = opTable[name as keyof typeof opTable] as { secondOrder: true | string } | undefined;
  if (row === undefined || row.secondOrder === true) {
    test(`${name}: gradients of gradients`, () => check(make, 60, checkSecondOrder));
  }
}

test('at the kinks: 0 for absolute, relu, and the norm of 0; ties share the maximum', () => {
  engine.scope(() => {
    const slopeAt = (fn: (x: Tensor) => Tensor, values: number[]) => [
      ...gradients(fn, [engine.tensor(values)]).gradients[0]!.values(),
    ];
    assert.equal(slopeAt(absolute, [0, -2]), [0, -1]);
    assert.equal(slopeAt(relu, [0, 2]), [0, 1]);
    assert.equal(slopeAt(l2Norm, [0, 0]), [0, 0]);
    assert.equal(
      slopeAt((x) => max(x), [3, 1, 3]),
      [0.5, 0, 0.5],
    );
    assert.equal(
      slopeAt((x) => clip(x, 0, 1), [0, 1, 2]),
      [1, 1, 0],
    );
    assert.equal(l2Norm(engine.tensor([0, 0])).item(), 0);
  });
});

test('an input that is not reached has gradient 0; one used twice has the sum', () => {
  engine.scope(() => {
    const [x, y] = [engine.tensor([1, 2]), engine.tensor([3, 4])];
    const { value, gradients: found } = gradients((a) => mul(a, a), [x, y]);
    assert.equal([...value.values()], [1, 4]);
    assert.equal(
      found.map((t) => [...t.values()]),
      [
        [2, 4],
        [0, 0],
      ],
    );
    assert.equal([...gradients((a) => a, [x]).gradients[0]!.values()], [1, 1]);
  });
});

test('third order', () => {
  engine.scope(() => {
    const derive = (fn: (x: Tensor) => Tensor) => (x: Tensor) => gradients(fn, [x]).gradients[0]!;
    const third = derive(derive(derive((x) => mul(square(x), square(x)))));
    assert.equal([...third(engine.tensor([1, -2])).values()], [24, -48]);
  });
});

test('a row without second order says so', () => {
  const once = defineOp({
    name: 'once',
    secondOrder: 'its backward is a lookup',
    shape: ([x]) => x!.shape,
    forward: ({ inputs, output }) => void output.view().set(inputs[0]!.values()),
    backward: ({ dOutput }) => [dOutput],
  });
  engine.scope(() => {
    const first = (x: Tensor) => gradients((y) => once([y]), [x]).gradients[0]!;
    assert.is(first(engine.full([], 2)).item(), 1);
    assert.throws(
      () => gradients(first, [engine.full([], 2)]),
      (error: { code: string; message: string }) =>
        error.code === 'NO_SECOND_ORDER' && /^once: .*lookup/.test(error.message),
    );
  });
});

test('the gradient of a batch’s own examples is kept apart through backward', () => {
  engine.scope(() => {
    const x = asExamples(engine.full([3, 2], 1));
    const {
      gradients: [dx],
    } = gradients((y) => sum(square(y), { axes: 1 }), [x]);
    assert.ok(dx!.examples);
  });
});

test.run();
