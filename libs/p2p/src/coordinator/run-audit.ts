import type { Connection } from '@libp2p/interface';
import {
  AUDIT_PROTOCOL,
  AuditFromNode,
  ROW_FRAME_BYTES_MAX,
  type AuditFromCoordinator,
  type RowScore,
  type Work,
  type WorkOutput,
} from '@freehold/protocol';
import { Channel, faultOf } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import type { LinkLimits } from './limits.ts';

export interface AuditRow {
  readonly rowNo: number;
  readonly work: Work;
  readonly committed: WorkOutput;
}

/** Said by this side alone: who hears one of them takes its auditor for one that could do nothing about it. */
const OWN_CODES: readonly string[] = ['NODE_GONE', 'AUDIT_UNSENT'];

export type AuditAnswer =
  { readonly scores: readonly RowScore[] } | Extract<AuditFromNode, { type: 'refused' | 'error' }>;

/** Sends committed rows to an auditor and collects one score for each, in whatever order they come. */
export async function runAudit(
  connection: Connection,
  request: { readonly id: string; readonly model: string; readonly digest: string },
  rows: readonly AuditRow[],
  signal: AbortSignal,
  limits: LinkLimits,
): Promise<AuditAnswer> {
  let frames: FrameStream | null = null;
  let unsent = false;
  const onAbort = (): void => frames?.abort(new Error('the audit was given up'));
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const stream = await connection.newStream(AUDIT_PROTOCOL, {
      signal: AbortSignal.any([signal, AbortSignal.timeout(limits.openStreamMs)]),
      maxOutboundStreams: limits.host.outboundStreamsMax,
    });
    frames = new FrameStream(stream, {
      frameBytesMax: ROW_FRAME_BYTES_MAX,
      frameMs: limits.frameMs,
      // It reads a row when it has scored the one before.
      writeMs: limits.auditRowMs,
    });
    const channel = new Channel<AuditFromNode, AuditFromCoordinator>(frames, AuditFromNode);
    await channel.send({ type: 'audit', ...request, rows: rows.length });
    // What cannot be sent is not waited for; nobody else hears of it, and an error that nobody hears of ends the process.
    const sending = sendRows(channel, rows).catch((error: unknown) => {
      unsent = faultOf(error) === 'FRAME_TOO_LARGE';
      channel.frames.abort(error instanceof Error ? error : new Error(String(error)));
    });
    const answer = await collect(channel, rows, limits);
    if ('scores' in answer) await sending;
    return answer;
  } catch (error) {
    return {
      type: 'error',
      code: unsent ? 'AUDIT_UNSENT' : 'AUDIT_CUT',
      message: (error instanceof Error ? error.message : String(error)).slice(0, 512),
    };
  } finally {
    signal.removeEventListener('abort', onAbort);
    frames?.abort(new Error('the audit is over'));
  }
}

async function sendRows(
  channel: Channel<AuditFromNode, AuditFromCoordinator>,
  rows: readonly AuditRow[],
): Promise<void> {
  for (const { rowNo, work, committed } of rows) await channel.send({ type: 'row', rowNo, work, committed });
}

async function collect(
  channel: Channel<AuditFromNode, AuditFromCoordinator>,
  rows: readonly AuditRow[],
  limits: LinkLimits,
): Promise<AuditAnswer> {
  const open = new Set(rows.map((row) => row.rowNo));
  const scores: RowScore[] = [];
  while (open.size > 0) {
    const message = await channel.receive(limits.auditRowMs);
    if (message === null)
      return {
        type: 'error',
        code: 'AUDIT_CUT',
        message: `The auditor closed the stream with ${open.size} of ${rows.length} rows open.`,
      };
    if (message.type !== 'score') return ofTheNode(message);
    if (!open.delete(message.score.rowNo))
      return {
        type: 'error',
        code: 'AUDIT_MALFORMED',
        message: `The auditor scored row ${message.score.rowNo}, which it was not asked for.`,
      };
    scores.push(message.score);
  }
  return { scores };
}

/** A code is the node's free text: one of ours would free it of the blame for leaving an audit unanswered. */
function ofTheNode(answer: Extract<AuditFromNode, { code: string }>): AuditAnswer {
  return OWN_CODES.includes(answer.code) ? { ...answer, code: 'AUDIT_REFUSED' } : answer;
}
