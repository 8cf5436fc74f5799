import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from '@jest/globals';
import { canonicalHash, planHash, stateHash, type TrainingPlan } from '@freehold/protocol';
import { trainerSuite, type TrainerGround } from '@freehold/testing';
import { transformersFolder } from '../../../../../models/freehold-tiny/transformers-folder.mjs';
import { learningRateOf } from '../reference/adamw.ts';
import { initialA } from '../reference/initial-state.ts';
import { halvesOfPairs } from '../reference/export-adapter.ts';
import { littleEndian } from '../reference/training-state.ts';
import { peftTrainer, PEFT_TRAINER_FOLDER } from '../peft-process.ts';
import { pythonWith } from '../python.fixture.ts';

const plan: TrainingPlan = {
  v: 1,
  base: { model: 'Größe "1"', sha256: 'a'.repeat(64) },
  data: { sha256: 'b'.repeat(64) },
  method: { kind: 'lora', r: 4, alpha: 12.5, targets: ['attn_q', 'ffn_down'] },
  optim: {
    kind: 'adamw',
    learningRate: 0.00002,
    schedule: 'linear',
    warmupSteps: 3,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-8,
    weightDecay: 0,
    clipNorm: 1,
  },
  batch: { examples: 4 },
  seed: 4_294_967_295,
  steps: 9,
  segmentSteps: 4,
  dtype: 'f32',
};
const vectors: unknown = JSON.parse(
  readFileSync(new URL('../../../../../test/vectors/batch-schedule.json', import.meta.url), 'utf8'),
);

/** What the Python half computes from the same inputs. */
const SCRIPT = `
import json, os, sys, tempfile
import numpy
from freehold_trainer.names import halves_of_pairs, pairs_of_halves
from freehold_trainer.plan import BatchSchedule, initial_a, learning_rate, plan_hash
from freehold_trainer.state import decode_state, encode_state, state_hash
job = json.load(sys.stdin)
plan = job['plan']
batches = [BatchSchedule(v['dataHash'], v['seed'], v['examples'], v['batchExamples']).batch(v['step']) for v in job['vectors']]
a = numpy.array(initial_a('blk.0.attn_q.weight.lora_a', plan['seed'], 40, 10), numpy.float32).reshape(4, 10)
rows = numpy.arange(24, dtype=numpy.float32).reshape(12, 2)
tensors = {'z': a, 'b': rows}
path = os.path.join(tempfile.mkdtemp(), 'c.safetensors')
with open(path, 'wb') as file:
    file.write(encode_state(plan, 5, tensors))
step, again = decode_state(plan, path, {'z': (4, 10), 'b': (12, 2)})
turned = halves_of_pairs(rows, 'attn_q', 'b', 6)
print(json.dumps({
    'planHash': plan_hash(plan),
    'batches': batches,
    'rates': [learning_rate(plan, done) for done in range(plan['steps'])],
    'a': a.flatten().tolist(),
    'stateHash': state_hash(5, tensors),
    'readBack': [step, state_hash(step, again)],
    'halves': turned.flatten().tolist(),
    'back': bool((pairs_of_halves(turned, 'attn_q', 'b', 6) == rows).all()),
}))
`;

describe('the PEFT trainer', () => {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-peft-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const python = pythonWith(['numpy']);

  it('computes plan hash, batches, rates, first state and state hash as the reference trainer does', () => {
    if (python === null) return;
    const { stdout, stderr } = spawnSync(python, ['-B', '-c', SCRIPT], {
      cwd: PEFT_TRAINER_FOLDER,
      input: JSON.stringify({ plan, vectors }),
      encoding: 'utf8',
    });
    expect(stderr).toBe('');
    const a = initialA('blk.0.attn_q.weight.lora_a', plan.seed, 4, 10);
    const rows = Float32Array.from({ length: 24 }, (_, i) => i);
    const state = stateHash(5, [
      { name: 'z', shape: [4, 10], data: littleEndian(a) },
      { name: 'b', shape: [12, 2], data: littleEndian(rows) },
    ]);
    expect(JSON.parse(stdout)).toEqual({
      planHash: planHash(plan),
      batches: (vectors as { batch: number[] }[]).map(({ batch }) => batch),
      rates: Array.from({ length: plan.steps }, (_, done) => learningRateOf(plan, done)),
      a: [...a],
      stateHash: state,
      readBack: [5, state],
      halves: [...halvesOfPairs(rows, [12, 2], 6)],
      back: true,
    });
  });

  it('speaks the contract, and says what is missing where its libraries are not installed', async () => {
    if (python === null) return;
    const trainer = peftTrainer({ python, memoryMib: 2_048 });
    try {
      await trainer.ping();
      const hello = await trainer.hello().catch((error: unknown) => error);
      expect(hello).toMatchObject(
        hello instanceof Error ? { code: 'plan_unsupported', retryable: false } : { runtime: 'peft', version: 1 },
      );
      const never = new AbortController().signal;
      const run = trainer.run({ from: 0, to: 1, checkpoint: null }, {}, never);
      await expect(run).rejects.toMatchObject({ code: 'bad_request' });
      const missing = { base: join(folder, 'none'), data: join(folder, 'none'), folder };
      await expect(trainer.plan(plan, missing, never)).rejects.toMatchObject({ code: 'base_unreadable' });
    } finally {
      await trainer.close();
    }
  });
});

const libraries = pythonWith(['torch', 'transformers', 'peft'], process.env['FREEHOLD_PEFT_PYTHON']);
if (libraries !== null) {
  const dir = mkdtempSync(join(tmpdir(), 'freehold-peft-base-'));
  afterAll(() => rmSync(dir, { recursive: true }));
  trainerSuite(
    'peft',
    () => peftTrainer({ python: libraries, memoryMib: 65_536 }),
    // freehold-tiny, or another Llama in a folder as transformers loads it.
    () => Promise.resolve(groundOf(process.env['FREEHOLD_PEFT_BASE'] ?? transformersFolder(dir))),
  );
}

function groundOf(path: string): TrainerGround {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const hashes = files.map(({ parentPath, name }): [string, string] => {
    const file = join(parentPath, name);
    return [file.slice(join(path, '/').length), createHash('sha256').update(readFileSync(file)).digest('hex')];
  });
  const sha256 = Buffer.from(canonicalHash(Object.fromEntries(hashes))).toString('hex');
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')) as { max_position_embeddings: number };
  return { base: { model: 'base', path, sha256 }, contextTokens: config.max_position_embeddings };
}
