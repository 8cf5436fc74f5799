import type { Connection } from '@libp2p/interface';
import { OBJECT_CHUNK_BYTES, OBJECT_PROTOCOL, ObjectFromCoordinator, type ObjectFromNode } from '@freehold/protocol';
import { Channel, ChannelError } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import { objectBody, sendObject } from '../object-bytes.ts';
import type { NodeLinkLimits } from './limits.ts';

type ObjectChannel = Channel<ObjectFromCoordinator, ObjectFromNode>;

/** The coordinator's disk may be busy with others' checkpoints. */
const ANSWER_MS = 60_000;

/** The coordinator did not give or take an object. */
export class ObjectRefused extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'ObjectRefused';
    this.code = code;
  }
}

/** An object's bytes as they come. Whoever takes them checks their hash. @throws {ObjectRefused} */
export async function* fetchObject(
  connection: Connection,
  sha256: string,
  limits: NodeLinkLimits,
): AsyncGenerator<Uint8Array, void, undefined> {
  const channel = await openChannel(connection, limits);
  try {
    await channel.send({ type: 'get', sha256 });
    const answer = await channel.receive(ANSWER_MS);
    if (answer?.type === 'refused') throw new ObjectRefused(answer.code, answer.message);
    if (answer?.type !== 'object') throw unexpected(answer);
    yield* objectBody(channel.frames, answer.bytes, limits.frameMs);
  } finally {
    channel.frames.abort(new Error('read'));
  }
}

/** Brings an object; nothing is sent when it is there already. @throws {ObjectRefused} */
export async function bringObject(
  connection: Connection,
  object: { readonly sha256: string; readonly bytes: number; readonly body: () => AsyncIterable<Uint8Array> },
  limits: NodeLinkLimits,
): Promise<void> {
  const channel = await openChannel(connection, limits);
  try {
    await channel.send({ type: 'put', sha256: object.sha256, bytes: object.bytes });
    let answer = await channel.receive(ANSWER_MS);
    if (answer?.type === 'send') {
      await sendObject(channel.frames, object.body());
      answer = await channel.receive(ANSWER_MS);
    }
    if (answer?.type === 'refused') throw new ObjectRefused(answer.code, answer.message);
    if (answer?.type !== 'kept') throw unexpected(answer);
  } finally {
    channel.frames.abort(new Error('brought'));
  }
}

async function openChannel(connection: Connection, limits: NodeLinkLimits): Promise<ObjectChannel> {
  const stream = await connection.newStream(OBJECT_PROTOCOL, { signal: AbortSignal.timeout(limits.dialMs) });
  const frames = new FrameStream(stream, {
    frameBytesMax: OBJECT_CHUNK_BYTES,
    frameMs: limits.frameMs,
    writeMs: limits.writeMs,
  });
  return new Channel<ObjectFromCoordinator, ObjectFromNode>(frames, ObjectFromCoordinator);
}

function unexpected(answer: ObjectFromCoordinator | null): ChannelError {
  return new ChannelError('MESSAGE_UNEXPECTED', `An object was due; ${answer?.type ?? 'the end of the stream'} came.`);
}
