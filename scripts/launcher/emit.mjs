/** One part of a build: `node emit.mjs PART PARTS`. Loads the compiler, so it is a process of its own. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { sourcesToBuild } from './build.mjs';
import { at, ROOT } from './paths.mjs';

const { default: ts } = await import('typescript');
const [part, parts] = process.argv.slice(2).map(Number);
/**
 * @typedef {import('typescript').CompilerOptions} CompilerOptions
 * @typedef {'sourceMap' | 'experimentalDecorators' | 'emitDecoratorMetadata' | 'rewriteRelativeImportExtensions'} Flag
 */
/** @type {{ target: keyof typeof ts.ScriptTarget } & Record<Flag, boolean>} */
const { target, sourceMap, ...flags } =
  JSON.parse(readFileSync(at('tsconfig.base.json'), 'utf8')).compilerOptions ?? {};
/** @type {CompilerOptions} */
const options = {
  target: ts.ScriptTarget[target],
  // Which kind of module a file is stands in a package.json that the compiler does not see here: all of ours are this kind.
  module: ts.ModuleKind.ES2022,
  isolatedModules: true,
  sourceMap,
  experimentalDecorators: flags.experimentalDecorators,
  emitDecoratorMetadata: flags.emitDecoratorMetadata,
  rewriteRelativeImportExtensions: flags.rewriteRelativeImportExtensions,
};

for (const [index, [from, to]] of sourcesToBuild().entries()) if (index % parts === part) emit(from, to);

/**
 * @param {string} from
 * @param {string} to
 */
function emit(from, to) {
  const compilerOptions = options;
  const source = readFileSync(from, 'utf8');
  const out = ts.transpileModule(source, { compilerOptions, fileName: from, reportDiagnostics: true });
  if (out.diagnostics !== undefined && out.diagnostics.length > 0) {
    const host = {
      getCurrentDirectory: () => ROOT,
      getCanonicalFileName: (/** @type {string} */ name) => name,
      getNewLine: () => '\n',
    };
    process.stderr.write(ts.formatDiagnostics(out.diagnostics, host));
    process.exitCode = 1;
    return;
  }
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, out.outputText);
  if (out.sourceMapText === undefined) return;
  // The compiler sees one file and takes its output to lie beside it.
  const map = { ...JSON.parse(out.sourceMapText), sources: [relative(dirname(to), from)] };
  writeFileSync(`${to}.map`, JSON.stringify(map));
}
