import { GradshapeError } from './errors.js';
import type { KernelExports } from './kernels.generated.js';

export type { KernelExports };

/** The two builds of the kernels: base SIMD (same bits everywhere) and relaxed SIMD (fused multiply-add, faster). */
export type KernelBuild = 'base' | 'relaxed';

/** Where kernels can come from: a compiled module (the only way on Workers), or the bytes of a wasm file. */
export type KernelSource = WebAssembly.Module | Uint8Array<ArrayBuffer>;

// The smallest module with a relaxed opcode: (func (param v128) (result v128) (f32x4.relaxed_madd x x x)).
const relaxedProbe = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 123, 1, 123, 3, 2, 1, 0, 10, 13, 1, 11, 0, 32, 0, 32, 0, 32, 0,
  253, 133, 2, 11,
]);

/** Whether this runtime accepts relaxed SIMD. */
export function supportsRelaxedSimd(): boolean {
  return WebAssembly.validate(relaxedProbe);
}

/** Settles `'auto'` and refuses a build that the runtime lacks. */
export function chooseBuild(wanted: KernelBuild | 'auto'): KernelBuild {
  if (wanted !== 'base' && wanted !== 'relaxed' && wanted !== 'auto') {
    throw new GradshapeError(
      'UNKNOWN_KERNEL_BUILD',
      `createEngine: kernels is '${String(wanted)}'; expected 'base', 'relaxed' or 'auto'.`,
    );
  }
  if (wanted === 'auto') return supportsRelaxedSimd() ? 'relaxed' : 'base';
  if (wanted === 'relaxed' && !supportsRelaxedSimd()) {
    throw new GradshapeError(
      'NO_RELAXED_SIMD',
      "createEngine: kernels is 'relaxed', but this runtime has no relaxed SIMD. Use 'base', or 'auto' to take what there is.",
    );
  }
  return wanted;
}

/** Links the kernels to the engine's memory. */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): KernelExports {
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  return instance.exports as unknown as KernelExports;
}
