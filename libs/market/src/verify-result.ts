import {
  addUsage,
  auditDues,
  AUDITORS_NEEDED,
  drawRows,
  drawSeed,
  drawSegments,
  dueFor,
  judgeSegment,
  judgeText,
  judgeVector,
  rowsToAudit,
  segmentsToAudit,
  feeOf,
  type Amount,
  type AuditDue,
  type Judgement,
  type Usage,
} from '@freehold/domain';
import {
  segmentSteps,
  type LeaseRef,
  type RequestWork,
  type RowScore,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import type { Blocks } from './ports/blocks.ts';
import type { AuditFinding, DeliveredRow, LeaseStore, LeaseView } from './ports/lease-store.ts';
import type { ObjectStore } from './ports/object-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';
import type { Signer } from './ports/signer.ts';
import type { Auditors, Auditor } from './choose-auditor.ts';
import { outputOf } from './finalize-batch.ts';
import { countersign, inputObjectOf, withAdapter } from './run-lease.ts';
import { segmentObject } from './segment-object.ts';
import { evaluateResult } from './training/evaluate-result.ts';
import { leaseEvents } from './training/lease-events.ts';
import { objectsOf, segmentWork, stateAfter, stateBefore, type TrainingPorts } from './training/segment-works.ts';
import { fromHex, toHex } from './hex.ts';
import { receiptDocument } from './receipt-document.ts';

/** How long a node whose row was proven bad gets no work. */
export const BENCH_MS = 24 * 3_600_000;
/** How many different auditors are asked about one row before "unsure" stays unsure. */
const OPINIONS_MAX = 3;
const AUDIT_TIMEOUT_MS = 120_000;

export interface VerifyPorts {
  readonly leases: LeaseStore;
  readonly objects: ObjectStore;
  readonly link: ProviderLink;
  readonly signer: Signer;
  readonly blocks: Blocks;
  readonly auditors: Auditors;
  readonly readWork: (line: Uint8Array, endpoint: string) => RequestWork;
  /** Needed for fine-tunes, and for requests that name an adapter. */
  readonly training?: TrainingPorts;
  /** Bound to (task, epoch) and secret until the draw: the coordinator's part of the seed. */
  readonly drawSecret: (lease: LeaseRef) => Uint8Array;
  readonly feeBps: number;
}

export type Verified =
  | { readonly done: true; readonly outcome: 'accepted' | 'rejected' | 'fenced' }
  /** Not yet: the block of the draw is not there, or no auditor answered. The queue asks again. */
  | { readonly done: false; readonly why: string; readonly retryInMs: number };

/**
 * Draw → audit → accept or reject. Every step is saved before the next, so that a second run of the same message goes on
 * where the first one died and never draws twice.
 */
export async function verifyResult(ports: VerifyPorts, ref: LeaseRef, signal: AbortSignal): Promise<Verified> {
  const lease = await ports.leases.view(ref);
  if (lease === null || lease.state !== 'delivered' || lease.taskEpoch !== ref.epoch)
    return { done: true, outcome: 'fenced' };
  const drawn = await drawOnce(ports, lease);
  if (drawn === null) return { done: false, why: 'waiting for the block of the draw', retryInMs: 300 };
  const delivered = await ports.leases.delivered(lease);
  const findings = await auditRows(ports, lease, delivered, drawn.rows, signal);
  if (findings === null) return { done: false, why: 'no auditor answered', retryInMs: 2_000 };
  const condemned = condemnedRows(findings);
  if (condemned.length > 0) return rejectLease(ports, lease, condemned, delivered, findings);
  const needed = AUDITORS_NEEDED[lease.verify];
  const unheard = drawn.rows.filter((rowNo) => findings.filter((finding) => finding.rowNo === rowNo).length < needed);
  // Asked for, and paid for: without it nothing is delivered, and the deadline ends the wait.
  if (unheard.length > 0)
    return { done: false, why: `${unheard.length} rows wait for ${needed} auditors`, retryInMs: 2_000 };
  return acceptLease(ports, lease, delivered, drawn, findings, signal);
}

interface Drawn {
  readonly height: bigint | null;
  readonly blockHash: string | null;
  readonly secret: Uint8Array | null;
  readonly rows: readonly number[];
}

/** The rows to audit, as row numbers of the job. Saved before anything is audited. */
async function drawOnce(ports: VerifyPorts, lease: LeaseView): Promise<Drawn | null> {
  const rows = lease.checkpointRows;
  const records = await ports.leases.nodeRecords([lease.nodeId]);
  const isTraining = lease.kind === 'fine-tune';
  const count = isTraining
    ? segmentsToAudit(lease.verify, rows)
    : rowsToAudit(lease.verify, rows, { rowsAccepted: records.get(lease.nodeId)?.rowsAccepted ?? 0 });
  if (lease.drawRows === null && count === 0) return { height: null, blockHash: null, secret: null, rows: [] };
  // A lease that was cut at a checkpoint was committed when the checkpoint was signed: any later block will do. Which one is
  // kept, or each look would wait for a block after the newest.
  const height = lease.drawHeight ?? (await ports.leases.fixDrawHeight(lease, await ports.blocks.height()));
  const blockHash = await ports.blocks.hash(height + 1n);
  const secret = ports.drawSecret(lease);
  if (lease.drawRows !== null) return { height, blockHash, secret, rows: lease.drawRows };
  if (blockHash === null || lease.checkpointRoot === null) return null;
  const seed = drawSeed(fromHex(blockHash), secret, fromHex(lease.checkpointRoot));
  const drawn = (isTraining ? drawSegments : drawRows)(seed, rows, count).map((index) => lease.rowFrom + index);
  const saved = await ports.leases.saveDraw(lease, toHex(seed), drawn);
  return saved.moved ? { height, blockHash, secret, rows: drawn } : null;
}

/** Audits what has no finding yet. A bad or unsure row goes to further auditors of other operators; null when nobody answered. */
async function auditRows(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  drawn: readonly number[],
  signal: AbortSignal,
): Promise<readonly AuditFinding[] | null> {
  const findings = [...(await ports.leases.findings(lease))];
  const opinions = Math.max(1, AUDITORS_NEEDED[lease.verify]);
  let used: ReadonlySet<string> = new Set(findings.map((finding) => finding.auditor));
  for (let round = 0; round < OPINIONS_MAX; round += 1) {
    const open = drawn.filter((rowNo) =>
      needsOpinion(
        findings.filter((finding) => finding.rowNo === rowNo),
        opinions,
      ),
    );
    if (open.length === 0) return findings;
    const auditor = await ports.auditors.next(lease, used);
    if (auditor === null) break;
    used = new Set([...used, auditor.id]);
    const fresh = await askAuditor(ports, auditor, lease, delivered, open, signal);
    if (fresh === null) continue;
    await ports.leases.saveFindings(lease, fresh);
    findings.push(...fresh);
  }
  const unheard = drawn.some((rowNo) => !findings.some((finding) => finding.rowNo === rowNo));
  // Nobody can audit this model: the receipt says so with `audited: 0`. Somebody can but did not answer: ask again.
  if (unheard && (await ports.auditors.anyFor(lease))) return null;
  return findings;
}

/** A row is settled by `wanted` good findings, or by a majority against it. */
function needsOpinion(findings: readonly AuditFinding[], wanted: number): boolean {
  const good = findings.filter((finding) => finding.verdict === 'good').length;
  const bad = findings.filter((finding) => finding.verdict === 'bad').length;
  return bad > 0 ? bad < 2 && good < 2 : good < wanted;
}

interface CondemnedRow {
  readonly rowNo: number;
  /** Two auditors of different operators agree, or one and the coordinator's own engine: only that is held against the node. */
  readonly proven: boolean;
}

/**
 * Rows that at least as many auditors call bad as good. A tie that nobody can break voids the lease, because a row in doubt
 * is never delivered, but it is no proof against the node.
 */
function condemnedRows(findings: readonly AuditFinding[]): readonly CondemnedRow[] {
  return [...new Set(findings.map((finding) => finding.rowNo))].flatMap((rowNo) => {
    const same = findings.filter((finding) => finding.rowNo === rowNo);
    const against = same.filter((finding) => finding.verdict === 'bad');
    const good = same.filter((finding) => finding.verdict === 'good').length;
    if (against.length === 0 || against.length < good) return [];
    const own = against.some((finding) => finding.auditorKind === 'coordinator');
    return [{ rowNo, proven: against.length > good && (against.length >= 2 || own) }];
  });
}

async function askAuditor(
  ports: VerifyPorts,
  auditor: Auditor,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  rowNos: readonly number[],
  signal: AbortSignal,
): Promise<AuditFinding[] | null> {
  const rows = await committedRows(ports, lease, delivered, rowNos);
  if (rows === null) return null;
  for (const { work, committed } of rows) ports.training?.desk.lend(auditor.id, objectsOf(work, committed));
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(AUDIT_TIMEOUT_MS)]);
  const scores = await auditor.score(lease, rows, deadline);
  if (scores === null) return null;
  return rows.flatMap((row) => {
    const score = scores.find((candidate) => candidate.rowNo === row.rowNo);
    if (score === undefined) return [];
    const judgement = judgeRow(row.work, row.committed, score, auditor);
    return [
      {
        rowNo: row.rowNo,
        auditor: auditor.id,
        auditorKind: auditor.kind,
        verdict: judgement.verdict,
        score: { why: judgement.why, ...summary(score) },
      },
    ];
  });
}

