#!/usr/bin/env node
/**
 * Writes the corpus as training steps: `node make-shards.mjs --out DIR [--seed 1] [--steps 16000]`.
 *
 * A step is 4,096 tokens in rows: short documents fill rows of 128, chats and long questions one row of 512 or, every
 * eighth step, of 1,024. A file holds 250 steps: per step ids (u16), positions in their document (u16), targets (u8, 1
 * where the token is part of an answer). Also held-out sets of the same shape, with a JSON list of their documents.
 */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ASSISTANT, BEGIN, END, SPECIALS, SYSTEM, USER, loadTokenizer } from '../tokenizer.mjs';
import { encodeChat } from '../chat-template.mjs';
import { Chance } from './chance.mjs';
import { Context, FAMILY_NAMES, anyFamily, makeItem, makeItems, makePlainItem, systemMessage } from './corpus.mjs';
import { STAGES } from './stages.mjs';

const STEP_TOKENS = 4096;
const SHARD_STEPS = 250;
const SHORT = 128;
const LONG_EVERY = 8;
/** Short documents waiting for a row; the longest that fits is taken, so that rows end full. */
const WAITING = 48;
const EVAL_ITEMS = 1450;
/** The most questions asked on about one passage or table. */
const FOLLOW_UPS_MAX = 5;
const PLAIN_ITEMS_MAX = 6;
/** Share of the long documents that are one long question outside the families. */
const LONG_UNKNOWN_SHARE = 0.12;

const { values: args } = parseArgs({
  options: {
    out: { type: 'string' },
    seed: { type: 'string', default: '1' },
    steps: { type: 'string', default: '16000' },
    help: { type: 'boolean' },
  },
});
if (args.help || !args.out) {
  console.log('node make-shards.mjs --out DIR [--seed 1] [--steps 16000]');
  process.exit(args.help ? 0 : 1);
}

const tokenizer = loadTokenizer();
const chance = new Chance(`corpus:${args.seed}`);
const context = new Context(chance, 'train', tokenizer.pieces);

/** A document: ids and which of them are targets. */
class Document {
  ids = [BEGIN];
  target = [0];
  add(ids, target) {
    for (const id of ids) {
      this.ids.push(id);
      this.target.push(target);
    }
  }
  get length() {
    return this.ids.length;
  }
}

const turnOf = (item) => ({
  request: [USER, ...tokenizer.encode(item.request), ASSISTANT],
  answer: [...tokenizer.encode(item.answer), END],
});

function begin() {
  const document = new Document();
  if (chance.often(0.08)) document.add([SYSTEM, ...tokenizer.encode(systemMessage(chance))], 0);
  return document;
}

/** One item and what follows it, or a few plain ones after one another; as many turns as a row holds. */
function shortDocument() {
  for (;;) {
    const document = begin();
    const plain = chance.often(stage.plain);
    for (let n = plain ? chance.between(2, PLAIN_ITEMS_MAX) : 1; n > 0; n--) {
      const item = (plain ? makePlainItem : makeItem)(context, anyFamily(chance, stage.mix), 'trained');
      const turns = [turnOf(item)];
      if (item.followUp && chance.often(stage.followUps))
        for (let m = chance.between(1, FOLLOW_UPS_MAX); m > 0; m--) turns.push(turnOf(item.followUp()));
      for (const turn of turns) {
        if (document.length + turn.request.length + turn.answer.length > SHORT) break;
        document.add(turn.request, 0);
        document.add(turn.answer, 1);
      }
    }
    if (document.target.includes(1)) return document;
  }
}

/** A chat of 2 to 8 turns, now and then as long as the row allows, or one long question. */
function longDocument(room) {
  const document = begin();
  if (chance.often(LONG_UNKNOWN_SHARE)) {
    context.long = true;
    const turn = turnOf(makeItem(context, 'unknown', 'trained'));
    context.long = false;
    if (document.length + turn.request.length + turn.answer.length > room) return undefined;
    document.add(turn.request, 0);
    document.add(turn.answer, 1);
    return document;
  }
  const turns = chance.often(0.2) ? 64 : chance.between(2, 8);
  for (let n = 0; n < turns; n++) {
    const turn = turnOf(makeItem(context, anyFamily(chance, stage.mix), 'trained'));
    if (document.length + turn.request.length + turn.answer.length > room) break;
    document.add(turn.request, 0);
    document.add(turn.answer, 1);
  }
  return document.length > 30 ? document : undefined;
}

let stage = STAGES[0];
const waiting = [];
function shortThatFits(room) {
  while (waiting.length < WAITING) waiting.push(shortDocument());
  let best = -1;
  waiting.forEach((document, i) => {
    if (document.length <= room && (best < 0 || document.length > waiting[best].length)) best = i;
  });
  return best < 0 ? undefined : waiting.splice(best, 1)[0];
}

function row(length, fillers) {
  const documents = [];
  let used = 0;
  for (const filler of fillers) {
    for (;;) {
      const document = filler(length - used);
      if (document === undefined) break;
      documents.push(document);
      used += document.length;
    }
  }
  return documents;
}

