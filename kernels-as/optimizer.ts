// Optimizer updates, one pass over the flat parameters.
import { loadTail, storeTail } from './lanes';

// @ts-ignore: decorator
@inline
function sgdStep(
  params: usize, gradient: usize, velocity: usize, rest: i32,
  learningRate: v128, momentum: v128, weightDecay: v128, gradientScale: v128, nesterov: i32,
): void {
  const whole = rest >= 4;
  const p = whole ? v128.load(params) : loadTail(params, rest);
  const raw = whole ? v128.load(gradient) : loadTail(gradient, rest);
  const g = f32x4.add(f32x4.mul(raw, gradientScale), f32x4.mul(weightDecay, p));
  let step = g;
  if (velocity) {
    const old = whole ? v128.load(velocity) : loadTail(velocity, rest);
    const v = f32x4.add(f32x4.mul(momentum, old), g);
    step = nesterov ? f32x4.add(g, f32x4.mul(momentum, v)) : v;
    if (whole) v128.store(velocity, v);
    else storeTail(velocity, v, rest);
  }
  const updated = f32x4.sub(p, f32x4.mul(learningRate, step));
  if (whole) v128.store(params, updated);
  else storeTail(params, updated, rest);
}

/**
 * Stochastic gradient descent. g = gradient·gradientScale + weightDecay·p; v = momentum·v + g;
 * p -= learningRate·(nesterov ? g + momentum·v : v). velocity = 0 (no buffer) is plain descent, p -= learningRate·g.
 */
export function sgd(
  params: usize, gradient: usize, velocity: usize, n: i32,
  learningRate: f32, momentum: f32, weightDecay: f32, gradientScale: f32, nesterov: i32,
): void {
  const rate = f32x4.splat(learningRate);
  const mu = f32x4.splat(momentum);
  const decay = f32x4.splat(weightDecay);
  const scale = f32x4.splat(gradientScale);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (velocity) {
    for (let i: usize = 0; i < end; i += 16) sgdStep(params + i, gradient + i, velocity + i, 4, rate, mu, decay, scale, nesterov);
    if (rest) sgdStep(params + end, gradient + end, velocity + end, rest, rate, mu, decay, scale, nesterov);
  } else {
    for (let i: usize = 0; i < end; i += 16) sgdStep(params + i, gradient + i, 0, 4, rate, mu, decay, scale, 0);
    if (rest) sgdStep(params + end, gradient + end, 0, rest, rate, mu, decay, scale, 0);
  }
}

/**
 * Adam (Kingma & Ba 2015, algorithm 1), with the bias corrections given: correction1 = 1/(1 - β₁^t),
 * correction2 = 1/(1 - β₂^t). g = gradient·gradientScale, plus weightDecay·p unless decoupled;
 * m = β₁m + (1 - β₁)g; v = β₂v + (1 - β₂)g²; p -= learningRate·m̂/(√v̂ + ε), and, decoupled (AdamW, Loshchilov &
 * Hutter 2019), p is first multiplied by 1 - learningRate·weightDecay.
 */
export function adam(
  params: usize, gradient: usize, m: usize, v: usize, n: i32,
  learningRate: f32, beta1: f32, beta2: f32, epsilon: f32, correction1: f32, correction2: f32,
  weightDecay: f32, decoupled: i32, gradientScale: f32,
): void {
  const rate = f32x4.splat(learningRate * correction1);
  const keep1 = f32x4.splat(beta1);
  const keep2 = f32x4.splat(beta2);
  const take1 = f32x4.splat(1 - beta1);
  const take2 = f32x4.splat(1 - beta2);
  const floor = f32x4.splat(epsilon);
  const unbias = f32x4.splat(correction2);
  const scale = f32x4.splat(gradientScale);
  const decay = f32x4.splat(decoupled ? 0 : weightDecay);
  const shrink = f32x4.splat(decoupled ? 1 - learningRate * weightDecay : 1);
  for (let i = 0; i < n; i += 4) {
    const at = <usize>i << 2;
    const rest = n - i;
    const whole = rest >= 4;
    const p = whole ? v128.load(params + at) : loadTail(params + at, rest);
    const raw = whole ? v128.load(gradient + at) : loadTail(gradient + at, rest);
    const oldM = whole ? v128.load(m + at) : loadTail(m + at, rest);
    const oldV = whole ? v128.load(v + at) : loadTail(v + at, rest);
    const g = f32x4.add(f32x4.mul(raw, scale), f32x4.mul(decay, p));
    const newM = f32x4.add(f32x4.mul(keep1, oldM), f32x4.mul(take1, g));
    const newV = f32x4.add(f32x4.mul(keep2, oldV), f32x4.mul(take2, f32x4.mul(g, g)));
    const root = f32x4.add(f32x4.sqrt(f32x4.mul(newV, unbias)), floor);
    const updated = f32x4.sub(f32x4.mul(p, shrink), f32x4.div(f32x4.mul(rate, newM), root));
    if (whole) {
      v128.store(m + at, newM);
      v128.store(v + at, newV);
      v128.store(params + at, updated);
    } else {
      storeTail(m + at, newM, rest);
      storeTail(v + at, newV, rest);
      storeTail(params + at, updated, rest);
    }
  }
}
