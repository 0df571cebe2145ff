// Pooling over windows of NHWC images. An image's results depend on that image alone. Windows reach over the
// image's edge where `top` and `left` (the padding before it) or the output's size make them; what is outside
// doesn't count.
import { fill } from './elementwise';
import { loadUpTo4, storeUpTo4 } from './lanes';

/**
 * out [batch, outHeight, outWidth, channels] = the largest in each window of a [batch, height, width, channels], and
 * indices i32 (the same shape): where in its image it was first met, row by row. A NaN in a window wins.
 */
export function maxPool2d(
  out: usize, indices: usize, a: usize,
  batch: i32, height: i32, width: i32, channels: i32, outHeight: i32, outWidth: i32,
  windowHeight: i32, windowWidth: i32, strideY: i32, strideX: i32, top: i32, left: i32,
): void {
  const pixel = <usize>channels << 2;
  const image = <usize>(height * width) * pixel;
  const lanes = i32x4(0, 1, 2, 3);
  let at: usize = 0;
  for (let i: usize = 0; i < <usize>batch; i++) {
    const from = a + i * image;
    for (let oy = 0; oy < outHeight; oy++) {
      const y0 = max(oy * strideY - top, 0);
      const y1 = min(oy * strideY - top + windowHeight, height);
      for (let ox = 0; ox < outWidth; ox++) {
        const x0 = max(ox * strideX - left, 0);
        const x1 = min(ox * strideX - left + windowWidth, width);
        for (let c = 0; c < channels; c += 4) {
          const count = channels - c;
          const channel = from + (<usize>c << 2);
          let best = loadUpTo4(channel + <usize>(y0 * width + x0) * pixel, count);
          let position = i32x4.splat(y0 * width + x0);
          for (let y = y0; y < y1; y++) {
            for (let x = x0; x < x1; x++) {
              const p = y * width + x;
              const value = loadUpTo4(channel + <usize>p * pixel, count);
              const wins = v128.or(f32x4.gt(value, best), f32x4.ne(value, value));
              best = v128.bitselect(value, best, wins);
              position = v128.bitselect(i32x4.splat(p), position, wins);
            }
          }
          const index = i32x4.add(i32x4.mul(position, i32x4.splat(channels)), i32x4.add(lanes, i32x4.splat(c)));
          storeUpTo4(out + at + (<usize>c << 2), best, count);
          storeUpTo4(indices + at + (<usize>c << 2), index, count);
        }
        at += pixel;
      }
    }
  }
}

/** out [rows, size] = 0, then out[i, indices[i, j]] += a[i, j] for a and indices [rows, count]: max pooling's gradient */
export function scatterRows(out: usize, a: usize, indices: usize, rows: i32, count: i32, size: i32): void {
  let value = a;
  let index = indices;
  for (let i: usize = 0; i < <usize>rows; i++) {
    const row = out + ((i * <usize>size) << 2);
    fill(row, 0, size);
    for (let j = 0; j < count; j++) {
      const to = row + (<usize>load<i32>(index) << 2);
      store<f32>(to, load<f32>(to) + load<f32>(value));
      value += 4;
      index += 4;
    }
  }
}

/** out [rows, count] = a[i, indices[i, j]] for a [rows, size]: the transpose of scatterRows */
export function gatherFromRows(out: usize, a: usize, indices: usize, rows: i32, count: i32, size: i32): void {
  let to = out;
  let index = indices;
  for (let i: usize = 0; i < <usize>rows; i++) {
    const row = a + ((i * <usize>size) << 2);
    for (let j = 0; j < count; j++) {
      store<f32>(to, load<f32>(row + (<usize>load<i32>(index) << 2)));
      to += 4;
      index += 4;
    }
  }
}

/** out [batch, outHeight, outWidth, channels] = the mean of each window's part that lies in the image */
export function avgPool2d(
  out: usize, a: usize,
  batch: i32, height: i32, width: i32, channels: i32, outHeight: i32, outWidth: i32,
  windowHeight: i32, windowWidth: i32, strideY: i32, strideX: i32, top: i32, left: i32,
): void {
  const pixel = <usize>channels << 2;
  const image = <usize>(height * width) * pixel;
  let to = out;
  for (let i: usize = 0; i < <usize>batch; i++) {
    const from = a + i * image;
    for (let oy = 0; oy < outHeight; oy++) {
      const y0 = max(oy * strideY - top, 0);
      const y1 = min(oy * strideY - top + windowHeight, height);
      for (let ox = 0; ox < outWidth; ox++) {
        const x0 = max(ox * strideX - left, 0);
        const x1 = min(ox * strideX - left + windowWidth, width);
        const share = f32x4.splat(<f32>1 / <f32>((y1 - y0) * (x1 - x0)));
        for (let c = 0; c < channels; c += 4) {
          const count = channels - c;
          let total = f32x4.splat(0);
          for (let y = y0; y < y1; y++) {
            for (let x = x0; x < x1; x++) {
              total = f32x4.add(total, loadUpTo4(from + <usize>(y * width + x) * pixel + (<usize>c << 2), count));
            }
          }
          storeUpTo4(to + (<usize>c << 2), f32x4.mul(total, share), count);
        }
        to += pixel;
      }
    }
  }
}

/** dA [batch, height, width, channels] from dOut [batch, outHeight, outWidth, channels]: the transpose of avgPool2d */
export function avgPool2dGradient(
  dA: usize, dOut: usize,
  batch: i32, height: i32, width: i32, channels: i32, outHeight: i32, outWidth: i32,
  windowHeight: i32, windowWidth: i32, strideY: i32, strideX: i32, top: i32, left: i32,
): void {
  const pixel = <usize>channels << 2;
  const size = height * width * channels;
  let from = dOut;
  for (let i: usize = 0; i < <usize>batch; i++) {
    const image = dA + ((i * <usize>size) << 2);
    fill(image, 0, size);
    for (let oy = 0; oy < outHeight; oy++) {
      const y0 = max(oy * strideY - top, 0);
      const y1 = min(oy * strideY - top + windowHeight, height);
      for (let ox = 0; ox < outWidth; ox++) {
        const x0 = max(ox * strideX - left, 0);
        const x1 = min(ox * strideX - left + windowWidth, width);
        const share = f32x4.splat(<f32>1 / <f32>((y1 - y0) * (x1 - x0)));
        for (let c = 0; c < channels; c += 4) {
          const count = channels - c;
          const value = f32x4.mul(loadUpTo4(from + (<usize>c << 2), count), share);
          for (let y = y0; y < y1; y++) {
            for (let x = x0; x < x1; x++) {
              const to = image + <usize>(y * width + x) * pixel + (<usize>c << 2);
              storeUpTo4(to, f32x4.add(loadUpTo4(to, count), value), count);
            }
          }
        }
        from += pixel;
      }
    }
  }
}
