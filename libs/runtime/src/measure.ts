import { EngineError, type Engine, type EngineModel } from '@freehold/market';
import type { ChatWork } from '@freehold/protocol';

/** The whole join benchmark; each phase gets a share. A node that joins must not keep its owner waiting. */
const BUDGET_MS_DEFAULT = 3_000;
const BUDGET_MS_MAX = 60_000;
const PREFILL_TOKENS = 512;
const DECODE_TOKENS = 128;
const CONCURRENCY_MAX = 64;
/** Another doubling of concurrency is worth it while it brings this much more throughput. */
const KNEE_GAIN = 1.15;
/** A row of the length that real embedding batches have. */
const EMBEDDING_TEXT =
  'Freight moves along the coast at night when the harbour is quiet and the tide is high, and every crate carries a label that says what is inside, where it came from, who packed it and where it has to be by the end of the week at the very latest.';

export interface ConcurrencyPoint {
  readonly concurrency: number;
  readonly rowsPerSecond: number;
}

/** What one model does on this machine. Rates are null where the model is of the other kind. */
export interface MeasuredModel {
  readonly name: string;
  readonly kind: 'chat' | 'embedding' | 'fine-tune';
  /** Short rows at the best concurrency: what an offer says. */
  readonly rowsPerSecond: number;
  /** The concurrency beyond which more only waits. */
  readonly knee: number;
  readonly curve: readonly ConcurrencyPoint[];
  readonly firstTokenMs: number | null;
  readonly prefillTokensPerSecond: number | null;
  readonly decodeTokensPerSecond: number | null;
}

