import {
  addUsage,
  auditDues,
  AUDITORS_NEEDED,
  drawRows,
  drawSeed,
  drawSegments,
  dueFor,
  knownRows,
  rowsToAudit,
  segmentsToAudit,
  feeOf,
  type Amount,
  type AuditDue,
  type Usage,
} from '@freehold/domain';
import { segmentSteps, type LeaseRef } from '@freehold/protocol';
import type { Blocks } from './ports/blocks.ts';
import type { AuditFinding, DeliveredRow, LeaseView, WrongAuditor } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import type { Signer } from './ports/signer.ts';
import { auditRows, BENCH_MS, type Audited, type AuditPorts } from './audit-rows.ts';
import { outputOf } from './finalize-batch.ts';
import { countersign } from './run-lease.ts';
import { segmentObject } from './segment-object.ts';
import { evaluateResult } from './training/evaluate-result.ts';
import { leaseEvents } from './training/lease-events.ts';
import { fromHex, toHex } from './hex.ts';
import { receiptDocument } from './receipt-document.ts';

export interface VerifyPorts extends AuditPorts {
  readonly link: ProviderLink;
  readonly signer: Signer;
  readonly blocks: Blocks;
  /** Bound to (task, epoch) and secret until the draw: the coordinator's part of the seed. */
  readonly drawSecret: (lease: LeaseRef) => Uint8Array;
  readonly feeBps: number;
}

export type Verified =
  | {
      readonly done: true;
      readonly outcome: 'accepted' | 'rejected' | 'fenced';
      /** The outbox row of the voucher, when it is ours to issue now. */
      readonly settle?: string;
      /** Every row of its job is over: that is filed to be finalized. */
      readonly endedJob?: boolean;
    }
  /** Not yet: the block of the draw is not there, or no auditor answered. The queue asks again. */
  | {
      readonly done: false;
      readonly why: string;
      readonly retryInMs: number;
      /** Nothing changes before this block is there: whoever follows the chain need not ask again until then. */
      readonly block?: bigint;
    };

/**
 * Draw → audit → accept or reject. Every step is saved before the next, so that a second run of the same message goes on
 * where the first one died and never draws twice.
 */
export async function verifyResult(ports: VerifyPorts, ref: LeaseRef, signal: AbortSignal): Promise<Verified> {
  const lease = await ports.leases.view(ref);
  if (lease === null || lease.state !== 'delivered' || lease.taskEpoch !== ref.epoch)
    return { done: true, outcome: 'fenced' };
  const drawn = await drawOnce(ports, lease);
  if (!('rows' in drawn)) return { done: false, why: 'waiting for the block of the draw', retryInMs: 300, ...drawn };
  const delivered = await ports.leases.delivered(lease);
  const audited = await auditRows(ports, { lease, delivered, drawn: drawn.rows, seed: drawn.seed }, signal);
  if (audited === null) return { done: false, why: 'no auditor answered', retryInMs: 2_000 };
  const { findings, condemned, wrong } = audited;
  if (condemned.length + wrong.length > 0 && (await isOutdated(ports, lease, audited))) return OUTDATED;
  if (wrong.length > 0) await ports.leases.benchAuditors(wrong, BENCH_MS);
  if (condemned.length > 0) return rejectLease(ports, lease, audited, delivered);
  const needed = AUDITORS_NEEDED[lease.verify];
  const unheard = drawn.rows.filter((rowNo) => findings.filter((finding) => finding.rowNo === rowNo).length < needed);
  // Asked for, and paid for: without it nothing is delivered, and the deadline ends the wait.
  if (unheard.length > 0)
    return { done: false, why: `${unheard.length} rows wait for ${needed} auditors`, retryInMs: 2_000 };
  return acceptLease(ports, lease, delivered, drawn, audited, signal);
}

/** What was found meanwhile is weighed at once. */
const OUTDATED: Verified = { done: false, why: 'another audit of it found something meanwhile', retryInMs: 0 };

/**
 * Whether another scheduler's audit of the lease, which went on beside ours, found what we did not weigh: nobody is paid over an objection.
 * A row has only so many opinions, so this is not so for ever.
 */
