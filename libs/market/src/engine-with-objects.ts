import { BlobMissing, type Blobs } from './ports/blobs.ts';
import { EngineError, type ChatDelta, type Engine } from './ports/engine.ts';
import type { ChatOutput, ChatWork, FailedOutput, RowScore, Work, WorkOutput } from '@freehold/protocol';
import { WrappedEngine } from './wrapped-engine.ts';

/** An engine whose adapters are at hand before it is asked: what it reads is on this machine's disk, and checked. */
export class EngineWithObjects extends WrappedEngine {
  readonly #objects: Blobs;

  constructor(engine: Engine, objects: Blobs) {
    super(engine);
    this.#objects = objects;
  }

  override async chat(
    model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    await this.#fetch(work, signal);
    return super.chat(model, work, onDelta, signal);
  }

  override async score(
    model: string,
    rowNo: number,
    work: Work,
    committed: WorkOutput,
    signal: AbortSignal,
  ): Promise<RowScore> {
    await this.#fetch(work, signal);
    return super.score(model, rowNo, work, committed, signal);
  }

  async #fetch(work: Work, signal: AbortSignal): Promise<void> {
    if (work.kind !== 'chat' || work.adapter === undefined) return;
    try {
      await this.#objects.path(work.adapter, signal);
    } catch (error) {
      if (error instanceof BlobMissing) throw new EngineError('adapter_missing', error.message, true);
      throw error;
    }
  }
}
