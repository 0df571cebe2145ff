// The kernels over one memory, with arrays copied in and out: `put` gives an address, `floats` reads it back.
import { readFileSync } from 'node:fs';
import type { KernelExports } from '../engine/kernels.generated.js';

type Data = Float32Array | Float64Array | Int32Array | Uint32Array | Uint8Array;

const memory = new WebAssembly.Memory({ initial: 1024 });
const bytes = readFileSync(new URL('../dist/kernels/base.wasm', import.meta.url));
export const kernels = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } })
  .exports as unknown as KernelExports;

let top = 1024;

/** Forgets everything that was allocated. */
export function reset(): void {
  top = 1024;
}

/** `size` bytes, 16-byte aligned unless `skew` moves them (kernels promise 4-byte alignment only). */
export function allocate(size: number, skew = 0): number {
  const address = top + skew;
  top = Math.ceil((address + size) / 16) * 16 + 16;
  if (top > memory.buffer.byteLength) throw new Error('kernel-harness: out of memory, call reset()');
  return address;
}

/** Copies an array in; a plain array becomes f32. */
export function put(data: Data | readonly number[], skew = 0): number {
  const array = Array.isArray(data) ? new Float32Array(data) : (data as Data);
  const address = allocate(array.byteLength, skew);
  new Uint8Array(memory.buffer).set(
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength),
    address,
  );
  return address;
}

/** Copies of what lies at an address. */
export const floats = (address: number, n: number) => new Float32Array(memory.buffer, address, n).slice();
export const doubles = (address: number, n: number) =>
  new Float64Array(memory.buffer.slice(address, address + 8 * n));
export const ints = (address: number, n: number) => new Int32Array(memory.buffer, address, n).slice();
export const words = (address: number, n: number) => new Uint32Array(memory.buffer, address, n).slice();
export const octets = (address: number, n: number) => new Uint8Array(memory.buffer, address, n).slice();

type Numbers = ArrayLike<number>;

/** Asserts equal numbers, NaN equal to NaN and 0 to -0. */
export function same(actual: Numbers, expected: Numbers, what = ''): void {
  near(actual, expected, 0, 0, what);
}

/** Asserts |actual - expected| ≤ absolute + relative·|expected|, element by element; what is not finite must be the same. */
export function near(actual: Numbers, expected: Numbers, relative: number, absolute = 0, what = ''): void {
  if (actual.length !== expected.length)
    throw new Error(`${what}: length ${actual.length}, not ${expected.length}`);
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (a === e || (Number.isNaN(a) && Number.isNaN(e))) continue;
    if (Math.abs(a - e) <= absolute + relative * Math.abs(e)) continue;
    throw new Error(`${what}[${i}] is ${a}, expected ${e} (of ${expected.length})`);
  }
}
