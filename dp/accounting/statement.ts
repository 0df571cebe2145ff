/** A guarantee in plain words, with what it rests on and what it leaves out. */
import type { Accountant, PrivacyGuarantee } from './accountant.js';
import { createAccountant } from './accountants.js';
import { isNominal, type NeighbouringRelation, type PrivacyPhase } from './events.js';
import { formatLowerBound, formatUpperBound } from './format.js';
import { checkCount, checkDelta, checkOneOf } from './validate.js';

/**
 * Where the noise and the private sampling came from. Only what is known to be `secure` is called private: a seeded run, or one
 * whose origin is `unknown`, never is.
 */
export type NoiseOrigin = 'secure' | 'seeded' | 'unknown';

export interface PrivacyStatement {
  /**
   * Whether a rigorous guarantee of some use against an outsider stands: noise in every step, secure source, not nominal, ε at most 100, and
   * δ below 1 / datasetSize and 0.01.
   */
  private: boolean;
  epsilon: number;
  delta: number;
  kind: PrivacyGuarantee['kind'];
  relation: NeighbouringRelation;
  noiseOrigin: NoiseOrigin;
  phases: PrivacyPhase[];
  guarantees: PrivacyGuarantee[];
  /** What is protected, how the batches were drawn, how it was counted, where the noise came from. */
  says: string[];
  notCovered: string[];
}

const RELATIONS: Record<NeighbouringRelation, string> = {
  'add-or-remove-one':
    'Protected: whether any one training example was in the data at all (data sets that differ by adding or removing one).',
  'zero-out-one':
    "Protected: any one training example's contribution, against the same training with that contribution set to zero. The " +
    'number of examples is taken to be public.',
  'replace-one':
    'Protected: what any one training example was, against exchanging it for any other. The number of examples is taken to ' +
    'be public; every step counts with twice the clip norm.',
};

/** Differential privacy as a bound on tests (Wasserman and Zhou 2010; Kairouz, Oh and Viswanath 2015). */
const MEANING =
  'What ε means: whoever, seeing the weights, takes the example to have been there in a share α of the cases where it was not, does so in a share of at ' +
  'most e^ε · α + δ of the cases where it was.';

