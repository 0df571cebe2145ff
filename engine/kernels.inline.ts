// The kernels as base64 inside the package: works on every runtime that may compile wasm, with no file to find.
import { baseBase64, relaxedBase64 } from './kernels.bytes.generated.js';
import type { KernelBuild, KernelSource } from './kernels.js';

/** The bytes of a build's wasm file. */
export function kernelSource(build: KernelBuild): KernelSource {
  const binary = atob(build === 'base' ? baseBase64 : relaxedBase64);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
