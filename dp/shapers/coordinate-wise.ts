import type { PerExampleGradients, Tensor } from '../../engine/index.js';
import type { Shaper } from '../shaper.js';
import { checkShaper } from './weights.js';

/**
 * The coordinate-wise trimmed mean (Yin et al. 2018): in each coordinate the largest and the smallest ⌊trim · batch⌋ values
 * are left out, and the sum is the mean of the others times the batch. No guarantee: one example changes which of the
 * others' values count. Needs all gradients in memory, and the whole batch.
 * @param options trim: the share left out at each end, 0 ≤ trim < ½
 * @throws SHAPER_INVALID
 * @example trimmedMean({ trim: 0.1 })
 */
export function trimmedMean({ trim }: { readonly trim: number }): Shaper {
  checkShaper('trimmedMean: trim', trim, trim >= 0 && trim < 0.5, 'a number of at least 0 and below 0.5');
  return coordinateWise(`trimmedMean(${trim})`, (sorted) => {
    const cut = Math.floor(trim * sorted.length);
    let sum = 0;
    for (let i = cut; i < sorted.length - cut; i++) sum += sorted[i]!;
    return sum / (sorted.length - 2 * cut);
  });
}

/**
 * The coordinate-wise median (Yin et al. 2018), times the batch. No guarantee. Needs all gradients in memory, and the whole batch.
 * @example coordinateMedian()
 */
export function coordinateMedian(): Shaper {
  return coordinateWise('coordinateMedian()', (sorted) => {
    const middle = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  });
}

function coordinateWise(description: string, centre: (sorted: Float32Array) => number): Shaper {
  return {
    name: description.slice(0, description.indexOf('(')),
    wholeBatch: true,
    bound: () => null,
    accumulate(g, sum) {
      const rows = finiteRows(g);
      if (rows.length === 0) return undefined;
      const gradients = g.array().view();
      const sums = sum.view();
      const size = sum.size;
      const column = new Float32Array(rows.length);
      for (let j = 0; j < size; j++) {
        for (let i = 0; i < rows.length; i++) column[i] = gradients[rows[i]! * size + j]!;
        column.sort();
        sums[j]! += centre(column) * rows.length;
      }
      return undefined;
    },
    toString: () => `${description}, no guarantee`,
  };
}

function finiteRows(g: PerExampleGradients): number[] {
  const squared: ReturnType<Tensor['view']> = g.norms().squared.view();
  return [...squared.keys()].filter((i) => Number.isFinite(squared[i]));
}
