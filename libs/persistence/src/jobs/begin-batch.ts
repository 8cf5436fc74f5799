import { unitsToJson } from '@freehold/domain';
import type { Begun, ReadBatch, RequestIdentity } from '@freehold/market';
import { identityParams } from '../accounts/request-claims.ts';
import type { Database } from '../database.ts';
import { CHANNEL } from '../outbox.ts';
import { earlier } from './batches.ts';
import { jobView, type JobRecord } from './job-row.ts';

interface BegunRow extends Omit<JobRecord, 'usage'> {
  readonly outcome: 'made' | 'repeated' | 'key-reused' | 'refused';
  readonly earlier: string | null;
}

const BEGIN = `
SELECT begun.outcome, begun.earlier, (begun.made).*,
  CASE WHEN $28 AND begun.outcome = 'made' THEN pg_notify('${CHANNEL}', 'place') END AS told
FROM begin_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27) AS begun`;

/**
 * One statement and one commit. Not shared with others': it waits for nobody's, and what is refused is refused alone.
 *
 * @param isTold Whether the commit itself tells the schedulers. Such commits wait for each other.
 */
export async function beginBatch(
  database: Database,
  batch: ReadBatch,
  identity: RequestIdentity | null,
  isTold: boolean,
): Promise<Begun> {
  const { plan, rows } = batch;
  const [begun] = await database.query<BegunRow>(BEGIN, [
    batch.id,
    batch.orgId,
    batch.keyId,
    batch.endpoint,
    batch.inputFileId,
    batch.completionWindow,
    JSON.stringify(batch.metadata),
    batch.verify,
    batch.region,
    batch.deadlineInMs,
    batch.priority,
    plan.model,
    plan.tuned?.name ?? null,
    plan.tuned?.adapter ?? null,
    String(plan.cap),
    JSON.stringify(unitsToJson(plan.rateCaps)),
    batch.expectedS,
    plan.counted === null ? null : String(plan.counted),
    plan.promptBlocks,
    JSON.stringify(unitsToJson(plan.worst)),
    rows.map(({ customId }) => customId),
    rows.map(({ offset }) => offset),
    rows.map(({ length }) => length),
    ...identityParams(identity),
    isTold,
  ]);
  if (begun === undefined) throw new Error(`Beginning ${batch.id}: the database gave no answer`);
  if (begun.outcome === 'repeated') return earlier(database, batch.orgId, begun.earlier ?? '');
  if (begun.outcome !== 'made') return { outcome: begun.outcome };
  // Nothing is counted of a batch that is not over.
  return { outcome: 'made', value: jobView({ ...begun, usage: null }) };
}
