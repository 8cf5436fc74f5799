import { Engine, type ChatDelta, type EngineDescription } from './ports/engine.ts';
import type {
  ChatOutput,
  ChatWork,
  EmbeddingOutput,
  EmbeddingWork,
  FailedOutput,
  RowScore,
  SegmentOutput,
  SegmentWork,
  Work,
  WorkOutput,
} from '@freehold/protocol';

/** An engine in front of another: whatever is not overridden goes through. */
export class WrappedEngine extends Engine {
  protected readonly inner: Engine;
  constructor(inner: Engine) {
    super();
    this.inner = inner;
  }
  describe(): Promise<EngineDescription> {
    return this.inner.describe();
  }
  override loaded(): Promise<ReadonlySet<string> | null> {
    return this.inner.loaded();
  }
  chat(
    model: string,
    work: ChatWork,
    onDelta: (delta: ChatDelta) => void,
    signal: AbortSignal,
  ): Promise<ChatOutput | FailedOutput> {
    return this.inner.chat(model, work, onDelta, signal);
  }
  embed(model: string, work: EmbeddingWork, signal: AbortSignal): Promise<EmbeddingOutput | FailedOutput> {
    return this.inner.embed(model, work, signal);
  }
  override segment(model: string, work: SegmentWork, signal: AbortSignal): Promise<SegmentOutput> {
    return this.inner.segment(model, work, signal);
  }
  score(model: string, rowNo: number, work: Work, committed: WorkOutput, signal: AbortSignal): Promise<RowScore> {
    return this.inner.score(model, rowNo, work, committed, signal);
  }
  close(): Promise<void> {
    return this.inner.close();
  }
}