interface CommittedRow {
  readonly rowNo: number;
  readonly work: Work;
  readonly committed: WorkOutput;
}

/** Input and committed output of the drawn rows, read back from where they were made durable; null when the lease was voided meanwhile. */
async function committedRows(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  rowNos: readonly number[],
): Promise<readonly CommittedRow[] | null> {
  const wanted = delivered.filter((row) => rowNos.includes(row.rowNo));
  if (lease.kind === 'fine-tune') return committedSegments(ports, lease, delivered, wanted);
  const outputs = await ports.objects.readPieces(segmentObject(lease), wanted);
  const inputs = await ports.leases.inputs(lease, 0);
  if (inputs === null) return null;
  const places = wanted.map((row) => inputs.rows.find((place) => place.rowNo === row.rowNo));
  if (places.some((place) => place === undefined)) throw new Error(`inputs of task ${lease.task} are gone`);
  const lines = await ports.objects.readPieces(
    inputObjectOf(lease.jobId, inputs.inputFile),
    places.filter((place) => place !== undefined),
  );
  return wanted.map((row, i) => ({
    rowNo: row.rowNo,
    work: withAdapter(ports.readWork(lines[i] ?? new Uint8Array(), inputs.endpoint), inputs.adapter),
    committed: outputOf(outputs[i]),
  }));
}

