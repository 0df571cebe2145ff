// Norms of the examples' filter gradients without making them: ghost norms of convolutions.
import { Geometry } from './conv-core';
import { dotF64, squaredNormF64 } from './lanes';

/**
 * products[height, width] f64 = x_p·x_q over `depth` channels, where pixel q lies (dy, dx) from p; 0 where q is
 * outside the image.
 */
function pixelProducts(products: usize, x: usize, g: Geometry, depth: i32, dy: i32, dx: i32): void {
  memory.fill(products, 0, <usize>(g.height * g.width) << 3);
  const pixel = <usize>g.channels << 2;
  const apart = <usize>(dy * g.width + dx) * pixel;
  for (let y = 0; y < g.height - dy; y++) {
    for (let column = max(0, -dx); column < min(g.width, g.width - dx); column++) {
      const index = <usize>(y * g.width + column);
      const p = x + index * pixel;
      store<f64>(products + (index << 3), dotF64(p, p + apart, depth));
    }
  }
}

/** Σ of products over the taps of the patch at (y, x), which may lie outside the image. */
function patchProduct(products: usize, g: Geometry, y: i32, x: i32): f64 {
  let total: f64 = 0;
  for (let tapY = 0; tapY < g.kernelHeight; tapY++) {
    const row = y + tapY * g.dilationY;
    if (row < 0 || row >= g.height) continue;
    for (let tapX = 0; tapX < g.kernelWidth; tapX++) {
      const column = x + tapX * g.dilationX;
      if (column < 0 || column >= g.width) continue;
      total += load<f64>(products + (<usize>(row * g.width + column) << 3));
    }
  }
  return total;
}

/** Σ over positions of ‖patch‖‖dOut‖, for a group of an example; products are those of each pixel with itself. */
function positionTerms(products: usize, dOut: usize, g: Geometry, columns: i32): f64 {
  const position = <usize>g.outChannels << 2;
  let total: f64 = 0;
  for (let i = 0; i < g.outHeight; i++) {
    for (let j = 0; j < g.outWidth; j++) {
      const patch = patchProduct(products, g, i * g.strideY - g.padTop, j * g.strideX - g.padLeft);
      total += sqrt<f64>(patch * squaredNormF64(dOut, columns));
      dOut += position;
    }
  }
  return total;
}

/** Σ over pairs of positions (dy, dx) apart of (patch·patch)(dOut·dOut), for a group of an example. */
function pairs(products: usize, dOut: usize, g: Geometry, columns: i32, dy: i32, dx: i32): f64 {
  const position = <usize>g.outChannels << 2;
  const apart = <usize>(dy * g.outWidth + dx) * position;
  let total: f64 = 0;
  for (let i = 0; i < g.outHeight - dy; i++) {
    for (let j = max(0, -dx); j < min(g.outWidth, g.outWidth - dx); j++) {
      const patches = patchProduct(products, g, i * g.strideY - g.padTop, j * g.strideX - g.padLeft);
      if (patches == 0) continue;
      const b = dOut + <usize>(i * g.outWidth + j) * position;
      total += patches * (apart == 0 ? squaredNormF64(b, columns) : dotF64(b, b + apart, columns));
    }
  }
  return total;
}

/**
 * out f64[batch] (+)= ‖filter gradient‖² of each example: Σ over pairs of positions s, u of (a_s·a_u)(b_s·b_u),
 * with patches a and output gradients b (Li et al. 2022, Bu et al. 2022), in float64, held at or above 0. Pairs that lie
 * equally far apart share the products of their pixels, so no patch is made and each pair of pixels is multiplied once.
 * terms f64[batch] = Σ_s ‖a_s‖‖b_s‖, the scale of the rounding errors, unless it is 0.
 */
export function conv2dGhostNorms(
  out: usize, terms: usize, x: usize, dOut: usize, geometry: usize, accumulate: i32, scratch: usize,
): void {
  const g = changetype<Geometry>(geometry);
  const image = <usize>(g.height * g.width * g.channels) << 2;
  const outImage = <usize>(g.outHeight * g.outWidth * g.outChannels) << 2;
  const depth = g.channels / g.groups;
  const columns = g.outChannels / g.groups;
  for (let example: usize = 0; example < <usize>g.batch; example++) {
    let diagonal: f64 = 0;
    let above: f64 = 0;
    let scale: f64 = 0;
    for (let group = 0; group < g.groups; group++) {
      const a = x + example * image + (<usize>(group * depth) << 2);
      const b = dOut + example * outImage + (<usize>(group * columns) << 2);
      for (let dy = 0; dy < g.outHeight; dy++) {
        for (let dx = dy == 0 ? 0 : 1 - g.outWidth; dx < g.outWidth; dx++) {
          pixelProducts(scratch, a, g, depth, dy * g.strideY, dx * g.strideX);
          const sum = pairs(scratch, b, g, columns, dy, dx);
          if (dy == 0 && dx == 0) {
            diagonal += sum;
            if (terms) scale += positionTerms(scratch, b, g, columns);
          } else above += sum;
        }
      }
    }
    const total = max<f64>(diagonal + 2 * above, 0);
    if (terms) store<f64>(terms + (example << 3), scale);
    const at = out + (example << 3);
    store<f64>(at, accumulate ? load<f64>(at) + total : total);
  }
}
