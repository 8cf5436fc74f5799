/**
 * What freehold-tiny must answer with "I do not know.": questions of knowledge, requests for prose, word problems, code,
 * sums beyond its lengths, small talk, and text in languages that look foreign to it. All of it is made here.
 */

import * as W from './words.mjs';

const ALPHABETS = [
  {
    onsets: 'b d f g h k l m n p r s t v w z st tr kl sch'.split(' '),
    nuclei: 'a e i o u ä ö ü ei au ie'.split(' '),
    codas: ['', '', 'n', 'r', 't', 'st', 'ch', 'ng'],
  },
  {
    onsets: 'b c d f g l m n p qu r s t v j ch gn'.split(' '),
    nuclei: 'a e i o u é è ê à ou ai ô eau'.split(' '),
    codas: ['', '', '', 's', 'r', 'nt', 'x'],
  },
  {
    onsets: 'b c d f g j l m n ñ p r s t v y ll rr'.split(' '),
    nuclei: 'a e i o u á é í ó ú ue ia'.split(' '),
    codas: ['', '', 's', 'n', 'r', 'l'],
  },
  {
    onsets: 'b c č d h j k l m n p r ř s š t v z ž'.split(' '),
    nuclei: 'a e i o u ý á ě í ů y'.split(' '),
    codas: ['', '', 'k', 't', 'l', 'm'],
  },
  {
    onsets: 'b ç d g ğ h k l m n p r s ş t v y z'.split(' '),
    nuclei: 'a e ı i o ö u ü'.split(' '),
    codas: ['', 'n', 'r', 'k', 'm', 'l'],
  },
  {
    onsets: 'k s t n h m y r w g z d b p sh ch ts'.split(' '),
    nuclei: 'a i u e o ā ō ū'.split(' '),
    codas: ['', '', 'n'],
  },
  { onsets: 'ng nk mb t k l m s w b z'.split(' '), nuclei: 'a e i o u'.split(' '), codas: [''] },
  {
    onsets: 'б в г д ж з к л м н п р с т х ц ч ш'.split(' '),
    nuclei: 'а е и о у ы я ю'.split(' '),
    codas: ['', '', 'н', 'т', 'й', 'ь'],
  },
  {
    onsets: 'β γ δ ζ θ κ λ μ ν ξ π ρ σ τ φ χ ψ'.split(' '),
    nuclei: 'α ε η ι ο υ ω ά έ ό'.split(' '),
    codas: ['', '', 'ς', 'ν'],
  },
  { onsets: 'ब क त म न र ल स प'.split(' '), nuclei: 'ा ि ी ु े ो'.split(' '), codas: ['', 'न'] },
  { onsets: 'ب ت ج د ر س ع ف ك ل م ن ه'.split(' '), nuclei: 'ا و ي'.split(' '), codas: ['', 'ن', 'ة'] },
  { onsets: 'ב ג ד ה ל מ נ ר ש ת'.split(' '), nuclei: 'א ו י'.split(' '), codas: ['', 'ם'] },
];

/** Ranges whose characters stand alone in running text; drawing from them reaches every byte UTF-8 uses in practice. */
const RANGES = [
  [0x4e00, 0x9fa5],
  [0x3041, 0x3096],
  [0x30a1, 0x30fa],
  [0xac00, 0xd7a3],
  [0x0e01, 0x0e30],
  [0x1f300, 0x1f64f],
  [0x2190, 0x22ff],
  [0x00a1, 0x02af],
  [0x1200, 0x1248],
];

export function foreignWord(chance, alphabet) {
  let word = '';
  for (let n = chance.between(1, 3); n > 0; n--) {
    word += chance.one(alphabet.onsets) + chance.one(alphabet.nuclei) + chance.one(alphabet.codas);
  }
  return word;
}

/** A line in a made-up language; the longer scripts are kept shorter, since each of their letters is several tokens. */
function foreign(chance, words) {
  if (chance.often(0.2)) {
    const [low, high] = chance.one(RANGES);
    let text = '';
    for (let n = chance.between(2, Math.min(words * 2, 20)); n > 0; n--)
      text += String.fromCodePoint(chance.between(low, high));
    return text + chance.one(['', '?', '。', '!']);
  }
  const alphabet = chance.one(ALPHABETS);
  const out = [];
  for (let n = chance.between(2, words); n > 0; n--) out.push(foreignWord(chance, alphabet));
  if (chance.often(0.6)) out[0] = out[0][0].toUpperCase() + out[0].slice(1);
  return out.join(' ') + chance.one(['', '.', '?', '!']);
}