/** Segments and what each started from: the segment before it, of this lease or accepted before it. */
async function committedSegments(
  ports: VerifyPorts,
  lease: LeaseView,
  delivered: readonly DeliveredRow[],
  wanted: readonly DeliveredRow[],
): Promise<readonly CommittedRow[]> {
  const { training } = ports;
  const planned = (await training?.fineTunes.find(lease.jobId))?.planned ?? null;
  if (training === undefined || planned === null) throw new Error(`fine-tune ${lease.jobId} has no plan here`);
  const outputs = (await ports.objects.readPieces(segmentObject(lease), delivered)).map(outputOf);
  const first = await stateBefore(training, lease.jobId, lease.rowFrom);
  return wanted.map(({ rowNo }) => {
    const committed = outputs[rowNo - lease.rowFrom];
    const before = outputs[rowNo - lease.rowFrom - 1];
    if (committed === undefined) throw new Error(`segment ${rowNo} of task ${lease.task} is gone`);
    const from = before?.kind === 'segment' ? stateAfter(before) : first;
    return { rowNo, committed, work: segmentWork(planned, rowNo, from) };
  });
}

/** What an auditor's score says about one committed row. */
export function judgeRow(
  work: Work,
  committed: WorkOutput,
  score: RowScore,
  auditor: Pick<Auditor, 'sameClass' | 'exact'>,
): Judgement {
  const { sameClass } = auditor;
  if (score.kind === 'segment' && committed.kind === 'segment')
    return judgeSegment({ committed, audited: score, distance: score.distance }, sameClass && auditor.exact);
  if (score.kind === 'failed')
    return score.agrees
      ? { verdict: 'good', why: null }
      : { verdict: 'bad', why: `failed with ${score.code} where the auditor has an answer` };
  if (committed.kind === 'failed')
    return { verdict: 'bad', why: `refused with ${committed.code} what the auditor could run` };
  if (score.kind === 'chat' && committed.kind === 'chat' && work.kind === 'chat') {
    return judgeText(
      {
        committedText: committed.text,
        auditedText: score.text,
        committedFinish: committed.finish,
        auditedFinish: score.finish ?? committed.finish,
        committedUnitsIn: committed.unitsIn,
        auditedUnitsIn: score.unitsIn,
        tokens: score.tokens,
        expectedTokens: committed.tokens.length,
      },
      sameClass,
    );
  }
  if (score.kind === 'embedding' && committed.kind === 'embedding') {
    return judgeVector(
      {
        cosine: score.cosine,
        normDifference: score.normDifference,
        committedDimensions: committed.dimensions,
        auditedDimensions: score.dimensions,
        committedUnitsIn: committed.unitsIn,
        auditedUnitsIn: score.unitsIn,
      },
      sameClass,
    );
  }
  return { verdict: 'unsure', why: `scored as ${score.kind}` };
}

