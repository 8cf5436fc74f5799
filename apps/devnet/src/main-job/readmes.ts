import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A document of the built-in job: the beginning of an installed package's README, and the query that must find it. */
export interface Readme {
  readonly name: string;
  readonly text: string;
  readonly description: string;
}

export const README_CHARACTERS = 400;
export const READMES_MAX = 320;
/** Below this a README says too little to be found by. */
const TEXT_CHARACTERS_MIN = 120;
const DESCRIPTION_CHARACTERS_MIN = 24;

/**
 * Real text that every machine has: the READMEs of what `npm install` brought, in order of package names. Packages whose
 * text another one shares (families with one boilerplate) are left out, since no search could tell them apart.
 */
export async function installedReadmes(nodeModules: string): Promise<readonly Readme[]> {
  const found: Readme[] = [];
  const seen = new Set<string>();
  for (const name of await packageNames(nodeModules)) {
    if (found.length >= READMES_MAX) break;
    const readme = await readmeOf(join(nodeModules, name), name);
    if (readme === null || seen.has(readme.text) || seen.has(readme.description)) continue;
    seen.add(readme.text).add(readme.description);
    found.push(readme);
  }
  return found;
}

async function packageNames(nodeModules: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(nodeModules, { withFileTypes: true })) {
    if (entry.name.startsWith('.') || !(entry.isDirectory() && !entry.isSymbolicLink())) continue;
    if (!entry.name.startsWith('@')) names.push(entry.name);
    else if (entry.name !== '@freehold')
      for (const scoped of await readdir(join(nodeModules, entry.name))) names.push(`${entry.name}/${scoped}`);
  }
  return names.sort();
}

async function readmeOf(folder: string, name: string): Promise<Readme | null> {
  const file = (await readdir(folder).catch(() => [])).find((entry) => /^readme(\.md|\.markdown)?$/i.test(entry));
  if (file === undefined) return null;
  const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}')) as {
    description?: unknown;
  };
  const description = typeof manifest.description === 'string' ? manifest.description.trim() : '';
  const text = withoutMarkup(await readFile(join(folder, file), 'utf8')).slice(0, README_CHARACTERS);
  return text.length < TEXT_CHARACTERS_MIN || description.length < DESCRIPTION_CHARACTERS_MIN
    ? null
    : { name, text, description };
}

/** Plain sentences of a Markdown text: no code, links, images, tables, HTML or heading marks. */
export function withoutMarkup(markdown: string): string {
  return markdown
    .replace(/^---\n[\s\S]*?\n---\n/, '')
    .replace(/<!--[\s\S]*?-->/g, ' ')
    .replace(/(```|~~~)[\s\S]*?(\1|$)/g, ' ')
    .replace(/!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])/g, ' ')
    .replace(/\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])/g, '$1')
    .replace(/^\s*\[[^\]]+\]:.*$/gm, ' ')
    .replace(/<[^>]+>/g, ' ')
    .replace(/https?:\/\/\S+/g, ' ')
    .replace(/^\s*\|.*\|\s*$/gm, ' ')
    .replace(/^\s*[-=*_]{3,}\s*$/gm, ' ')
    .replace(/^[#>\s]+/gm, ' ')
    .replace(/[`*_~|]/g, '')
    .replace(/\s+/g, ' ')
    .trim();
}