/** Lays documents into a flat step; what stays empty is filled with documents of one token and no target. */
function layOut(rows) {
  const ids = new Uint16Array(STEP_TOKENS).fill(END);
  const positions = new Uint16Array(STEP_TOKENS);
  const targets = new Uint8Array(STEP_TOKENS);
  let start = 0;
  for (const { length, documents } of rows) {
    let at = start;
    for (const document of documents) {
      for (let i = 0; i < document.length; i++, at++) {
        ids[at] = document.ids[i];
        positions[at] = i;
        targets[at] = document.target[i];
      }
    }
    start += length;
  }
  return Buffer.concat([Buffer.from(ids.buffer), Buffer.from(positions.buffer), Buffer.from(targets.buffer)]);
}

/** Rows of step `s`: [count, length] each. The trainer repeats this rule. */
function layoutOf(step) {
  return step % LONG_EVERY === LONG_EVERY - 1
    ? [
        [24, 128],
        [1, 1024],
      ]
    : [
        [28, 128],
        [1, 512],
      ];
}

mkdirSync(args.out, { recursive: true });

// Held-out sets first, so that an interim checkpoint can be judged while later shards are written.
for (const wordings of ['trained', 'held']) {
  const items = makeItems({ seed: `eval-${wordings}`, count: EVAL_ITEMS, wordings, pieces: tokenizer.pieces });
  const documents = items.map((item) => {
    const prompt = encodeChat(tokenizer, item.messages);
    const document = new Document();
    document.add(prompt.slice(1), 0);
    document.add([...tokenizer.encode(item.expected), END], 1);
    return Object.assign(document, { family: item.family });
  });
  const rest = documents.filter((document) => document.length <= 512);
  const left = documents.length - rest.length;
  if (left > 0)
    console.log(
      `${wordings}: ${left} of ${documents.length} held-out documents longer than 512 tokens are left out of the trainer's set.`,
    );
  const steps = [];
  const order = [];
  while (rest.length > 0) {
    const rows = [];
    for (let r = 0; r < STEP_TOKENS / 512; r++) {
      const chosen = [];
      let used = 0;
      while (rest.length > 0 && used + rest[0].length <= 512) {
        used += rest[0].length;
        chosen.push(rest.shift());
      }
      rows.push({ length: 512, documents: chosen });
      order.push(...chosen.map((document) => document.family));
    }
    steps.push(layOut(rows));
  }
  writeFileSync(join(args.out, `held-${wordings}.bin`), Buffer.concat(steps));
  writeFileSync(join(args.out, `held-${wordings}.json`), JSON.stringify(order));
}

const seen = new Uint32Array(tokenizer.pieces.length);
let targets = 0;
let empty = 0;
let documents = 0;
let most = 0;
const steps = Number(args.steps);
for (let from = 0; from < steps; from += SHARD_STEPS) {
  const buffers = [];
  for (let step = from; step < Math.min(steps, from + SHARD_STEPS); step++) {
    stage = STAGES.findLast(({ from }) => step >= from);
    const rows = [];
    let inStep = 0;
    for (const [count, length] of layoutOf(step)) {
      for (let r = 0; r < count; r++)
        rows.push({
          length,
          documents: row(length, length === SHORT ? [shortThatFits] : [longDocument, shortThatFits]),
        });
    }
    for (const { length, documents: placed } of rows) {
      empty += length;
      documents += placed.length;
      for (const document of placed) {
        empty -= document.length;
        document.ids.forEach((id, i) => {
          if (document.target[i] === 1) {
            seen[id]++;
            inStep++;
          }
        });
      }
    }
    targets += inStep;
    most = Math.max(most, inStep);
    buffers.push(layOut(rows));
  }
  writeFileSync(join(args.out, `shard-${String(from / SHARD_STEPS).padStart(3, '0')}.bin`), Buffer.concat(buffers));
  console.log(`${Math.min(steps, from + SHARD_STEPS)} steps, ${documents} documents`);
}

/** Pieces an answer can hold: all but the control pieces, of which only `</s>` is ever written. */
const writable = tokenizer.pieces.map((_, id) => id).filter((id) => id >= SPECIALS.length || id === END);
const missing = writable.filter((id) => seen[id] === 0);
const summary = {
  seed: args.seed,
  steps,
  tokens: steps * STEP_TOKENS,
  documents,
  targets,
  targetsInAStepMax: most,
  emptyShare: empty / (steps * STEP_TOKENS),
  families: FAMILY_NAMES.length,
  pieces: tokenizer.pieces.length,
  piecesSeenAsTarget: writable.length - missing.length,
  piecesWritable: writable.length,
  leastSeen: Math.min(...writable.map((id) => seen[id])),
};
writeFileSync(join(args.out, 'summary.json'), `${JSON.stringify(summary, null, 2)}\n`);
console.log(JSON.stringify(summary));
if (missing.length > 0) {
  throw new Error(
    `${missing.length} pieces never occur as a target: ${missing
      .slice(0, 20)
      .map((id) => JSON.stringify(tokenizer.pieces[id]))
      .join(' ')}. Train longer or widen the quotes.`,
  );
}
