import type { Connection } from '@libp2p/interface';
import type { Socket } from 'node:net';

/**
 * libp2p writes the length of an encrypted frame to the socket, and then the frame: two calls of the system and two packets for each,
 * and of several frames that leave in one turn two for each of them. What is written in one turn goes out together at its end.
 */
export function writeTogether(connection: Connection): void {
  const { maConn } = connection as unknown as { readonly maConn?: Partial<SocketConnection> }; // libp2p's own, not in its interface
  const { socket, sendData, sendReset } = maConn ?? {};
  // Of another version, or no socket: left as it is.
  if (maConn === undefined || socket === undefined || sendData === undefined || sendReset === undefined) return;
  let isHeld = false;
  const release = (): void => {
    if (isHeld) socket.uncork();
    isHeld = false;
  };
  maConn.sendData = function (this: SocketConnection, data) {
    if (!isHeld) {
      isHeld = true;
      socket.cork();
      process.nextTick(release);
    }
    return sendData.call(this, data);
  };
  // A reset drops what is still held: a last word goes before it.
  maConn.sendReset = function (this: SocketConnection, error) {
    release();
    sendReset.call(this, error);
  };
}

/** What is used of libp2p's connection over TCP. */
interface SocketConnection {
  readonly socket: Pick<Socket, 'cork' | 'uncork'>;
  sendData(this: SocketConnection, data: unknown): unknown;
  sendReset(this: SocketConnection, error: Error): void;
}
