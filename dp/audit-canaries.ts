import {
  asExamples,
  type Engine,
  GradshapeError,
  matmul,
  mul,
  Parameters,
  publicGenerator,
  sum,
  type Tensor,
} from '../engine/index.js';
import type { TrainingStep } from '../nn/index.js';
import { type OneRunAudit, oneRunEpsilonLowerBound } from './accounting/index.js';

export interface CanaryAuditOptions {
  readonly engine: Engine;
  /** The step that is audited, made for these parameters. Its optimizer should be plain SGD. */
  readonly makeStep: (params: Parameters) => TrainingStep;
  /** m: canaries, a square number; each is put in with probability ½. @default 10000 */
  readonly canaries?: number;
  /** r: how many of them are guessed at, the surest ones. @default canaries / 25 */
  readonly guesses?: number;
  /** Steps, each on all canaries that were put in: no sampling. @default 1 */
  readonly steps?: number;
  /** Draws who is put in. */
  readonly seed: number;
  /** @default 1e-5 */
  readonly delta?: number;
  /** @default 0.95 */
  readonly confidence?: number;
}

export interface CanaryAuditResult extends OneRunAudit {
  /** With the confidence asked for, the step is not (ε, δ)-DP for any smaller ε. */
  readonly epsilonLowerBound: number;
}

/** Norm of a canary's own gradient: far above any clip norm. */
const magnitude = 1000;
const examplesAtOnce = 1000;

/**
 * The one-run audit of Steinke, Nasr and Jagielski (2023) with the strongest canaries there are for a step that clips and
 * noises: the gradient of canary i is large in a coordinate of its own and 0 elsewhere. A coin says for each whether it takes part;
 * after the training, its coordinate tells. The guesses that were right prove a lower bound on ε (their theorem 3.1). A
 * step that keeps its promise stays below the ε of `steps` Gaussian releases; one with too little noise, or a clip norm
 * that isn't kept, exceeds it.
 * @throws AUDIT_INVALID
 * @example
 * const { epsilonLowerBound } = auditCanaries({
 *   ...{ engine, seed: 1, canaries: 400 },
 *   makeStep: (params) =>
 *     privateStep({ params, optimizer: sgd({ learningRate: 1 }), clipNorm: 1, noiseMultiplier: 1, expectedBatchSize: 200 }),
 * });
 * epsilonLowerBound < gaussianEpsilon(1, 1e-5) // true
 */
export function auditCanaries(options: CanaryAuditOptions): CanaryAuditResult {
  const { engine, makeStep, canaries = 10_000, steps = 1, seed, delta = 1e-5, confidence = 0.95 } = options;
  const side = Math.round(Math.sqrt(canaries));
  const { guesses = Math.floor(canaries / 25) } = options;
  if (side * side !== canaries || canaries < 4 || !(guesses >= 1 && guesses <= canaries)) {
    throw new GradshapeError(
      'AUDIT_INVALID',
      `auditCanaries: ${canaries} canaries and ${guesses} guesses; expected a square number of canaries from 4, and from 1 to as many guesses.`,
    );
  }
  const included = coins(canaries, seed);
  const scores = train(engine, makeStep, side, included, steps);
  const correct = guess(scores, included, guesses);
  const audit = { canaries, guesses, correct };
  return { ...audit, epsilonLowerBound: oneRunEpsilonLowerBound(audit, { delta, confidence }) };
}

function coins(count: number, seed: number): boolean[] {
  const generator = publicGenerator(seed, 'poison');
  return Array.from({ length: count }, () => generator.next() < 0);
}

/** Canary i is a matrix product's example with one input and one output: its gradient is entry i of the weight. */
function train(
  engine: Engine,
  makeStep: (params: Parameters) => TrainingStep,
  side: number,
  included: readonly boolean[],
  steps: number,
): Float32Array {
  const params = new Parameters(engine, [{ name: 'weight', shape: [side, side] }]);
  const step = makeStep(params);
  const loss = (p: Parameters, { row, column }: { row: Tensor; column: Tensor }): Tensor =>
    sum(mul(matmul(row, p.get('weight')), column), { axes: [1] });
  const present = [...included.keys()].filter((i) => included[i]);
  try {
    for (let t = 0; t < steps; t++) {
      for (let from = 0; from < present.length; from += examplesAtOnce) {
        engine.scope(() => {
          const piece = present.slice(from, from + examplesAtOnce);
          const row = asExamples(engine.full([piece.length, side], 0));
          const column = engine.full([piece.length, side], 0);
          column.examples = row.examples;
          const [rows, columns] = [row.view(), column.view()];
          piece.forEach((i, at) => {
            rows[at * side + Math.floor(i / side)] = 1;
            columns[at * side + (i % side)] = -magnitude;
          });
          step.accumulate(loss, { row, column });
        });
      }
      step.finish();
    }
    return params.values();
  } finally {
    step.free();
    params.free();
  }
}

/** Half of the guesses call the highest scores in, half the lowest out; returns how many were right. */
function guess(scores: Float32Array, included: readonly boolean[], guesses: number): number {
  const order = [...scores.keys()].sort((i, j) => scores[j]! - scores[i]!);
  const high = Math.ceil(guesses / 2);
  const low = guesses - high;
  const rightIn = order.slice(0, high).filter((i) => included[i]).length;
  const rightOut = low === 0 ? 0 : order.slice(-low).filter((i) => !included[i]).length;
  return rightIn + rightOut;
}
