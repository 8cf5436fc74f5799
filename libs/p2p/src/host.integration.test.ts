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
