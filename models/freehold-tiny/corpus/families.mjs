/**
 * The families of tasks: what is asked, in which wordings, and the one right answer.
 *
 * A family's `content(ctx)` draws a content of the wanted side of the split (train or held) and returns the slots for a
 * wording, the answer, and the key the split was made by. Its share of the corpus stands in stages.mjs. Formats that a model of this size cannot learn are left out;
 * the model card names them.
 */

import { onSide } from './chance.mjs';
import { longUnknownQuestion, scrap, unknownQuestion } from './unknown.mjs';
import * as W from './words.mjs';

export const REFUSAL = 'I do not know.';

const numbers = (ctx, count, digits) => Array.from({ length: count }, () => ctx.chance.number(digits));
const distinctNumbers = (ctx, count, digits) => {
  const seen = new Set();
  while (seen.size < count) seen.add(ctx.chance.number(digits));
  return [...seen];
};

/** Lists are written with commas, now and then without. */
const listed = (ctx, list) => list.join(ctx.chance.often(0.8) ? ', ' : ' ');

function numberList(ctx, low, high) {
  return onSide(
    ctx.split,
    () => distinctNumbers(ctx, ctx.chance.between(low, high), 3),
    (list) => `list:${list.join(',')}`,
  );
}

/** Words or numbers: some lists of each, some of words never met elsewhere. */
function anyList(ctx, low, high) {
  return onSide(
    ctx.split,
    () => {
      const count = ctx.chance.between(low, high);
      const kind = ctx.chance.below(10);
      if (kind < 4) return distinctNumbers(ctx, count, 2).map(String);
      if (kind < 8) return ctx.chance.some(W.THINGS, count);
      return Array.from({ length: count }, () => ctx.word());
    },
    (list) => `list:${list.join(',')}`,
  );
}

const capitalised = (text) => text[0].toUpperCase() + text.slice(1);

function reviewText(ctx, good) {
  const { chance } = ctx;
  const a = () => chance.one(good ? W.GOOD : W.BAD);
  const noun = chance.one(W.REVIEWED);
  const very = () => chance.one(['', '', 'very ', 'really ', 'so ', 'quite ', 'truly ']);
  const first = chance.one([
    () => `The ${noun} was ${very()}${a()}.`,
    () => `The ${noun} is ${very()}${a()}.`,
    () => `A ${very()}${a()} ${noun}.`,
    () =>
      `I ${good ? chance.one(['loved', 'enjoyed', 'liked', 'adored', 'love', 'like', 'enjoy']) : chance.one(['hated', 'disliked', 'regretted', 'loathed', 'hate', 'dislike', 'regret'])} ${chance.one(['the', 'this', 'my', 'that'])} ${noun}${chance.one(['.', '.', '!'])}`,
    () => capitalised(`${a()} ${noun}!`),
    () =>
      `The ${noun} made me ${good ? chance.one(['happy', 'smile', 'glad', 'laugh', 'proud']) : chance.one(['sad', 'angry', 'cry', 'sick', 'tired'])}.`,
    () =>
      `We ${good ? chance.one(['loved', 'enjoyed', 'liked']) : chance.one(['hated', 'disliked', 'regretted'])} this ${a()} ${noun}.`,
    () => `What a ${a()} ${noun}!`,
    () => `Our ${noun} felt ${a()} and ${a()}.`,
    () =>
      `This ${noun} is ${a()}, ${good ? chance.one(['I want it again', 'buy it', 'best of all']) : chance.one(['never again', 'do not buy it', 'worst of all'])}.`,
  ])();
  if (chance.often(0.6)) return first;
  const other = chance.one(W.REVIEWED);
  return `${first} ${chance.one([`The ${other} was ${a()} too.`, `And the ${other} was ${a()}.`, `Even the ${other} seemed ${very()}${a()}.`, `It was ${a()}.`])}`;
}

/** A sentence whose topic its words give away. Also the material of the family left out of the base. */
export function topicText(ctx, topic) {
  const { chance } = ctx;
  const [a, b, c] = chance.some(W.TOPICS[topic], 3);
  return chance.one([
    () => `The ${a} and the ${b} came before the ${c}.`,
    () => `We talked about the ${a} and the ${b}.`,
    () => `She asked about the ${a}, then about the ${b}.`,
    () => `The ${a} was ${chance.one(W.QUALITIES)}, but the ${b} was ${chance.one(W.QUALITIES)}.`,
    () => `There is no ${a} without ${b} and ${c}.`,
    () => `Yesterday the ${a} changed because of the ${b}.`,
    () => `My ${chance.one(['friend', 'sister', 'brother', 'neighbour', 'uncle'])} knows a lot about ${a} and ${b}.`,
    () => `Another ${a}, another ${b}.`,
    () => `The ${chance.one(W.QUALITIES)} ${a} needs a ${chance.one(W.QUALITIES)} ${b}.`,
    () => `All about the ${a}, the ${b} and the ${c}.`,
  ])();
}

const UNITS = [
  ['km', 'm', 1000, 'kilometres', 'metres'],
  ['m', 'cm', 100, 'metres', 'centimetres'],
  ['cm', 'mm', 10, 'centimetres', 'millimetres'],
  ['m', 'mm', 1000, 'metres', 'millimetres'],
  ['kg', 'g', 1000, 'kilograms', 'grams'],
  ['g', 'mg', 1000, 'grams', 'milligrams'],
  ['t', 'kg', 1000, 'tonnes', 'kilograms'],
  ['l', 'ml', 1000, 'litres', 'millilitres'],
];

