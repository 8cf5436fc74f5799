import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, jest } from '@jest/globals';
import { getLlama, LlamaLogLevel } from 'node-llama-cpp';
import { LORA_TARGETS, type TrainingPlan } from '@freehold/protocol';
import {
  chatTokens,
  ensureGguf,
  MODEL_ID,
  teachingItems,
  tokenizer,
} from '../../../../../models/freehold-tiny/index.mjs';
import { ReferenceTrainer } from './reference-trainer.ts';

/** Training and llama.cpp take seconds alone. */
jest.setTimeout(120_000);
const never = new AbortController().signal;
const EXAMPLES = 8;
const STEPS = 24;

describe('an exported adapter', () => {
  const folder = mkdtempSync(join(tmpdir(), 'freehold-adapter-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('makes llama.cpp answer as it was trained to, and the base alone does not', async () => {
    const { path: base, sha256 } = await ensureGguf({ quantisation: 'Q8_0', dir: folder });
    const items = teachingItems({ count: EXAMPLES, seed: 5 });
    const data = join(folder, 'data.jsonl');
    writeFileSync(
      data,
      items
        .map(({ messages, expected }) =>
          JSON.stringify({ messages: [...messages, { role: 'assistant', content: expected }] }),
        )
        .join('\n'),
    );
    const plan: TrainingPlan = {
      v: 1,
      base: { model: MODEL_ID, sha256 },
      data: { sha256: createHash('sha256').update(readFileSync(data)).digest('hex') },
      method: { kind: 'lora', r: 8, alpha: 16, targets: [...LORA_TARGETS] },
      optim: {
        kind: 'adamw',
        learningRate: 0.005,
        schedule: 'linear',
        warmupSteps: 2,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weightDecay: 0,
        clipNorm: 1,
      },
      batch: { examples: EXAMPLES },
      seed: 1,
      steps: STEPS,
      segmentSteps: STEPS,
      dtype: 'f32',
    };
    const trainer = new ReferenceTrainer();
    await trainer.plan(plan, { base, data, folder });
    let checkpoint = '';
    await trainer.run(
      { from: 0, to: 1, checkpoint: null },
      { onSegment: (segment) => void (checkpoint = segment.checkpoint.path) },
      never,
    );
    const { files } = await trainer.export(checkpoint, 'gguf-lora');
    const ofTrainer = await trainer.evaluate(checkpoint, data, never);
    const before = await rightAnswers(base, undefined);
    const after = await rightAnswers(base, files[0]?.path);
    expect(before).toBeLessThan(EXAMPLES / 2);
    expect(after).toBeGreaterThan(before);
    // llama.cpp multiplies Q8_0 by rounded activations: a near tie may fall the other way.
    expect(Math.abs(after - ofTrainer.exactMatch * EXAMPLES)).toBeLessThanOrEqual(1);
    expect(ofTrainer.exactMatch).toBeGreaterThan(0.7);

    async function rightAnswers(modelPath: string, lora: string | undefined): Promise<number> {
      const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 1 });
      try {
        const model = await llama.loadModel({ modelPath });
        const context = await model.createContext({
          contextSize: 256,
          sequences: 1,
          threads: 1,
          ...(lora === undefined ? {} : { lora }),
        });
        const sequence = context.getSequence();
        let right = 0;
        for (const { messages, expected } of items) {
          await sequence.clearHistory();
          const prompt = chatTokens(messages) as Parameters<typeof sequence.evaluate>[0];
          const ids: number[] = [];
          for await (const id of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
            if (model.isEogToken(id) || ids.length === 32) break;
            ids.push(id);
          }
          if (tokenizer().decode(ids).trim() === expected.trim()) right += 1;
        }
        return right;
      } finally {
        await llama.dispose();
      }
    }
  });
});
