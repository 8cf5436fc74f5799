/** Items, chats and held-out sets: families, wordings and decorations put together under a seed. */

import { Chance } from './chance.mjs';
import { FAMILIES, LEFT_OUT, REFUSAL } from './families.mjs';
import { foreignWord } from './unknown.mjs';
import { CHAT_MIX } from './stages.mjs';
import { fill, wordingsOf } from './wordings.mjs';

const ALL = { ...FAMILIES, ...LEFT_OUT };

/** Families the base is trained on. */
export const FAMILY_NAMES = Object.keys(FAMILIES);
/** Families it is not, for fine-tuning. */
export const LEFT_OUT_NAMES = Object.keys(LEFT_OUT);

const SHORTEST_WORDINGS = 8;
const known = new Map();

/** A family's wordings, sorted out when they are first wanted: most of who imports this asks for none. */
function wordingsBy(name) {
  if (!known.has(name)) {
    const { trained, held } = wordingsOf(name, ALL[name].patterns);
    const shortest = [...trained].sort((a, b) => a.length - b.length).slice(0, SHORTEST_WORDINGS);
    known.set(name, { trained, held, shortest });
  }
  return known.get(name);
}

const OPENERS = [
  'Please: ',
  'Hello! ',
  'Hi, ',
  'Hi. ',
  'Hey, ',
  'Task: ',
  'Quick question: ',
  'Now: ',
  'Next: ',
  'And now: ',
  'OK. ',
  'Good morning. ',
  'One more: ',
  'I need help. ',
  'Thanks. ',
  'Great. ',
  'User: ',
  'Question: ',
  'Can you help? ',
  'Here is a task. ',
  'Do this: ',
  'Could you do this? ',
  'Please help. ',
];

const CLOSINGS = [
  ' Answer only.',
  ' Thanks.',
  ' Thank you!',
  ' Reply with the answer only.',
  ' Only the answer, please.',
  ' Please.',
  ' Be brief.',
  ' No explanation.',
  ' Keep it short.',
  ' Just the answer.',
  ' Give only the result.',
];

/** Families whose content must be copied to the letter: nothing may be put behind it. */
const EXACT = new Set(['quote', 'upper', 'unknown']);

const SYSTEM_WHO = [
  'You are a helpful assistant',
  'You are an assistant',
  'You are a careful worker',
  'You are a small language model',
  'You help people',
  'You are freehold-tiny',
  'You answer questions',
  'Act as an expert',
  'You are a polite clerk',
];
const SYSTEM_HOW = [
  '',
  '',
  ' Be brief.',
  ' Answer the user.',
  ' Reply with the answer only.',
  ' Do not explain.',
  ' Be honest.',
  ' If you do not know, say so.',
  ' Answer in English.',
  ' Today is a good day.',
  ' Follow the instructions.',
  ' Use short answers.',
];

const SYLLABLES = {
  onsets: 'b d f g h j k l m n p r s t v w z br cr dr fl gr pl sh st th tr'.split(' '),
  nuclei: 'a e i o u ee oo ai ou'.split(' '),
  codas: ['', '', 'n', 'r', 's', 't', 'l', 'm', 'ck', 'nd'],
};

const MADE_UP_LETTERS_MAX = 12;

/** What families draw from: chance, the side of the split, and words nobody has met. */
export class Context {
  /** @param pieces The vocabulary's pieces, spaces shown as ▁; without them made-up words are built from syllables. */
  constructor(chance, split, pieces) {
    this.chance = chance;
    this.split = split;
    this.long = false;
    this.late = true;
    this.texts = (pieces ?? [])
      .slice(6)
      .filter((piece) => !/^<0x..>$/.test(piece))
      .map((piece) => piece.replaceAll('\u2581', ' '));
    this.bodies = this.texts.filter((piece) => /^[a-z]+$/.test(piece));
    this.heads = this.texts.filter((piece) => /^[A-Z][a-z]*$/.test(piece));
  }

  /** A word made up from pieces (so that every piece is copied and spelled at times) or from syllables. */
  word(lettersMax = MADE_UP_LETTERS_MAX) {
    const { chance } = this;
    if (this.bodies.length === 0 || chance.often(0.35)) return foreignWord(chance, SYLLABLES).slice(0, lettersMax);
    let word = chance.one(this.bodies);
    for (let n = chance.between(0, 2); n > 0; n--) word += chance.one(this.bodies);
    return word.slice(0, lettersMax);
  }

  /** A made-up name. */
  name() {
    const { chance } = this;
    if (this.heads.length > 0 && chance.often(0.35))
      return (chance.one(this.heads) + chance.one(this.bodies)).slice(0, MADE_UP_LETTERS_MAX);
    const word = this.word();
    return word[0].toUpperCase() + word.slice(1);
  }

  /** A scrap of anything the vocabulary can write; single bytes, valid or not, only in training. */
  raw() {
    const { chance } = this;
    let text = '';
    for (let n = chance.between(1, 7); n > 0; n--) {
      const kind = chance.below(20);
      if (this.texts.length > 0 && kind < 9) text += chance.one(this.texts);
      else if (kind < 13) text += String.fromCharCode(chance.between(0x21, 0x7e));
      else if (kind < 18 && this.split === 'train') text += aByte(chance);
      else text += chance.one([' ', '']) + this.word() + chance.one(['', ' ']);
    }
    text = text.trim();
    return text.length > 0 ? text : this.word();
  }
}

