// The slab attack: its convex solver against brute force, its feasible sets, its progress and its bits.
import {
  CraftAborted,
  type LabelledSet,
  maximizeLinear,
  type SlabState,
  slabAttack,
  sphereAndSlab,
  verifyPoison,
} from 'gradshape';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hingeLearner } from '../dist/attacks/hinge.js';
import { codeOf, randomNumbers } from './attack-helpers.js';

type Problem = Parameters<typeof maximizeLinear>[0];

/**
 * The reference: every way in which elements lie at the box's lower or upper end or between, with sphere and slab active
 * or not, has one candidate in closed form (Karush, Kuhn and Tucker); the best feasible one is the optimum.
 */
function bruteForce(problem: Problem): number {
  const { objective: c, normal: d, radius, halfWidth, low, high } = problem;
  const n = c.length;
  const dot = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Array.from(a).reduce((sum, value, i) => sum + value * b[i]!, 0);
  let best = -Infinity;
  const consider = (z: number[]): void => {
    const slack = 1e-9;
    const feasible =
      z.every((v, i) => v >= (low?.[i] ?? -Infinity) - slack && v <= (high?.[i] ?? Infinity) + slack) &&
      norm(z) <= radius + slack &&
      Math.abs(dot(d, z)) <= halfWidth + slack;
    if (feasible) best = Math.max(best, dot(c, z));
  };
  const states = low === undefined ? 1 : 3 ** n;
  for (let state = 0; state < states; state++) {
    const ends = Array.from(
      { length: n },
      (_, i) => [null, low?.[i], high?.[i]][Math.floor(state / 3 ** i) % 3],
    );
    const fixed = ends.map((end) => end ?? 0);
    const free = (v: ArrayLike<number>) => Array.from(v, (value, i) => (ends[i] === null ? value : 0));
    const [cf, df] = [free(c), free(d)];
    const room = radius * radius - dot(fixed, fixed);
    const along = (start: number[], direction: number[]): void => {
      const left = room - dot(start, start);
      const length = dot(direction, direction);
      if (left < 0 || length === 0) return;
      consider(fixed.map((v, i) => v + start[i]! + direction[i]! * Math.sqrt(left / length)));
    };
    consider(fixed);
    along(
      fixed.map(() => 0),
      cf,
    );
    const dd = dot(df, df);
    if (dd === 0) continue;
    for (const side of [-halfWidth, halfWidth]) {
      const onSlab = df.map((v) => (v * (side - dot(d, fixed))) / dd);
      consider(fixed.map((v, i) => v + onSlab[i]!));
      const share = dot(cf, df) / dd;
      along(
        onSlab,
        cf.map((v, i) => v - share * df[i]!),
      );
    }
  }
  return best;
}

const norm = (a: ArrayLike<number>): number => Math.sqrt(Array.from(a).reduce((s, v) => s + v * v, 0));

test('the inner solver: within 1e-6 of the reference on 1,000 random problems, and feasible', () => {
  const next = randomNumbers(1);
  let worst = 0;
  for (let trial = 0; trial < 1000; trial++) {
    const n = 2 + Math.floor(next() * 4);
    const vector = () => Float64Array.from({ length: n }, () => next() * 2 - 1);
    const boxed = trial % 3 > 0;
    const problem = {
      objective: vector(),
      normal: vector(),
      radius: 0.05 + next() * 2,
      halfWidth: 0.01 + next() * 0.7,
      ...(boxed ? { low: vector().map((v) => -Math.abs(v)), high: vector().map(Math.abs) } : {}),
    };
    const { z, value, gap } = maximizeLinear(problem);
    assert.ok(norm(z) <= problem.radius * (1 + 1e-12));
    assert.ok(
      Math.abs(z.reduce((s, v, i) => s + v * problem.normal[i]!, 0)) <= problem.halfWidth * (1 + 1e-9),
    );
    if (boxed) assert.ok(z.every((v, i) => v >= problem.low![i]! && v <= problem.high![i]!));
    assert.ok(Math.abs(z.reduce((s, v, i) => s + v * problem.objective[i]!, 0) - value) < 1e-12);
    const reference = bruteForce(problem);
    worst = Math.max(worst, Math.abs(reference - value) / value, Math.abs(gap) / value);
  }
  assert.ok(worst < 1e-6, `off by ${worst}`);
});

