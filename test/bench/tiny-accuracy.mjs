#!/usr/bin/env node
/**
 * How often freehold-tiny answers exactly right, through llama.cpp, on tasks it has never seen.
 *
 *   npm run bench -- tiny-accuracy [--items FILE] [--quantisation Q8_0] [--json]
 *
 * Without --items: {@link PER_FAMILY} held-out contents per family in trained wordings (they make `overall`, the mean
 * over the families, `families99` and `worstFamily`) and {@link PER_FAMILY_HELD} in held-out wordings (`wordings`).
 * With --items: JSON lines `{"family","messages","expected"}`. Nothing is known of their wordings then, so `wordings`
 * is the accuracy of those that say `"heldWording": true`, or of all where none does.
 */

import { readFileSync, realpathSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { heldOutItems, manifest, QUANTISATIONS } from '../../models/freehold-tiny/index.mjs';
import { openModel } from '../../models/freehold-tiny/run-llama.mjs';

const PER_FAMILY = 100;
const PER_FAMILY_HELD = 34;
const SEED = 'bench-1';

/** A file of items is read whole; these bound it. */
const ITEMS_BYTES_MAX = 32 << 20;
const ITEMS_MAX = 20_000;

/** The goal, and the values below which the model or its engine must have been broken. */
export const TARGET = { overall: 0.98, families99: 18, wordings: 0.95 };
/** What the weights in the repository reach, they must keep. */
export const FLOOR = TARGET;

/**
 * @import { Item, WordingSide } from '../../models/freehold-tiny/index.mjs'
 *
 * @typedef {Pick<Item, 'family' | 'messages' | 'expected'> & { readonly heldWording?: boolean }} AskedItem
 * @typedef {{ readonly family: string; readonly heldWording: boolean; readonly right: boolean }} Answered
 */

const ROLES = new Set(['system', 'developer', 'user', 'assistant']);

/** @param {string} file */
function readItems(file) {
  if (statSync(file).size > ITEMS_BYTES_MAX) throw new Error(`${file}: at most ${ITEMS_BYTES_MAX} bytes are read.`);
  const lines = readFileSync(file, 'utf8').split('\n');
  /** @type {AskedItem[]} */
  const items = [];
  lines.forEach((line, number) => {
    if (line.trim() === '') return;
    const wrong = (/** @type {string} */ why) =>
      new Error(`${file}, line ${number + 1}: ${why} Expected {"family","messages","expected"}.`);
    /** @type {AskedItem} Held to that below. */
    let item;
    try {
      item = JSON.parse(line);
    } catch (error) {
      throw wrong(`not JSON (${error instanceof Error ? error.message : String(error)}).`);
    }
    if (typeof item?.family !== 'string' || typeof item.expected !== 'string')
      throw wrong('family and expected must be texts.');
    const fine = (/** @type {Item['messages'][number]} */ message) =>
      ROLES.has(message?.role) && typeof message.content === 'string';
    if (!Array.isArray(item.messages) || item.messages.length === 0 || !item.messages.every(fine))
      throw wrong('messages must be [{role, content}].');
    items.push(item);
    if (items.length > ITEMS_MAX) throw new Error(`${file}: at most ${ITEMS_MAX} items are run.`);
  });
  if (items.length === 0) throw new Error(`${file}: no items.`);
  return items;
}

function ownItems() {
  const count = (/** @type {WordingSide} */ side, /** @type {number} */ per) =>
    per * new Set(heldOutItems({ count: 60, wordings: side }).map((item) => item.family)).size;
  return [
    ...heldOutItems({ seed: SEED, count: count('trained', PER_FAMILY), wordings: 'trained' }),
    ...heldOutItems({ seed: SEED, count: count('held', PER_FAMILY_HELD), wordings: 'held' }),
  ];
}

/** @param {readonly Answered[]} results */
const share = (results) => results.filter((result) => result.right).length / results.length;

/** @param {number} value */
const rounded = (value) => Math.round(value * 10_000) / 10_000;

/**
 * Accuracy per family, and what follows from it.
 *
 * @param {readonly Answered[]} results
 * @param {boolean} fromFile
 */
export function summarise(results, fromFile) {
  const plain = fromFile ? results : results.filter((result) => !result.heldWording);
  const held = results.filter((result) => result.heldWording);
  const shares = (/** @type {readonly Answered[]} */ some) =>
    Object.fromEntries(
      [...new Set(some.map((result) => result.family))].map((family) => [
        family,
        rounded(share(some.filter((result) => result.family === family))),
      ]),
    );
  const perFamily = shares(plain);
  const names = Object.keys(perFamily);
  const worst = names.reduce((least, name) => (perFamily[name] < perFamily[least] ? name : least), names[0]);
  return {
    overall: rounded(names.reduce((sum, name) => sum + perFamily[name], 0) / names.length),
    families99: names.filter((name) => perFamily[name] >= 0.99).length,
    wordings: rounded(share(held.length === 0 ? results : held)),
    worstFamily: perFamily[worst],
    families: names.length,
    items: results.length,
    worstFamilyName: worst,
    perFamily,
    perFamilyHeldWordings: shares(held),
  };
}

/** @param {import('../../scripts/bench.mjs').BenchOptions} [options] */
export async function run({ args = [], json = false } = {}) {
  const { values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      items: { type: 'string' },
      quantisation: { type: 'string', default: 'Q8_0' },
      wrong: { type: 'boolean' },
      json: { type: 'boolean' },
    },
  });
  const quantisation = QUANTISATIONS.find((one) => one === values.quantisation);
  if (quantisation === undefined) throw new Error(`--quantisation: expected ${QUANTISATIONS.join(', ')}.`);
  const quiet = json || values.json === true;
  const items = values.items === undefined ? ownItems() : readItems(values.items);
  const engine = await openModel({ quantisation });
  /** @type {Answered[]} */
  const results = [];
  const began = performance.now();
  let tokens = 0;
  try {
    for (const item of items) {
      const { text, ids, promptTokens } = await engine.answer(item.messages);
      const right = text.trim() === item.expected.trim();
      tokens += ids.length + promptTokens;
      results.push({ family: item.family, heldWording: item.heldWording === true, right });
      if (!right && values.wrong)
        console.error(
          `${item.family}${item.heldWording ? ' (held wording)' : ''}: ${JSON.stringify(item.messages.at(-1)?.content)} → ${JSON.stringify(text)}, expected ${JSON.stringify(item.expected)}`,
        );
    }
  } finally {
    await engine.close();
  }
  const seconds = (performance.now() - began) / 1000;
  const metrics = {
    ...summarise(results, values.items !== undefined),
    quantisation,
    modelDigest: manifest.digest,
    requestsPerSecond: rounded(items.length / seconds),
    tokensPerSecond: Math.round(tokens / seconds),
  };
  if (!quiet) {
    for (const [family, right] of Object.entries(metrics.perFamily))
      console.log(`${family.padEnd(14)} ${(right * 100).toFixed(1).padStart(6)} %`);
    console.log(
      `mean ${(metrics.overall * 100).toFixed(2)} %, ${metrics.families99} of ${metrics.families} families ≥ 99 %, held-out wordings ${(metrics.wordings * 100).toFixed(2)} %, ${items.length} items in ${seconds.toFixed(1)} s`,
    );
  }
  // What a foreign file asks is not ours to judge: it is measured, no floor applies.
  const isOwn = values.items === undefined;
  const pass =
    !isOwn ||
    (metrics.overall >= FLOOR.overall && metrics.families99 >= FLOOR.families99 && metrics.wordings >= FLOOR.wordings);
  return { name: 'tiny-accuracy', metrics, floor: isOwn ? FLOOR : {}, target: TARGET, pass };
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const result = await run({ args: process.argv.slice(2), json: process.argv.includes('--json') });
  console.log(JSON.stringify(result));
  process.exitCode = result.pass ? 0 : 1;
}
