import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type OpenAI from 'openai';
import { heldOutItems, MODEL_ID, teachingItems } from '../../../../models/freehold-tiny/index.mjs';
import type { Narrator } from '../progress.ts';

/** The family that freehold-tiny was never taught. */
const FAMILY = 'desk';
const EXAMPLES = 152;
const HELD_OUT = 40;
const QUESTIONS_AT_ONCE = 4;
const ANSWER_TOKENS_MAX = 24;
const SEED = 7;
/** One walk, two examples a step: 76 steps teach what a very small model can learn of it in a quarter of a minute. */
const HYPERPARAMETERS = { n_epochs: 1, batch_size: 2, learning_rate_multiplier: 4 };
const SEGMENT_STEPS = 4;
/** The node is killed when it has delivered so many: something to keep, something left to resume. */
const KILL_AFTER_SEGMENTS = 5;
const POLL_MS = 250;
const PATIENCE_MS = 120_000;

export interface FineTuneContext {
  readonly client: OpenAI;
  readonly narrator: Narrator;
  readonly workDir: string;
  readonly signal: AbortSignal;
  /** Kills the node of this id without a word, and says its name. */
  readonly kill: (nodeId: string) => string | null;
}

export interface FineTuneResult {
  readonly status: string;
  readonly model: string | null;
  readonly segments: number;
  /** Leases that went on from another node's checkpoint. */
  readonly resumed: number;
  /** Segments that somebody else ran again. */
  readonly audited: number;
  /** Share of held-out items of the left-out family that are answered word for word. */
  readonly accuracyBefore: number;
  readonly accuracyAfter: number;
  readonly trainedTokens: number;
  readonly seconds: number;
  /** In whole tokens, as the API says it. */
  readonly charged: string;
}

type Job = OpenAI.FineTuning.FineTuningJob & {
  readonly freehold?: {
    readonly charged: string;
    readonly segments: { readonly total: number | null; readonly delivered: number };
  };
};

/**
 * A fine-tune as anybody would ask for it, through OpenAI's SDK: questions before, a training file, a job, a node that dies in
 * the middle of it, the same questions to the new name.
 */
export async function runFineTune(context: FineTuneContext): Promise<FineTuneResult> {
  const startedMs = performance.now();
  const questions = heldOutItems({ seed: SEED, count: HELD_OUT, families: [FAMILY] });
  const [accuracyBefore, job] = await Promise.all([accuracyOf(context, MODEL_ID, questions), submit(context)]);
  const { done, events } = await follow(context, job.id);
  const model = done.fine_tuned_model;
  const accuracyAfter = model === null ? 0 : await accuracyOf(context, model, questions);
  return {
    status: done.status,
    model,
    segments: done.freehold?.segments.total ?? 0,
    resumed: resumedIn(events),
    audited: sumOf(events, 'audited'),
    accuracyBefore,
    accuracyAfter,
    trainedTokens: done.trained_tokens ?? 0,
    seconds: (performance.now() - startedMs) / 1_000,
    charged: done.freehold?.charged ?? '0',
  };
}

async function submit({ client, workDir, signal }: FineTuneContext): Promise<OpenAI.FineTuning.FineTuningJob> {
  await mkdir(workDir, { recursive: true });
  const path = join(workDir, 'desk.jsonl');
  const lines = teachingItems({ count: EXAMPLES, families: [FAMILY] }).map(({ messages, expected }) =>
    JSON.stringify({ messages: [...messages, { role: 'assistant', content: expected }] }),
  );
  await writeFile(path, `${lines.join('\n')}\n`);
  const file = await client.files.create({ file: createReadStream(path), purpose: 'fine-tune' }, { signal });
  return client.fineTuning.jobs.create(
    {
      model: MODEL_ID,
      training_file: file.id,
      suffix: FAMILY,
      seed: SEED,
      method: { type: 'supervised', supervised: { hyperparameters: HYPERPARAMETERS } },
      metadata: { verify: 'spot', segment_steps: String(SEGMENT_STEPS) },
    },
    { signal },
  );
}

