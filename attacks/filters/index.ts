export { activationClusteringFilter } from './activation-clustering.js';
export { slabFilter, sphereFilter } from './centroid.js';
export { type Filtered, type FilterOptions, removedShares, rowsOf, selectRows } from './filter.js';
export { lossFilter } from './loss.js';
export { nearestNeighbourFilter } from './neighbours.js';
export { type RoniOptions, roniFilter } from './roni.js';
export { spectralFilter, svdFilter } from './spectral.js';