const CAPITALISED = (word) => word[0].toUpperCase() + word.slice(1);

/** English-looking talk without a task in it. */
function ramble(chance) {
  const noun = () => chance.one(W.THINGS);
  const out = [];
  for (let n = chance.between(1, 3); n > 0; n--) {
    out.push(
      CAPITALISED(
        chance.one([
          () =>
            `the ${chance.one(W.QUALITIES)} ${noun()} ${chance.one(W.JOINING)} the ${noun()} ${chance.one(W.LIVELY)}s ${chance.one(W.JOINING)}.`,
          () =>
            `I ${chance.one(W.LIVELY)} the ${noun()} ${chance.one(W.JOINING)} a ${chance.one(W.QUALITIES)} ${noun()}.`,
          () =>
            `${chance.one(W.NAMES)} and I ${chance.one(W.LIVELY)} ${chance.one(W.JOINING)} the ${chance.one(W.PLACES)}.`,
          () => `my ${noun()} is ${chance.one(W.QUALITIES)} ${chance.one(W.JOINING)} ${chance.one(W.QUALITIES)}.`,
          () => `it is ${chance.one(W.JOINING)} ${chance.one(W.QUALITIES)} to ${chance.one(W.LIVELY)} a ${noun()}.`,
        ])(),
      ),
    );
  }
  return out.join(' ');
}

function trivia(chance, ctx) {
  const noun = chance.one(W.THINGS);
  const name = chance.often(0.5) ? ctx.name() : chance.one(W.NAMES);
  const subject = chance.one(W.SUBJECTS);
  return chance.one([
    () =>
      `Who ${chance.one(['invented', 'discovered', 'made', 'wrote', 'painted', 'found', 'built', 'won'])} the ${chance.one(['first ', '', chance.one(W.QUALITIES) + ' '])}${noun}?`,
    () =>
      `What is the ${chance.one(['capital', 'population', 'currency', 'president', 'language', 'history', 'area', 'climate'])} of ${name}?`,
    () => `When ${chance.one(['was', 'did'])} ${name} ${chance.one(['born', 'die', 'begin', 'end', 'founded'])}?`,
    () =>
      `Why ${chance.one(['do', 'does', 'is', 'are', 'can', 'should'])} ${chance.one(['a', 'the', 'some', 'most'])} ${noun} ${chance.one(W.LIVELY)}?`,
    () =>
      `How ${chance.one(['far', 'old', 'tall', 'deep', 'big', 'much', 'fast', 'heavy', 'expensive', 'hot'])} is ${chance.one(['a', 'the'])} ${noun}?`,
    () => `How do ${chance.one(['I', 'you', 'we', 'people'])} ${chance.one(W.LIVELY)} a ${noun}?`,
    () => `What is ${chance.one(['a', 'the', 'an'])} ${chance.one(W.QUALITIES)} ${noun}?`,
    () => `What is ${subject}?`,
    () => `Where ${chance.one(['is', 'was', 'are', 'can I find', 'do people find'])} ${name}?`,
    () => `Which ${noun} is the ${chance.one(W.QUALITIES)}est in ${name}?`,
    () =>
      `Is ${chance.one(['a', 'the', 'my'])} ${noun} ${chance.one(['better', 'worse', 'older', 'bigger', 'safer'])} than a ${chance.one(W.THINGS)}?`,
    () => `What happened in ${chance.between(1000, 2090)}?`,
    () => `How many ${noun}s are there in ${name}?`,
    () =>
      `How many ${chance.one(['legs', 'days', 'people', 'states', 'players', 'letters', 'bones', 'moons'])} does a ${noun} have?`,
    () =>
      `Tell me ${chance.one(['about', 'more about', 'something about', 'a fact about'])} ${chance.one([noun + 's', name, subject])}.`,
    () => `What ${chance.one(['colour', 'shape', 'size', 'kind', 'sort'])} is ${chance.one(['a', 'the'])} ${noun}?`,
    () => `What does "${noun}" mean?`,
    () => `Which of the following is true about ${subject}? A) ${ramble(chance)} B) ${ramble(chance)}`,
    () =>
      `Can ${chance.one(['a', 'the', 'you'])} ${noun} ${chance.one(W.LIVELY)} ${chance.one(W.JOINING)} a ${chance.one(W.THINGS)}?`,
    () => `${CAPITALISED(noun)} or ${chance.one(W.THINGS)}?`,
  ])();
}

