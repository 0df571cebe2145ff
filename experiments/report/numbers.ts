// Numbers that may be infinite, as ε without noise is, in text, figures and JSON.

/** Five digits, or ∞. */
export function digits(value: number): string {
  return value === Infinity ? '∞' : String(Number(value.toPrecision(5)));
}

/** For CSV. */
export function finite(value: number): number | string {
  return value === Infinity ? 'Infinity' : value;
}

export function isFinitePoint({ y }: { y: number }): boolean {
  return Number.isFinite(y);
}

/** For JSON.stringify: JSON has no infinity. */
export function replaceInfinity(_key: string, value: unknown): unknown {
  return value === Infinity ? 'Infinity' : value;
}
