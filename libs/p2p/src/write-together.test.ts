import { Writable } from 'node:stream';
import { expect, it } from '@jest/globals';
import type { Connection } from '@libp2p/interface';
import { writeTogether } from './write-together.ts';

/** A connection as libp2p makes one over a socket, with what reached the system, call by call. */
function connection() {
  const calls: string[] = [];
  const socket = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      calls.push(String(chunk));
      done();
    },
    writev: (chunks, done) => {
      calls.push(chunks.map(({ chunk }) => String(chunk)).join('+'));
      done();
    },
  });
  const maConn = {
    socket,
    sendData: (data: readonly string[]) => ({ canSendMore: data.every((one) => socket.write(one)) }),
    sendReset: () => {
      calls.push('reset');
      socket.destroy();
    },
  };
  writeTogether({ maConn } as unknown as Connection); // the part of libp2p's own class that is used
  return { calls, maConn, socket };
}

it('hands over once what is written in one turn, in its order', async () => {
  const { calls, maConn } = connection();
  await Promise.resolve().then(() => maConn.sendData(['2', 'ab']));
  maConn.sendData(['1', 'c']);
  await new Promise(setImmediate);
  expect(calls).toEqual(['2+ab+1+c']);
  maConn.sendData(['1', 'd']);
  await new Promise(setImmediate);
  expect(calls).toEqual(['2+ab+1+c', '1+d']);
});

it('lets a last word go before a reset, and before an end', async () => {
  const reset = connection();
  reset.maConn.sendData(['goodbye']);
  reset.maConn.sendReset();
  await new Promise(setImmediate);
  expect(reset.calls).toEqual(['goodbye', 'reset']);
  const ended = connection();
  ended.maConn.sendData(['goodbye']);
  ended.socket.end();
  await new Promise(setImmediate);
  expect(ended.calls).toEqual(['goodbye']);
});

it('leaves a connection as it is that it does not know', () => {
  expect(() => writeTogether({} as Connection)).not.toThrow();
});
