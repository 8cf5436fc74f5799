import { AUDITORS_NEEDED, isInDoubt, isTested, secondLook, weighRow } from '@freehold/domain';
import type { RowScore } from '@freehold/protocol';
import type { Auditor } from './auditor.ts';
import type { Auditors } from './choose-auditor.ts';
import { committedRows, type CommittedPorts, type CommittedRow } from './committed-rows.ts';
import { judgeRow } from './judge-row.ts';
import type { AuditFinding, DeliveredRow, LeaseView, WrongAuditor } from './ports/lease-store.ts';
import { testedRow } from './test-row.ts';
import { objectsOf } from './training/segment-works.ts';

/** How long a node whose row, or whose audit, was proven wrong gets no work. */
export const BENCH_MS = 24 * 3_600_000;
/** How many different auditors are asked about one row before "unsure" stays unsure, in all runs of its verdict: a receipt names each. */
export const OPINIONS_MAX = 3;

export interface AuditPorts extends CommittedPorts {
  readonly auditors: Auditors;
}

/** What was said of the drawn rows, and what came of it. */
export interface Audited {
  readonly findings: readonly AuditFinding[];
  readonly condemned: readonly CondemnedRow[];
  /** Auditors that were proven wrong about a row. */
  readonly wrong: readonly WrongAuditor[];
}

export interface CondemnedRow {
  readonly rowNo: number;
  /** Two auditors of different operators agree, or the coordinator's own engine says so: only that is held against the node. */
  readonly proven: boolean;
}

/** A lease, its rows and the seed of their draw. */
interface Audit {
  readonly lease: LeaseView;
  readonly delivered: readonly DeliveredRow[];
  readonly drawn: readonly number[];
  readonly seed: Uint8Array | null;
}

/**
 * Audits what has no finding yet. A bad or unsure row goes to further auditors, a few passed ones too; an objection is heard by the
 * coordinator's own engine first. Null when nobody answered.
 */
export async function auditRows(ports: AuditPorts, audit: Audit, signal: AbortSignal): Promise<Audited | null> {
  const { lease, drawn } = audit;
  // Of rows that were not drawn nobody said anything.
  const findings = drawn.length === 0 ? [] : [...(await ports.leases.findings(lease))];
  const wanted = opinionsWanted(audit);
  const weigh = (rowNo: number) => weighRow(of(findings, rowNo), wanted(rowNo));
  let used: ReadonlySet<string> = new Set(findings.map((finding) => finding.auditor));
  for (let round = 0; round < OPINIONS_MAX; round += 1) {
    // An earlier run may have asked already.
    const open = drawn.filter((rowNo) => of(findings, rowNo).length < OPINIONS_MAX && weigh(rowNo).outcome === 'open');
    if (open.length === 0) break;
    const auditor = await ports.auditors.next(lease, used, needsJudge(open, findings, lease));
    if (auditor === null) break;
    used = new Set([...used, auditor.id]);
    const fresh = await auditor.answer(() => askTested(ports, auditor, audit, open, signal), signal);
    if (fresh === null) continue;
    if ('lied' in fresh) {
      await ports.leases.benchAuditors([{ nodeId: auditor.id, why: fresh.lied }], BENCH_MS);
      continue;
    }
    await ports.leases.saveFindings(lease, fresh);
    findings.push(...fresh);
  }
  // Whom it was not waited for may have more to say.
  signal.throwIfAborted();
  const unheard = drawn.some((rowNo) => of(findings, rowNo).length === 0);
  // Nobody can audit this model: the receipt says so with `audited: 0`. Somebody can but did not answer: ask again.
  if (unheard && (await ports.auditors.anyFor(lease))) return null;
  const condemned = drawn.flatMap((rowNo): CondemnedRow[] => {
    const { outcome, proven } = weigh(rowNo);
    if (outcome === 'bad') return [{ rowNo, proven }];
    return outcome === 'open' && isInDoubt(of(findings, rowNo)) ? [{ rowNo, proven: false }] : [];
  });
  return { findings, condemned, wrong: overruled(lease, findings, drawn, weigh) };
}