/** Waits for the job's end; the node that trains is killed once it has something to lose. */
async function follow(
  context: FineTuneContext,
  jobId: string,
): Promise<{ done: Job; events: OpenAI.FineTuning.FineTuningJobEvent[] }> {
  const { client, narrator, signal } = context;
  const progress = narrator.task('fine-tune', 1);
  const deadlineMs = performance.now() + PATIENCE_MS;
  let isKilled = false;
  for (;;) {
    const job: Job = await client.fineTuning.jobs.retrieve(jobId, { signal });
    const { total, delivered } = job.freehold?.segments ?? { total: null, delivered: 0 };
    progress.at(delivered, total ?? 1);
    const isOver = ['succeeded', 'failed', 'cancelled'].includes(job.status);
    if (isOver || performance.now() > deadlineMs) {
      progress.done();
      const events = await allEvents(client, jobId);
      for (const event of events.filter(({ level }) => level === 'error')) narrator.say(`fine-tune: ${event.message}`);
      return { done: job, events };
    }
    if (!isKilled && delivered >= KILL_AFTER_SEGMENTS) {
      const node = nodeOf(await allEvents(client, jobId));
      const name = node === null ? null : context.kill(node);
      isKilled = name !== null;
      if (name !== null) narrator.say(`${name} was killed after ${delivered} of ${total ?? '?'} segments`);
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

async function allEvents(client: OpenAI, jobId: string): Promise<OpenAI.FineTuning.FineTuningJobEvent[]> {
  const events: OpenAI.FineTuning.FineTuningJobEvent[] = [];
  for await (const event of client.fineTuning.jobs.listEvents(jobId, { limit: 100 })) events.push(event);
  return events;
}

function dataOf(event: OpenAI.FineTuning.FineTuningJobEvent): Readonly<Record<string, unknown>> {
  return typeof event.data === 'object' && event.data !== null ? (event.data as Record<string, unknown>) : {};
}

/** Events come newest first: the first that names a node names the one at work. */
function nodeOf(events: readonly OpenAI.FineTuning.FineTuningJobEvent[]): string | null {
  for (const event of events) {
    const { node } = dataOf(event);
    if (typeof node === 'string') return node;
  }
  return null;
}

function resumedIn(events: readonly OpenAI.FineTuning.FineTuningJobEvent[]): number {
  const leases = [...events].reverse().flatMap((event) => {
    const { node, step } = dataOf(event);
    return typeof node === 'string' && typeof step === 'number' ? [{ node, step }] : [];
  });
  return leases.filter(({ node, step }, at) => step > 0 && node !== leases[at - 1]?.node).length;
}

function sumOf(events: readonly OpenAI.FineTuning.FineTuningJobEvent[], key: string): number {
  return events.reduce((sum, event) => {
    const value = dataOf(event)[key];
    return sum + (typeof value === 'number' ? value : 0);
  }, 0);
}

/** Share of held-out items answered word for word. */
async function accuracyOf(
  { client, signal }: FineTuneContext,
  model: string,
  questions: ReturnType<typeof heldOutItems>,
): Promise<number> {
  const left = [...questions];
  let right = 0;
  const ask = async (): Promise<void> => {
    for (let question = left.pop(); question !== undefined; question = left.pop()) {
      const { messages, expected } = question;
      const answer = await client.chat.completions.create(
        {
          model,
          messages: messages.map(({ role, content }) => ({ role, content })),
          temperature: 0,
          max_tokens: ANSWER_TOKENS_MAX,
        },
        { signal },
      );
      if (answer.choices[0]?.message.content?.trim() === expected.trim()) right += 1;
    }
  };
  await Promise.all(Array.from({ length: QUESTIONS_AT_ONCE }, ask));
  return right / questions.length;
}