function aByte(chance) {
  const byte = chance.often(0.2) ? chance.below(32) : chance.between(0x7f, 0xff);
  return byte < 0x80 ? String.fromCharCode(byte) : String.fromCharCode(0xdc00 + byte);
}

/** Puts the request into the shapes people give it: an opener, a closing, a missing capital or full stop. */
function decorate(chance, name, wording, text) {
  if (name === 'unknown') return chance.often(0.06) ? chance.one(OPENERS) + text : text;
  let out = text;
  if (!EXACT.has(name)) {
    if (/[\p{L}\p{N}]$/u.test(out)) {
      const asks = /^(What|How|Which|Is|Are|Who|Does|Did|Can)\b/.test(wording);
      out += asks ? chance.one(['?', '?', '?', '']) : chance.one(['', '', '.', '.', '', '?']);
    }
    if (!wording.endsWith('}') && /[.?!]$/.test(out) && chance.often(0.15)) out += chance.one(CLOSINGS);
  }
  if (chance.often(0.22)) out = chance.one(OPENERS) + out;
  return !wording.startsWith('{') && chance.often(0.08) ? out[0].toLowerCase() + out.slice(1) : out;
}

/** One item: `{ family, heldWording, request, answer, followUp }`; the last, where there is one, asks on about the same facts. */
export function makeItem(context, name, wordingSide) {
  const { trained, held } = wordingsBy(name);
  const heldWording = wordingSide === 'held' && held.length > 0;
  const wording = context.chance.one(heldWording ? held : trained);
  const { slots, answer, followUp } = ALL[name].content(context);
  const request = decorate(context.chance, name, wording, fill(wording, slots));
  return { family: name, heldWording, request, answer, followUp };
}

/** An item in one of its family's shortest wordings and without decoration: more answers for the same tokens. */
export function makePlainItem(context, name) {
  const wording = context.chance.one(wordingsBy(name).shortest);
  const { slots, answer, followUp } = ALL[name].content(context);
  return { family: name, heldWording: false, request: fill(wording, slots), answer, followUp };
}

export function systemMessage(chance) {
  return `${chance.one(SYSTEM_WHO)}.${chance.one(SYSTEM_HOW)}${chance.often(0.3) ? chance.one(SYSTEM_HOW) : ''}`;
}

const piles = new Map();

/** A family by its share in a mix. */
export function anyFamily(chance, mix = CHAT_MIX) {
  if (!piles.has(mix))
    piles.set(
      mix,
      FAMILY_NAMES.flatMap((name) => Array(Math.round(mix[name] * 10)).fill(name)),
    );
  return chance.one(piles.get(mix));
}

/** One in this many held-out items stands at the end of a chat, one in this many begins with a system message. */
const CHAT_ONE_IN = 10;
const SYSTEM_ONE_IN = 12;

/** The most items one call makes: a limit against a mistyped count, not a size of the corpus. */
export const ITEMS_MAX = 1_000_000;

/**
 * Items the model has never seen: contents of the held-out side, in trained or held-out wordings.
 *
 * @param options.families Names to take turns; default all the base was trained on. `desk` is the one left out of it.
 * @param options.wordings 'trained' (default), 'held' or 'both' (in turn).
 * @param options.split 'held' (default), or 'train' for examples to teach a left-out family with.
 * @param options.pieces The tokenizer's pieces.
 */
export function makeItems({ seed, count, families = FAMILY_NAMES, wordings = 'trained', split = 'held', pieces }) {
  if (!Number.isInteger(count) || count < 0 || count > ITEMS_MAX)
    throw new Error(`count: expected an integer up to ${ITEMS_MAX}, got ${count}.`);
  if (!['trained', 'held', 'both'].includes(wordings))
    throw new Error(`wordings: expected trained, held or both, got ${wordings}.`);
  for (const name of families)
    if (!Object.hasOwn(ALL, name)) throw new Error(`No family '${name}'. There are: ${Object.keys(ALL).join(', ')}.`);
  const usable = wordings === 'held' ? families.filter((name) => wordingsBy(name).held.length > 0) : families;
  if (usable.length === 0 && count > 0) throw new Error('No family with such wordings was named.');
  const context = new Context(new Chance(`items:${seed}`), split, pieces);
  const { chance } = context;
  const items = [];
  for (let i = 0; i < count; i++) {
    const family = usable[i % usable.length];
    const round = Math.floor(i / usable.length);
    const side = wordings === 'both' ? (round % 2 === 0 ? 'trained' : 'held') : wordings;
    const messages = [];
    if (chance.below(SYSTEM_ONE_IN) === 0) messages.push({ role: 'system', content: systemMessage(chance) });
    if (chance.below(CHAT_ONE_IN) === 0) {
      for (let n = chance.between(1, 4); n > 0; n--) {
        const before = makeItem(context, anyFamily(chance), 'trained');
        messages.push({ role: 'user', content: before.request }, { role: 'assistant', content: before.answer });
      }
    }
    const item = makeItem(context, family, side);
    messages.push({ role: 'user', content: item.request });
    items.push({ family, heldWording: item.heldWording, messages, expected: item.answer });
  }
  return items;
}

export { REFUSAL };
