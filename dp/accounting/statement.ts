/** A guarantee in plain words, with what it rests on and what it leaves out. */
import type { Accountant, PrivacyGuarantee } from './accountant.js';
import { createAccountant } from './accountants.js';
import { isNominal, type NeighbouringRelation, type PrivacyPhase } from './events.js';
import { checkDelta } from './validate.js';

/** Where the noise and the private sampling came from. A seeded run is never called private. */
export type NoiseOrigin = 'secure' | 'seeded';

export interface PrivacyStatement {
  /** Whether a finite, rigorous guarantee against an outsider stands: noise in every step, secure source, not nominal. */
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

/** Four digits: 6.77, 1e-5, ∞. */
function number(value: number): string {
  if (value === Infinity) return '∞';
  const short = Number(value.toPrecision(4));
  return short !== 0 && Math.abs(short) < 1e-3 ? short.toExponential() : String(short);
}
const times = (count: number, what: string): string =>
  `${count.toLocaleString('en')} ${what}${count === 1 ? '' : 's'}`;

function describePhase(phase: PrivacyPhase): string {
  const noise =
    phase.noiseMultiplier === 0 ? 'no noise' : `noise multiplier ${number(phase.noiseMultiplier)}`;
  switch (phase.mechanism) {
    case 'gaussian':
      return `${times(phase.steps, 'step')} on all examples, ${noise}.`;
    case 'poissonSampledGaussian':
      return `${times(phase.steps, 'step')}, each example taking part in each with probability ${number(phase.samplingRate)}, ${noise}.`;
    case 'nominalPoissonGaussian':
      return `${times(phase.steps, 'step')} on shuffled batches, counted *as if* each example were drawn independently with probability ${number(phase.samplingRate)}, ${noise}.`;
    case 'fixedSizeSampledGaussian':
      return `${times(phase.steps, 'step')}, each on ${phase.batchSize} of ${phase.datasetSize} examples drawn without replacement, ${noise}.`;
    case 'shuffledEpochGaussian':
      return `${times(phase.steps, 'shuffled epoch')}: every example is in one batch of each. No amplification by sampling is claimed. ${noise}.`;
  }
}

const ACCOUNTANTS: Record<PrivacyGuarantee['method'], string> = {
  renyi: 'Rényi divergences',
  'privacy-loss-distribution': 'privacy-loss distributions, rounded against us',
  'closed-form': 'a closed form',
  'central-limit': 'the central-limit approximation of Gaussian DP',
};

function describeGuarantee({ epsilon, delta, accountant, kind, method, order }: PrivacyGuarantee): string {
  const how = order === undefined ? ACCOUNTANTS[method] : `${ACCOUNTANTS[method]}, order ${number(order)}`;
  const sort = kind === 'bound' ? 'an upper bound' : 'an approximation, no bound';
  return `${accountant.toUpperCase()}: ε = ${number(epsilon)} at δ = ${number(delta)}, ${sort} (${how}).`;
}

const NOT_COVERED = [
  'Several examples of one person: k of them weaken the guarantee (see the group certificate).',
  'Choices made by looking at the data outside these steps: hyperparameters, early stopping, the best of several runs, ' +
    'preprocessing fitted to the data.',
  'The accuracy, losses and gradients reported along the way, if computed from the private data without noise.',
  'What holds of the population: a model may reveal it about people who were never in the data.',
  'Attackers who see the computer itself: its memory, its timing, the random key.',
];

/**
 * The statement for what an accountant saw. ε is the tightest bound among RDP and PLD (and what the given accountant says, if
 * that is another); all are listed. Wording ours; the idea is TF-Privacy's.
 * @param options delta in (0, 1); noiseOrigin, default 'secure'
 * @throws GradshapeError DELTA_OUT_OF_RANGE
 */
export function privacyStatement(
  accountant: Accountant,
  { delta, noiseOrigin = 'secure' }: { delta: number; noiseOrigin?: NoiseOrigin },
): PrivacyStatement {
  checkDelta(delta);
  const phases = accountant.phases.map((phase) => ({ ...phase }));
  const guarantees = (['rdp', 'pld', 'gdp'] as const).map((name) =>
    (name === accountant.name ? accountant : createAccountant(name, phases)).epsilon(delta),
  );
  const best = guarantees.slice(0, 2).reduce((a, b) => (b.epsilon < a.epsilon ? b : a));
  const isPrivate = best.epsilon < Infinity && best.kind === 'bound' && noiseOrigin === 'secure';
  const headline =
    best.epsilon === Infinity
      ? 'Not private: a step without noise was released, so ε = ∞.'
      : noiseOrigin === 'seeded'
        ? `Not private: the noise was drawn from a seed, for an experiment. With secure noise it would be ε = ${number(best.epsilon)} at δ = ${number(delta)}.`
        : isNominal(phases)
          ? `No guarantee: nominally ε = ${number(best.epsilon)} at δ = ${number(delta)}, as if batches had been Poisson-sampled, which they were not.`
          : `The training is (ε = ${number(best.epsilon)}, δ = ${number(delta)})-differentially private.`;
  return {
    private: isPrivate,
    epsilon: best.epsilon,
    delta,
    kind: best.kind,
    relation: best.relation,
    noiseOrigin,
    phases,
    guarantees,
    says: [
      headline,
      RELATIONS[best.relation],
      ...phases.map(
        (phase, i) => `${phases.length > 1 ? `Phase ${i + 1}` : 'Training'}: ${describePhase(phase)}`,
      ),
      ...guarantees.map(describeGuarantee),
      ...new Set(guarantees.slice(0, 2).flatMap(({ warnings }) => warnings)),
      noiseOrigin === 'secure'
        ? "Noise and sampling come from the platform's cryptographic random numbers and are never stored."
        : 'Noise and sampling come from a seed: whoever knows it can undo them.',
    ],
    notCovered: [...NOT_COVERED],
  };
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
