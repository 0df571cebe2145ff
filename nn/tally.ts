import { bothGroups, type Groups } from './gradient-signature.js';

/** A group's examples: their norms, and how many were weighted down. */
export class Tally {
  count = 0;
  private clipped = 0;
  /** The finite norms, with room for more. */
  private held = new Float64Array(512);
  private size = 0;

  /** A view, good until the next `add`. */
  get norms(): Float64Array {
    return this.held.subarray(0, this.size);
  }

  get shareClipped(): number | null {
    return this.count === 0 ? null : this.clipped / this.count;
  }

  add(squaredNorm: number, weight: number): void {
    this.count++;
    if (weight < 1) this.clipped++;
    if (!Number.isFinite(squaredNorm)) return;
    this.reserve(1);
    this.held[this.size++] = Math.sqrt(squaredNorm);
  }

  addAll(other: Tally): void {
    this.count += other.count;
    this.clipped += other.clipped;
    this.reserve(other.size);
    this.held.set(other.norms, this.size);
    this.size += other.size;
  }

  private reserve(more: number): void {
    if (this.size + more <= this.held.length) return;
    const larger = new Float64Array(2 * (this.size + more));
    larger.set(this.norms);
    this.held = larger;
  }

  clear(): void {
    this.count = 0;
    this.clipped = 0;
    this.size = 0;
  }
}

export const newTallies = (): Groups<Tally> => bothGroups(() => new Tally());