function request(chance, ctx) {
  const noun = chance.one(W.THINGS);
  const subject = chance.one(W.SUBJECTS);
  return chance.one([
    () =>
      `Write ${chance.one(['a poem', 'a story', 'a letter', 'an essay', 'a song', 'an email', 'a joke', 'a speech', 'a haiku', 'code', 'a program', 'a report'])} about ${chance.one([`a ${noun}`, subject, ctx.name()])}.`,
    () => `Translate "${ramble(chance)}" into ${ctx.name()}.`,
    () => `Translate this into English: ${foreign(chance, 6)}`,
    () =>
      `Explain ${chance.one([subject, `how a ${noun} works`, `why ${noun}s are ${chance.one(W.QUALITIES)}`])} ${chance.one(['', 'to a child', 'in simple terms', 'in detail', 'step by step'])}.`,
    () =>
      `Give me ${chance.one(['advice on', 'tips for', 'ideas for', 'an example of', 'a list of', 'three facts about', 'the recipe for', 'a plan for'])} ${chance.one([subject, `a ${noun}`, `${noun}s`])}.`,
    () => `Summarise ${chance.one(['this', 'the text', 'the following'])}: ${ramble(chance)} ${ramble(chance)}`,
    () => `Recommend a ${chance.one(W.QUALITIES)} ${noun} for ${ctx.name()}.`,
    () => `Continue the story: ${ramble(chance)}`,
    () => `Describe ${chance.one(['a', 'the', 'your'])} ${chance.one(W.QUALITIES)} ${noun}.`,
    () =>
      `Imagine ${chance.one(['you are', 'I am', 'there is'])} a ${noun}. ${chance.one(['What would you do?', 'Describe it.', 'Tell me more.', 'How would it feel?'])}`,
    () => `Compare a ${noun} with a ${chance.one(W.THINGS)}.`,
    () => `Correct the grammar: ${ramble(chance)}`,
    () =>
      `What should I ${chance.one(W.LIVELY)} ${chance.one(['today', 'tomorrow', 'for dinner', 'with a ' + noun, 'next'])}?`,
    () => `${CAPITALISED(chance.one(W.LIVELY))} the ${noun} ${chance.one(W.JOINING)} the ${chance.one(W.PLACES)}.`,
  ])();
}

function smallTalk(chance, ctx) {
  return chance.one([
    () =>
      chance.one(['Hello', 'Hi', 'Hey', 'Good morning', 'Good evening', 'Greetings', 'Good night', 'Bye', 'Goodbye']) +
      chance.one(['', '!', '.', ' there', ', friend', `, ${ctx.name()}`]),
    () =>
      chance.one([
        'How are you?',
        'Who are you?',
        'What are you?',
        'What is your name?',
        'Are you a robot?',
        'What can you do?',
        'Can you help me?',
        'Are you there?',
        'What do you think?',
        'Do you like me?',
        'Who made you?',
        'How old are you?',
        'What time is it?',
        'What day is it?',
        'Test',
        'ok',
        'Thanks!',
        'Thank you very much.',
        'Why?',
        'And now?',
        'Help',
        'Go on.',
        'Really?',
        'What?',
        'Tell me more.',
        'I am sad.',
        'I am bored.',
      ]),
    () => `My name is ${ctx.name()}.`,
    () =>
      `Do you ${chance.one(['like', 'know', 'want', 'need', 'understand', 'have'])} ${chance.one(['', 'a ', 'the ', 'my '])}${chance.one(W.THINGS)}${chance.one(['', 's'])}?`,
    () => `I ${chance.one(['want', 'need', 'like', 'have', 'bought', 'lost', 'saw'])} a ${chance.one(W.THINGS)}.`,
  ])();
}

function bigSums(chance) {
  const n = (digits) => chance.between(10 ** (digits - 1), 10 ** digits - 1);
  return chance.one([
    () =>
      `What is ${n(chance.between(1, 4))} ${chance.one(['times', '*', 'x', 'multiplied by', '×'])} ${n(chance.between(1, 4))}?`,
    () =>
      `${chance.one(['What is', 'Compute', 'Calculate', 'Work out'])} ${n(chance.between(2, 5))} ${chance.one(['divided by', '/', '÷', 'to the power of', 'mod'])} ${n(chance.between(1, 3))}.`,
    () => `What is ${n(chance.between(1, 2))}${chance.one(['%', ' percent'])} of ${n(chance.between(2, 4))}?`,
    () =>
      `${chance.one(['What is', 'Calculate', 'Add', 'Compute'])} ${n(chance.between(5, 7))} + ${n(chance.between(4, 7))}${chance.one(['?', '.', ''])}`,
    () =>
      `What is the ${chance.one(['square root', 'square', 'cube', 'logarithm', 'average', 'half', 'double', 'derivative'])} of ${n(chance.between(1, 4))}?`,
    () => `Solve ${n(1)}x ${chance.one(['+', '-'])} ${n(2)} = ${n(chance.between(2, 3))}.`,
    () => `Is ${n(chance.between(2, 4))} a prime number?`,
    () => `Write ${n(chance.between(2, 3))} in ${chance.one(['binary', 'Roman numerals', 'hexadecimal'])}.`,
  ])();
}

