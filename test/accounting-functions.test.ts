// The accountants' special functions, FFT and moments, against 40-digit values (mpmath) and direct float64 sums.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fft, inverseFft, powerOfSpectrum } from '../dist/dp/accounting/fft.js';
import { logMoment, logMomentInteger } from '../dist/dp/accounting/moments.js';
import {
  binomialTail,
  erf,
  erfc,
  incompleteBeta,
  logErfc,
  logGamma,
  logSumExp,
  normalCdf,
  normalQuantile,
  normalTail,
} from '../dist/dp/accounting/special-functions.js';

function close(actual: number, expected: number, relative: number, what = ''): void {
  const error = Math.abs(actual - expected) / Math.max(Math.abs(expected), 1e-300);
  assert.ok(error <= relative, `${what} ${actual} is ${error.toExponential(1)} off ${expected}`);
}

test('error function and its complement keep their relative accuracy', () => {
  const complements: [number, number][] = [
    [0.3, 0.67137324054087257],
    [0.5, 0.47950012218695346],
    [1, 0.15729920705028513],
    [3, 2.2090496998585441e-5],
    [8, 1.1224297172982927e-29],
    [20, 5.3958656116079009e-176],
    [26, 5.6631924088561428e-296],
  ];
  for (const [x, value] of complements) close(erfc(x), value, 1e-15, `erfc(${x})`);
  close(erfc(-1), 2 - 0.15729920705028513, 1e-15);
  for (const [x, value] of [
    [1e-9, 1.1283791670955126e-9],
    [0.1, 0.11246291601828489],
    [0.49, 0.5116682611885231],
    [2, 0.99532226501895273],
    [-2, -0.99532226501895273],
  ] as const) {
    close(erf(x), value, 1e-15, `erf(${x})`);
  }
  for (const [x, value] of [
    [-2, 0.69080557364658766],
    [10, -102.87988902484489],
    [100, -10005.177585122664],
    [1e4, -100000009.78270532],
  ] as const) {
    close(logErfc(x), value, 1e-15, `log erfc(${x})`);
  }
});

test('normal tail, distribution function and quantile', () => {
  for (const [z, value] of [
    [-3, 0.99865010196836991],
    [0, 0.5],
    [1, 0.15865525393145705],
    [5, 2.8665157187919391e-7],
    [10, 7.6198530241605261e-24],
    [37, 5.7255712225245768e-300],
  ] as const) {
    close(normalTail(z), value, 2e-15, `tail(${z})`);
    close(normalCdf(-z), value, 2e-15);
  }
  for (const [p, z] of [
    [0.3, -0.52440051270804078],
    [0.975, 1.9599639845400542],
    [1e-5, -4.2648907939228246],
    [1e-12, -7.0344838253011319],
  ] as const) {
    close(normalQuantile(p), z, 1e-14, `quantile(${p})`);
  }
  assert.is(Math.abs(normalQuantile(0.5)) < 1e-15, true);
});

test('log-gamma, incomplete beta, binomial tail', () => {
  for (const [x, value] of [
    [0.1, 2.252712651734206],
    [0.5, 0.57236494292470009],
    [3.3, 0.98709857789473459],
    [10, 12.80182748008147],
    [100.5, 361.43554046777762],
    [1e6, 12815504.569147612],
  ] as const) {
    close(logGamma(x), value, 5e-15, `lgamma(${x})`);
  }
  assert.ok(Math.abs(logGamma(1)) < 1e-14);
  for (const [x, a, b, value] of [
    [0.3, 2, 5, 0.579825],
    [0.01, 1, 100, 0.6339676587267705],
    [0.5, 50, 60, 0.83090729390166941],
    [0.9, 3, 0.5, 0.44541555534797047],
  ] as const) {
    close(incompleteBeta(x, a, b), value, 1e-12, `I_${x}(${a}, ${b})`);
  }
  close(binomialTail(100, 0.5, 60), 0.028443966820490444, 1e-11);
  close(binomialTail(1000, 0.01, 25), 4.202920844836726e-5, 1e-11);
  close(binomialTail(20, 0.9, 20), 0.12157665459056931, 1e-12);
});

