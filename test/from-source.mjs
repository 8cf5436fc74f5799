/**
 * Runs the house's TypeScript as it lies there, for tests that start real processes without a build:
 *
 *   node --import ./test/from-source.mjs --conditions=source FILE.ts
 *
 * Same compiler and settings as jest (decorator metadata included). Types are not checked here; `npm run check` does.
 */
import { register } from 'node:module';

register('./from-source-hooks.mjs', import.meta.url);
