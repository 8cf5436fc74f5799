import { unitsToJson, upperBound, type Amount, type Usage } from '@freehold/domain';
import type { AuditFinding, DeliveredRow, LeaseView } from './ports/lease-store.ts';
import { toHex } from './hex.ts';

export interface ReceiptFacts {
  readonly lease: LeaseView;
  readonly delivered: readonly DeliveredRow[];
  readonly drawn: {
    readonly height: bigint | null;
    readonly blockHash: string | null;
    readonly secret: Uint8Array | null;
    readonly rows: readonly number[];
  };
  readonly countersignature: string | null;
  readonly findings: readonly AuditFinding[];
  readonly usage: Usage;
  readonly charge: Amount;
  readonly fee: Amount;
}

/**
 * The whole statement about one accepted lease: enough for anyone, offline, to check who worked, what was committed before
 * what was drawn, what was found, and what it cost. Amounts are decimal strings of the smallest unit.
 */
export function receiptDocument(facts: ReceiptFacts): Record<string, unknown> {
  const { lease, delivered, drawn, findings } = facts;
  const audited = new Set(findings.filter((finding) => finding.verdict !== 'unsure').map((finding) => finding.rowNo))
    .size;
  return {
    v: 1,
    task: lease.task,
    epoch: lease.epoch,
    job: lease.jobId,
    node: lease.nodeId,
    address: lease.address,
    payout: lease.payout,
    model: lease.model,
    modelDigest: lease.digest,
    // What answered was the model with this over it: part of the work that the root commits to.
    ...(lease.adapter === null ? {} : { adapter: lease.adapter }),
    engineClass: lease.engineClass,
    rows: {
      from: lease.rowFrom,
      to: lease.rowFrom + delivered.length,
      succeeded: delivered.filter((row) => row.succeeded).length,
    },
    commitment: {
      root: lease.checkpointRoot,
      n: delivered.length,
      signature: lease.checkpointSignature,
      countersignature: facts.countersignature,
    },
    draw: {
      by: audited === 0 ? 'none' : 'coordinator',
      height: drawn.height === null ? null : String(drawn.height),
      blockHash: drawn.blockHash,
      secret: drawn.secret === null ? null : toHex(drawn.secret),
      rows: drawn.rows,
    },
    audits: findings.map((finding) => ({
      row: finding.rowNo,
      auditor: finding.auditor,
      kind: finding.auditorKind,
      verdict: finding.verdict,
    })),
    audited,
    badShareUpperBound95: upperBound(0, audited),
    usage: unitsToJson(facts.usage),
    rates: unitsToJson(lease.rates),
    charge: String(facts.charge),
    fee: String(facts.fee),
  };
}
