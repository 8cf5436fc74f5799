import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

/** What a file waits for: calls of ports, and awaits of which nobody can say what dies between. */
export interface Awaits {
  /** `LeaseStore.accept` … */
  readonly ports: readonly string[];
  readonly strangers: readonly string[];
}

/** Fields of a use case's ports object (and of the sender), and the port behind each. */
const PORT_OF: Readonly<Record<string, string>> = {
  leases: 'LeaseStore',
  objects: 'ObjectStore',
  blocks: 'Blocks',
  link: 'ProviderLink',
  signer: 'Signer',
  signatures: 'SignatureCheck',
  auditors: 'Auditors',
  auditor: 'Auditor',
  settlement: 'SettlementStore',
  escrow: 'Escrow',
  sender: 'ChainSender',
  history: 'ChainHistory',
  gate: 'PayoutGate',
  fineTunes: 'FineTunes',
  '#training': 'Training',
  '#saved': 'ChainTransactions',
  '#client': 'Rpc',
  client: 'Rpc',
};

/** Arithmetic that happens to be a promise: nothing outside changes by it. */
const ARITHMETIC: readonly string[] = ['this.#account.signTransaction'];
/** Reads of objects that a fine-tune's earlier segments left: nothing is written there. */
const READS: readonly string[] = ['stateBefore'];

/**
 * Every `await` of these files, sorted by what it waits for. An await of a function of one of the files themselves waits for
 * nothing of its own: what that function awaits is listed instead.
 */
export function awaitsIn(files: readonly string[]): Awaits {
  const sources = files.map((file) => {
    const path = fileURLToPath(new URL(`../../${file}`, import.meta.url));
    return ts.createSourceFile(file, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2023, true);
  });
  const own = new Set(sources.flatMap(functionNames));
  const ports = new Set<string>();
  const strangers: string[] = [];
  for (const source of sources) {
    for (const call of awaitedCalls(source)) {
      const port = portOf(call);
      if (port !== null) ports.add(port);
      else if (!own.has(nameOf(call)) && ![...ARITHMETIC, ...READS].includes(calleeOf(call)))
        strangers.push(`${source.fileName}: await ${call.getText(source).slice(0, 80)}`);
    }
  }
  return { ports: [...ports].sort(), strangers };
}

function functionNames(source: ts.SourceFile): readonly string[] {
  const names: string[] = [];
  visit(source, (node) => {
    if ((ts.isFunctionDeclaration(node) || ts.isMethodDeclaration(node)) && node.name !== undefined)
      names.push(node.name.getText(source));
    // A function that was handed in: whoever handed it in awaits for itself.
    if (
      (ts.isParameter(node) || ts.isPropertySignature(node)) &&
      node.type !== undefined &&
      ts.isFunctionTypeNode(node.type)
    )
      names.push(node.name.getText(source));
  });
  return names;
}

/** The calls that an await waits for: one, or all of a `Promise.all`. */
function awaitedCalls(source: ts.SourceFile): readonly ts.Expression[] {
  const calls: ts.Expression[] = [];
  visit(source, (node) => {
    if (ts.isAwaitExpression(node)) calls.push(...callsOf(node.expression));
  });
  return calls;
}

function callsOf(waited: ts.Expression): readonly ts.Expression[] {
  if (ts.isParenthesizedExpression(waited)) return callsOf(waited.expression);
  if (ts.isConditionalExpression(waited)) return [...callsOf(waited.whenTrue), ...callsOf(waited.whenFalse)];
  const [list] = ts.isCallExpression(waited) ? waited.arguments : [];
  if (ts.isCallExpression(waited) && waited.expression.getText() === 'Promise.all' && list !== undefined)
    return ts.isArrayLiteralExpression(list) ? list.elements.flatMap(callsOf) : [list];
  return [waited];
}

function portOf(waited: ts.Expression): string | null {
  if (!ts.isCallExpression(waited) || !ts.isPropertyAccessExpression(waited.expression)) return null;
  const { expression, name } = waited.expression;
  const field = ts.isPropertyAccessExpression(expression) ? expression.name.text : expression.getText();
  const port = PORT_OF[field];
  // All requests of the RPC client go one way: a point lies before and after each of them.
  return port === undefined ? null : port === 'Rpc' ? 'Rpc' : `${port}.${name.text}`;
}

function nameOf(waited: ts.Expression): string {
  if (!ts.isCallExpression(waited)) return '';
  return ts.isPropertyAccessExpression(waited.expression) ? waited.expression.name.text : waited.expression.getText();
}

function calleeOf(waited: ts.Expression): string {
  return ts.isCallExpression(waited) ? waited.expression.getText() : '';
}

function visit(node: ts.Node, see: (node: ts.Node) => void): void {
  see(node);
  ts.forEachChild(node, (child) => visit(child, see));
}
