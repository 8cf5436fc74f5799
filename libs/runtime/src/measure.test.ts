import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Engine, EngineError, type EngineDescription } from '@freehold/market';
import type { ChatOutput, EmbeddingOutput, FailedOutput, RowScore } from '@freehold/protocol';
import { kneeOf, measure } from './measure.ts';

/** Serves rows of a fixed time on a fixed number of slots. */
class TimedEngine extends Engine {
  readonly #slots: number;
  readonly #rowMs: number;
  #busy = 0;
  broken = false;
  constructor(slots: number, rowMs: number) {
    super();
    this.#slots = slots;
    this.#rowMs = rowMs;
  }
  async describe(): Promise<EngineDescription> {
    const caps = { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: false };
    const model = { digest: 'declared:x', quantisation: 'F32', contextTokens: 256, slots: this.#slots };
    return {
      engine: 'timed',
      version: '1',
      engineClass: 'timed',
      models: [
        { ...model, name: 'talker', kind: 'chat', caps },
        { ...model, name: 'embedder', kind: 'embedding', caps: { ...caps, embeddings: true } },
      ],
    };
  }
  async chat(): Promise<ChatOutput> {
    if (this.broken) throw new EngineError('engine_crashed', 'gone', true);
    await this.#work();
    return { kind: 'chat', tokens: [1, 2], text: 'ab', finish: 'stop', unitsIn: 40, unitsOut: 2 };
  }
  async embed(): Promise<EmbeddingOutput | FailedOutput> {
    await this.#work();
    return { kind: 'embedding', vectors: ['AAAAAA=='], dimensions: 1, unitsIn: 3 };
  }
  score(): Promise<RowScore> {
    throw new EngineError('cannot_score', 'not here', false);
  }
  async close(): Promise<void> {}

  async #work(): Promise<void> {
    this.#busy += 1;
    const queued = Math.ceil(this.#busy / this.#slots);
    await new Promise((resolve) => setTimeout(resolve, this.#rowMs * queued));
    this.#busy -= 1;
  }
}

/** Lets the benchmark run on a clock that only its own waiting moves: how busy this machine is changes no figure. */
async function onFakeClock<T>(work: Promise<T>): Promise<T> {
  let done = false;
  void work.finally(() => (done = true));
  while (!done) await jest.advanceTimersByTimeAsync(1);
  return work;
}

describe('the join benchmark', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  it('finds rates and the concurrency that pays, within its budget', async () => {
    const startedAt = performance.now();
    const [talker, embedder] = await onFakeClock(measure(new TimedEngine(4, 5), { budgetMs: 800 }));
    expect(performance.now() - startedAt).toBeLessThanOrEqual(1_000);
    expect(talker?.knee).toBe(4);
    expect(talker?.rowsPerSecond).toBeGreaterThan(talker?.curve[0]?.rowsPerSecond ?? Infinity);
    expect(talker?.decodeTokensPerSecond).toBeGreaterThan(100);
    expect(talker?.prefillTokensPerSecond).toBeGreaterThan(talker?.decodeTokensPerSecond ?? 0);
    expect(embedder).toMatchObject({ kind: 'embedding', firstTokenMs: null });
    expect(embedder?.rowsPerSecond).toBeGreaterThan(50);
  });

  it('measures a model that does not run as nothing', async () => {
    const engine = new TimedEngine(1, 1);
    engine.broken = true;
    const [talker] = await onFakeClock(measure(engine, { budgetMs: 40 }));
    expect(talker).toMatchObject({ rowsPerSecond: 0, knee: 1, decodeTokensPerSecond: null });
  });

  it('takes the least concurrency that does nearly as much as the best', () => {
    const curve = [100, 190, 200, 205].map((rowsPerSecond, i) => ({ concurrency: 2 ** i, rowsPerSecond }));
    expect(kneeOf(curve)).toEqual({ rowsPerSecond: 205, knee: 2 });
    expect(kneeOf([])).toEqual({ rowsPerSecond: 0, knee: 1 });
  });
});
