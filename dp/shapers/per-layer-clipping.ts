import { GradshapeError, Norms, type Parameters } from '../../engine/index.js';
import { checkClipNorm, clipFactors } from '../clip.js';
import type { Shaper } from '../shaper.js';

export interface PerLayerClippingOptions {
  /** The parameters that will be trained; their names say the layers: '0.weight' and '0.bias' are of layer '0'. */
  readonly params: Parameters;
  /** C for all layers together: each of L layers gets C/√L. */
  readonly clipNorm?: number;
  /** Or one clip norm a layer. */
  readonly clipNorms?: Readonly<Record<string, number>>;
}

interface Layer {
  readonly parameters: readonly string[];
  readonly clipNorm: number;
}

/**
 * Per-layer clipping (McMahan et al. 2018): each layer's part of a gradient is clipped to a norm of its own. Bound: the root of
 * the sum of the squared clip norms. A weighted sum is taken for each layer.
 * @throws CLIP_NORM_INVALID, SHAPER_INVALID
 * @example perLayerClipping({ params, clipNorm: 1 }).bound(0); // 1
 */
export function perLayerClipping(options: PerLayerClippingOptions): Shaper {
  const { params } = options;
  const layers = layersOf(options);
  const bound = Math.sqrt([...layers.values()].reduce((sum, { clipNorm }) => sum + clipNorm * clipNorm, 0));
  return {
    name: 'perLayerClipping',
    wholeBatch: false,
    bound: () => bound,
    accumulate(g, sum, { tightening }) {
      const { engine } = params;
      const total = g.norms().squared.values();
      const before = engine.allocate([params.size], 'f32', 'perLayerClipping');
      for (const { parameters, clipNorm } of layers.values()) {
        const norms = new Norms(engine.allocate([g.batch], 'f64', 'perLayerClipping'));
        engine.kernels.fill(norms.squared.address, 0, g.batch * 2);
        for (const name of parameters) {
          engine.kernels.sumF64(norms.squared.address, g.norms(name).squared.address, g.batch);
        }
        // An example is left out whole, or not at all.
        const values = norms.squared.view();
        total.forEach((norm, i) => {
          if (!Number.isFinite(norm)) values[i] = Number.NaN;
        });
        const factors = clipFactors(norms, { clipNorm: clipNorm * tightening });
        // The sum over one layer: take it over all, and put the others back.
        before.view().set(sum.view());
        g.weightedSums([factors], [sum]);
        for (const { name, offset, size } of params.entries) {
          if (parameters.includes(name)) continue;
          sum.view().set(before.view().subarray(offset, offset + size), offset);
        }
      }
      return undefined;
    },
    toString: () =>
      `perLayerClipping(${[...layers].map(([layer, { clipNorm }]) => `${layer}: ${clipNorm}`).join(', ')})`,
  };
}

function layersOf({ params, clipNorm, clipNorms }: PerLayerClippingOptions): Map<string, Layer> {
  if ((clipNorm === undefined) === (clipNorms === undefined)) {
    throw new GradshapeError(
      'SHAPER_INVALID',
      'perLayerClipping: expected either clipNorm, for all layers together, or clipNorms, one a layer.',
    );
  }
  const names = new Map<string, string[]>();
  for (const { name } of params.trainableEntries) {
    const layer = name.slice(0, Math.max(name.lastIndexOf('.'), 0)) || name;
    names.set(layer, [...(names.get(layer) ?? []), name]);
  }
  const missing = clipNorms && [...names.keys()].find((layer) => clipNorms[layer] === undefined);
  const unknown = clipNorms && Object.keys(clipNorms).find((layer) => !names.has(layer));
  if (missing !== undefined || unknown !== undefined) {
    throw new GradshapeError(
      'SHAPER_INVALID',
      `perLayerClipping: clipNorms has ${missing === undefined ? `a layer '${unknown}' that the parameters don't have` : `nothing for layer '${missing}'`}; ` +
        `expected one for each of ${[...names.keys()].join(', ')}.`,
    );
  }
  return new Map(
    [...names].map(([layer, parameters]) => {
      const norm = clipNorms ? clipNorms[layer]! : clipNorm! / Math.sqrt(names.size);
      checkClipNorm(`perLayerClipping: layer '${layer}'`, norm);
      return [layer, { parameters, clipNorm: norm }];
    }),
  );
}
