#!/usr/bin/env node
/** `npx freehold …` in a clone. npm links this when it installs, before anything is built; what it runs is built later. */
import { existsSync } from 'node:fs';

const main = new URL('dist/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  process.stderr.write('freehold is not built yet: run "npm start" once, then this again.\n');
  process.exitCode = 2;
}
