/** Which phases were released with seeded noise. Phases can't say so themselves: it is known of the very objects, in this process. */
import type { PrivacyPhase } from './accounting/index.js';

const seeded = new WeakSet<PrivacyPhase>();

export function markSeeded(phases: readonly PrivacyPhase[]): void {
  for (const phase of phases) seeded.add(phase);
}

/** Whether some of the phases were. */
export function isSeeded(phases: readonly PrivacyPhase[]): boolean {
  return phases.some((phase) => seeded.has(phase));
}
