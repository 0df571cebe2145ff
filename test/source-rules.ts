// What the library's source may not contain, found in the syntax tree.
import ts from 'typescript';

export const parse = (name: string, text: string): ts.SourceFile =>
  ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true);

/** What a file imports and re-exports, types included. */
export function importsOf(source: ts.SourceFile): string[] {
  return source.statements.flatMap((statement) => {
    if (!ts.isImportDeclaration(statement) && !ts.isExportDeclaration(statement)) return [];
    return statement.moduleSpecifier ? [(statement.moduleSpecifier as ts.StringLiteral).text] : [];
  });
}

// Workers and strict pages forbid making code from strings; the rest is Node's own.
const forbiddenNames = new Set([
  'eval',
  'Function',
  'process',
  'Buffer',
  'require',
  '__dirname',
  '__filename',
]);

// Engines round the others differently, so the same seed would not give the same bits.
const exactMath = new Set('abs ceil clz32 floor fround imul max min round sign sqrt trunc PI'.split(' '));

function isName(node: ts.Identifier): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent)) return parent.name === node;
  if (ts.isPropertyAssignment(parent)) return parent.name === node;
  return ts.isMethodDeclaration(parent) || ts.isPropertyDeclaration(parent) || ts.isTypeReferenceNode(parent);
}

function inFunction(node: ts.Node): boolean {
  for (let at = node.parent; !ts.isSourceFile(at); at = at.parent) {
    if (ts.isFunctionLike(at)) return true;
  }
  return false;
}

function fault(node: ts.Node, exact: boolean): string | undefined {
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) return 'import()';
  if (ts.isAwaitExpression(node) || (ts.isForOfStatement(node) && node.awaitModifier)) {
    return inFunction(node) ? undefined : 'top-level await';
  }
  if (ts.isIdentifier(node)) {
    if (isName(node)) return undefined;
    if (forbiddenNames.has(node.text)) return node.text;
    if (exact && node.text === 'Math') {
      const member = ts.isPropertyAccessExpression(node.parent) ? node.parent.name.text : '…';
      return exactMath.has(member) ? undefined : `Math.${member}`;
    }
  }
  const power = [ts.SyntaxKind.AsteriskAsteriskToken, ts.SyntaxKind.AsteriskAsteriskEqualsToken];
  return exact && power.includes(node.kind) ? '**' : undefined;
}

/**
 * Where a file breaks the rules, as `file:line what`. `exact` also forbids mathematics whose bits differ between engines.
 */
export function faults(source: ts.SourceFile, exact: boolean): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const what = fault(node, exact);
    if (what !== undefined) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart());
      found.push(`${source.fileName}:${line + 1} ${what}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}