async function isOutdated({ leases }: VerifyPorts, lease: LeaseView, { findings }: Audited): Promise<boolean> {
  // Of two words of one auditor the first is kept, which may be the other's.
  const nameOf = ({ rowNo, auditor, verdict }: AuditFinding): string => `${rowNo} ${auditor} ${verdict}`;
  const weighed = new Set(findings.map(nameOf));
  return (await leases.findings(lease)).some((finding) => !weighed.has(nameOf(finding)));
}

interface Drawn {
  readonly height: bigint | null;
  readonly blockHash: string | null;
  readonly secret: Uint8Array | null;
  readonly seed: Uint8Array | null;
  readonly rows: readonly number[];
}

/** The rows to audit, as row numbers of the job. Saved before anything is audited. */
async function drawOnce(ports: VerifyPorts, lease: LeaseView): Promise<Drawn | { readonly block?: bigint }> {
  const rows = lease.checkpointRows;
  const isTraining = lease.kind === 'fine-tune';
  const count = isTraining ? segmentsToAudit(lease.verify, rows) : await rowsDue(ports, lease, rows);
  if (lease.drawRows === null && count === 0)
    return { height: null, blockHash: null, secret: null, seed: null, rows: [] };
  // A lease that was cut at a checkpoint was committed when the checkpoint was signed: any later block will do. Which one is
  // kept, or each look would wait for a block after the newest.
  const height = lease.drawHeight ?? (await ports.leases.fixDrawHeight(lease, await ports.blocks.height()));
  const blockHash = await ports.blocks.hash(height + 1n);
  const secret = ports.drawSecret(lease);
  if (lease.drawRows !== null) {
    const seed = lease.drawSeed === null ? null : fromHex(lease.drawSeed);
    return { height, blockHash, secret, seed, rows: lease.drawRows };
  }
  if (blockHash === null) return { block: height + 1n };
  if (lease.checkpointRoot === null) return {};
  const seed = drawSeed(fromHex(blockHash), secret, fromHex(lease.checkpointRoot));
  const drawn = (isTraining ? drawSegments : drawRows)(seed, rows, count).map((index) => lease.rowFrom + index);
  const saved = await ports.leases.saveDraw(lease, toHex(seed), drawn);
  return saved.moved ? { height, blockHash, secret, seed, rows: drawn } : {};
}

/** Only a sample depends on what is known of who did the work. */
async function rowsDue({ leases }: VerifyPorts, { verify, nodeId }: LeaseView, rows: number): Promise<number> {
  if (verify === 'off' || verify === 'strict') return rowsToAudit(verify, rows, { rowsKnown: 0 });
  const records = await leases.nodeRecords([nodeId]);
  const record = records.get(nodeId);
  return rowsToAudit(verify, rows, { rowsKnown: record === undefined ? 0 : knownRows(record) });
}

async function rejectLease(
  ports: VerifyPorts,
  lease: LeaseView,
  { findings, condemned, wrong }: Audited,
  delivered: readonly DeliveredRow[],
): Promise<Verified> {
  const proven = condemned.filter((row) => row.proven).length;
  const why =
    proven > 0
      ? `audit: ${proven} bad ${proven === 1 ? 'row' : 'rows'} proven`
      : `audit: ${condemned.length} rows in doubt`;
  const wouldBe = feeOf(dueFor(usageOf(delivered), lease.rates), ports.feeBps);
  const dues = duesOf(lease, delivered, honest(findings, wrong), wouldBe);
  const rejected = await ports.leases.reject(lease, why, proven, proven > 0 ? BENCH_MS : 0, dues);
  if (!rejected.moved) return { done: true, outcome: 'fenced' };
  if (lease.kind === 'fine-tune') await ports.training?.fineTunes.note(lease.jobId, leaseEvents.rejected(lease, why));
  for (const voided of rejected.voided)
    ports.link.tell(lease.nodeId, { type: 'rejected', lease: { task: voided.task, epoch: voided.epoch }, why });
  return { done: true, outcome: 'rejected' };
}

