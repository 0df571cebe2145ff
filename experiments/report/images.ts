import { encode } from 'fast-png';
import { rowMajor } from 'gradshape/ndarray';
import type { NdArray } from 'ndarray';
import { escapeHtml, type Section } from './html.js';

/** Bytes by row and column from the top left, [height, width]; or with red, green and blue, [height, width, 3]. Any view. */
export type Pixels = NdArray<Uint8Array>;

export interface Picture {
  readonly pixels: Pixels;
  readonly caption: string;
}

/** The pixels as PNG, in an address that pages can show without a request. */
export function pngAddress(pixels: Pixels): string {
  const [height, width, channels = 1] = pixels.shape as [number, number, number?];
  const png = encode({ data: rowMajor(pixels), width, height, channels, depth: 8 });
  return `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
}

/** Pictures side by side, in the page itself, enlarged so that each pixel is seen. */
export function imageGrid(title: string, note: string, pictures: readonly Picture[], enlarge = 4): Section {
  const cells = pictures.map(({ pixels, caption }) => {
    const [height, width] = pixels.shape as [number, number];
    const size = `width="${width * enlarge}" height="${height * enlarge}"`;
    const text = escapeHtml(caption);
    return `<figure style="margin:0"><img src="${pngAddress(pixels)}" ${size} style="image-rendering:pixelated" alt="${text}"><figcaption>${text}</figcaption></figure>`;
  });
  const html = `<p>${escapeHtml(note)}</p>
<div style="display:flex;flex-wrap:wrap;gap:1rem">${cells.join('\n')}</div>`;
  return { title, html };
}
