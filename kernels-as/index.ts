// The kernels: flat functions over raw pointers into one imported memory. They allocate nothing and hold no data;
// the engine owns the memory map. One file per family.
export * from './gemm';
export * from './elementwise';
export * from './reduce';
export * from './loss';
export * from './optimizer';
export * from './random';
export * from './gather';
export * from './conv';
export * from './conv-filter';
export * from './conv-norms';
export * from './winograd';
export * from './pool';
export * from './norm';
export * from './per-example';
