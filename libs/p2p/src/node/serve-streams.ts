import type { Stream } from '@libp2p/interface';
import {
  AuditFromCoordinator,
  ROW_FRAME_BYTES_MAX,
  RowsFromCoordinator,
  STREAM_FRAME_BYTES_MAX,
  StreamFromCoordinator,
  type AuditFromNode,
  type RowsFromNode,
  type StreamFromNode,
} from '@freehold/protocol';
import { Channel, ChannelError } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import type { AuditRowFrame, NodeDuties, RowsCall } from './duties.ts';
import type { NodeLinkLimits } from './limits.ts';

/** The first frame of a stream must come soon; after it a coordinator may be silent for as long as a row takes. */
const FIRST_FRAME_MS = 10_000;
const SILENT_MS = 600_000;

function framesOf(stream: Stream, frameBytesMax: number, limits: NodeLinkLimits): FrameStream {
  return new FrameStream(stream, { frameBytesMax, frameMs: limits.frameMs, writeMs: limits.writeMs });
}

/** Serves one lease stream of `peer`. */
export async function serveRows(
  stream: Stream,
  peer: string,
  duties: NodeDuties,
  limits: NodeLinkLimits,
): Promise<void> {
  const channel = new Channel<RowsFromCoordinator, RowsFromNode>(
    framesOf(stream, ROW_FRAME_BYTES_MAX, limits),
    RowsFromCoordinator,
  );
  try {
    const lease = await channel.receive(FIRST_FRAME_MS);
    if (lease?.type !== 'lease')
      throw new ChannelError(
        'MESSAGE_UNEXPECTED',
        `A lease stream begins with its lease; ${lease?.type ?? 'nothing'} came.`,
      );
    const call: RowsCall = {
      peer,
      lease,
      receive: async () => {
        const message = await channel.receive(SILENT_MS);
        if (message?.type === 'lease')
          throw new ChannelError('MESSAGE_UNEXPECTED', 'A second lease came on one stream.');
        return message;
      },
      send: async (message) => await channel.send(message),
      close: async () => await channel.frames.close(),
      abort: (why) => channel.frames.abort(new Error(why)),
    };
    await duties.rows(call);
  } finally {
    channel.frames.abort(new Error('the lease stream ended'));
  }
}

/** Serves one of the streams that carry chats, many at once. */
export async function serveChats(
  stream: Stream,
  peer: string,
  duties: NodeDuties,
  limits: NodeLinkLimits,
): Promise<void> {
  const channel = new Channel<StreamFromCoordinator, StreamFromNode>(
    framesOf(stream, STREAM_FRAME_BYTES_MAX, limits),
    StreamFromCoordinator,
  );
  const running = new Map<number, AbortController>();
  try {
    for (;;) {
      const message = await channel.receive(Number.MAX_SAFE_INTEGER);
      if (message === null) return;
      if (message.type === 'abort') {
        running.get(message.id)?.abort();
        continue;
      }
      if (running.has(message.id))
        throw new ChannelError('MESSAGE_UNEXPECTED', `Request ${message.id} is running already.`);
      if (running.size >= limits.chatsPerStreamMax) {
        await channel.send({
          type: 'refused',
          id: message.id,
          code: 'NODE_BUSY',
          message: `This stream has ${running.size} requests under way already.`,
        });
        continue;
      }
      const controller = new AbortController();
      running.set(message.id, controller);
      const { id } = message;
      void serveChat(
        duties.chat({
          peer,
          request: message,
          signal: controller.signal,
          send: async (answer) => await channel.send({ ...answer, id } as StreamFromNode),
        }),
        channel,
        id,
      ).finally(() => running.delete(id));
    }
  } finally {
    for (const controller of running.values()) controller.abort();
    channel.frames.abort(new Error('the chat stream ended'));
  }
}

/** A failure of one request is told to its requester and leaves the others alone. */
async function serveChat(
  work: Promise<void>,
  channel: Channel<StreamFromCoordinator, StreamFromNode>,
  id: number,
): Promise<void> {
  try {
    await work;
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).slice(0, 512);
    // When this cannot be sent either, the stream is gone, and with it everyone who could be told.
    await channel.send({ type: 'error', id, code: 'NODE_FAILED', message, retryable: true }).catch(() => undefined);
  }
}

/** Serves one audit. */
export async function serveAudit(
  stream: Stream,
  peer: string,
  duties: NodeDuties,
  limits: NodeLinkLimits,
): Promise<void> {
  const channel = new Channel<AuditFromCoordinator, AuditFromNode>(
    framesOf(stream, ROW_FRAME_BYTES_MAX, limits),
    AuditFromCoordinator,
  );
  const controller = new AbortController();
  stream.addEventListener('close', () => controller.abort());
  try {
    const request = await channel.receive(FIRST_FRAME_MS);
    if (request?.type !== 'audit')
      throw new ChannelError(
        'MESSAGE_UNEXPECTED',
        `An audit stream begins with its audit; ${request?.type ?? 'nothing'} came.`,
      );
    const rows = auditRows(channel, request.rows);
    await duties.audit({
      peer,
      request,
      rows,
      signal: controller.signal,
      send: async (answer) => await channel.send(answer),
    });
    await channel.frames.close();
    // The coordinator resets the stream when it has read everything; until then the last frames must not be thrown away.
    await channel.receive(FIRST_FRAME_MS).catch(() => null);
  } finally {
    channel.frames.abort(new Error('the audit stream ended'));
  }
}

async function* auditRows(
  channel: Channel<AuditFromCoordinator, AuditFromNode>,
  count: number,
): AsyncGenerator<AuditRowFrame> {
  for (let i = 0; i < count; i += 1) {
    const row = await channel.receive(SILENT_MS);
    if (row?.type !== 'row')
      throw new ChannelError('MESSAGE_UNEXPECTED', `Row ${i + 1} of ${count} was due; ${row?.type ?? 'nothing'} came.`);
    yield row;
  }
}
