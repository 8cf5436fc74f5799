import { join } from 'node:path';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { LOCAL_MODELS } from '@freehold/wiring/models';
import type { Run } from './finished-run.ts';
import { cosine } from './search.ts';

/** Honest vectors of one text differ less than this between machines. */
const COSINE_HONEST_MIN = 0.999;

/**
 * Of the embeddings that the cheat got accepted, how many are not what the model says: each is run again here, on an engine
 * of our own, past the market and its audits. Usually there is nothing to run, because no lease of the cheat was accepted.
 */
export async function forgedAmong(
  delivered: readonly { readonly jobId: string; readonly customId: string }[],
  run: Run,
): Promise<number> {
  const rows = delivered.flatMap((row) => {
    const batch = run.batches.find((candidate) => candidate.id === row.jobId);
    const input = run.builtIn?.texts.get(row.customId);
    const body = batch?.results.get(row.customId)?.body as { data?: { embedding?: number[] }[] } | undefined;
    const vector = body?.data?.[0]?.embedding;
    return input === undefined || vector === undefined ? [] : [{ input, vector }];
  });
  if (rows.length === 0) return 0;
  const model = LOCAL_MODELS.find((candidate) => candidate.kind === 'embedding');
  if (model === undefined) throw new Error('there is no embedding model to compare with');
  const dir = await mkdtemp(join(tmpdir(), 'freehold-truth-'));
  const engine = await model.start(dir);
  try {
    let forged = 0;
    for (const row of rows) {
      const truth = await engine.embed(
        model.name,
        { kind: 'embedding', inputs: [row.input] },
        AbortSignal.timeout(60_000),
      );
      if (truth.kind === 'failed' || cosine(row.vector, floatsOf(truth.vectors[0] ?? '')) < COSINE_HONEST_MIN)
        forged += 1;
    }
    return forged;
  } finally {
    await engine.close();
    await rm(dir, { recursive: true, force: true });
  }
}

function floatsOf(base64: string): number[] {
  const bytes = Buffer.from(base64, 'base64');
  return [...new Float32Array(new Uint8Array(bytes).buffer)];
}
