// Workers forbid compiling wasm at run time: there a static import of the file gives a compiled module.
import base from '../kernels/base.wasm';
import { GradshapeError } from './errors.js';
import type { KernelBuild, KernelSource } from './kernels.js';

/** The compiled base build. */
export function kernelSource(build: KernelBuild): KernelSource {
  if (build === 'base') return base;
  throw new GradshapeError(
    'KERNELS_NOT_BUNDLED',
    "createEngine: only the base kernels are bundled on this runtime. Pass { module } with 'gradshape/kernels/relaxed.wasm' imported by you.",
  );
}