function usageOf(delivered: readonly DeliveredRow[]): Usage {
  return delivered.reduce<Usage>((sum, row) => addUsage(sum, row.usage), {});
}

/** Without what was said by auditors that were proven wrong: nobody pays for a lie. */
function honest(findings: readonly AuditFinding[], wrong: readonly WrongAuditor[]): readonly AuditFinding[] {
  const liars = new Set(wrong.map(({ nodeId }) => nodeId));
  return findings.filter(({ auditor }) => !liars.has(auditor));
}

/** What other operators' nodes are due for the rows they ran again; our own engine is paid by nobody. */
function duesOf(
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  findings: readonly AuditFinding[],
  budget: Amount,
): readonly AuditDue[] {
  const usage = new Map(delivered.map((row) => [row.rowNo, row.usage]));
  const audited = findings
    .filter(({ auditorKind }) => auditorKind === 'node')
    .map(({ auditor, rowNo }) => ({ auditor, usage: usage.get(rowNo) ?? {} }));
  return auditDues(audited, lease.rates, budget);
}

async function acceptLease(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  drawn: Drawn,
  result: Audited,
  signal: AbortSignal,
): Promise<Verified> {
  const { findings, wrong } = result;
  const usage = usageOf(delivered);
  const audited = new Set(findings.filter((finding) => finding.verdict !== 'unsure').map((finding) => finding.rowNo))
    .size;
  const root = lease.checkpointRoot;
  if (root === null) throw new Error(`task ${lease.task} was delivered without a commitment`);
  const countersignature = drawn.height === null ? null : await countersign(ports, lease, root, drawn.height);
  const passed = await passesEvaluation(ports, lease, delivered, signal);
  if (drawn.rows.length > 0 && (await isOutdated(ports, lease, result))) return OUTDATED;
  const accepted = await ports.leases.accept({
    task: lease.task,
    epoch: lease.epoch,
    rows: delivered.length,
    rowsSucceeded: delivered.filter((row) => row.succeeded).length,
    audited,
    draw: audited === 0 ? 'none' : 'coordinator',
    usage,
    due: passed ? dueFor(usage, lease.rates) : 0n,
    feeBps: ports.feeBps,
    audits: (fee) => duesOf(lease, delivered, honest(findings, wrong), fee),
    root,
    document: (charge, fee) =>
      receiptDocument({ lease, delivered, drawn, countersignature, findings, usage, charge, fee }),
  });
  if (accepted.moved && lease.kind === 'fine-tune') await noteAccepted(ports, lease, delivered, audited);
  if (!accepted.moved) return { done: true, outcome: 'fenced' };
  const { settle, jobDone: endedJob } = accepted;
  return {
    done: true,
    outcome: 'accepted',
    ...(endedJob ? { endedJob } : {}),
    ...(settle === undefined ? {} : { settle }),
  };
}

/** Whether what a fine-tune came to is what its requester asked for. Only the lease with the last segment is asked. */
async function passesEvaluation(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  signal: AbortSignal,
): Promise<boolean> {
  const last = delivered.at(-1);
  if (lease.kind !== 'fine-tune' || ports.training === undefined || last === undefined) return true;
  const [piece] = await ports.objects.readPieces(segmentObject(lease), [last]);
  return evaluateResult(ports.training, lease.jobId, last.rowNo, outputOf(piece), signal);
}

async function noteAccepted(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  audited: number,
): Promise<void> {
  const fineTunes = ports.training?.fineTunes;
  const planned = (await fineTunes?.find(lease.jobId))?.planned ?? null;
  if (fineTunes === undefined || planned === null) return;
  const outputs = (await ports.objects.readPieces(segmentObject(lease), delivered)).map(outputOf);
  const curve = outputs.flatMap((output, at) => {
    const segment = lease.rowFrom + at;
    return output.kind === 'segment'
      ? leaseEvents.accepted(segment, segmentSteps(planned.plan, segment).from, output)
      : [];
  });
  await fineTunes.note(lease.jobId, [...curve, ...leaseEvents.verified(lease, delivered.length, audited)]);
}
