/** One part of a page: `html` is trusted, `title` is escaped. */
export interface Section {
  title: string;
  html: string;
}

export function escapeHtml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (c) => names[c]!);
}

/** Paragraphs from plain text, a bullet list from several. */
export function htmlText(lines: readonly string[]): string {
  if (lines.length === 1) return `<p>${escapeHtml(lines[0]!)}</p>`;
  return `<ul>${lines.map((line) => `<li>${escapeHtml(line)}</li>`).join('\n')}</ul>`;
}

/** One self-contained page: no scripts, no requests (its own policy forbids both), light and dark, fit to print. */
export function htmlPage({
  title,
  lead,
  sections,
}: {
  title: string;
  lead?: string;
  sections: readonly Section[];
}): string {
  const parts = sections.map(
    ({ title, html }) => `<section>\n<h2>${escapeHtml(title)}</h2>\n${html}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeHtml(title)}</h1>
${lead ? `<p class="lead">${escapeHtml(lead)}</p>` : ''}
</header>
<main>
${parts.join('\n')}
</main>
</body>
</html>
`;
}

/** Series colours as CSS variables, so that figures follow the page from light to dark; the light ones are the fall-back. */
export const SERIES_COLORS = [
  'var(--series-1, #0067a5)',
  'var(--series-2, #c8500a)',
  'var(--series-3, #00795c)',
  'var(--series-4, #a63d82)',
  'var(--series-5, #8a6d00)',
  'var(--series-6, #6a4fbf)',
  'var(--series-7, #7a4a3a)',
  'var(--series-8, #5f6b76)',
];

const STYLE = `
:root {
  --ink: #1c2024; --soft: #5c656e; --line: #d9dee3; --paper: #ffffff; --tint: #f4f6f8; --bad: #a8321a;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e7ea; --soft: #9aa4ad; --line: #363d44; --paper: #15181b; --tint: #1e2226; --bad: #ff9a7d;
    --series-1: #5ab4f0; --series-2: #ff8f52; --series-3: #35c79b; --series-4: #ee8cc6;
    --series-5: #e2c044; --series-6: #ab98ff; --series-7: #d19b86; --series-8: #a9b4be;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 58rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem; text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.75rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .5rem 0; }
li { margin: .25rem 0; }
.lead { color: var(--soft); font-size: 1.05rem; white-space: pre-line; }
.warning { border-left: 3px solid var(--bad); padding: .4rem .9rem; background: var(--tint); }
figure { margin: 1.25rem 0 2rem; }
figure svg { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; margin-top: .4rem; }
figcaption strong { display: block; color: var(--ink); font-size: 1rem; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
.number { text-align: right; white-space: nowrap; }
.fold { color: var(--soft); }
td:first-child { min-width: 9rem; }
summary { cursor: pointer; }
code, pre { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
pre { background: var(--tint); padding: .6rem .8rem; margin: .4rem 0; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 40rem; }
code { overflow-wrap: anywhere; }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .fold { display: none; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
`;