test('the inner solver, by hand: the slab cuts the sphere', () => {
  const { z, value } = maximizeLinear({
    objective: Float64Array.of(1, 1),
    normal: Float64Array.of(1, 0),
    radius: 1,
    halfWidth: 0.5,
  });
  assert.ok(Math.abs(z[0]! - 0.5) < 1e-9 && Math.abs(z[1]! - Math.sqrt(0.75)) < 1e-9);
  assert.ok(Math.abs(value - (0.5 + Math.sqrt(0.75))) < 1e-9);
  const whole = Float64Array.of(1, 1);
  const box = { low: Float64Array.of(-1, 0.5), high: whole };
  assert.is(
    codeOf(() => maximizeLinear({ objective: whole, normal: whole, radius: 1, halfWidth: 1, ...box })),
    'INFEASIBLE',
  );
  assert.is(
    codeOf(() => maximizeLinear({ objective: whole, normal: whole, radius: -1, halfWidth: 1 })),
    'INFEASIBLE',
  );
  assert.is(
    codeOf(() => maximizeLinear({ objective: whole, normal: new Float64Array(3), radius: 1, halfWidth: 1 })),
    'SHAPE_MISMATCH',
  );
});

/** Two clouds in [0, 1]¹², as bytes. */
function clouds(perClass: number): LabelledSet {
  const next = randomNumbers(7);
  const size = 12;
  const x = new Uint8Array(2 * perClass * size);
  const y = Int32Array.from({ length: 2 * perClass }, (_, i) => i % 2);
  y.forEach((label, i) => {
    for (let j = 0; j < size; j++) {
      const centre = j < size / 2 === (label === 0) ? 150 : 90;
      x[i * size + j] = Math.min(255, Math.max(0, centre + 140 * (next() - 0.5)));
    }
  });
  return { x, y, shape: [size], scale: 1 / 255 };
}

const set = clouds(100);
const small = { seed: 3, iterations: 6, divisions: 1, evaluateEvery: 2 } as const;

for (const centroids of ['poisoned', 'clean'] as const) {
  for (const box of [true, false]) {
    test(`slab poisons stay within budget, sphere and slab: ${centroids} centroids, box ${box}`, async () => {
      const poisoned = await slabAttack(set, { ratio: 0.3, centroids, box, ...small });
      const [poisons] = poisoned.added;
      assert.is(poisons!.y.length, 60);
      assert.is(poisoned.poison.length, 60);
      verifyPoison(poisoned);
      if (box) assert.ok((poisons!.x as Float32Array).every((value) => value >= 0 && value <= 1));
      const distinct = new Set(
        Array.from({ length: 60 }, (_, i) => poisons!.x.slice(i * 12, i * 12 + 12).join()),
      );
      assert.ok(distinct.size <= 4, `${distinct.size} distinct poisons`);
      // The oracle of the constraints, with no code of the library's.
      checkOutside(poisons!.x as Float32Array, poisons!.y, centroids === 'poisoned');
    });
  }
}

