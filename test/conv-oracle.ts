// A naive float64 convolution with all its gradients, one example's filter gradient at a time, and random geometries.
import fc from 'fast-check';
import type { ConvOptions } from 'gradshape/engine';

type Four = readonly [number, number, number, number];
type Two = readonly [number, number];

export interface Convolution {
  /** [batch, height, width, channels] */
  readonly x: Four;
  /** [height, width, channels / groups, out] */
  readonly filter: Four;
  readonly stride: Two;
  readonly dilation: Two;
  /** [[top, bottom], [left, right]] */
  readonly padding: readonly [Two, Two];
  readonly groups: number;
}

export const optionsOf = ({ stride, dilation, padding, groups }: Convolution): ConvOptions => ({
  stride,
  dilation,
  padding,
  groups,
});

/** [batch, height, width, out] of the result. */
export function outputShape({ x, filter, stride, dilation, padding }: Convolution): Four {
  const size = (axis: 0 | 1): number => {
    const reach = (filter[axis] - 1) * dilation[axis] + 1;
    return Math.floor((x[axis + 1]! + padding[axis][0] + padding[axis][1] - reach) / stride[axis]) + 1;
  };
  return [x[0], size(0), size(1), filter[3]];
}

/** Calls `visit` with the flat indices of x, filter and output (and the example) of every product of the sum. */
function forEachProduct(
  c: Convolution,
  visit: (x: number, filter: number, out: number, example: number) => void,
): void {
  const [batch, height, width, channels] = c.x;
  const [kernelHeight, kernelWidth, depth, out] = c.filter;
  const [, rows, columns] = outputShape(c);
  const perGroup = out / c.groups;
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < rows; i++)
      for (let j = 0; j < columns; j++)
        for (let p = 0; p < kernelHeight; p++)
          for (let q = 0; q < kernelWidth; q++) {
            const y = i * c.stride[0] - c.padding[0][0] + p * c.dilation[0];
            const x = j * c.stride[1] - c.padding[1][0] + q * c.dilation[1];
            if (y < 0 || y >= height || x < 0 || x >= width) continue;
            for (let o = 0; o < out; o++)
              for (let d = 0; d < depth; d++) {
                const channel = Math.floor(o / perGroup) * depth + d;
                visit(
                  ((b * height + y) * width + x) * channels + channel,
                  ((p * kernelWidth + q) * depth + d) * out + o,
                  ((b * rows + i) * columns + j) * out + o,
                  b,
                );
              }
          }
}

const size = (shape: Four): number => shape[0] * shape[1] * shape[2] * shape[3];
type Numbers = ArrayLike<number>;

export function convolved(c: Convolution, x: Numbers, filter: Numbers, bias?: Numbers): Float64Array {
  const shape = outputShape(c);
  const out = Float64Array.from({ length: size(shape) }, (_, i) => bias?.[i % shape[3]] ?? 0);
  forEachProduct(c, (xi, fi, oi) => {
    out[oi]! += x[xi]! * filter[fi]!;
  });
  return out;
}

export function inputGradient(c: Convolution, dOut: Numbers, filter: Numbers): Float64Array {
  const dX = new Float64Array(size(c.x));
  forEachProduct(c, (xi, fi, oi) => {
    dX[xi]! += dOut[oi]! * filter[fi]!;
  });
  return dX;
}

/** One row an example. */
export function filterGradients(c: Convolution, x: Numbers, dOut: Numbers): Float64Array[] {
  const rows = Array.from({ length: c.x[0] }, () => new Float64Array(size(c.filter)));
  forEachProduct(c, (xi, fi, oi, example) => {
    rows[example]![fi]! += x[xi]! * dOut[oi]!;
  });
  return rows;
}

export const addUp = (rows: readonly Numbers[], weights?: Numbers): Float64Array =>
  Float64Array.from(rows[0]!, (_, i) => rows.reduce((sum, row, r) => sum + (weights?.[r] ?? 1) * row[i]!, 0));

const whole = (min: number, max: number) => fc.integer({ min, max });
const two = (min: number, max: number) => fc.tuple(whole(min, max), whole(min, max));

/** Random geometries: groups and depthwise, uneven padding, strides and dilations, tiles over every edge. */
export const convolutions: fc.Arbitrary<Convolution> = fc
  .record({
    batch: whole(1, 3),
    image: two(1, 11),
    kernel: two(1, 4),
    groups: fc.constantFrom(1, 1, 1, 2, 3, 5),
    depth: whole(1, 9),
    columns: whole(1, 17),
    stride: two(1, 3),
    dilation: two(1, 3),
    padding: fc.tuple(two(0, 4), two(0, 4)),
  })
  .map(({ batch, image, kernel, groups, depth, columns, stride, dilation, padding }) => {
    const most = (axis: 0 | 1): number => (kernel[axis] - 1) * dilation[axis];
    const within = (axis: 0 | 1): Two => [
      Math.min(padding[axis][0], most(axis)),
      Math.min(padding[axis][1], most(axis)),
    ];
    return {
      x: [batch, ...image, groups * depth],
      filter: [...kernel, depth, groups * columns],
      stride,
      dilation,
      padding: [within(0), within(1)],
      groups,
    } as const;
  })
  .filter((c) => {
    const [, rows, columns] = outputShape(c);
    return rows > 0 && columns > 0;
  });
