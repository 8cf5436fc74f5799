import { unitsFromJson, type VerifyLevel } from '@freehold/domain';
import type { OpenDemand } from '@freehold/market';
import { NODE_NEEDS, nodeNeedsOf } from '@freehold/protocol';

/** What a job asks of nodes and will pay, as it is stored. */
export interface JobWishRow {
  readonly id: string;
  readonly endpoint: string;
  readonly model: string;
  readonly adapter: string | null;
  readonly region: string | null;
  /** Null: it asks nothing of the node itself. */
  readonly asks: Record<string, string> | null;
  readonly pool_id: string | null;
  readonly verify: VerifyLevel;
  readonly rate_caps: Record<string, string>;
}

type JobWish = Pick<
  OpenDemand,
  'jobId' | 'endpoint' | 'model' | 'wearsAdapter' | 'region' | 'needs' | 'poolId' | 'verify' | 'rateCaps'
>;

/** The columns of {@link JobWishRow}. @param job The name of the table, or of what has its columns. */
export function jobWish(job: string): string {
  const columns = ['id', 'endpoint', 'model', 'adapter', 'region', 'pool_id', 'verify', 'rate_caps'];
  const needs = NODE_NEEDS.map((need) => `'${need}'`).join(',');
  return `${columns.map((column) => `${job}.${column}`).join(', ')},
  CASE WHEN ${job}.metadata ?| ARRAY[${needs}] THEN ${job}.metadata END AS asks`;
}

export function jobWishOf(row: JobWishRow): JobWish {
  return {
    jobId: row.id,
    endpoint: row.endpoint,
    model: row.model,
    wearsAdapter: row.adapter !== null,
    region: row.region,
    ...(row.asks === null ? {} : { needs: nodeNeedsOf(row.asks) }),
    poolId: row.pool_id,
    verify: row.verify,
    rateCaps: unitsFromJson(row.rate_caps),
  };
}
