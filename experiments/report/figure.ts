import type { TopLevelSpec } from 'vega-lite';
import { escapeHtml, SERIES_COLORS } from './html.js';

/** A point of a series; low and high are its 95 % interval, null or absent without one (a `Summary` fits). */
export interface Point {
  x: number | string;
  y: number;
  low?: number | null;
  high?: number | null;
}

export interface Series {
  name: string;
  points: readonly Point[];
}

export interface Axis {
  label: string;
  /** d3-format, such as '.0%' or '.3f'. */
  format?: string;
  /** 'category' spaces the values evenly, in the order given. Default 'linear'. */
  scale?: 'linear' | 'log' | 'category';
}

export interface LineFigure {
  title: string;
  x: Axis;
  y: Omit<Axis, 'scale'> & { scale?: 'linear' | 'log' };
  series: readonly Series[];
  /** The paper's points: hollow diamonds, in the colour of the series they name, else in the text's. */
  reference?: readonly { x: number | string; y: number; series?: string }[];
  /** What the figure shows, for its caption. */
  caption?: string;
  /** Intervals as bands (default) or as bars. */
  intervals?: 'band' | 'bar';
  width?: number;
  height?: number;
}

/** A figure of any Vega-Lite spec (its data inline), rendered when the report is written. */
export interface Figure {
  title: string;
  caption: string;
  spec: TopLevelSpec;
}

/** Lines over x with 95 % intervals, and the paper's points as marks of their own. */
export function lineFigure(figure: LineFigure): Figure {
  const { series, reference = [], intervals = 'band' } = figure;
  const names = series.map(({ name }) => name);
  const values = series.flatMap(({ name, points }) => points.map((point) => ({ ...point, series: name })));
  const category = figure.x.scale === 'category';
  const x = {
    field: 'x',
    type: category ? ('ordinal' as const) : ('quantitative' as const),
    ...(category
      ? { sort: null }
      : { scale: { type: figure.x.scale ?? ('linear' as const), nice: false, padding: 12 } }),
    axis: {
      title: figure.x.label,
      labelAngle: 0,
      grid: false,
      tickCount: 8,
      // Without a canvas Vega takes text for half as wide again as it is: categories it would shorten or drop have room.
      labelOverlap: !category,
      labelLimit: 400,
      ...(figure.x.format && { format: figure.x.format }),
    },
  };
  const y = {
    field: 'y',
    type: 'quantitative' as const,
    scale: figure.y.scale === 'log' ? { type: 'log' as const } : { zero: false },
    axis: {
      ...{
        title: figure.y.label,
        titleAngle: 0,
        titleAlign: 'left' as const,
        titleX: 0,
        titleY: -12,
        tickCount: 7,
      },
      ...(figure.y.format && { format: figure.y.format }),
    },
  };
  const color = {
    field: 'series',
    type: 'nominal' as const,
    scale: { domain: names, range: names.map((_, i) => SERIES_COLORS[i % SERIES_COLORS.length]!) },
    legend: { title: null, symbolOpacity: 1, symbolSize: 70, labelLimit: 400 },
  };
  // Marks differ by shape too: in print, and for those who see colours otherwise.
  const shape = {
    field: 'series',
    type: 'nominal' as const,
    scale: { domain: names, range: [...SHAPES] },
    legend: color.legend,
  };
  const interval = { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color };
  const hasInterval = values.some(({ low }) => low != null);
  const band = intervals === 'band' ? { type: 'area', opacity: 0.15 } : { type: 'rule', strokeWidth: 1.5 };
  const diamond = { type: 'point', shape: 'diamond', size: 130, strokeWidth: 2, filled: false, opacity: 1 };
  const named = reference.filter((point) => names.includes(point.series ?? ''));
  const unnamed = reference.filter((point) => !names.includes(point.series ?? ''));
  const layer = [
    ...(hasInterval
      ? [{ transform: [{ filter: 'isValid(datum.low)' }], mark: band, encoding: interval }]
      : []),
    { mark: { type: 'line', strokeWidth: 2 }, encoding: { x, y, color } },
    { mark: { type: 'point', size: 42, filled: true, opacity: 1 }, encoding: { x, y, color, shape } },
    ...(named.length > 0 ? [{ data: { values: named }, mark: diamond, encoding: { x, y, color } }] : []),
    ...(unnamed.length > 0
      ? [{ data: { values: unnamed }, mark: { ...diamond, color: 'currentColor' }, encoding: { x, y } }]
      : []),
  ];
  const spec = {
    width: figure.width ?? 600,
    height: figure.height ?? 340,
    data: { values },
    layer,
  };
  const captions = [
    figure.caption,
    hasInterval
      ? `${intervals === 'band' ? 'Bands' : 'Bars'}: 95 % intervals of the mean over seeds.`
      : undefined,
    reference.length > 0 ? 'Hollow diamonds: the paper’s numbers.' : undefined,
  ];
  return {
    title: figure.title,
    caption: captions.filter((text) => text !== undefined).join(' '),
    spec: spec as TopLevelSpec,
  };
}

const SHAPES = [
  'circle',
  'square',
  'triangle-up',
  'cross',
  'triangle-down',
  'triangle-right',
  'triangle-left',
  'wedge',
];

const CONFIG = {
  background: 'transparent',
  font: 'system-ui, sans-serif',
  view: { stroke: null },
  axis: {
    labelColor: 'currentColor',
    titleColor: 'currentColor',
    domainColor: 'currentColor',
    domainOpacity: 0.4,
    tickColor: 'currentColor',
    tickOpacity: 0.4,
    gridColor: 'currentColor',
    gridOpacity: 0.12,
    labelFontSize: 12,
    titleFontSize: 12.5,
    titleFontWeight: 'normal',
    titlePadding: 10,
  },
  legend: { labelColor: 'currentColor', titleColor: 'currentColor', labelFontSize: 12.5, labelLimit: 260 },
};

/** Renders a figure to an inline SVG with its caption. */
export async function figureHtml({ title, caption, spec }: Figure): Promise<string> {
  // Vega takes a quarter of a second to load: only when a report is made.
  const [vega, vegaLite] = await Promise.all([import('vega'), import('vega-lite')]);
  const compiled = vegaLite.compile(spec, { config: CONFIG as object }).spec;
  const view = new vega.View(vega.parse(compiled), { renderer: 'none', logLevel: vega.Error });
  const svg = await view.toSVG();
  view.finalize();
  const label = `<svg role="img" aria-label="${escapeHtml(title)}"`;
  return `<figure>
<figcaption><strong>${escapeHtml(title)}</strong></figcaption>
${svg.replace('<svg', label)}
<figcaption>${escapeHtml(caption)}</figcaption>
</figure>`;
}