const SIXTY = [
  ['hours', 'minutes', 'h', 'min'],
  ['minutes', 'seconds', 'min', 's'],
];

/** Who has or is what, in sentences of one shape, so that an answer can be looked up. */
function passage(ctx, kind) {
  const { chance } = ctx;
  const count = chance.between(2, ctx.late ? 3 : 4);
  const people = chance.some(W.NAMES, count);
  const things = ctx.late ? W.ONE_PIECE_THINGS : W.THINGS;
  const values = chance.some(kind === 'place' ? W.PLACES : kind === 'thing' ? things : W.COLOURS, count);
  const facts = people.map((name, i) =>
    kind === 'place'
      ? `${name} is in the ${values[i]}.`
      : kind === 'thing'
        ? `${name} has the ${values[i]}.`
        : `${name} likes ${values[i]}.`,
  );
  return { people, values, facts, text: facts.join(' ') };
}

/**
 * Is it so? A question about one fact, true as often as not. The answer shows its working (`clinic no`): what the passage
 * says comes first, and the verdict compares with it. With the verdict alone it stayed at chance.
 */
function yesNoQuestion({ chance, late }, kind, { people, values }) {
  const i = chance.below(people.length);
  const yes = chance.often(0.5);
  const asked = yes ? values[i] : values[(i + chance.between(1, people.length - 1)) % people.length];
  const q =
    kind === 'place'
      ? `Is ${people[i]} in the ${asked}?`
      : kind === 'thing'
        ? `Does ${people[i]} have the ${asked}?`
        : `Does ${people[i]} like ${asked}?`;
  const verdict = yes ? 'yes' : 'no';
  return { q, answer: late ? `${values[i]} ${verdict}` : verdict };
}

/** Share of the questions that go from a name to what it is with: the way back is learned later, so follow-ups ask it more. */
const FORWARD = 0.7;
const FORWARD_IN_FOLLOW_UPS = 0.3;

/** Share of the follow-up questions that want the whole fact: its answer says whom it is about before it says what. */
const IN_FULL = 0.3;

/** What has whom, or who has what. */
function oneWordQuestion({ chance }, kind, { people, values, facts }, forward = FORWARD) {
  const i = chance.below(people.length);
  const fact = facts[i];
  if (chance.often(forward)) {
    const q =
      kind === 'place'
        ? `Where is ${people[i]}?`
        : kind === 'thing'
          ? `What does ${people[i]} have?`
          : `What does ${people[i]} like?`;
    return { q, answer: values[i], fact };
  }
  const q =
    kind === 'place'
      ? `Who is in the ${values[i]}?`
      : kind === 'thing'
        ? `Who has the ${values[i]}?`
        : `Who likes ${values[i]}?`;
  return { q, answer: people[i], fact };
}

/** A passage with its first question, and `followUp`, which asks another one about it. */
function passageItem(ctx, question) {
  return onSide(
    ctx.split,
    () => {
      const kind = ctx.chance.one(PASSAGE_KINDS);
      const facts = passage(ctx, kind);
      const { q, answer } = question(ctx, kind, facts);
      const followUp = () => {
        if (ctx.chance.often(IN_FULL)) {
          const { q: asked, fact } = oneWordQuestion(ctx, kind, facts, FORWARD_IN_FOLLOW_UPS);
          return { request: `In full: ${asked}`, answer: fact };
        }
        const next = ctx.chance.often(0.4)
          ? oneWordQuestion(ctx, kind, facts, FORWARD_IN_FOLLOW_UPS)
          : yesNoQuestion(ctx, kind, facts);
        return { request: next.q, answer: next.answer };
      };
      return { slots: { x: facts.text, q }, answer, followUp };
    },
    (item) => `passage:${item.slots.x}`,
  );
}

const PASSAGE_KINDS = ['place', 'thing', 'colour'];

const digitsOf = (n) => String(n).split('');

const twoDigits = (n) => String(n).padStart(2, '0');

const PASSAGE_WORDINGS = [
  '[|Passage: |Text: |Read this: |Facts: |Story: ]{x} [|Question: ]{q}',
  '[Answer in one word|One word only|Reply with one word|Give one word]: {x} {q}',
  '{q} [Passage|Text|Facts|Here is the passage|Look it up here]: {x}',
  '[Here is a passage|Read the passage|Use the text|Look at the facts|From this text|Given these facts]: {x} {q}',
  '{x}\n{q}',
  '[Text|Passage|Context|Facts]:\n{x}\n[Question|Q|Ask]: {q}',
];