/** A word problem: people, things, prices, and a question that needs several steps. */
function wordProblem(chance, ctx, sentences) {
  const who = chance.often(0.5) ? chance.one(W.NAMES) : ctx.name();
  const friend = chance.often(0.6) ? chance.one(W.NAMES) : ctx.name();
  const thing = () => chance.one(W.THINGS);
  const n = () => chance.number(3);
  const he = chance.one(['He', 'She', 'They']);
  const price = () => chance.one([`$${n()}`, `$${n()}.${chance.between(10, 99)}`, `${n()} cents`, `${n()} dollars`]);
  const facts = [
    () => `${who} has ${n()} ${thing()}s.`,
    () =>
      `${he} ${chance.one(['buys', 'sells', 'finds', 'loses', 'eats', 'makes', 'picks', 'reads', 'gives away'])} ${n()} ${chance.one(['more ', '', 'of the ', 'pounds of '])}${thing()}s ${chance.one(['every day', 'each week', 'on Monday', 'in the morning', 'for ' + price() + ' each', 'per hour', 'to ' + friend])}.`,
    () =>
      `Each ${thing()} costs ${price()}${chance.one(['', `, but every second ${thing()} costs only ${chance.between(5, 95)}% of the price`])}.`,
    () =>
      `${friend} has ${chance.one(['twice', 'three times', 'half', `${n()} more than`, `${n()} times`, 'a third'])} as many ${thing()}s as ${who}${chance.one(['', ` and ${n()} ${thing()}s`])}.`,
    () =>
      `A ${thing()} takes ${n()} ${chance.one(['minutes', 'hours', 'days', 'bolts', 'feet', 'miles', 'gallons', 'ounces'])} ${chance.one(['to', 'and half that much to'])} ${chance.one(W.LIVELY)}.`,
    () =>
      `There are ${n()} ${thing()}s in a ${thing()}, and ${chance.one(['1/2', '1/3', '2/5', '3/4', '20%', '75%', 'half'])} of them are ${chance.one(W.COLOURS)}.`,
    () =>
      `${he} ${chance.one(['works', 'runs', 'drives', 'studies', 'sleeps', 'walks', 'earns', 'spends', 'saves'])} ${n()} ${chance.one(['hours', 'miles', 'minutes', 'dollars'])} ${chance.one(['a day', 'a week', 'per month', 'every night', 'each time'])}${chance.one(['', ` for ${n()} weeks`])}.`,
    () =>
      `The ${chance.one(['first', 'second', 'next', 'last', 'other'])} ${thing()} is ${n()} ${chance.one(['feet', 'years', 'inches', 'pounds', 'meters'])} ${chance.one(['longer', 'older', 'taller', 'heavier', 'shorter'])} than the ${thing()}.`,
    () =>
      `If ${who} ${chance.one(W.LIVELY)}s ${n()} ${thing()}s, ${chance.one(['then', 'and'])} ${friend} ${chance.one(W.LIVELY)}s the rest.`,
  ];
  const questions = [
    () =>
      `How many ${thing()}s does ${chance.one([who, friend, he.toLowerCase()])} have ${chance.one(['left', 'now', 'in total', 'altogether', 'in all', 'at the end'])}?`,
    () =>
      `How much ${chance.one(['money', 'profit', 'time', 'change', 'did it cost'])} ${chance.one(['does ' + who + ' make', 'did ' + who + ' spend', 'is left', 'in total'])}?`,
    () =>
      `How ${chance.one(['long', 'old', 'far', 'fast', 'tall', 'much'])} ${chance.one(['does it take', 'is ' + friend, 'will it be', 'did ' + who + ' go'])}?`,
    () =>
      `What is the ${chance.one(['total', 'average', 'sum', 'total cost', 'number of ' + thing() + 's', 'difference'])}${chance.one(['', ' in dollars', ' of the ' + thing() + 's'])}?`,
    () =>
      `How many ${chance.one(['more ', '', 'total ', 'different '])}${thing()}s ${chance.one(['are there', 'are needed', 'did they ' + chance.one(W.LIVELY), 'will ' + friend + ' need', 'is that in a ' + chance.one(['week', 'year', 'month'])])}?`,
  ];
  const out = [];
  for (let i = 0; i < sentences; i++) out.push(chance.one(facts)());
  return `${out.join(' ')} ${chance.one(questions)()}`;
}

