#!/usr/bin/env node
/** Holds llama.cpp against the trainer; see --help. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { QUANTISATIONS, WEIGHTS_FILE, chatPrompt, chatTokens, heldOutItems, tokenizer } from './index.mjs';
import { openModel } from './run-llama.mjs';

const HELP = `node models/freehold-tiny/compare.mjs [--items 200] [--python /usr/bin/python3] [--json]

Answers held-out tasks greedily with PyTorch (train/answer.py, from the committed weights) and with llama.cpp in F32,
F16 and Q8_0. Prints how many answers are equal token for token, how many are right, and whether llama.cpp's tokenizer
gives our ids. Exit code 0 if F32 is right as often as PyTorch, and Q8_0 to within one item in a hundred.`;

const { values: args } = parseArgs({
  options: {
    items: { type: 'string', default: '200' },
    python: { type: 'string', default: 'python3' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
  },
});
if (args.help) {
  console.log(HELP);
  process.exit(0);
}

const at = (name) => fileURLToPath(new URL(`./${name}`, import.meta.url));
const items = heldOutItems({ seed: 'compare-1', count: Number(args.items), wordings: 'both' });
const folder = mkdtempSync(join(tmpdir(), 'freehold-compare-'));
try {
  const prompts = join(folder, 'prompts.jsonl');
  const answers = join(folder, 'answers.jsonl');
  writeFileSync(prompts, items.map((item) => `${JSON.stringify({ prompt: chatTokens(item.messages) })}\n`).join(''));
  const python = spawnSync(
    args.python,
    [at('train/answer.py'), '--weights', at(WEIGHTS_FILE), '--prompts', prompts, '--out', answers],
    { stdio: ['ignore', 'inherit', 'inherit'] },
  );
  if (python.status !== 0)
    throw new Error(
      `${args.python} ended with ${python.status ?? python.error?.message}. It needs PyTorch: Debian's python3-torch and libopenblas0-pthread.`,
    );
  const reference = readFileSync(answers, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).ids);
  const right = (texts) => texts.filter((text, i) => text === items[i].expected).length;
  const result = { items: items.length, torch: { right: right(reference.map((ids) => tokenizer().decode(ids))) } };
  for (const quantisation of QUANTISATIONS) {
    const engine = await openModel({ quantisation });
    const texts = [];
    let equal = 0;
    let tokenisedAlike = 0;
    for (const [i, item] of items.entries()) {
      const { text, ids } = await engine.answer(item.messages);
      texts.push(text);
      if (ids.join() === reference[i].join()) equal += 1;
      if ([...engine.model.tokenize(chatPrompt(item.messages), true)].join() === chatTokens(item.messages).join())
        tokenisedAlike += 1;
    }
    await engine.close();
    result[quantisation] = { right: right(texts), equalToTorch: equal, tokenisedAlike };
  }
  console.log(args.json ? JSON.stringify(result) : JSON.stringify(result, null, 2));
  const off = Math.abs(result.Q8_0.right - result.torch.right);
  process.exitCode = result.F32.right === result.torch.right && off <= items.length / 100 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
