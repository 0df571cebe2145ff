// Runs what the documentation shows: every `@example` of the library's sources, and the README's `js` blocks.
//
// An `@example` sees all that 'gradshape' exports, and the values made by `surroundings` below under their names; it may
// declare names of its own over them. It runs inside engine.scope, unless it awaits. A statement that ends in a comment
// which is JSON (`// 8`, `// [2, 4]`) is checked against it, to five digits: the statement's value, or the name that it
// declares last; tensors and typed arrays count as their numbers, row by row.
// A README block that imports is a program of its own, and has to end without an error; any other is like an `@example`.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as gradshape from 'gradshape';
import ts from 'typescript';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from './source-rules.js';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Twelve images of 28 × 28 bytes in two classes, a small model for them, and what one does with these. */
function surroundings() {
  const { adam, createEngineSync, crossEntropy, dense, flatten, perExample, saveTraining, sequential } =
    gradshape;
  const engine = createEngineSync();
  const pixels = Uint8Array.from({ length: 12 * 784 }, (_, i) => (i * 37) % 256);
  const labels = Int32Array.from({ length: 12 }, (_, i) => i % 2);
  const set = { x: pixels, y: labels, shape: [28, 28, 1], scale: 1 / 255 };
  const data = engine.dataset(set);
  const model = sequential(flatten(), dense(784, 2));
  const params = model.init(engine, { seed: 1 });
  const optimizer = adam({ learningRate: 0.01 });
  const position = { step: 0, epoch: 0, batch: 0, lossSum: 0, examples: 0, best: null, waited: 0 };
  const bytes = saveTraining({ model, params, optimizer, seed: 1, position });
  const values = { engine, pixels, labels, set, data, model, params, optimizer, bytes };
  return {
    ...values,
    /** Also what lives in a scope: a batch, its images, their per-example gradients and the sum of these. */
    inScope() {
      const batch = data.batch([0, 1, 2]);
      const g = perExample((p, b) => crossEntropy(model.apply(p, b.x), b.y), params, batch);
      const [gradient] = g.weightedSums([[1, 1, 1]]);
      return { ...values, batch, x: batch.x, images: batch.x, g, gradient };
    },
  };
}

const isJson = (text: string): boolean => {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

function lastDeclared(name: ts.BindingName): string {
  return ts.isIdentifier(name) ? name.text : lastDeclared((name.elements.at(-1) as ts.BindingElement).name);
}

/** The example with a call of `check` where a comment gives a value. */
function withChecks(code: string): string {
  const source = parse('example.js', code);
  const checked = source.statements.map((statement) => {
    const [comment] = ts.getTrailingCommentRanges(code, statement.end) ?? [];
    const expected = comment ? code.slice(comment.pos + 2, comment.end).trim() : '';
    const text = statement.getFullText();
    if (!isJson(expected)) return text;
    if (ts.isExpressionStatement(statement)) return `check(${statement.expression.getText()}, ${expected});`;
    if (!ts.isVariableStatement(statement)) return text;
    return `${text}; check(${lastDeclared(statement.declarationList.declarations.at(-1)!.name)}, ${expected});`;
  });
  return checked.join('\n');
}

function numbers(value: unknown): number[] {
  if (value instanceof gradshape.Tensor) return [...value.values()];
  if (ArrayBuffer.isView(value)) return [...(value as Float32Array)];
  return Array.isArray(value) ? value.flatMap(numbers) : [value as number];
}

function check(actual: unknown, expected: unknown): void {
  if (typeof expected === 'string' || typeof expected === 'boolean') {
    assert.is(actual, expected);
    return;
  }
  const [found, wanted] = [numbers(actual), numbers(expected)];
  const near = wanted.every((value, i) => Math.abs(found[i]! - value) <= 1e-5 * Math.max(1, Math.abs(value)));
  assert.ok(found.length === wanted.length && near, `expected ${wanted}, got ${found}`);
}

function awaits(node: ts.Node): boolean {
  if (ts.isFunctionLike(node)) return false;
  if (ts.isAwaitExpression(node) || (ts.isForOfStatement(node) && node.awaitModifier)) return true;
  return ts.forEachChild(node, awaits) ?? false;
}

async function runExample(code: string): Promise<void> {
  const isAsync = awaits(parse('example.js', code));
  const { inScope, ...values } = surroundings();
  const run = (more: object) => {
    const known: Record<string, unknown> = { ...gradshape, ...more, check, console: { log() {} } };
    const names = Object.keys(known).join(', ');
    const body = `return ${isAsync ? 'async' : ''} ({ ${names} }) => {{ ${withChecks(code)}\n }}`;
    return new Function(body)()(known);
  };
  if (isAsync) await run(values);
  else values.engine.scope(() => void run(inScope()));
}

interface Example {
  readonly place: string;
  readonly code: string;
}

function examplesIn(file: string): Example[] {
  const source = parse(file, readFileSync(root + file, 'utf8'));
  const found: Example[] = [];
  const visit = (node: ts.Node): void => {
    for (const tag of ts
      .getJSDocCommentsAndTags(node)
      .flatMap((doc) => (ts.isJSDoc(doc) && doc.parent === node ? (doc.tags ?? []) : []))) {
      if (tag.tagName.text !== 'example') continue;
      const { line } = source.getLineAndCharacterOfPosition(tag.getStart());
      found.push({ place: `${file}:${line + 1}`, code: ts.getTextOfJSDocComment(tag.comment) ?? '' });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

const files = ['engine', 'nn', 'dp', 'attacks'].flatMap((room) =>
  readdirSync(root + room, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `${room}/${file}`),
);
const examples = files.flatMap(examplesIn);
for (const { place, code } of examples) test(place, () => runExample(code));

function runProgram(code: string, name: string): void {
  const file = `${root}test/${name}.js`; // inside the package, so that it can be imported by its name
  try {
    writeFileSync(file, code);
    const { status, stderr } = spawnSync(process.execPath, [file], { cwd: root, encoding: 'utf8' });
    assert.is(status, 0, stderr);
  } finally {
    rmSync(file, { force: true });
  }
}

const readme = readFileSync(`${root}README.md`, 'utf8');
[...readme.matchAll(/^```js\n(.*?)^```$/gms)].forEach(([, code], i) => {
  const name = `readme-example-${i + 1}`;
  test(name, () => (/^import /m.test(code!) ? runProgram(code!, name) : runExample(code!)));
});

test('examples are found, and a wrong one fails', async () => {
  assert.ok(examples.length > 10, `${examples.length} examples`);
  const fails = (code: string) =>
    runExample(code).then(
      () => assert.unreachable(code),
      (error: Error) => error.message,
    );
  assert.is(await fails('const t = engine.tensor([1, 2]); // [1, 3]'), 'expected 1,3, got 1,2');
  assert.is(await fails('mul(engine.tensor([1, 2]), 2) // [2]'), 'expected 2, got 2,4');
  assert.is(await fails('noSuchName'), 'noSuchName is not defined');
  assert.is(await fails('await Promise.reject(new Error("late"))'), 'late');
  await runExample('const { a: [b] } = { a: [0.3333333] }; // 0.33333\n"text" // "text"\n2 // two');
});

test.run();
