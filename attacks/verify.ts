import { GradshapeError, type LabelledSet, sizeOf } from '../engine/index.js';
import { type PoisonedSet, scaledValues } from './poisoned-set.js';
import { centroid, outsideBy, type Rows, sphereAndSlab } from './sphere-and-slab.js';

/** How far outside its constraints a poison may lie, relative to their size. */
const tolerance = 1e-6;

/**
 * Checks a poisoned set against its own spec: as many poisons as the budget says and nowhere else a changed label,
 * finite numbers, in [0, 1] when the base is, and, for the slab attack, inside the sphere and the slab of a defender
 * who sees the set.
 * @throws BUDGET_EXCEEDED, INFEASIBLE
 */
export function verifyPoison(set: PoisonedSet): void {
  checkBudget(set);
  const [added] = set.added;
  if (added === undefined) return;
  const box = set.spec.box !== false && inBox(set.base);
  const values = scaledValues(added);
  const size = sizeOf(added.shape);
  values.forEach((value, i) => {
    const inside = box ? value >= -tolerance && value <= 1 + tolerance : Number.isFinite(value);
    if (inside) return;
    throw infeasible(
      `element ${i % size} of poison ${Math.floor(i / size)} is ${value}; expected ${box ? 'a number from 0 to 1' : 'a finite number'}`,
    );
  });
  if (set.spec.attack === 'slab') checkSlab(set, { x: values, y: added.y, size });
}

function checkBudget({ base, y, poison, added, spec }: PoisonedSet): void {
  const n = base.y.length;
  const changed = Array.from(base.y).filter((label, i) => label !== y[i]).length;
  const extra = added.reduce((sum, part) => sum + part.y.length, 0);
  const marked = new Set(poison);
  const inside = poison.every((i) => i >= 0 && i < n + extra);
  const allMarked =
    inside &&
    Array.from(base.y).every((label, i) => label === y[i] || marked.has(i)) &&
    Array.from({ length: extra }, (_, i) => n + i).every((i) => marked.has(i));
  if (allMarked && poison.length === spec.count && marked.size === spec.count && y.length === n + extra)
    return;
  throw new GradshapeError(
    'BUDGET_EXCEEDED',
    `verifyPoison: ${extra} examples were added and ${changed} labels changed, and ${poison.length} are marked as poison; ` +
      `expected ${spec.count} poisons, all of them marked, by indices from 0 to ${n + extra - 1}.`,
  );
}

function checkSlab({ base, spec }: PoisonedSet, poisons: Rows): void {
  const { size } = poisons;
  const rows: Rows = { x: scaledValues(base), y: base.y, size };
  const clean = sphereAndSlab(rows, spec.quantile as number);
  const centroids =
    spec.centroids === 'clean' ? clean.centroids : ([0, 1].map((label) => moved(label)) as never);
  for (let i = 0; i < poisons.y.length; i++) {
    const beyond = outsideBy(
      { ...clean, centroids },
      poisons.x.subarray(i * size, (i + 1) * size),
      poisons.y[i] as 0 | 1,
    );
    if (beyond > tolerance)
      throw infeasible(`poison ${i} lies outside by ${beyond} of the sphere's or slab's size`);
  }

  function moved(label: number): Float64Array {
    const here = Array.from(poisons.y).filter((y) => y === label).length;
    const n = Array.from(base.y).filter((y) => y === label).length;
    const original = clean.centroids[label as 0 | 1];
    if (here === 0) return original;
    const poison = centroid(poisons, label);
    return original.map((value, j) => (n * value + here * poison[j]!) / (n + here));
  }
}

function inBox(set: LabelledSet): boolean {
  const { x, scale = 1 } = set;
  for (let i = 0; i < x.length; i++) if (!(x[i]! * scale >= 0 && x[i]! * scale <= 1)) return false;
  return true;
}

function infeasible(what: string): GradshapeError {
  return new GradshapeError('INFEASIBLE', `verifyPoison: ${what}.`);
}
