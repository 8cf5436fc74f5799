import { join } from 'node:path';
import type OpenAI from 'openai';
import type { Narrator } from '../progress.ts';
import { CHAT_MODEL, heldOutQuestions, isRight } from './chats.ts';
import { installedReadmes, type Readme } from './readmes.ts';
import { runBatch, writeBatchFile, type FinishedBatch } from './run-batch.ts';
import { searchAll, spreadIndices, type SearchResult } from './search.ts';

const EMBEDDING_MODEL = 'use-lite';
const QUERIES = 64;
/** Queries of one request: a search box sends one, an evaluation sends many. */
const QUERIES_PER_REQUEST = 8;
const ANSWER_TOKENS_MAX = 64;

export interface JobContext {
  readonly client: OpenAI;
  readonly narrator: Narrator;
  readonly workDir: string;
  readonly nodeModules: string;
  readonly signal: AbortSignal;
}

export interface BuiltInResult {
  readonly batches: readonly FinishedBatch[];
  readonly rowsIn: readonly number[];
  readonly search: SearchResult;
  readonly answers: { readonly correct: number; readonly total: number };
  /** What was embedded, by custom_id. */
  readonly texts: ReadonlyMap<string, string>;
}

/** Embeddings of real text and chats with checkable answers, as two batches side by side; then 64 known-item queries. */
export async function runBuiltInJob(context: JobContext): Promise<BuiltInResult> {
  const readmes = await installedReadmes(context.nodeModules);
  const questions = heldOutQuestions();
  const [embedded, chatted] = await Promise.all([embedReadmes(context, readmes), askQuestions(context, questions)]);
  const search = await runQueries(context, readmes, embedded);
  const correct = questions.filter((question) => isRight(question, answerOf(chatted, question.customId))).length;
  return {
    batches: [embedded, chatted],
    rowsIn: [readmes.length, questions.length],
    search,
    answers: { correct, total: questions.length },
    texts: new Map(readmes.map((readme) => [readme.name, readme.text])),
  };
}

async function embedReadmes(context: JobContext, readmes: readonly Readme[]): Promise<FinishedBatch> {
  const file = join(context.workDir, 'readmes.jsonl');
  await writeBatchFile(
    file,
    readmes.map((readme) => ({
      customId: readme.name,
      url: '/v1/embeddings',
      body: { model: EMBEDDING_MODEL, input: readme.text },
    })),
  );
  return withProgress(context, 'embeddings', readmes.length, file, '/v1/embeddings');
}

async function askQuestions(
  context: JobContext,
  questions: ReturnType<typeof heldOutQuestions>,
): Promise<FinishedBatch> {
  const file = join(context.workDir, 'questions.jsonl');
  await writeBatchFile(
    file,
    questions.map((question) => ({
      customId: question.customId,
      url: '/v1/chat/completions',
      body: { model: CHAT_MODEL, messages: question.messages, max_tokens: ANSWER_TOKENS_MAX, temperature: 0 },
    })),
  );
  return withProgress(context, 'chats', questions.length, file, '/v1/chat/completions');
}

export async function withProgress(
  context: JobContext,
  name: string,
  rows: number,
  file: string,
  endpoint: '/v1/embeddings' | '/v1/chat/completions',
): Promise<FinishedBatch> {
  const progress = context.narrator.task(name, rows);
  const batch = await runBatch({
    client: context.client,
    file,
    endpoint,
    metadata: { verify: 'spot' },
    signal: context.signal,
    onProgress: (at) => progress.at(at.completed + at.failed, at.total || rows),
  });
  progress.done();
  return batch;
}

function answerOf(batch: FinishedBatch, customId: string): string {
  const body = batch.results.get(customId)?.body as
    { choices?: { message?: { content?: string } }[] } | null | undefined;
  return body?.choices?.[0]?.message?.content ?? '';
}

function vectorOf(batch: FinishedBatch, customId: string): readonly number[] {
  const body = batch.results.get(customId)?.body as { data?: { embedding?: number[] }[] } | null | undefined;
  return body?.data?.[0]?.embedding ?? [];
}

/** The description of a package must find the package's own README: asked over the stream road, a few at a time. */
async function runQueries(
  context: JobContext,
  readmes: readonly Readme[],
  embedded: FinishedBatch,
): Promise<SearchResult> {
  const documents = readmes.map((readme) => ({ name: readme.name, vector: vectorOf(embedded, readme.name) }));
  const wanted = spreadIndices(readmes.length, QUERIES);
  const queries: { text: string; vector: readonly number[]; wanted: number }[] = [];
  for (let at = 0; at < wanted.length; at += QUERIES_PER_REQUEST) {
    const some = wanted.slice(at, at + QUERIES_PER_REQUEST);
    const texts = some.map((index) => readmes[index]?.description ?? '');
    const reply = await context.client.embeddings.create(
      { model: EMBEDDING_MODEL, input: texts },
      { signal: context.signal },
    );
    for (const [i, index] of some.entries())
      queries.push({ text: texts[i] ?? '', vector: reply.data[i]?.embedding ?? [], wanted: index });
  }
  return searchAll(documents, queries);
}
