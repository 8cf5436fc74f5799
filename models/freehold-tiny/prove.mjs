#!/usr/bin/env node
/** Proof of use; see --help. */

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { QUANTISATIONS, chatTokens, heldOutItems, modelDigest, tokenizer } from './index.mjs';
import { openModel } from './run-llama.mjs';

const HELP = `node models/freehold-tiny/prove.mjs [--quantisation Q8_0] [--seed 1] [--dir DIR] [--json]

Loads freehold-tiny with node-llama-cpp and answers ten held-out tasks with the market's chat template, choosing every
token through controlledEvaluate. Prints tokens/s, and shows that the logits are bitwise equal in two processes
(one sequence per context, one thread).

  --quantisation  ${QUANTISATIONS.join(', ')}; default Q8_0
  --seed          which ten tasks; default 1
  --dir           where the GGUF file is kept; default a temporary folder
  --json          the result as one line of JSON
Exit code 0 if the logits agree and at least eight answers are right.`;

const ITEMS = 10;
const RIGHT_AT_LEAST = 8;
const ANSWER_TOKENS_MAX = 120;

const { values: args } = parseArgs({
  options: {
    quantisation: { type: 'string', default: 'Q8_0' },
    seed: { type: 'string', default: '1' },
    dir: { type: 'string' },
    json: { type: 'boolean' },
    help: { type: 'boolean' },
    child: { type: 'boolean' },
  },
});

/** Answers each item greedily through controlledEvaluate and hashes the logits of every position it decided at. */
async function prove() {
  // A tenth of the families each: the seed turns the wheel, so other seeds show other families.
  const items = heldOutItems({ seed: args.seed, count: 30 })
    .filter((_, i) => i % 3 === Number(args.seed) % 3)
    .slice(0, ITEMS);
  const engine = await openModel({ quantisation: args.quantisation, dir: args.dir });
  const end = tokenizer().pieces.indexOf('</s>');
  const hash = createHash('sha256');
  const answers = [];
  let promptTokens = 0;
  let newTokens = 0;
  let promptMs = 0;
  let decodeMs = 0;
  try {
    for (const item of items) {
      await engine.sequence.clearHistory();
      let input = chatTokens(item.messages);
      promptTokens += input.length;
      const ids = [];
      for (let first = true; ids.length < ANSWER_TOKENS_MAX; first = false) {
        const last = input.length - 1;
        const began = performance.now();
        const output = await engine.sequence.controlledEvaluate(
          input.map((id, i) =>
            i === last ? [id, { generateNext: { token: true, logits: true, options: { temperature: 0 } } }] : id,
          ),
        );
        if (first) promptMs += performance.now() - began;
        else decodeMs += performance.now() - began;
        const { token, logits } = output[last].next;
        hash.update(
          Buffer.from(
            Float32Array.from(
              [...logits].sort((a, b) => a[0] - b[0]),
              ([, logit]) => logit,
            ).buffer,
          ),
        );
        newTokens += 1;
        if (token === end) break;
        ids.push(token);
        input = [token];
      }
      answers.push({
        family: item.family,
        request: item.messages.at(-1).content,
        expected: item.expected,
        answer: tokenizer().decode(ids),
      });
    }
  } finally {
    await engine.close();
  }
  return {
    modelDigest,
    quantisation: args.quantisation,
    gguf: engine.sha256,
    answers,
    right: answers.filter(({ answer, expected }) => answer === expected).length,
    promptTokensPerSecond: Math.round((promptTokens / promptMs) * 1000),
    newTokensPerSecond: Math.round((newTokens / (promptMs + decodeMs)) * 1000),
    logits: hash.digest('hex'),
  };
}

if (args.help) {
  console.log(HELP);
} else if (args.child) {
  console.log(JSON.stringify(await prove()));
} else {
  const dir = args.dir ?? mkdtempSync(join(tmpdir(), 'freehold-tiny-'));
  mkdirSync(dir, { recursive: true });
  try {
    const [one, two] = [1, 2].map(() => {
      const child = spawnSync(
        process.execPath,
        [
          fileURLToPath(import.meta.url),
          '--child',
          '--quantisation',
          args.quantisation,
          '--seed',
          args.seed,
          '--dir',
          dir,
        ],
        { encoding: 'utf8' },
      );
      if (child.status !== 0)
        throw new Error(`The proving process ended with ${child.status ?? child.signal}: ${child.stderr}`);
      return JSON.parse(child.stdout.trim().split('\n').at(-1));
    });
    const bitwise = one.logits === two.logits;
    if (args.json) {
      console.log(JSON.stringify({ ...one, bitwise }));
    } else {
      console.log(`freehold-tiny ${modelDigest}\n${args.quantisation} GGUF ${one.gguf}\n`);
      for (const { family, request, expected, answer } of one.answers)
        console.log(
          `${answer === expected ? 'right' : 'WRONG'}  ${family.padEnd(12)} ${JSON.stringify(request)} → ${JSON.stringify(answer)}${answer === expected ? '' : `, expected ${JSON.stringify(expected)}`}`,
        );
      console.log(
        `\n${one.right} of ${one.answers.length} right · ${one.newTokensPerSecond} new tokens/s with their logits, prompts ${one.promptTokensPerSecond} tokens/s, one thread`,
      );
      console.log(
        `logits of process 1: ${one.logits}\nlogits of process 2: ${two.logits}\n${bitwise ? 'bitwise equal' : 'NOT EQUAL'}`,
      );
    }
    process.exitCode = bitwise && one.right >= RIGHT_AT_LEAST ? 0 : 1;
  } finally {
    if (args.dir === undefined) rmSync(dir, { recursive: true, force: true });
  }
}