export interface MeasureOptions {
  /** Over all models together; at most a minute. */
  readonly budgetMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * The join benchmark: what each model of an engine does on this machine, within a time budget.
 *
 * Phases repeat rows until their share of the budget is used, so that fast engines are measured over many rows and slow
 * ones over one. A model that refuses to run measures as 0 rows per second and is not offered.
 */
export async function measure(engine: Engine, options: MeasureOptions = {}): Promise<MeasuredModel[]> {
  const { models } = await engine.describe();
  const budgetMs = Math.min(options.budgetMs ?? BUDGET_MS_DEFAULT, BUDGET_MS_MAX) / Math.max(1, models.length);
  const measured: MeasuredModel[] = [];
  for (const model of models) {
    const signal = AbortSignal.any([
      AbortSignal.timeout(budgetMs * 4),
      ...(options.signal === undefined ? [] : [options.signal]),
    ]);
    measured.push(await measureModel(engine, model, budgetMs, signal));
  }
  return measured;
}

async function measureModel(
  engine: Engine,
  model: EngineModel,
  budgetMs: number,
  signal: AbortSignal,
): Promise<MeasuredModel> {
  const nothing = { name: model.name, kind: model.kind, rowsPerSecond: 0, knee: 1, curve: [] };
  try {
    // One segment of training says nothing that the first lease does not say better.
    if (model.kind === 'fine-tune')
      return { ...nothing, firstTokenMs: null, prefillTokensPerSecond: null, decodeTokensPerSecond: null };
    return model.kind === 'chat'
      ? await measureChat(engine, model, budgetMs, signal)
      : await measureEmbedding(engine, model, budgetMs, signal);
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { ...nothing, firstTokenMs: null, prefillTokensPerSecond: null, decodeTokensPerSecond: null };
  }
}

async function measureChat(
  engine: Engine,
  model: EngineModel,
  budgetMs: number,
  signal: AbortSignal,
): Promise<MeasuredModel> {
  const share = budgetMs / 4;
  const warm = await engine.chat(model.name, chatOf(8, 2), () => {}, signal);
  if (warm.kind === 'failed') throw new EngineError(warm.code, warm.message, false);
  const perWord = Math.max(0.5, warm.unitsIn / 8);
  const prompt = chatOf(Math.floor(Math.min(PREFILL_TOKENS, model.contextTokens / 2) / perWord), 1);
  const prefill = await repeat(share, () => engine.chat(model.name, prompt, () => {}, signal));
  const fedTokens = prefill.results.reduce((sum, result) => sum + (result.kind === 'chat' ? result.unitsIn : 0), 0);
  const decode = await repeat(share, () =>
    engine.chat(model.name, chatOf(8, Math.min(DECODE_TOKENS, Math.floor(model.contextTokens / 4))), () => {}, signal),
  );
  const written = decode.results.reduce((sum, result) => sum + (result.kind === 'chat' ? result.unitsOut : 0), 0);
  const curve = await curveOf(share * 2, model.slots * 2, () =>
    engine.chat(model.name, chatOf(24, 16), () => {}, signal),
  );
  return {
    name: model.name,
    kind: 'chat',
    ...kneeOf(curve),
    curve,
    firstTokenMs: prefill.elapsedMs / prefill.results.length,
    prefillTokensPerSecond: perSecond(fedTokens, prefill.elapsedMs),
    decodeTokensPerSecond: perSecond(written, decode.elapsedMs),
  };
}

async function measureEmbedding(
  engine: Engine,
  model: EngineModel,
  budgetMs: number,
  signal: AbortSignal,
): Promise<MeasuredModel> {
  const run = (): ReturnType<Engine['embed']> =>
    engine.embed(model.name, { kind: 'embedding', inputs: [EMBEDDING_TEXT] }, signal);
  const warm = await run();
  if (warm.kind === 'failed') throw new EngineError(warm.code, warm.message, false);
  const curve = await curveOf(budgetMs, model.slots * 2, run);
  return {
    name: model.name,
    kind: 'embedding',
    ...kneeOf(curve),
    curve,
    firstTokenMs: null,
    prefillTokensPerSecond: null,
    decodeTokensPerSecond: null,
  };
}

/** Throughput at 1, 2, 4, 8 … rows at once, until doubling no longer pays or the time is used. */
async function curveOf(
  budgetMs: number,
  concurrencyMax: number,
  run: () => Promise<unknown>,
): Promise<ConcurrencyPoint[]> {
  const curve: ConcurrencyPoint[] = [];
  const startedAt = performance.now();
  for (let concurrency = 1; concurrency <= Math.min(concurrencyMax, CONCURRENCY_MAX); concurrency *= 2) {
    const lanes = await Promise.all(Array.from({ length: concurrency }, () => repeat(budgetMs / 4, run)));
    const rows = lanes.reduce((sum, lane) => sum + lane.results.length, 0);
    const elapsedMs = Math.max(...lanes.map((lane) => lane.elapsedMs));
    curve.push({ concurrency, rowsPerSecond: perSecond(rows, elapsedMs) });
    const [before, last] = curve.slice(-2);
    if (before !== undefined && last !== undefined && last.rowsPerSecond < before.rowsPerSecond * KNEE_GAIN) break;
    if (performance.now() - startedAt > budgetMs) break;
  }
  return curve;
}

/** The least concurrency that does nearly as much as the best. */
export function kneeOf(curve: readonly ConcurrencyPoint[]): { readonly rowsPerSecond: number; readonly knee: number } {
  const best = Math.max(0, ...curve.map((point) => point.rowsPerSecond));
  const knee = curve.find((point) => point.rowsPerSecond * KNEE_GAIN > best);
  return { rowsPerSecond: best, knee: knee?.concurrency ?? 1 };
}

/** Runs at least once, and again until the time is used. */
async function repeat<T>(
  forMs: number,
  run: () => Promise<T>,
): Promise<{ readonly results: T[]; readonly elapsedMs: number }> {
  const startedAt = performance.now();
  const results: T[] = [];
  do results.push(await run());
  while (performance.now() - startedAt < forMs);
  return { results, elapsedMs: performance.now() - startedAt };
}

function perSecond(count: number, elapsedMs: number): number {
  return elapsedMs <= 0 ? 0 : (count * 1_000) / elapsedMs;
}

function chatOf(words: number, maxTokens: number): ChatWork {
  const content = Array.from({ length: Math.max(1, words) }, (_, at) => `word${at % 7}`).join(' ');
  const messages = [{ role: 'user' as const, content }];
  return {
    kind: 'chat',
    messages,
    maxTokens: Math.max(1, maxTokens),
    temperature: 0,
    topP: 1,
    seed: 1,
    stop: [],
    topLogprobs: 0,
    logprobs: false,
  };
}
