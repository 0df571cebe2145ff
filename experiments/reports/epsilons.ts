import { type AccountantName, createAccountant, type PrivacyPhase } from 'gradshape';

/** The δ of all reports. */
export const delta = 1e-5;
export const accountants = ['rdp', 'pld', 'gdp'] as const;

/** ε by what it depends on, so that models and seeds share the query. */
const known = new Map<string, number>();

/** ε at `delta` of one phase. */
export function epsilonOf(accountant: AccountantName, phase: PrivacyPhase): number {
  const key = `${accountant} ${JSON.stringify(phase)}`;
  let value = known.get(key);
  if (value === undefined) {
    value = createAccountant(accountant, [phase]).epsilon(delta).epsilon;
    known.set(key, value);
  }
  return value;
}

/** So many of the epochs, spread evenly, the last among them: points of a curve, each a query of the slowest accountant. */
export function someEpochs(epochs: number, points = 6): number[] {
  const count = Math.min(epochs, points);
  return Array.from({ length: count }, (_, i) => Math.round(((i + 1) * epochs) / count));
}
