export * from './attacks/index.js';
export * from './dp/index.js';
export * from './engine/index.js';
export * from './nn/index.js';
