/**
 * A small complex FFT. The forward transform leaves its output in bit-reversed order and the inverse takes that order, so
 * no permutation is ever needed between them: multiplying and raising to powers doesn't care.
 */

const twiddles = new Map<number, { cos: Float64Array; sin: Float64Array }>();

function twiddlesOf(n: number): { cos: Float64Array; sin: Float64Array } {
  let table = twiddles.get(n);
  if (!table) {
    table = { cos: new Float64Array(n / 2), sin: new Float64Array(n / 2) };
    for (let k = 0; k < n / 2; k++) {
      table.cos[k] = Math.cos((2 * Math.PI * k) / n);
      table.sin[k] = Math.sin((2 * Math.PI * k) / n);
    }
    if (twiddles.size > 3) twiddles.clear();
    twiddles.set(n, table);
  }
  return table;
}

/** In place, n a power of two: decimation in frequency, natural order in, bit-reversed order out. */
export function fft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  const { cos, sin } = twiddlesOf(n);
  for (let size = n, stride = 1; size > 1; size >>= 1, stride <<= 1) {
    const half = size >> 1;
    for (let start = 0; start < n; start += size) {
      for (let j = 0, k = 0; j < half; j++, k += stride) {
        const a = start + j;
        const b = a + half;
        const dr = re[a]! - re[b]!;
        const di = im[a]! - im[b]!;
        re[a] = re[a]! + re[b]!;
        im[a] = im[a]! + im[b]!;
        const c = cos[k]!;
        const s = sin[k]!;
        re[b] = dr * c + di * s;
        im[b] = di * c - dr * s;
      }
    }
  }
}

/** In place, the inverse of `fft`: bit-reversed order in, natural order out, divided by n. */
export function inverseFft(re: Float64Array, im: Float64Array): void {
  const n = re.length;
  const { cos, sin } = twiddlesOf(n);
  for (let size = 2, stride = n >> 1; size <= n; size <<= 1, stride >>= 1) {
    const half = size >> 1;
    for (let start = 0; start < n; start += size) {
      for (let j = 0, k = 0; j < half; j++, k += stride) {
        const a = start + j;
        const b = a + half;
        const c = cos[k]!;
        const s = sin[k]!;
        const br = re[b]! * c - im[b]! * s;
        const bi = im[b]! * c + re[b]! * s;
        re[b] = re[a]! - br;
        im[b] = im[a]! - bi;
        re[a] = re[a]! + br;
        im[a] = im[a]! + bi;
      }
    }
  }
  for (let i = 0; i < n; i++) {
    re[i]! /= n;
    im[i]! /= n;
  }
}

/**
 * Raises a real signal's spectrum (in bit-reversed order) to an integer power, entry by entry, by repeated squaring. A real
 * signal's spectrum at −k is the conjugate of that at k; in bit-reversed order −k lies mirrored inside its power-of-two block.
 */
export function powerOfSpectrum(re: Float64Array, im: Float64Array, exponent: number): void {
  const vanishing = Math.exp(-400 / exponent); // squared moduli whose power is below 1e-86: far below the error of a spectrum with a 1 in it
  const raise = (at: number, mirror: number): void => {
    let baseRe = re[at]!;
    let baseIm = im[at]!;
    const vanishes = baseRe * baseRe + baseIm * baseIm < vanishing;
    let outRe = vanishes ? 0 : 1;
    let outIm = 0;
    for (let e = vanishes ? 0 : exponent; e > 0; e = Math.floor(e / 2)) {
      if (e % 2 === 1) {
        const r = outRe * baseRe - outIm * baseIm;
        outIm = outRe * baseIm + outIm * baseRe;
        outRe = r;
      }
      const r = baseRe * baseRe - baseIm * baseIm;
      baseIm = 2 * baseRe * baseIm;
      baseRe = r;
    }
    re[mirror] = outRe;
    im[mirror] = -outIm;
    re[at] = outRe;
    im[at] = outIm;
  };
  raise(0, 0);
  im[0] = 0;
  for (let block = 1; block < re.length; block <<= 1) {
    for (let p = block; p < block + Math.max(1, block >> 1); p++) raise(p, 3 * block - 1 - p);
  }
}