/** Feasibility from the definition: quantiles on the clean set, centroids of the clean or of the poisoned set. */
function checkOutside(x: Float32Array, y: ArrayLike<number>, moved: boolean): void {
  const row = (values: ArrayLike<number>, i: number, scale: number) =>
    Array.from({ length: 12 }, (_, j) => values[i * 12 + j]! * scale);
  const clean = Array.from(set.y, (label, i) => ({ label, x: row(set.x, i, 1 / 255).map(Math.fround) }));
  const poison = Array.from(y, (label, i) => ({ label, x: row(x, i, 1) }));
  const mean = (points: typeof clean, label: number) => {
    const own = points.filter((point) => point.label === label);
    return Array.from({ length: 12 }, (_, j) => own.reduce((s, p) => s + p.x[j]!, 0) / own.length);
  };
  const measures = (points: typeof clean, centres: number[][], label: number) =>
    points
      .filter((point) => point.label === label)
      .map((point) => {
        const u = point.x.map((v, j) => v - centres[label]![j]!);
        const across = u.reduce((s, v, j) => s + v * (centres[1]![j]! - centres[0]![j]!), 0);
        return [norm(u), Math.abs(across)] as const;
      });
  const quantile = (values: number[]) => {
    const sorted = [...values].sort((a, b) => a - b);
    const place = 0.65 * (sorted.length - 1);
    const k = Math.floor(place);
    return sorted[k]! + (place - k) * (sorted[k + 1]! - sorted[k]!);
  };
  const cleanCentres = [mean(clean, 0), mean(clean, 1)];
  const all = [...clean, ...poison];
  const centres = moved ? [mean(all, 0), mean(all, 1)] : cleanCentres;
  for (const label of [0, 1]) {
    const limits = [0, 1].map((k) => quantile(measures(clean, cleanCentres, label).map((m) => m[k]!)));
    for (const measured of measures(poison, centres, label)) {
      assert.ok(measured[0] <= limits[0]! * (1 + 1e-6), `sphere: ${measured[0]} of ${limits[0]}`);
      assert.ok(measured[1] <= limits[1]! * (1 + 1e-6), `slab: ${measured[1]} of ${limits[1]}`);
    }
  }
}

test('a moving filter lets stronger poisons through than a fixed one', async () => {
  let last = 0;
  for (const centroids of ['clean', 'poisoned'] as const) {
    let objective = 0;
    await slabAttack(set, {
      ratio: 0.4,
      centroids,
      ...small,
      iterations: 10,
      onProgress: (p) => {
        objective = p.objective;
      },
    });
    assert.ok(objective > last, `${centroids}: ${objective} after ${last}`);
    last = objective;
  }
});

test('an aborted attack goes on where it was, to the same bits', async () => {
  const whole = await slabAttack(set, { count: 40, ...small });
  const again = await slabAttack(set, { count: 40, ...small });
  assert.equal(again.added[0]!.x, whole.added[0]!.x);
  const stop = new AbortController();
  let state: SlabState | undefined;
  try {
    await slabAttack(set, {
      count: 40,
      ...small,
      signal: stop.signal,
      onProgress: ({ iteration, iterations }) => {
        assert.is(iterations, 18);
        if (iteration === 9) stop.abort();
      },
    });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, CraftAborted);
    assert.is((error as CraftAborted).code, 'CRAFT_ABORTED');
    state = (error as CraftAborted<SlabState>).state;
  }
  assert.is(state!.iteration, 9);
  const resumed = await slabAttack(set, { count: 40, ...small, resume: JSON.parse(JSON.stringify(state)) });
  assert.equal(resumed.added[0]!.x, whole.added[0]!.x);
  assert.equal(resumed.y, whole.y);
});

test('bad options are named errors', async () => {
  const code = (options: object) => codeOf(() => slabAttack(set, { count: 4, seed: 1, ...options }));
  assert.is(await code({ count: 201 }), 'BUDGET_INVALID');
  assert.is(await code({ seed: -1 }), 'SEED_INVALID');
  assert.is(await code({ quantile: 1.5 }), 'OPTION_INVALID');
  assert.is(await code({ iterations: 0 }), 'OPTION_INVALID');
  assert.is(await code({ radius: 0 }), 'OPTION_INVALID');
  assert.is(await code({ learningRate: [0.01, 0] }), 'OPTION_INVALID');
  assert.is(await code({ learningRate: [] }), 'OPTION_INVALID');
  assert.is(await code({ centroids: 'none' }), 'OPTION_INVALID');
  const three = { ...set, y: Int32Array.from(set.y, (_, i) => i % 3) };
  assert.is(await codeOf(() => slabAttack(three, { count: 4, seed: 1 })), 'LABEL_OUT_OF_RANGE');
  const none = await slabAttack(set, { count: 0, seed: 1 });
  assert.is(none.added.length, 0);
});