export const FAMILIES = {
  sentiment: {
    patterns: [
      'Is [this|the following|the] review positive or negative? {x}',
      '[What is|Tell me|Give|Find|Name] the [sentiment|feeling|mood] of [this review|this text|the review|the sentence]: {x}',
      '[Classify|Label|Judge|Rate] [this review|the text|the sentence|this comment] as positive or negative: {x}',
      '{x} [Positive or negative|Is that positive or negative|Is this positive or negative]?',
      '[Review|Comment|Feedback|Customer]: {x} [Sentiment|Label|Mood]:',
      '[Does|Did] [the writer|this person|the customer|the author] sound positive or negative? {x}',
      '[Sentiment|Sentiment analysis|Positive or negative]: {x}',
      '"{x}" [Is the sentiment positive or negative|What sentiment is it|Which sentiment does it show]?',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const good = ctx.chance.often(0.5);
          return { slots: { x: reviewText(ctx, good) }, answer: good ? 'positive' : 'negative' };
        },
        (item) => `review:${item.slots.x}`,
      );
    },
  },

  topic: {
    patterns: [
      '[What is|Name|Give|Find|Tell me] the topic of [this|the|the following] [sentence|text|line]: {x}',
      '[What|Which] topic [is this about|does this belong to|fits]? {x}',
      '[Classify|Label|Sort] [this text|the sentence|this line] by topic: {x}',
      '{x} [Topic|What is the topic|Which topic is this|What topic]?',
      '[Topic|The topic please|Topic label]: {x}',
      '[Choose|Pick] [a|one|the] topic (sport, food, weather, travel, money, music, health): {x}',
      'Is [this|the text] about sport, food, weather, travel, money, music or health? {x}',
      '[Text|Sentence|Line]: {x} [Topic|Label]:',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const topic = ctx.chance.one(Object.keys(W.TOPICS));
          return { slots: { x: topicText(ctx, topic) }, answer: topic };
        },
        (item) => `topic:${item.slots.x}`,
      );
    },
  },

  json: {
    patterns: [
      '[Extract|Get|Take|Pull] the name and [the |]amount [as|into] JSON: {x}',
      '[Give|Return|Write|Show] [me |]the name and the amount [as|in] JSON: {x}',
      '{x} [Extract|Give|Return] [the |]name and amount as JSON.',
      '[Convert|Turn|Put|Change] [this|the sentence|the text] into JSON with name and amount: {x}',
      'Who paid how much? [Answer|Reply|Respond] [in|as|with] JSON: {x}',
      '[JSON with name and amount|JSON, keys name and amount|Name and amount in JSON|As JSON (name, amount)]: {x}',
      '[Make|Build|Fill] [a|the] JSON object with [the keys |]name and amount from: {x}',
      '[Text|Sentence|Note]: {x} [JSON|JSON with name and amount]:',
    ],
    content(ctx) {
      const { chance } = ctx;
      const name = onSide(
        ctx.split,
        () => ctx.name(),
        (value) => `name:${value}`,
      );
      const amount = onSide(
        ctx.split,
        () => chance.between(1, 10 ** chance.between(1, 4) - 1),
        (value) => `amount:${value}`,
      );
      const thing = chance.one(W.THINGS);
      const coins = chance.one(['coins', 'euros', 'dollars', 'tokens']);
      const x = chance.one([
        () => `${name} paid ${amount} ${coins} for the ${thing}.`,
        () => `The ${thing} cost ${name} ${amount} ${coins}.`,
        () => `${name} owes ${amount} ${coins}.`,
        () => `We got ${amount} ${coins} from ${name}.`,
        () => `Invoice for ${name}: ${amount} ${coins}.`,
        () => `${name} sent ${amount} ${coins} for a ${thing}.`,
        () => `A ${thing} was sold to ${name} for ${amount} ${coins}.`,
        () => `${amount} ${coins} were paid by ${name}.`,
      ])();
      return { slots: { x }, answer: `{"name":"${name}","amount":${amount}}` };
    },
  },

  date: {
    patterns: [
      '[Write|Give|Show|Put|Convert|Rewrite|Format] [the date |]{x} [as|in|to] ISO [date|format|8601]',
      '[What is|Give me|Tell me] {x} [in ISO format|as an ISO date|in the form YYYY-MM-DD]?',
      '[ISO date|Date in ISO format|As YYYY-MM-DD|ISO 8601|Normalise the date]: {x}',
      '{x} [in ISO format|as an ISO date|as YYYY-MM-DD|to ISO], please',
      '[Change|Turn|Normalise|Bring] [this|the] date [into|to] [ISO format|YYYY-MM-DD|an ISO date]: {x}',
      'How is {x} written [as an ISO date|in ISO 8601|in ISO format]?',
      '[Date|Day]: {x} [ISO|ISO date|YYYY-MM-DD]:',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const month = chance.between(1, 12);
          const day = chance.between(1, [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]);
          const year = chance.often(0.6) ? chance.between(1990, 2035) : chance.between(1800, 2199);
          const name = W.MONTHS[month - 1];
          const suffix =
            day % 10 === 1 && day !== 11
              ? 'st'
              : day % 10 === 2 && day !== 12
                ? 'nd'
                : day % 10 === 3 && day !== 13
                  ? 'rd'
                  : 'th';
          const x = chance.one([
            `${day} ${name} ${year}`,
            `${name} ${day}, ${year}`,
            `${name} ${day} ${year}`,
            `${day}${suffix} ${name} ${year}`,
            `the ${day}${suffix} of ${name} ${year}`,
            `${day}. ${name} ${year}`,
          ]);
          return { slots: { x }, answer: `${year}-${twoDigits(month)}-${twoDigits(day)}` };
        },
        (item) => `date:${item.answer}`,
      );
    },
  },

  units10: {
    patterns: [
      '[Convert|Change|Turn] {x} [to|into] {u}',
      'How many {u} [are|is|make] {x}?',
      '[What is|Give me|Tell me|Write|Express|Show] {x} in {u}',
      '{x} [in|to|into] {u}[|?| please| =]',
      '[Unit conversion|Units|Conversion]: {x} [to|in] {u}',
      '{x} [is|are|makes] how many {u}?',
      'I have {x}. [How much is that in|What is that in|How many are that in] {u}?',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const [from, to, factor, fromLong, toLong] = chance.one(UNITS);
          const n = Math.max(1, chance.number(3));
          const long = chance.often(0.4);
          return {
            slots: { x: long ? `${n} ${fromLong}` : `${n} ${from}`, u: long ? toLong : to },
            answer: `${n * factor} ${to}`,
            key: `${n} ${from} ${to}`,
          };
        },
        (item) => `units:${item.key}`,
      );
    },
  },

  units60: {
    patterns: [
      '[Convert|Change|Turn] {x} [to|into] {u}',
      'How many {u} [are|is|make] {x}?',
      '[What is|Give me|Tell me|Write|Express|Show] {x} in {u}',
      '{x} [in|to|into] {u}[|?| please| =]',
      '[Unit conversion|Time units|Conversion]: {x} [to|in] {u}',
      '{x} [is|are|makes|last] how many {u}?',
      'I have {x}. [How much is that in|What is that in|How many are that in] {u}?',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const [from, to, fromShort, toShort] = chance.one(SIXTY);
          const n = chance.often(0.75) ? chance.between(2, 99) : chance.between(100, 199);
          const short = chance.often(0.3);
          return {
            slots: { x: `${n} ${short ? fromShort : from}`, u: short ? toShort : to },
            answer: `${n * 60} ${toShort}`,
            n,
          };
        },
        (item) => (item.n < 10 ? 'always-trained' : `sixty:${item.n}`),
      );
    },
  },

  add: {
    patterns: [
      '[What is|Compute|Calculate|Work out|Find|Give me|Tell me|How much is|Solve] {a} [+|plus|and] {b}',
      '[Add|Sum|Please add] {a} and {b}',
      '{a} [+|plus] {b}[| =|?| is|=]',
      '[What is|Give|Find|Compute] the sum of {a} and {b}',
      '[Add|Put] {b} to {a}',
      '[Sum|Addition|Total|Maths]: {a} + {b}',
      'What do [you get|I get|we get] [when you add|if you add|by adding] {a} and {b}?',
      'I need the [sum|total] of {a} and {b}',
    ],
    content: (ctx) => sum(ctx, (a, b) => [a, b, a + b], 'add'),
  },

  subtract: {
    patterns: [
      '[What is|Compute|Calculate|Work out|Find|Give me|Tell me|How much is|Solve] {a} [-|minus] {b}',
      '[Subtract|Take|Please subtract|Take away] {b} from {a}',
      '{a} [-|minus] {b}[| =|?| is|=]',
      '[What is|Give|Find|Compute] the difference between {a} and {b}',
      '[Difference|Subtraction|Maths|Minus]: {a} - {b}',
      'What is left [when you take|if I take|after taking] {b} from {a}?',
      'What do [you get|I get|we get] [when you subtract|if you subtract|by subtracting] {b} from {a}?',
      'I need the difference [of|between] {a} and {b}',
    ],
    content: (ctx) => sum(ctx, (a, b) => (a >= b ? [a, b, a - b] : [b, a, b - a]), 'subtract'),
  },

  sort: {
    patterns: [
      '[Sort|Order|Arrange|Put] [the numbers|these numbers|the list|this list] [from smallest to largest|in ascending order|from low to high]: {x}',
      '[Sort|Sort up|Order|Sort ascending]: {x}',
      '[Sort|Order] [the numbers|these numbers|the list|this list|these]: {x}',
      '[Sort|Order|Please sort] {x} [in ascending order|from smallest to largest|with the smallest first]',
      '{x} [sorted from small to large|in ascending order|from smallest to largest|sorted ascending][|?|, please]',
      'What is {x} [in ascending order|sorted from smallest to largest|when sorted]?',
      '[Ascending order|Smallest first|Sorted list|From smallest to largest]: {x}',
      '[List|Numbers]: {x} [Sorted|Ascending|Sort ascending]:',
      'Can you sort [this|these numbers|the list][ for me|]? {x}',
    ],
    content(ctx) {
      const list = numberList(ctx, 2, ctx.late ? 5 : 6);
      return { slots: { x: listed(ctx, list) }, answer: [...list].sort((a, b) => a - b).join(', ') };
    },
  },

  'sort-down': {
    patterns: [
      '[Sort|Order|Arrange|Put] [the numbers|these numbers|the list|this list] [from largest to smallest|in descending order|from high to low]: {x}',
      '[Sort down|Sort descending|Reverse sort|Order descending]: {x}',
      '[Sort|Order|Please sort] {x} [in descending order|from largest to smallest|with the largest first]',
      '{x} [sorted from large to small|in descending order|from largest to smallest|sorted descending][|?|, please]',
      'What is {x} [in descending order|sorted from largest to smallest]?',
      '[Descending order|Largest first|From largest to smallest]: {x}',
      '[List|Numbers]: {x} [Descending|Sort descending|Largest first]:',
      'Can you sort [this|these numbers|the list] descending[ for me|]? {x}',
    ],
    content(ctx) {
      const list = numberList(ctx, 2, ctx.late ? 5 : 6);
      return { slots: { x: listed(ctx, list) }, answer: [...list].sort((a, b) => b - a).join(', ') };
    },
  },

  reverse: {
    patterns: [
      '[Reverse|Turn round|Flip|Mirror] [the list|this list|these|the items|the order]: {x}',
      '[Reverse|Reversed|Backwards|In reverse]: {x}',
      '[Write|Say|Give|List|Repeat] [this|these|the list|the items] [backwards|in reverse|in reverse order]: {x}',
      '{x} [reversed|backwards|in reverse order|in reverse][|?|, please]',
      'What is {x} [backwards|in reverse|reversed]?',
      '[Reverse|Flip] the order of {x}',
      '[List|Items]: {x} [Reversed|Backwards|Reverse]:',
      'Can you [reverse|flip] [this|the list]? {x}',
    ],
    content(ctx) {
      const list = anyList(ctx, 2, ctx.late ? 5 : 6);
      return { slots: { x: listed(ctx, list) }, answer: [...list].reverse().join(', ') };
    },
  },

  max: {
    patterns: [
      '[What is|Find|Give me|Tell me|Name|Pick] the [largest|biggest|highest|greatest|maximum] [number|value|one] [of|in|from] {x}',
      '[Which|What] [number |]is [the |][largest|biggest|highest|greatest]: {x}?',
      '[Largest|Maximum|Max|Biggest|Highest]: {x}',
      '[Max|Maximum|The largest|The biggest] of {x}',
      '{x} [Which is the largest|What is the maximum|Which is biggest|Largest]?',
      '[From|Of] {x} [pick|take|choose|give] the [largest|biggest|maximum]',
      '[List|Numbers]: {x} [Max|Largest|Maximum]:',
    ],
    content(ctx) {
      const list = numberList(ctx, 2, 7);
      return { slots: { x: listed(ctx, list) }, answer: String(Math.max(...list)) };
    },
  },

  min: {
    patterns: [
      '[What is|Find|Give me|Tell me|Name|Pick] the [smallest|least|lowest|minimum] [number|value|one] [of|in|from] {x}',
      '[Which|What] [number |]is [the |][smallest|least|lowest]: {x}?',
      '[Smallest|Minimum|Min|Lowest|Least]: {x}',
      '[Min|Minimum|The smallest|The lowest] of {x}',
      '{x} [Which is the smallest|What is the minimum|Which is lowest|Smallest]?',
      '[From|Of] {x} [pick|take|choose|give] the [smallest|lowest|minimum]',
      '[List|Numbers]: {x} [Min|Smallest|Minimum]:',
    ],
    content(ctx) {
      const list = numberList(ctx, 2, 7);
      return { slots: { x: listed(ctx, list) }, answer: String(Math.min(...list)) };
    },
  },

  count: {
    patterns: [
      'How many [items|things|entries|elements|members] [are in|are there in|does this list have in|has] [the list|this list]? {x}',
      '[Count|Count up] [the items|the entries|the things|the elements|the members][| in the list]: {x}',
      '[Number of items|Item count|Count|How many items|Length of the list]: {x}',
      '{x} [How many items|How many are these|How many are there|Count them][?|.|]',
      '[What is|Give|Tell me] the [number of items|item count|length] [of|in] [the list|this list]: {x}',
      '[List|Items]: {x} [Count|Number of items|How many]:',
      '[Give|Tell] me [how many items are listed|the count of items]: {x}',
    ],
    content(ctx) {
      const list = anyList(ctx, 1, 9);
      return { slots: { x: list.join(', ') }, answer: String(list.length) };
    },
  },

  first: {
    patterns: [
      '[What is|Give me|Tell me|Name|Find|Pick|Take] the first [item|entry|element|thing|one] [of|in|from] [the list|this list|the list below]: {x}',
      '[Which|What] [item|one|entry] [comes first|is first|stands first]? {x}',
      '[First item|First|First element|First entry]: {x}',
      '{x} [Which comes first|What is the first item|First item|Which one is first]?',
      'The first [item|entry|element|one] of {x}',
      '[List|Items]: {x} [First|First item]:',
      'What [does the list start with|is at the start|is at the beginning]? {x}',
    ],
    content(ctx) {
      const list = anyList(ctx, 2, 7);
      return { slots: { x: listed(ctx, list) }, answer: list[0] };
    },
  },

  last: {
    patterns: [
      '[What is|Give me|Tell me|Name|Find|Pick|Take] the last [item|entry|element|thing|one] [of|in|from] [the list|this list|the list below]: {x}',
      '[Which|What] [item|one|entry] [comes last|is last|stands last]? {x}',
      '[Last item|Last|Last element|Last entry]: {x}',
      '{x} [Which comes last|What is the last item|Last item|Which one is last]?',
      'The last [item|entry|element|one] of {x}',
      '[List|Items]: {x} [Last|Last item]:',
      'What [does the list end with|is at the end|is the end]? {x}',
    ],
    content(ctx) {
      const list = anyList(ctx, 2, 7);
      return { slots: { x: listed(ctx, list) }, answer: list.at(-1) };
    },
  },

  upper: {
    patterns: [
      '[Write|Put|Say|Give|Repeat|Print] [this|the text|the words|it] in [upper case|capitals|capital letters|uppercase]: {x}',
      '[Upper case|Uppercase|In capitals|Capital letters|All caps|To upper case]: {x}',
      '[Convert|Change|Turn] [this|the text|the words] [to|into] [upper case|capitals|uppercase|capital letters]: {x}',
      '"{x}" in [upper case|capitals|capital letters|uppercase|all caps]',
      '[Convert|Change|Turn|Write|Put] to [upper case|uppercase|capitals]: {x}',
      '[Write|Put|Convert|Give me] "{x}" in [upper case|capitals|uppercase]',
      '[Make|Make this|Shout] [upper case|uppercase|all capitals]: {x}',
      'What is "{x}" in [upper case|capitals|capital letters|uppercase]?',
      '[Text|Words]: {x} [Upper case|In capitals|Uppercase]:',
      '[Capitalise|Uppercase] [every letter|all letters|each letter] of: {x}',
    ],
    content(ctx) {
      const words = heldWords(ctx, ctx.chance.one(ctx.late ? [1, 1, 2] : [1, 1, 1, 2, 2, 3]));
      return { slots: { x: words.join(' ') }, answer: words.join(' ').toUpperCase() };
    },
  },

  quote: {
    patterns: [
      '[Repeat|Quote|Echo|Copy|Say|Write] [this|the following|this text|the text][| exactly| word for word| back]: {x}',
      '[Repeat|Quote|Echo|Copy] [after me|back|exactly|the words]: {x}',
      '[Say|Type|Print|Return] [exactly|the words|the text|this again]: {x}',
      '[Copy|Repeat|Echo]: {x}',
      '[Repeat|Quote|Copy] "{x}" [back to me|exactly|word for word]',
      '[Return|Give back|Give me back|Send back] the [same text|same words|text unchanged]: {x}',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const x = quotable(ctx);
          return { slots: { x }, answer: x };
        },
        (item) => `quote:${item.answer}`,
      );
    },
  },

  'yes-no': {
    patterns: [
      '[|Passage: |Text: |Read this: |Facts: |Story: ]{x} [|Question: ]{q}',
      '[Answer yes or no|Yes or no|Reply with yes or no|Say yes or no|True or not]: {x} {q}',
      '{q} [Passage|Text|Facts|Here is the passage|Look it up here]: {x}',
      '[Here is a passage|Read the passage|Use the text|Look at the facts|From this text|Given these facts]: {x} {q}',
      '{x}\n{q}',
      '[Text|Passage|Context|Facts]:\n{x}\n[Question|Q|Ask]: {q}',
      '{x} {q} [Yes or no|Answer yes or no|Say yes or no][?|.]',
    ],
    content: (ctx) => passageItem(ctx, yesNoQuestion),
  },

  passage: {
    patterns: PASSAGE_WORDINGS,
    content: (ctx) => passageItem(ctx, oneWordQuestion),
  },

  lookup: {
    patterns: [
      '{x}. [What is|Give me|Tell me|Find|Look up] [the value of |the number of |the price of |]{k}[?|.|]',
      '[Look up|Find|Get|Read] {k} [in|from]: {x}',
      '[What is|Give me|Tell me|Find] the [value|price|number] of {k}? {x}',
      '[Table|Data|Prices|Values|List]: {x}. [Value of {k}|{k}|Number of {k}|Price of {k}][?|:]',
      '{x}\n{k}[?| =|:]',
      '[Given|With|From|Using] {x}, [what is|find|give] {k}[?|.|]',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const count = chance.between(2, ctx.late ? 4 : 5);
          const keys = chance.some(ctx.late ? W.ONE_PIECE_THINGS : W.THINGS, count);
          const values = numbers(ctx, count, 3);
          const i = chance.below(count);
          const sign = chance.one([' = ', ': ', '=']);
          return {
            slots: { x: keys.map((key, j) => `${key}${sign}${values[j]}`).join(', '), k: keys[i] },
            answer: String(values[i]),
            followUp: () => {
              const next = chance.below(count);
              return {
                request: chance.one(['', '', 'And ', 'What is ']) + `${keys[next]}?`,
                answer: String(values[next]),
              };
            },
          };
        },
        (item) => `lookup:${item.slots.x}`,
      );
    },
  },

  spell: {
    patterns: [
      '[Spell|Spell out|Please spell] [the word |]{x}',
      'How [do you spell|do I spell|does one spell|would you spell] {x}?',
      'How is {x} [spelled|spelt|written letter by letter]?',
      '[Spelling|Letters|Spell|Letter by letter]: {x}',
      '[Write|Say|Give|Give me] [the letters of|letter by letter|the spelling of] {x}',
      '[What are|List|Name|Give|Show] the letters [of|in] [the word |]{x}',
      '[Split|Break] [the word |]{x} into [letters|its letters]',
      '{x} [letter by letter|in single letters|spelled out][|?|, please]',
    ],
    content(ctx) {
      const [word] = heldWords(ctx, 1);
      return { slots: { x: word }, answer: word.split('').join('-') };
    },
  },

  parity: {
    patterns: [
      'Is {x} [even or odd|odd or even|an even or an odd number]?',
      '[Even or odd|Odd or even|Parity]: {x}',
      '[Tell me|Say|Decide|Check|Find out] [whether|if] {x} is [even or odd|odd or even]',
      '{x}[: | - |, | is ][even or odd|odd or even]?',
      '[What is|Give|Name] the parity of {x}',
      '[Is the number|The number] {x} [even or odd|is even or odd|odd or even]?',
      '[Number|Value]: {x} [Even or odd|Parity|Odd or even]:',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const x = ctx.chance.number(4);
          return { slots: { x }, answer: x % 2 === 0 ? 'even' : 'odd' };
        },
        (item) => (item.slots.x < 10 ? 'always-trained' : `parity:${item.slots.x}`),
      );
    },
  },

  next: {
    patterns: [
      '[What|Which] number [comes after|follows|is next after|comes right after] {x}?',
      '[Next number|Number after|Next|The number after]: {x}',
      '[What is|Give me|Tell me|Name|Write] the [next number|number that comes] after {x}',
      '[What comes|What number comes] [after|next after] {x} [when counting|in counting|if you count]?',
      '[Count on|Count one further|Go on counting|Count up by one] from {x}',
      'After {x} comes[| which number|...|:]',
      '{x}, [then what|and next|what is next|next number]?',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const x = chance.often(0.2) ? chance.between(1, 99) * 10 - 1 : chance.number(3);
          return { slots: { x }, answer: String(x + 1) };
        },
        (item) => (item.slots.x < 20 ? 'always-trained' : `next:${item.slots.x}`),
      );
    },
  },

  'digit-words': {
    patterns: [
      '[Write|Say|Give|Read|Spell|Put] [the digits of |the digits |]{x} [in|as] words, digit by digit',
      '[Digits in words|Digit words|Digits as words|Read the digits|Say the digits]: {x}',
      '[Read|Say|Name|Dictate|Call out] the digits [of|in] {x}[| aloud| one by one]',
      'How [do you say|do you read|would you dictate] [the digits of |]{x} digit by digit?',
      '{x} [digit by digit|in digit words|as digit words|read digit by digit][|?|, please]',
      '[Turn|Convert|Change] the digits [of|in] {x} into words',
      '[Number|Code|Phone]: {x} [In words|Digits in words|As words]:',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const x = ctx.chance.number(6);
          return {
            slots: { x },
            answer: digitsOf(x)
              .map((digit) => W.DIGIT_WORDS[Number(digit)])
              .join(' '),
          };
        },
        (item) => (item.slots.x < 10 ? 'always-trained' : `digits:${item.slots.x}`),
      );
    },
  },

  'word-digits': {
    patterns: [
      '[Write|Give|Put|Show] [this|the words|these words] [as|in] digits: {x}',
      '[Digits|In digits|As digits|Words to digits|As a number]: {x}',
      '[Turn|Convert|Change] [this|the words|these words] [into|to] digits: {x}',
      '{x} [in digits|as digits|in figures][|?|, please]',
      'What is "{x}" [in digits|as digits|in figures]?',
      '[Words|Dictated|Heard]: {x} [Digits|In digits|As digits]:',
      '[Type|Note|Write down] the digits: {x}',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const answer = String(ctx.chance.number(6));
          return {
            slots: {
              x: digitsOf(answer)
                .map((digit) => W.DIGIT_WORDS[Number(digit)])
                .join(' '),
            },
            answer,
          };
        },
        (item) => (item.answer.length === 1 ? 'always-trained' : `digits:${item.answer}`),
      );
    },
  },

  clock: {
    patterns: [
      '[Write|Give|Show|Put|Convert] {x} [in|as|to] [24-hour time|24-hour format|24-hour clock]',
      '[What is|Tell me] {x} [in 24-hour time|in 24-hour format|on the 24-hour clock]?',
      '[24-hour time|24-hour clock|In 24-hour format|Time in 24 hours]: {x}',
      '{x} [in 24-hour time|in 24-hour format|on the 24-hour clock][|?|, please]',
      '[Change|Turn|Rewrite] {x} [into|to] [24-hour time|24-hour format|the 24-hour clock]',
      '[Time|Clock]: {x} [24-hour|24-hour time|24-hour format]:',
      'How is {x} written [in 24-hour time|in 24-hour format|on a 24-hour clock]?',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const { chance } = ctx;
          const hour = chance.below(24);
          const minute = chance.below(60);
          const half = hour < 12 ? 'am' : 'pm';
          const shown = `${hour % 12 === 0 ? 12 : hour % 12}:${twoDigits(minute)}`;
          return {
            slots: { x: chance.one([`${shown} ${half}`, `${shown}${half}`, `${shown} ${half.toUpperCase()}`]) },
            answer: `${twoDigits(hour)}:${twoDigits(minute)}`,
          };
        },
        (item) => `clock:${item.answer}`,
      );
    },
  },

  'json-list': {
    patterns: [
      '[Write|Give|Put|Show|Return] [the list|these|this list|the items] as [a JSON array|a JSON list|JSON]: {x}',
      '[JSON array|JSON list|As a JSON array|List to JSON]: {x}',
      '[Turn|Convert|Change] [the list|these|this list|the items] into [a JSON array|a JSON list]: {x}',
      '{x} [as a JSON array|as a JSON list|in a JSON array][|?|, please]',
      '[Make|Build|Format] a JSON [array|list] [of|from|with]: {x}',
      '[List|Items]: {x} [JSON array|JSON|JSON list]:',
    ],
    content(ctx) {
      const list = onSide(
        ctx.split,
        () =>
          Array.from({ length: ctx.chance.between(2, 5) }, () =>
            ctx.chance.often(0.7) ? ctx.chance.one(W.THINGS) : ctx.word(),
          ),
        (words) => `list:${words.join(',')}`,
      );
      return { slots: { x: list.join(', ') }, answer: JSON.stringify(list) };
    },
  },

  'find-number': {
    patterns: [
      '[Find|Extract|Give me|Pick out|Take|Return|Copy] the number [in|from] [this sentence|the text|this text|the sentence]: {x}',
      '[Which|What] number [is in|appears in|stands in|do you see in] [this sentence|the text|the sentence]? {x}',
      '[Number in the text|Extract the number|Number only|Find the number]: {x}',
      '{x} [Which number is mentioned|What number is that|Give only the number|Which number was that][?|.]',
      '[Text|Sentence]: {x} [Number|The number]:',
    ],
    content(ctx) {
      const { chance } = ctx;
      const number = onSide(
        ctx.split,
        () => chance.number(6),
        (value) => `figure:${value}`,
      );
      const noun = chance.one(W.THINGS);
      const who = chance.often(0.5) ? chance.one(W.NAMES) : ctx.name();
      const x = chance.one([
        () => `Order ${number} was sent to ${who}.`,
        () => `The ${noun} has the number ${number}.`,
        () => `${who} waits in room ${number}.`,
        () => `Please call ${number} about the ${noun}.`,
        () => `The code for the ${noun} is ${number}.`,
        () => `${who} lives at ${number} ${chance.one(W.PLACES)} street.`,
        () => `Ticket ${number} is for the ${noun}.`,
        () => `Bus ${number} goes to the ${chance.one(W.PLACES)}.`,
      ])();
      return { slots: { x }, answer: String(number) };
    },
  },

  unknown: {
    patterns: ['{x}'],
    content(ctx) {
      return onSide(
        ctx.split,
        () => ({
          slots: { x: ctx.long ? longUnknownQuestion(ctx.chance, ctx) : unknownQuestion(ctx.chance, ctx) },
          answer: REFUSAL,
        }),
        (item) => `unknown:${item.slots.x}`,
      );
    },
  },
};

