import { AUDIT_SILENCE_MS, ROW_MS_MAX, type RowScore, type Work, type WorkOutput } from '@freehold/protocol';
import type { Engine } from './ports/engine.ts';
import type { LeaseView } from './ports/lease-store.ts';
import type { ProviderLink } from './ports/provider-link.ts';

/** On average; beside that the first row has time of its own: the model may have to be loaded for it. */
export const AUDIT_ROW_MS = 10_000;
/** However many rows: the verdict has to come while its job is open, and its place is somebody else's next. */
export const AUDIT_MS_MAX = 1_200_000;

export const OWN_ENGINE = 'coordinator';

export interface AuditRow {
  readonly rowNo: number;
  readonly work: Work;
  readonly committed: WorkOutput;
}

/** Somebody who can run a committed row again. */
export interface Auditor {
  readonly id: string;
  readonly kind: 'node' | 'coordinator';
  /** Inside one engine class thresholds are tight. */
  readonly sameClass: boolean;
  /** Its engine gives the same bits as any other of its class. */
  readonly exact: boolean;
  /** One answer, of as many asks as `work` makes of it: it has time for all of them, or is taken for silent. Null where it has none now. */
  answer<T>(work: () => Promise<T | null>, signal: AbortSignal): Promise<T | null>;
  /** Null when it refused, broke or was silent: not a verdict about anybody. */
  score(lease: LeaseView, rows: readonly AuditRow[], signal: AbortSignal): Promise<readonly RowScore[] | null>;
}

/** What becomes of an audit that a node did not answer whole. `slow`: it is at it, or has no slot, which may last with honest nodes. */
export type Unanswered = 'silent' | 'slow';

/** Answers that are no silence. A row that is too long to be sent says nothing about who should have had it. */
const NO_TIME: readonly string[] = ['NODE_BUSY', 'AUDIT_UNSENT'];

export interface NodeAuditorPorts {
  readonly link: Pick<ProviderLink, 'audit'>;
  readonly unanswered: (nodeId: string, how: Unanswered) => void;
  readonly answer: Auditor['answer'];
  /** {@link auditLimitMs}, where it is not another. */
  readonly limitMs?: typeof auditLimitMs;
}

/**
 * What so many rows may take; a segment is trained again, which takes what it took. Who is silent is given up long before: by the link,
 * {@link AUDIT_SILENCE_MS} after its last score.
 */
export function auditLimitMs({ kind }: Pick<LeaseView, 'kind'>, rows: number): number {
  const rowMs = kind === 'fine-tune' ? ROW_MS_MAX : AUDIT_ROW_MS;
  return Math.min(AUDIT_SILENCE_MS + rows * rowMs, AUDIT_MS_MAX);
}

export function nodeAuditor(ports: NodeAuditorPorts, node: Pick<Auditor, 'id' | 'sameClass' | 'exact'>): Auditor {
  return {
    ...node,
    kind: 'node',
    answer: ports.answer,
    async score(audited, rows, signal) {
      const limit = AbortSignal.timeout((ports.limitMs ?? auditLimitMs)(audited, rows.length));
      // The id says nothing about whose work it is, so that an auditor cannot favour its friends.
      const reply = await ports.link.audit(
        node.id,
        { id: `audit-${node.id.slice(-6)}-${rows.length}`, model: audited.model, digest: audited.digest },
        rows,
        AbortSignal.any([signal, limit]),
      );
      const scores = 'scores' in reply ? reply.scores : [];
      // All of it or nothing: an auditor that was heard is not asked again, and what it left out would wait for others for ever.
      if (rows.every(({ rowNo }) => scores.some((score) => score.rowNo === rowNo))) return scores;
      const code = 'code' in reply ? reply.code : '';
      // Given up by ourselves, or never asked: neither says anything about it.
      if (signal.aborted || code === 'NODE_GONE') return null;
      ports.unanswered(node.id, limit.aborted || NO_TIME.includes(code) ? 'slow' : 'silent');
      return null;
    },
  };
}

export function ownAuditor(engine: Engine, sameClass: boolean, exact: boolean): Auditor {
  return {
    id: OWN_ENGINE,
    kind: 'coordinator',
    sameClass,
    exact,
    answer: (work) => work(),
    async score(lease, rows, signal) {
      const inTime = AbortSignal.any([signal, AbortSignal.timeout(auditLimitMs(lease, rows.length))]);
      const scores: RowScore[] = [];
      for (const row of rows) scores.push(await engine.score(lease.model, row.rowNo, row.work, row.committed, inTime));
      return scores;
    },
  };
}
