import { Engine, type EngineDescription } from '@freehold/market';
import type { ChatOutput, EmbeddingOutput, EmbeddingWork, RowScore, Work, WorkOutput } from '@freehold/protocol';
import { DIGEST, ENGINE_CLASS, MODEL, rightAnswer, scoreOf } from './row-truth.ts';

/** The coordinator's own copy of the one model: it knows what is right. */
export class SimEngine extends Engine {
  async describe(): Promise<EngineDescription> {
    const caps = { tokens: false, logprobs: false, promptLogprobs: false, seed: true, lora: false, embeddings: true };
    const facts = { kind: 'embedding', quantisation: 'none', contextTokens: 4_096, slots: 1 } as const;
    const models = [{ name: MODEL, digest: DIGEST, ...facts, caps }];
    return { engine: 'sim', version: '1', engineClass: ENGINE_CLASS, models };
  }
  chat(): Promise<ChatOutput> {
    return Promise.reject(new Error('the simulated market makes vectors'));
  }
  async embed(_model: string, work: EmbeddingWork): Promise<EmbeddingOutput> {
    return rightAnswer(work);
  }
  async score(_model: string, rowNo: number, work: Work, committed: WorkOutput): Promise<RowScore> {
    return scoreOf(rowNo, work, committed);
  }
  async close(): Promise<void> {
    await Promise.resolve();
  }
}
