import type { Socket } from 'node:net';
import { expect, it, jest } from '@jest/globals';
import { COORDINATOR_HOST_LIMITS, createHost } from './host.ts';
import { newKey } from './loopback.fixture.ts';

/** What holds a process for less ends before anybody notices. */
const NOTICED_MS = 1_000;

it('leaves no timer behind that would hold the process when it has stopped', async () => {
  const armed = new Map<NodeJS.Timeout, number>();
  const { setTimeout: arm, clearTimeout: disarm } = globalThis;
  const arms = jest.spyOn(globalThis, 'setTimeout').mockImplementation(((work: () => void, ms = 0) => {
    const timer = arm(() => {
      armed.delete(timer);
      work();
    }, ms);
    armed.set(timer, ms);
    return timer;
  }) as typeof setTimeout);
  const disarms = jest.spyOn(globalThis, 'clearTimeout').mockImplementation((timer) => {
    armed.delete(timer as NodeJS.Timeout);
    disarm(timer);
  });
  try {
    const host = await createHost({
      privateKeyHex: newKey(),
      listen: ['/ip4/127.0.0.1/tcp/0'],
      announce: [],
      limits: COORDINATOR_HOST_LIMITS,
    });
    await host.stop();
    expect([...armed].filter(([timer, ms]) => ms >= NOTICED_MS && timer.hasRef()).map(([, ms]) => ms)).toEqual([]);
  } finally {
    arms.mockRestore();
    disarms.mockRestore();
  }
});

it('writes an encrypted frame, its length and all, by one call of the system', async () => {
  const hosts = await Promise.all(
    [1, 2].map(() =>
      createHost({
        privateKeyHex: newKey(),
        listen: ['/ip4/127.0.0.1/tcp/0'],
        announce: [],
        limits: COORDINATOR_HOST_LIMITS,
      }),
    ),
  );
  const [near, far] = hosts;
  if (near === undefined || far === undefined) throw new Error('two hosts were made');
  const calls: number[] = [];
  try {
    const arrived = new Promise<void>((resolve) => {
      void far.handle('/test/1', (stream) => stream.addEventListener('message', () => resolve()));
    });
    const connection = await near.dial(far.getMultiaddrs());
    const stream = await connection.newStream('/test/1');
    await new Promise((resolve) => setTimeout(resolve, 50));
    // libp2p's own, not in its interface.
    const { maConn } = connection as unknown as { readonly maConn: { readonly socket: Socket } }; // libp2p's own, not in its interface
    const { socket } = maConn;
    const [one, many] = [socket._write.bind(socket), socket._writev?.bind(socket)];
    socket._write = (...write) => {
      calls.push(1);
      one(...write);
    };
    socket._writev = (...write) => {
      calls.push(write[0].length);
      many?.(...write);
    };
    stream.send(new Uint8Array([1, 2, 3]));
    await arrived;
    expect(calls).toEqual([2]);
  } finally {
    await Promise.all(hosts.map(async (host) => await host.stop()));
  }
});
