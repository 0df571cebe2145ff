// Optimizer updates, one pass over the flat parameters.
import { loadUpTo4, storeUpTo4 } from './lanes';

// One vector, of which `count` lanes are real.
// @ts-ignore: decorator
@inline
function sgdStep(
  params: usize, gradient: usize, velocity: usize, count: i32,
  rate: v128, momentum: v128, decay: v128, scale: v128, nesterov: i32,
): void {
  const p = loadUpTo4(params, count);
  const g = f32x4.add(f32x4.mul(loadUpTo4(gradient, count), scale), f32x4.mul(decay, p));
  let step = g;
  if (velocity) {
    const v = f32x4.add(f32x4.mul(momentum, loadUpTo4(velocity, count)), g);
    storeUpTo4(velocity, v, count);
    step = nesterov ? f32x4.add(g, f32x4.mul(momentum, v)) : v;
  }
  storeUpTo4(params, f32x4.sub(p, f32x4.mul(rate, step)), count);
}

/**
 * Stochastic gradient descent. g = gradient·gradientScale + weightDecay·p; v = momentum·v + g; p -=
 * learningRate·(nesterov ? g + momentum·v : v). velocity = 0 (no buffer) is plain descent, p -=
 * learningRate·g.
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
    if (rest) sgdStep(params + end, gradient + end, velocity + end, rest, rate, mu, decay, scale, nesterov);
    for (let i: usize = 0; i < end; i += 16) {
      sgdStep(params + i, gradient + i, velocity + i, 4, rate, mu, decay, scale, nesterov);
    }
  } else {
    if (rest) sgdStep(params + end, gradient + end, 0, rest, rate, mu, decay, scale, 0);
    for (let i: usize = 0; i < end; i += 16) {
      sgdStep(params + i, gradient + i, 0, 4, rate, mu, decay, scale, 0);
    }
  }
}

// One vector, of which `count` lanes are real. rate·m/(√v + floor) is learningRate·m̂/(√v̂ + ε), see adam.
// @ts-ignore: decorator
@inline
function adamStep(
  params: usize, gradient: usize, m: usize, v: usize, count: i32,
  rate: v128, floor: v128, take1: v128, take2: v128, decay: v128, shrink: v128, scale: v128,
): void {
  const p = loadUpTo4(params, count);
  const g = f32x4.add(f32x4.mul(loadUpTo4(gradient, count), scale), f32x4.mul(decay, p));
  const oldM = loadUpTo4(m, count);
  const oldV = loadUpTo4(v, count);
  const newM = f32x4.add(oldM, f32x4.mul(take1, f32x4.sub(g, oldM)));
  const newV = f32x4.add(oldV, f32x4.mul(take2, f32x4.sub(f32x4.mul(g, g), oldV)));
  const step = f32x4.div(f32x4.mul(rate, newM), f32x4.add(f32x4.sqrt(newV), floor));
  storeUpTo4(m, newM, count);
  storeUpTo4(v, newV, count);
  storeUpTo4(params, f32x4.sub(f32x4.mul(p, shrink), step), count);
}

/**
 * Adam (Kingma & Ba 2015, algorithm 1), with the bias corrections given: correction1 = 1/(1 - β₁^t),
 * correction2 = 1/(1 - β₂^t). g = gradient·gradientScale, plus weightDecay·p unless decoupled; m = β₁m + (1 -
 * β₁)g; v = β₂v + (1 - β₂)g²; p -= learningRate·m̂/(√v̂ + ε), and, decoupled (AdamW, Loshchilov & Hutter
 * 2019), p is first multiplied by 1 - learningRate·weightDecay.
 */
export function adam(
  params: usize, gradient: usize, m: usize, v: usize, n: i32,
  learningRate: f32, beta1: f32, beta2: f32, epsilon: f32, correction1: f32, correction2: f32,
  weightDecay: f32, decoupled: i32, gradientScale: f32,
): void {
  // The bias corrections are folded into the rate and ε, which saves two products an element.
  const rootCorrection = sqrt<f32>(correction2);
  const rate = f32x4.splat(learningRate * correction1 / rootCorrection);
  const floor = f32x4.splat(epsilon / rootCorrection);
  const take1 = f32x4.splat(1 - beta1);
  const take2 = f32x4.splat(1 - beta2);
  const scale = f32x4.splat(gradientScale);
  const decay = f32x4.splat(decoupled ? 0 : weightDecay);
  const shrink = f32x4.splat(decoupled ? 1 - learningRate * weightDecay : 1);
  const end = <usize>(n & ~3) << 2;
  const rest = n & 3;
  if (rest) {
    adamStep(
      params + end, gradient + end, m + end, v + end, rest, rate, floor, take1, take2, decay, shrink, scale,
    );
  }
  for (let i: usize = 0; i < end; i += 16) {
    adamStep(params + i, gradient + i, m + i, v + i, 4, rate, floor, take1, take2, decay, shrink, scale);
  }
}