test('log-sum-exp neither over- nor underflows', () => {
  close(logSumExp([1000, 1000]), 1000 + Math.LN2, 1e-15);
  close(logSumExp([-1000, -1001]), -1000 + Math.log1p(Math.exp(-1)), 1e-15);
  assert.is(logSumExp([]), Number.NEGATIVE_INFINITY);
  assert.is(logSumExp([Number.NEGATIVE_INFINITY, 3]), 3);
});

test('FFT: there and back, and powers are circular self-convolutions', () => {
  const n = 64;
  const x = Float64Array.from({ length: n }, (_, i) => Math.sin(i * i) + 1.5);
  const re = x.slice();
  const im = new Float64Array(n);
  fft(re, im);
  inverseFft(re, im);
  for (let i = 0; i < n; i++) {
    close(re[i]!, x[i]!, 1e-14);
    assert.ok(Math.abs(im[i]!) < 1e-14);
  }
  for (const exponent of [1, 2, 5, 13]) {
    let direct = Float64Array.from({ length: n }, (_, i) => (i === 0 ? 1 : 0));
    const p = x.map((v) => v / 96); // near a probability, so that powers stay in range
    for (let e = 0; e < exponent; e++) {
      const next = new Float64Array(n);
      for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) next[(i + j) % n]! += direct[i]! * p[j]!;
      direct = next;
    }
    const powRe = p.slice();
    const powIm = new Float64Array(n);
    fft(powRe, powIm);
    powerOfSpectrum(powRe, powIm, exponent);
    inverseFft(powRe, powIm);
    for (let i = 0; i < n; i++) close(powRe[i]!, direct[i]!, 1e-12, `power ${exponent}`);
  }
});

test('moments of the privacy loss match 40-digit quadrature', () => {
  for (const [q, sigma, alpha, value] of [
    [1e-4, 1, 1.5, 6.44268695383665e-9],
    [1e-3, 1, 2.5, 3.2261136484721e-6],
    [0.01, 2.5, 1.5, 6.5007089718804e-6],
    [0.01, 2.5, 2.5, 3.25625417075437e-5],
    [0.04, 1.5, 3.4, 0.00378453033860322],
    [0.1, 100, 20.5, 0.000199918184580683],
    [0.99, 0.5, 6.6, 73.8536677833794],
    [0.01, 10, 20.5, 0.000201249483649557],
    [1e-6, 0.33, 20.5, 1552.18148259755],
  ] as const) {
    close(logMoment('remove', q, sigma, alpha - 1), value, 1e-11, `q ${q}, σ ${sigma}, α ${alpha}:`);
  }
});

test('whole orders: quadrature and the binomial sum agree', () => {
  for (const q of [1e-6, 1e-3, 0.04, 0.5, 0.99]) {
    for (const sigma of [0.05, 0.3, 1, 3, 20, 300]) {
      for (const alpha of [2, 3, 5, 17, 64, 200]) {
        const quadrature = logMoment('remove', q, sigma, alpha - 1);
        close(quadrature, logMomentInteger(q, sigma, alpha), 1e-10, `q ${q}, σ ${sigma}, α ${alpha}:`);
      }
    }
  }
});

test('adding is removing with the distributions exchanged', () => {
  // E_Q[(P/Q)^(−t)] by a plain Riemann sum.
  for (const [q, sigma, t] of [
    [0.3, 1, 2.5],
    [0.04, 1.5, 4],
    [0.9, 2, 1.2],
  ] as const) {
    const step = 1e-3;
    let sum = 0;
    for (let z = -12 * sigma; z < 12 * sigma; z += step) {
      const ratio = 1 - q + q * Math.exp((2 * z - 1) / (2 * sigma * sigma));
      sum += Math.exp((-z * z) / (2 * sigma * sigma)) * Math.exp(-t * Math.log(ratio));
    }
    const direct = Math.log((sum * step) / (sigma * Math.sqrt(2 * Math.PI)));
    close(logMoment('add', q, sigma, t), direct, 1e-9);
  }
});

test.run();
