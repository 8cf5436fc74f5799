import { unitsFromJson, type JobKind, type TaskState, type VerifyLevel } from '@freehold/domain';
import { whereaboutsOf, type DeliveredRow, type GrantedLease, type LeaseView } from '@freehold/market';

/** Columns of lease `l` and task `t`, as {@link grantedLease} reads them. */
export const GRANTED_COLUMNS = `l.task_id, l.epoch, l.job_id, l.node_id, l.nonce, l.model, l.model_digest, l.engine_class, l.rates, t.row_from, t.row_to`;

export interface GrantedRow {
  readonly task_id: string;
  readonly epoch: number;
  readonly job_id: string;
  readonly node_id: string;
  readonly nonce: Buffer;
  readonly model: string;
  readonly model_digest: string;
  readonly engine_class: string;
  readonly rates: Record<string, string>;
  readonly row_from: number;
  readonly row_to: number;
}

export function grantedLease(row: GrantedRow): GrantedLease {
  return {
    task: row.task_id,
    epoch: row.epoch,
    jobId: row.job_id,
    nodeId: row.node_id,
    nonce: hex(row.nonce),
    model: row.model,
    digest: row.model_digest,
    engineClass: row.engine_class,
    rates: unitsFromJson(row.rates),
    rowFrom: row.row_from,
    rowTo: row.row_to,
  };
}

export interface ViewRow extends GrantedRow {
  readonly org_id: string;
  readonly kind: JobKind;
  readonly adapter: string | null;
  readonly region: string | null;
  readonly pool_id: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly state: TaskState;
  readonly task_epoch: number;
  readonly verify: VerifyLevel;
  readonly payout: string;
  readonly address: string;
  readonly road: 'batch' | 'stream';
  readonly checkpoint_rows: number;
  readonly checkpoint_root: Buffer | null;
  readonly checkpoint_signature: Buffer | null;
  readonly committed: boolean;
  readonly draw_height: string | null;
  readonly draw_seed: Buffer | null;
  readonly draw_rows: number[] | null;
  readonly alive: boolean;
  readonly asked: boolean;
  readonly cut_short: boolean;
}

export function leaseView(row: ViewRow): LeaseView {
  return {
    ...grantedLease(row),
    ...whereaboutsOf({ region: row.region, poolId: row.pool_id, metadata: row.metadata }),
    orgId: row.org_id,
    kind: row.kind,
    adapter: row.adapter,
    state: row.state,
    taskEpoch: row.task_epoch,
    verify: row.verify,
    payout: row.payout,
    address: row.address,
    road: row.road,
    checkpointRows: row.checkpoint_rows,
    checkpointRoot: hexOrNull(row.checkpoint_root),
    checkpointSignature: hexOrNull(row.checkpoint_signature),
    committed: row.committed,
    drawHeight: row.draw_height === null ? null : BigInt(row.draw_height),
    drawSeed: hexOrNull(row.draw_seed),
    drawRows: row.draw_rows,
    alive: row.alive,
    asked: row.asked,
    cutShort: row.cut_short,
  };
}

export interface DeliveredRowColumns {
  readonly row_no: number;
  readonly segment_offset: string;
  readonly segment_length: number;
  readonly leaf_hash: Buffer;
  readonly succeeded: boolean;
  readonly usage: Record<string, string>;
}

export function deliveredRow(row: DeliveredRowColumns): DeliveredRow {
  return {
    rowNo: row.row_no,
    offset: Number(row.segment_offset),
    length: row.segment_length,
    leafHash: new Uint8Array(row.leaf_hash),
    succeeded: row.succeeded,
    usage: unitsFromJson(row.usage),
  };
}

/** 0x… in lower case, as everywhere on the wire. */
export function hex(bytes: Buffer): string {
  return `0x${bytes.toString('hex')}`;
}

function hexOrNull(bytes: Buffer | null): string | null {
  return bytes === null ? null : hex(bytes);
}

/** The bytes of 0x…; anything else is a bug of the caller, and is refused before it becomes an empty value in the books. */
export function bytesOf(text: string): Buffer {
  if (!/^0x([0-9a-f]{2})*$/i.test(text)) throw new TypeError(`expected 0x… with whole bytes, got ${text.slice(0, 20)}`);
  return Buffer.from(text.slice(2), 'hex');
}