/** What is kept of a score: numbers, never the text of a requester. */
function summary(score: RowScore): Record<string, unknown> {
  if (score.kind === 'chat')
    return {
      tokens: score.tokens.length,
      worstMargin: Math.max(0, ...score.tokens.map((token) => token.bestLogprob - token.logprob)),
    };
  if (score.kind === 'segment') return { stateOut: score.stateOut, distance: score.distance, tokens: score.tokens };
  return score.kind === 'embedding'
    ? { cosine: score.cosine, normDifference: score.normDifference }
    : { code: score.code };
}

async function rejectLease(
  ports: VerifyPorts,
  lease: LeaseView,
  condemned: readonly CondemnedRow[],
  delivered: readonly DeliveredRow[],
  findings: readonly AuditFinding[],
): Promise<Verified> {
  const proven = condemned.filter((row) => row.proven).length;
  const why =
    proven > 0
      ? `audit: ${proven} bad ${proven === 1 ? 'row' : 'rows'} proven`
      : `audit: ${condemned.length} rows in doubt`;
  const wouldBe = feeOf(dueFor(usageOf(delivered), lease.rates), ports.feeBps);
  const dues = duesOf(lease, delivered, findings, wouldBe);
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
  findings: readonly AuditFinding[],
  signal: AbortSignal,
): Promise<Verified> {
  const usage = usageOf(delivered);
  const audited = new Set(findings.filter((finding) => finding.verdict !== 'unsure').map((finding) => finding.rowNo))
    .size;
  const root = lease.checkpointRoot;
  if (root === null) throw new Error(`task ${lease.task} was delivered without a commitment`);
  const countersignature = drawn.height === null ? null : await countersign(ports, lease, root, drawn.height);
  const passed = await passesEvaluation(ports, lease, delivered, signal);
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
    audits: (fee) => duesOf(lease, delivered, findings, fee),
    root,
    document: (charge, fee) =>
      receiptDocument({ lease, delivered, drawn, countersignature, findings, usage, charge, fee }),
  });
  if (accepted.moved && lease.kind === 'fine-tune') await noteAccepted(ports, lease, delivered, audited);
  return { done: true, outcome: accepted.moved ? 'accepted' : 'fenced' };
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
