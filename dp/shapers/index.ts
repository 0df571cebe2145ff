export { type AdaptiveClippingOptions, type AdaptiveShaper, adaptiveClipping } from './adaptive-clipping.js';
export { automaticClipping } from './automatic-clipping.js';
export { coordinateMedian, trimmedMean } from './coordinate-wise.js';
export { cosineWeighting } from './cosine-weighting.js';
export { flatClipping } from './flat-clipping.js';
export { type GeometricMedianOptions, geometricMedian } from './geometric-median.js';
export { type NormRejectionOptions, normRejection } from './norm-rejection.js';
export { type PerLayerClippingOptions, perLayerClipping } from './per-layer-clipping.js';
