import { GradshapeError } from '../errors.js';
import { type Shape, sameShape, showShape } from '../tensor.js';

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis]!;
  }
  return strides;
}

/** The shape two shapes broadcast to: trailing axes line up, and an axis of 1 (or none) is repeated. */
export function broadcastShapes(op: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const shape = new Array<number>(rank);
  for (let i = 1; i <= rank; i++) {
    const m = a[a.length - i] ?? 1;
    const n = b[b.length - i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) {
      throw new GradshapeError(
        'SHAPE_MISMATCH',
        `${op}: shapes ${showShape(a)} and ${showShape(b)} don't broadcast: ${m} meets ${n}. ` +
          'Trailing axes must be equal, or 1 in one of them; reshape or transpose first.',
      );
    }
    shape[rank - i] = m === 1 ? n : m;
  }
  return shape;
}

/** Strides that read `shape` as if it had the broadcast shape `as`. */
export function broadcastStrides(shape: Shape, as: Shape): number[] {
  const own = stridesOf(shape);
  const lead = as.length - shape.length;
  return as.map((n, axis) => (axis < lead || (shape[axis - lead] === 1 && n !== 1) ? 0 : own[axis - lead]!));
}

/** Four dimensions, and each operand's four strides: what the strided kernels take. */
export interface Walk {
  readonly dims: readonly [number, number, number, number];
  readonly strides: readonly (readonly [number, number, number, number])[];
}

/** Merges axes that every operand walks as one, and pads to four. */
export function walk(op: string, shape: Shape, operands: readonly (readonly number[])[]): Walk {
  const dims: number[] = [];
  const strides: number[][] = operands.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    const n = shape[axis]!;
    if (n === 1) continue;
    const last = dims.length - 1;
    const merges = last >= 0 && operands.every((own, i) => strides[i]![last] === own[axis]! * n);
    if (merges) {
      dims[last]! *= n;
      operands.forEach((own, i) => {
        strides[i]![last] = own[axis]!;
      });
    } else {
      dims.push(n);
      operands.forEach((own, i) => {
        strides[i]!.push(own[axis]!);
      });
    }
  }
  if (dims.length > 4) {
    throw new GradshapeError(
      'RANK_TOO_HIGH',
      `${op}: shape ${showShape(shape)} takes ${dims.length} loops after merging axes; at most 4 are supported. ` +
        'Reshape neighbouring axes into one before the operation.',
    );
  }
  const pad = 4 - dims.length;
  const padded = (values: number[], fill: number) =>
    [...new Array<number>(pad).fill(fill), ...values] as unknown as [number, number, number, number];
  return { dims: padded(dims, 1), strides: strides.map((own) => padded(own, 0)) };
}
