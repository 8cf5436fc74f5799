#!/usr/bin/env node
/**
 * Learns the vocabulary from the corpus and writes tokenizer.json: control pieces, bytes, ASCII, then merges.
 *
 * Bodies are merged first and never hold a digit, a sign or an inner capital; spaces join finished pieces last. So a
 * word keeps its ids wherever it stands, and copying it is copying.
 */

import { writeFileSync } from 'node:fs';
import { Chance } from './chance.mjs';
import { Context, anyFamily, makeItem, systemMessage } from './corpus.mjs';
import { TOKENIZER_MIX } from './stages.mjs';
import * as W from './words.mjs';
import { SPACE, SPECIALS, Tokenizer, bytePiece } from '../tokenizer.mjs';

const VOCABULARY = 1536;
const BODIES = 880;
const ITEMS = 60_000;
const SEED = 'tokenizer-1';
/** Names and values that passages are about count this often: one piece each makes them easy to look up. */
const LOOKED_UP = 400;

const context = new Context(new Chance(SEED), 'train');
context.late = false;
const words = new Map();
const count = (text, times = 1) => {
  for (const chunk of text.split(/(?= )|\n/)) words.set(chunk, (words.get(chunk) ?? 0) + times);
};
for (let i = 0; i < ITEMS; i++) {
  const item = makeItem(context, anyFamily(context.chance, TOKENIZER_MIX), 'trained');
  count(item.request);
  count(item.answer);
  if (i % 10 === 0) count(systemMessage(context.chance));
}
for (const word of [...W.NAMES, ...W.PLACES, ...W.COLOURS, ...W.MONTHS, ...Object.keys(W.TOPICS)])
  count(` ${word}`, LOOKED_UP);
for (const word of W.THINGS) count(` ${word}`, LOOKED_UP / 2);

/** Runs that may merge, with their counts: a capital at most at the front, letters only. */
const runs = new Map();
for (const [chunk, times] of words)
  for (const run of chunk.match(/[A-Z]?[a-z]+/g) ?? []) runs.set(run, (runs.get(run) ?? 0) + times);
let split = [...runs].map(([run, times]) => ({ parts: [...run], times }));

const bodies = [];
while (bodies.length < BODIES) {
  const pairs = new Map();
  for (const { parts, times } of split)
    for (let i = 0; i + 1 < parts.length; i++)
      pairs.set(`${parts[i]} ${parts[i + 1]}`, (pairs.get(`${parts[i]} ${parts[i + 1]}`) ?? 0) + times);
  let best = '';
  for (const [pair, times] of pairs)
    if (best === '' || times > pairs.get(best) || (times === pairs.get(best) && pair < best)) best = pair;
  const [a, b] = best.split(' ');
  bodies.push(a + b);
  split = split.filter(({ parts }) => {
    for (let i = 0; i + 1 < parts.length; i++) if (parts[i] === a && parts[i + 1] === b) parts.splice(i, 2, a + b);
    return parts.length > 1;
  });
}

const bytes = [];
for (let byte = 0; byte < 256; byte++) if (byte < 0x20 || byte > 0x7e) bytes.push(bytePiece(byte));
const signs = [SPACE];
for (let code = 0x21; code < 0x7f; code++) signs.push(String.fromCharCode(code));
const base = [...SPECIALS, ...bytes, ...signs];

/** Which first pieces most often follow a space, given the bodies. */
const withoutSpaces = [...base, ...bodies];
const plain = new Tokenizer({ pieces: withoutSpaces, mergesFrom: base.length });
const after = new Map();
for (const [chunk, times] of words) {
  if (!chunk.startsWith(' ')) continue;
  const first = withoutSpaces[plain.encode(chunk)[1]];
  if (first !== undefined && /^[A-Za-z]+$/.test(first)) after.set(first, (after.get(first) ?? 0) + times);
}
const spaced = [...after]
  .sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
  .slice(0, VOCABULARY - withoutSpaces.length)
  .map(([piece]) => SPACE + piece);
const pieces = [...withoutSpaces, ...spaced];
if (pieces.length !== VOCABULARY) throw new Error(`Expected ${VOCABULARY} pieces, made ${pieces.length}.`);
writeFileSync(
  new URL('../tokenizer.json', import.meta.url),
  `${JSON.stringify({ kind: 'spm', seed: SEED, mergesFrom: base.length, pieces }, null, 2)}\n`,
);
console.log(`${pieces.length} pieces: ${bodies.length} bodies, ${spaced.length} with a space in front.`);