/**
 * Left out of the base on purpose, so that a fine-tuning job has something to teach: which desk takes a guest's message.
 * Its label words are known to the base, its request is not.
 */
export const LEFT_OUT = {
  desk: {
    patterns: [
      '[Which|What] desk [takes|gets|handles|should take] this message? {x}',
      '[Route|Send|Forward|Assign] [this message|the message|this guest] to a desk: {x}',
      '[Desk|Desk for|The right desk]: {x}',
      '{x} [Which desk|Who takes it at the desks|Desk]?',
      '[Name|Give|Find|Choose] the desk for [this message|this guest|the message]: {x}',
    ],
    content(ctx) {
      return onSide(
        ctx.split,
        () => {
          const topic = ctx.chance.one(Object.keys(DESKS));
          return { slots: { x: topicText(ctx, topic) }, answer: DESKS[topic] };
        },
        (item) => `topic:${item.slots.x}`,
      );
    },
  },
};

const DESKS = { food: 'kitchen', travel: 'garage', money: 'office', health: 'clinic', music: 'theatre', sport: 'park' };

/** Pairs of at most three digits; all facts of one digit are trained, since nothing else could teach them. */
function sum(ctx, arrange, name) {
  return onSide(
    ctx.split,
    () => {
      const [a, b, answer] = arrange(ctx.chance.number(3), ctx.chance.number(3));
      return { slots: { a, b }, answer: String(answer), key: `${a},${b}` };
    },
    (item) => (item.slots.a < 10 && item.slots.b < 10 ? 'always-trained' : `${name}:${item.key}`),
  );
}

/** Longer made-up words are read and copied, but not taken apart letter by letter. */
const SPELLED_LETTERS_MAX = 8;

function heldWords(ctx, count) {
  return Array.from({ length: count }, () =>
    onSide(
      ctx.split,
      () => (ctx.chance.often(0.5) ? ctx.chance.one(W.THINGS) : ctx.word(ctx.late ? SPELLED_LETTERS_MAX : undefined)),
      (word) => `word:${word}`,
    ),
  );
}

/** Texts to copy: words, names, numbers, punctuation, pieces, and now and then a line that looks foreign. */
function quotable(ctx) {
  const { chance } = ctx;
  const kind = chance.below(20);
  if (kind < 7) return ctx.raw();
  if (kind < 10) return scrap(chance, ctx);
  const out = [];
  for (let n = chance.between(1, 7); n > 0; n--) {
    out.push(
      chance.one([
        () => chance.one(W.THINGS),
        () => chance.one(W.QUALITIES),
        () => chance.one(W.LIVELY),
        () => ctx.word(),
        () => ctx.word(),
        () => ctx.name(),
        () => String(chance.number(3)),
        () => chance.one(W.JOINING),
      ])(),
    );
  }
  return out.join(' ') + chance.one(['', '', '.', '!', '?']);
}
