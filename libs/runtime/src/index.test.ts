import { readFileSync } from 'node:fs';
import { expect, it } from '@jest/globals';

/** Every module that importing `file` loads: static imports only, types left out. */
function bareImports(file: URL, seen = new Set<string>()): Set<string> {
  if (seen.has(file.href)) return new Set();
  seen.add(file.href);
  const found = new Set<string>();
  for (const [, specifier = ''] of readFileSync(file, 'utf8').matchAll(
    /^(?:import|export)\s(?!type\b)[^;]*?from '([^']+)'/gmu,
  )) {
    if (specifier.startsWith('.')) for (const each of bareImports(new URL(specifier, file), seen)) found.add(each);
    else found.add(specifier);
  }
  return found;
}

it('loads no inference library into a node: only an engine process does', () => {
  const imports = [...bareImports(new URL('./index.ts', import.meta.url))].filter(
    (name) => !name.startsWith('node:') && !name.startsWith('@freehold/'),
  );
  expect(imports).toEqual(['zod']);
});