test('constraints that leave no room for poisons are a named error, never NaN', async () => {
  const options = { count: 4, ...small };
  const same = { ...set, x: set.x.map((_, i) => 40 * (Math.floor(i / 12) % 2)) };
  assert.is(await codeOf(() => slabAttack(same, options)), 'INFEASIBLE');
  assert.is(await codeOf(() => slabAttack(same, { ...options, centroids: 'clean' })), 'INFEASIBLE');
  const x = Float32Array.from(set.x, (value) => (value - 120) / 60);
  const { scale: _, ...unscaled } = { ...set, x };
  assert.is(await codeOf(() => slabAttack(unscaled, options)), 'INFEASIBLE');
  verifyPoison(await slabAttack(unscaled, { ...options, box: false }));
  x[3] = Number.NaN;
  assert.is(await codeOf(() => slabAttack(unscaled, { ...options, box: false })), 'INFEASIBLE');
});

test('of several learning rates the poisons of the most damage are kept', async () => {
  const played = async (learningRate: number | readonly number[]) => {
    const states: SlabState[] = [];
    const poisoned = await slabAttack(set, {
      count: 60,
      ...small,
      learningRate,
      onProgress: ({ state }) => {
        states.push(state);
      },
    });
    return { x: poisoned.added[0]!.x, spec: poisoned.spec, end: states.at(-1)!, steps: states.length };
  };
  const rates = [0.01, 0.3, 3];
  const alone = [];
  for (const rate of rates) alone.push(await played(rate));
  const best = alone.reduce((a, b) => (b.end.objective > a.end.objective ? b : a));
  const together = await played(rates);
  assert.is(together.steps, 18);
  assert.is(together.end.objective, best.end.objective);
  assert.is(together.end.learningRate, best.end.learningRate);
  assert.equal(together.x, best.x);
  assert.equal(together.spec.learningRate, rates);
  assert.ok(new Set(alone.map(({ end }) => end.objective)).size > 1);
});

test('the hinge learner comes near the least loss in its ball', () => {
  // The reference: projected subgradient descent on the same sum, 4,000 steps, the best one.
  const rows = { x: Float32Array.from(set.x, (value) => value / 255), y: set.y, size: 12 };
  const points = [
    { x: Float64Array.from({ length: 12 }, (_, j) => (j < 6 ? 0.7 : 0.3)), label: 1, count: 30 },
    { x: Float64Array.from({ length: 12 }, (_, j) => (j < 6 ? 0.2 : 0.6)), label: 0, count: 20 },
  ];
  const examples = [
    ...Array.from(set.y, (label, i) => ({ x: rows.x.subarray(i * 12, i * 12 + 12), label, count: 1 })),
    ...points,
  ];
  const total = (theta: ArrayLike<number>): { loss: number; gradient: number[] } => {
    let loss = 0;
    const gradient = new Array(13).fill(0);
    for (const { x, label, count } of examples) {
      const sign = 2 * label - 1;
      const margin = sign * (Array.from(x).reduce((s, v, j) => s + v * theta[j]!, 0) + theta[12]!);
      if (margin >= 1) continue;
      loss += count * (1 - margin);
      x.forEach((v, j) => {
        gradient[j] -= count * sign * v;
      });
      gradient[12] -= count * sign;
    }
    return { loss, gradient };
  };
  for (const radius of [0.8, 8]) {
    let theta = new Array(13).fill(0);
    let least = Infinity;
    for (let step = 0; step < 4000; step++) {
      const { loss, gradient } = total(theta);
      least = Math.min(least, loss);
      const length = radius / Math.sqrt(1 + step) / norm(gradient);
      theta = theta.map((v, j) => v - length * gradient[j]!);
      const over = norm(theta) / radius;
      if (over > 1) theta = theta.map((v) => v / over);
    }
    const learned = hingeLearner(rows, points, { radius, seed: 1 });
    assert.ok(norm(learned) <= radius * (1 + 1e-9));
    const { loss } = total(learned);
    assert.ok(loss >= least * 0.999 && loss < least * 1.1, `${loss}, least ${least}, radius ${radius}`);
  }
});

test('sphere and slab hold the quantile of the clean examples', () => {
  const x = Float32Array.from([0, 0, 4, 0, 1, 1, 3, 1]);
  const { centroids, radii, halfWidths } = sphereAndSlab({ x, y: [0, 0, 1, 1], size: 2 }, 0.5);
  assert.equal([...centroids[0]], [2, 0]);
  assert.equal([...centroids[1]], [2, 1]);
  assert.equal(radii, [2, 1]);
  assert.equal(halfWidths, [0, 0]);
});

test.run();
