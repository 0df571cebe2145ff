export { type Comparison, comparisonTable, disagreements, type Verdict, verdict } from './compare.js';
export { type CsvRow, toCsv } from './csv.js';
export { type Axis, type Figure, type LineFigure, lineFigure, type Point, type Series } from './figure.js';
export { escapeHtml, htmlPage, htmlText, type Section } from './html.js';
export { imageGrid, type Picture, type Pixels, pngAddress } from './images.js';
export { digits, epsilonText, finite, isFinitePoint, replaceInfinity } from './numbers.js';
export { type Report, type RunFacts, reportPage, terminalReport, writeReport } from './report.js';
export { type Cell, htmlTable, type Table, type TableRow, terminalTable } from './table.js';