function of(findings: readonly AuditFinding[], rowNo: number): readonly AuditFinding[] {
  return findings.filter((finding) => finding.rowNo === rowNo);
}

/** Whether what is asked now is who is right: about an objection, or about rows that were passed already. */
function needsJudge(open: readonly number[], findings: readonly AuditFinding[], lease: LeaseView): boolean {
  const said = (rowNo: number, what: AuditFinding['verdict']): number =>
    of(findings, rowNo).filter(({ verdict }) => verdict === what).length;
  const least = Math.max(1, AUDITORS_NEEDED[lease.verify]);
  return open.some((rowNo) => said(rowNo, 'bad') > 0) || open.every((rowNo) => said(rowNo, 'good') >= least);
}

/** Good words that settle a row: what the dial asks for, and one more where passed rows are looked at twice. */
function opinionsWanted({ lease, drawn, seed }: Audit): (rowNo: number) => number {
  const least = Math.max(1, AUDITORS_NEEDED[lease.verify]);
  const twice = new Set(seed === null ? [] : secondLook(seed, lease.kind === 'fine-tune' ? drawn.slice(0, 1) : drawn));
  return (rowNo) => (twice.has(rowNo) ? Math.max(2, least) : least);
}

/** Nodes that said the contrary of what was proven, with the first row of each. */
function overruled(
  lease: LeaseView,
  findings: readonly AuditFinding[],
  drawn: readonly number[],
  weigh: (rowNo: number) => ReturnType<typeof weighRow>,
): WrongAuditor[] {
  const wrong = new Map<string, string>();
  for (const rowNo of drawn) {
    const { outcome, wrong: against } = weigh(rowNo);
    for (const nodeId of against) {
      const said = of(findings, rowNo).find(({ auditor }) => auditor === nodeId)?.verdict ?? 'otherwise';
      const why = `audit: called row ${rowNo} of task ${lease.task} ${said}, which is proven ${outcome}`;
      if (!wrong.has(nodeId)) wrong.set(nodeId, why);
    }
  }
  return [...wrong].map(([nodeId, why]) => ({ nodeId, why }));
}

/** Asks one auditor; now and then with a row among the others that is wrong on purpose, which only who looks can know. */
async function askTested(
  ports: AuditPorts,
  auditor: Auditor,
  audit: Audit,
  rowNos: readonly number[],
  signal: AbortSignal,
): Promise<AuditFinding[] | { readonly lied: string } | null> {
  const { lease, delivered, seed } = audit;
  const rows = await committedRows(ports, lease, delivered, rowNos);
  if (rows === null) return null;
  const test =
    auditor.kind === 'node' && seed !== null && isTested(seed, auditor.id)
      ? await testedRow(ports, lease, delivered, rows)
      : null;
  if (test === null) return askAuditor(ports, auditor, lease, rows, signal);
  const answered = await askAuditor(
    ports,
    auditor,
    lease,
    rows.map((row) => (row.rowNo === test.rowNo ? test : row)),
    signal,
  );
  if (answered === null) return null;
  const said = answered.find(({ rowNo }) => rowNo === test.rowNo);
  if (said?.verdict === 'good') return { lied: 'audit: passed a row that was made wrong to see whether it looks' };
  const own = await askAuditor(
    ports,
    auditor,
    lease,
    rows.filter(({ rowNo }) => rowNo === test.rowNo),
    signal,
  );
  // All of it or nothing: an auditor that was heard is not asked again, and the row would wait for ever.
  return own === null ? null : [...answered.filter(({ rowNo }) => rowNo !== test.rowNo), ...own];
}

async function askAuditor(
  ports: AuditPorts,
  auditor: Auditor,
  lease: LeaseView,
  rows: readonly CommittedRow[],
  signal: AbortSignal,
): Promise<AuditFinding[] | null> {
  for (const { work, committed } of rows) ports.training?.desk.lend(auditor.id, objectsOf(work, committed));
  const scores = await auditor.score(lease, rows, signal);
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
        sameClass: auditor.sameClass,
        score: { why: judgement.why, ...summary(score) },
      },
    ];
  });
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