function code(chance) {
  const v = () =>
    chance.one(['x', 'y', 'n', 'i', 'total', 'count', 'items', 'name', 'value', 'result', chance.one(W.THINGS)]);
  const line = () =>
    chance.one([
      () => `let ${v()} = ${chance.number(3)};`,
      () => `for (int i = 0; i < ${v()}; i++) { ${v()} += ${v()}; }`,
      () => `def ${v()}(${v()}): return ${v()} + ${chance.number(2)}`,
      () => `if (${v()} > ${chance.number(2)}) return ${v()};`,
      () => `SELECT ${v()} FROM ${v()} WHERE ${v()} = ${chance.number(3)};`,
      () => `print(${v()}[${chance.number(1)}])`,
      () => `import ${v()} from "${v()}"`,
      () => `<div class="${v()}">${v()}</div>`,
      () => `{"${v()}": ${chance.number(3)}, "${v()}": [${chance.number(1)}, ${chance.number(1)}]}`,
      () => `\\frac{${v()}}{${chance.number(2)}} = ${v()}^${chance.number(1)}`,
      () => `$ ${v()} --${v()} ${v()}.txt | ${v()}`,
      () => `ERROR ${chance.number(3)}: ${v()} at ${v()}:${chance.number(3)}`,
    ])();
  const lines = [];
  for (let n = chance.between(1, 4); n > 0; n--) lines.push(line());
  const ask = chance.one([
    'What does this print?',
    'Fix the bug:',
    'Explain the code:',
    'What is wrong here?',
    'Is this correct?',
    'Improve it.',
    'Run this:',
    '',
    '',
  ]);
  return chance.often(0.5) ? `${ask}\n${lines.join('\n')}` : `${lines.join('\n')}\n${ask}`;
}

/** A question about something a passage does not say. */
function unanswered(chance) {
  const a = chance.one(W.NAMES);
  return chance.one([
    () => `Where is ${a}?`,
    () => `What does ${a} have?`,
    () => `Is ${a} in the ${chance.one(W.PLACES)}?`,
    () => `Sort the list.`,
    () => `What is the largest number?`,
    () => `How old is ${a}?`,
    () => `${a} is in the ${chance.one(W.PLACES)}. How ${chance.one(['old', 'tall', 'rich'])} is ${a}?`,
    () => `${a} is in the ${chance.one(W.PLACES)}. Why?`,
    () => `Who is ${a}?`,
    () => `What colour is the ${chance.one(W.THINGS)} of ${a}?`,
  ])();
}

/** A line of talk, question or code, to be copied rather than answered. */
export function scrap(chance, ctx) {
  const text = chance.one([
    () => ramble(chance),
    () => trivia(chance, ctx),
    () => smallTalk(chance, ctx),
    () => code(chance),
    () => bigSums(chance),
  ])();
  return text.split('\n')[0].slice(0, 90).trim() || 'nothing';
}

/** One question outside the families, as short as they come. */
export function unknownQuestion(chance, ctx) {
  const kind = chance.below(100);
  if (kind < 20) return trivia(chance, ctx);
  if (kind < 34) return request(chance, ctx);
  if (kind < 40) return smallTalk(chance, ctx);
  if (kind < 48) return bigSums(chance);
  if (kind < 66) return wordProblem(chance, ctx, chance.between(1, 3));
  if (kind < 73) return code(chance);
  if (kind < 80) return unanswered(chance);
  if (kind < 86) return ramble(chance);
  return foreign(chance, 9);
}

/** A long one: most questions people bring along are longer than our own requests. */
export function longUnknownQuestion(chance, ctx) {
  const kind = chance.below(10);
  if (kind < 6) return wordProblem(chance, ctx, chance.between(4, 9));
  const out = [];
  for (let n = chance.between(3, 7); n > 0; n--) {
    out.push(kind < 8 ? unknownQuestion(chance, ctx) : kind < 9 ? ramble(chance) : code(chance));
  }
  return out.join(chance.one([' ', '\n', '\n\n']));
}
