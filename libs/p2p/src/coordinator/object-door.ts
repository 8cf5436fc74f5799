import type { Connection, Stream } from '@libp2p/interface';
import type { ObjectDesk } from '@freehold/market';
import { OBJECT_CHUNK_BYTES, ObjectFromNode, type ObjectFromCoordinator } from '@freehold/protocol';
import { Channel, faultOf } from '../channel.ts';
import { FrameStream } from '../frames.ts';
import { objectBody, sendObject } from '../object-bytes.ts';
import type { LinkLimits } from './limits.ts';

type ObjectChannel = Channel<ObjectFromNode, ObjectFromCoordinator>;

/** The coordinator's end of object streams: what was lent may be read, what a lease waits for may be brought. */
export class ObjectDoor {
  readonly #desk: ObjectDesk;
  readonly #limits: LinkLimits;

  constructor(desk: ObjectDesk, limits: LinkLimits) {
    this.#desk = desk;
    this.#limits = limits;
  }

  /** Serves one object. Never throws: a stranger must not be able to. Returns what went wrong, for the log. */
  async serve(stream: Stream, connection: Connection): Promise<{ code: string; message: string } | null> {
    const frames = new FrameStream(stream, {
      frameBytesMax: OBJECT_CHUNK_BYTES,
      frameMs: this.#limits.frameMs,
      writeMs: this.#limits.writeMs,
    });
    const channel: ObjectChannel = new Channel<ObjectFromNode, ObjectFromCoordinator>(frames, ObjectFromNode);
    const nodeId = connection.remotePeer.toString();
    try {
      const asked = await channel.receive(this.#limits.helloMs);
      if (asked?.type === 'get') await this.#give(channel, nodeId, asked.sha256);
      else if (asked?.type === 'put') await this.#take(channel, nodeId, asked.sha256, asked.bytes);
      await frames.close();
      // The node closes its half when it has read everything.
      await frames.read(this.#limits.helloMs);
      return null;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { code: faultOf(error) ?? 'OBJECT', message };
    } finally {
      frames.abort(new Error('the object stream ended'));
    }
  }

  async #give(channel: ObjectChannel, nodeId: string, sha256: string): Promise<void> {
    const found = await this.#desk.read(nodeId, sha256);
    if (found === null)
      return await channel.send({
        type: 'refused',
        code: 'NOT_LENT',
        message: `${sha256.slice(0, 12)}… was not lent to this node by this process, or not lately.`,
      });
    await channel.send({ type: 'object', bytes: found.bytes });
    await sendObject(channel.frames, found.body);
  }

  async #take(channel: ObjectChannel, nodeId: string, sha256: string, bytes: number): Promise<void> {
    let kept = await this.#desk.mayBring(nodeId, sha256, bytes);
    if (kept === null) {
      await channel.send({ type: 'send' });
      kept = await this.#desk.keep(sha256, bytes, objectBody(channel.frames, bytes, this.#limits.frameMs));
    }
    await channel.send(kept.kept ? { type: 'kept' } : { type: 'refused', code: kept.code, message: kept.message });
  }
}
