import { encode } from 'fast-png';
import { escapeHtml, type Section } from './html.js';

/** A grey image for a report. */
export interface GreyImage {
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly height: number;
  readonly caption: string;
}

/** Images side by side, as PNG in the page itself, enlarged so that each pixel is seen. */
export function imageGrid(title: string, note: string, images: readonly GreyImage[], enlarge = 4): Section {
  const cells = images.map(({ pixels, width, height, caption }) => {
    const png = encode({ data: pixels, width, height, channels: 1, depth: 8 });
    const source = `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
    const size = `width="${width * enlarge}" height="${height * enlarge}"`;
    const text = escapeHtml(caption);
    return `<figure style="margin:0"><img src="${source}" ${size} style="image-rendering:pixelated" alt="${text}"><figcaption>${text}</figcaption></figure>`;
  });
  const html = `<p>${escapeHtml(note)}</p>
<div style="display:flex;flex-wrap:wrap;gap:1rem">${cells.join('\n')}</div>`;
  return { title, html };
}