const times = (count: number, what: string): string =>
  `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

function describePhase(phase: PrivacyPhase): string {
  const noise =
    phase.noiseMultiplier === 0 ? 'no noise' : `noise multiplier ${formatLowerBound(phase.noiseMultiplier)}`;
  switch (phase.mechanism) {
    case 'gaussian':
      return `${times(phase.steps, 'step')} on all examples, ${noise}.`;
    case 'poissonSampledGaussian':
      return `${times(phase.steps, 'step')}, each example taking part in each with probability ${formatUpperBound(phase.samplingRate)}, ${noise}.`;
    case 'nominalPoissonGaussian':
      return `${times(phase.steps, 'step')} on shuffled batches, counted *as if* each example were drawn independently with probability ${formatUpperBound(phase.samplingRate)}, ${noise}.`;
    case 'fixedSizeSampledGaussian':
      return `${times(phase.steps, 'step')}, each on ${phase.batchSize} of ${phase.datasetSize} examples drawn without replacement, ${noise}.`;
    case 'shuffledEpochGaussian':
      return `${times(phase.steps, 'shuffled epoch')}: every example is in one batch of each, no amplification by sampling is claimed, ${noise}.`;
  }
}

const ACCOUNTANTS: Record<PrivacyGuarantee['method'], string> = {
  renyi: 'Rényi divergences',
  'privacy-loss-distribution': 'privacy-loss distributions, rounded up',
  'closed-form': 'a closed form',
  'central-limit': 'the central-limit approximation of Gaussian DP',
};

function describeGuarantee({ epsilon, delta, accountant, kind, method, order }: PrivacyGuarantee): string {
  const how =
    order === undefined
      ? ACCOUNTANTS[method]
      : `${ACCOUNTANTS[method]}, order ${Number(order.toPrecision(4))}`;
  const sort = kind === 'bound' ? 'an upper bound' : 'an approximation, no bound';
  return `${accountant.toUpperCase()}: ε = ${formatUpperBound(epsilon)} at δ = ${formatUpperBound(delta)}, ${sort} (${how}).`;
}

const NOT_COVERED = [
  'Several examples of one person: k of them weaken the guarantee: groupCertificate() says to what ε.',
  'Choices made by looking at the data outside these steps: hyperparameters, early stopping, the best of several runs, ' +
    'preprocessing fitted to the data.',
  'The accuracy, losses and gradients reported along the way, if computed from the private data without noise.',
  'What weights and optimizer knew of the data before the first step, if they had seen the same data.',
  'What holds of the population: a model may reveal it about people who were never in the data.',
  'Attackers who see the computer itself: its memory, its timing, the random key.',
];

const ORIGINS: Record<NoiseOrigin, string> = {
  secure:
    "Noise, dropout and the drawing of sampled batches come from the platform's cryptographic random numbers, and are never stored.",
  seeded: 'Noise and sampling come from a seed: whoever knows it can undo them.',
  unknown: 'Nobody said where noise and sampling come from: whoever can guess or repeat them can undo them.',
};

const isShuffled = ({ mechanism }: PrivacyPhase): boolean =>
  mechanism === 'shuffledEpochGaussian' || mechanism === 'nominalPoissonGaussian';

const PUBLIC_ORDER =
  'The order of shuffled epochs is public, and its seed is in the checkpoints: who was in which batch is no secret, and nothing is claimed of that.';

/** An ε beyond which nothing of use is promised: e^100 is no limit to anybody's odds. */
const largestEpsilon = 100;
/** The same of δ, however few examples there are, or where their number is not known. */
const largestDelta = 0.01;

/** Why numbers that hold promise nothing of use. */
function emptyPromises({ epsilon, delta }: PrivacyGuarantee, datasetSize: number): string[] {
  const says: string[] = [];
  if (epsilon > largestEpsilon && epsilon < Infinity) {
    says.push(
      `An ε above ${largestEpsilon} promises nothing of use: with e^ε times better odds, everybody is sure.`,
    );
  }
  if (delta >= largestDelta || delta * datasetSize >= 1) {
    const one =
      delta * datasetSize >= 1 ? `one in ${datasetSize.toLocaleString('en')} examples` : largestDelta;
    says.push(
      `δ = ${formatUpperBound(delta)} is no less than ${one}: with such a δ, publishing some examples as they are is allowed. Choose it well below.`,
    );
  }
  return says;
}

/** What may be said first: only a finite bound on noise known to be secure is called private. */
function headline(
  { epsilon, delta }: PrivacyGuarantee,
  origin: NoiseOrigin,
  nominal: boolean,
  empty: boolean,
): string {
  const numbers = `ε = ${formatUpperBound(epsilon)}, δ = ${formatUpperBound(delta)}`;
  if (epsilon === Infinity) return 'Not private: a step without noise was released, so ε = ∞.';
  if (origin === 'seeded') {
    return `Not private: the noise was drawn from a seed, for an experiment. With secure noise it would be (${numbers}).`;
  }
  if (nominal) {
    return `No guarantee: nominally (${numbers}), as if batches had been Poisson-sampled, which they were not.`;
  }
  if (origin === 'unknown') {
    return (
      `Not known to be private: it would be (${numbers})-differentially private if noise and sampling came from a cryptographic generator, ` +
      "which nobody said. Where they did, give noiseOrigin: 'secure'; the statement of a makePrivate training knows by itself."
    );
  }
  if (empty)
    return `Not private: the training is (${numbers})-differentially private, which promises nothing of use.`;
  return `The training is (${numbers})-differentially private.`;
}

/**
 * The statement for what an accountant saw. ε is the tightest bound among RDP and PLD (and what the given accountant says, if
 * that is another); all are listed. Printed bounds are rounded up. Wording ours; the idea is TF-Privacy's.
 * @param options delta in (0, 1); noiseOrigin, default 'unknown', with which nothing is called private; datasetSize, the number of examples:
 *   with a δ of at least one in that number nothing is called private, nor with an ε above 100 or a δ of at least 0.01
 * @throws GradshapeError DELTA_OUT_OF_RANGE, NOISE_ORIGIN_UNKNOWN, DATASET_SIZE_OUT_OF_RANGE
 * @example
 * const accountant = pldAccountant().step({ mechanism: 'poissonSampledGaussian', samplingRate: 0.01, noiseMultiplier: 1.1 }, 1500);
 * privacyStatement(accountant, { delta: 1e-5 }).private; // false
 * privacyStatement(accountant, { delta: 1e-5, noiseOrigin: 'secure' }).private; // true
 */
export function privacyStatement(
  accountant: Accountant,
  options: { delta: number; noiseOrigin?: NoiseOrigin; datasetSize?: number } = {} as never,
): PrivacyStatement {
  const { delta, noiseOrigin = 'unknown', datasetSize = 1 } = options;
  checkDelta(delta);
  checkCount(datasetSize, 'datasetSize', 'DATASET_SIZE_OUT_OF_RANGE');
  checkOneOf(noiseOrigin, ['secure', 'seeded', 'unknown'], 'noiseOrigin', 'NOISE_ORIGIN_UNKNOWN');
  const phases = accountant.phases.map((phase) => ({ ...phase }));
  const guarantees = (['rdp', 'pld', 'gdp'] as const).map((name) =>
    (name === accountant.name ? accountant : createAccountant(name, phases)).epsilon(delta),
  );
  const best = guarantees.slice(0, 2).reduce((a, b) => (b.epsilon < a.epsilon ? b : a));
  const nominal = isNominal(phases);
  const sizes = phases.map((phase) => ('datasetSize' in phase ? phase.datasetSize : 1));
  const empty = emptyPromises(best, Math.max(datasetSize, ...sizes));
  const bounded = best.epsilon < Infinity && best.kind === 'bound';
  return {
    private: bounded && noiseOrigin === 'secure' && empty.length === 0,
    epsilon: best.epsilon,
    delta,
    kind: best.kind,
    relation: best.relation,
    noiseOrigin,
    phases,
    guarantees,
    says: [
      headline(best, noiseOrigin, nominal, empty.length > 0),
      ...empty,
      RELATIONS[best.relation],
      ...(bounded ? [MEANING] : []),
      ...phases.map(
        (phase, i) => `${phases.length > 1 ? `Phase ${i + 1}` : 'Training'}: ${describePhase(phase)}`,
      ),
      ...guarantees.map(describeGuarantee),
      ...new Set(guarantees.slice(0, 2).flatMap(({ warnings }) => warnings)),
      ORIGINS[noiseOrigin],
      ...(phases.some(isShuffled) ? [PUBLIC_ORDER] : []),
    ],
    notCovered: [...NOT_COVERED],
  };
}

/** A statement that must not stand as it is, where there are reasons: they take the headline's place. */
export function withdrawn<S extends PrivacyStatement>(statement: S, reasons: readonly string[]): S {
  if (reasons.length === 0) return statement;
  const says = [...reasons.map((why) => `Not private: ${why}`), ...statement.says.slice(1)];
  return { ...statement, private: false, says };
}

/** The statement as text, one line an item, lines wrapped at `width` characters. */
export function formatStatement({ says, notCovered }: PrivacyStatement, width = 100): string {
  const wrap = (text: string, lead: string): string => {
    const lines: string[] = [];
    let line = lead;
    for (const word of text.split(' ')) {
      if (line.length + word.length + 1 > width && line.trim() !== '') {
        lines.push(line.trimEnd());
        line = ' '.repeat(lead.length);
      }
      line += `${word} `;
    }
    return [...lines, line.trimEnd()].join('\n');
  };
  return [
    ...says.map((item) => wrap(item, '')),
    'Not covered:',
    ...notCovered.map((item) => wrap(item, '- ')),
  ].join('\n');
}
