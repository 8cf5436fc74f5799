import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Consumer, QueueMessage, WorkQueue } from '@freehold/market';

/** One backend for the suite, with its ways to go wrong. */
export interface WorkQueueBench {
  /** A queue as one process has it. The suite closes it. */
  open(): Promise<WorkQueue>;
  /** What an operator must never do, and does: drops the tables, FLUSHALL. */
  loseData(): Promise<void>;
  /** Hangs up on every connection, as a restart of the backend does. */
  cutConnections(): Promise<void>;
  close(): Promise<void>;
}

const WAIT_MS = 15_000;
const LOOK_EVERY_MS = 10;

/** What every {@link WorkQueue} does. `open` makes queues whose locks live about a second, so that deaths are noticed soon. */
export function workQueueSuite(name: string, makeBench: () => Promise<WorkQueueBench>): void {
  describe(`work queue on ${name}`, () => {
    let bench: WorkQueueBench;
    let queue: WorkQueue;
    const opened: WorkQueue[] = [];
    const consumers: Consumer[] = [];

    const open = async (): Promise<WorkQueue> => {
      const another = await bench.open();
      opened.push(another);
      return another;
    };
    const listen = async (
      on: WorkQueue,
      handle: (message: QueueMessage, signal: AbortSignal) => Promise<void>,
      concurrency = 4,
    ): Promise<Consumer> => {
      const consumer = await on.consume('place', concurrency, handle);
      consumers.push(consumer);
      return consumer;
    };

    beforeAll(async () => {
      bench = await makeBench();
    });
    beforeEach(async () => {
      await Promise.all(consumers.splice(0).map((consumer) => consumer.close()));
      await bench.loseData();
      queue = await open();
      await queue.renew();
    });
    afterAll(async () => {
      await Promise.all(opened.map((each) => each.close()));
      await bench.close();
    });

    it('hands every message to a consumer with its ids', async () => {
      const seen = new Map<string, unknown>();
      await listen(queue, (message) => Promise.resolve(void seen.set(message.outboxId, message.ids)));
      await queue.publish('place', messages(1, 200));
      await until(() => seen.size === 200);
      expect(seen.get('7')).toEqual({ job: 'batch_7', row: 7 });
    });

    it('holds one message however often its outbox row is relayed while it waits', async () => {
      await queue.publish('place', messages(1, 20));
      await queue.publish('place', messages(1, 20));
      let handled = 0;
      await listen(queue, () => Promise.resolve(void handled++));
      await queue.publish('place', messages(21, 21));
      await until(() => handled === 21);
      await expect(quiet(() => handled)).resolves.toBe(21);
    });

    it('takes a message again whose handling is over: a refill is never refused', async () => {
      let handled = 0;
      await listen(queue, () => Promise.resolve(void handled++));
      await queue.publish('place', messages(1, 1));
      await until(() => handled === 1);
      await until(async () => {
        await queue.publish('place', messages(1, 1));
        return handled >= 2;
      });
    });

    it('hands a message out again until its handler ends without an error', async () => {
      const attempts = new Map<string, number>();
      await listen(queue, (message) => {
        const made = (attempts.get(message.outboxId) ?? 0) + 1;
        attempts.set(message.outboxId, made);
        return made < 3 ? Promise.reject(new Error(`attempt ${made} fails on purpose`)) : Promise.resolve();
      });
      await queue.publish('place', messages(1, 5));
      await until(() => [...attempts.values()].filter((made) => made === 3).length === 5);
    });

    it('keeps topics apart', async () => {
      let wrong = 0;
      let right = 0;
      await listen(queue, () => Promise.resolve(void wrong++));
      consumers.push(await queue.consume('verify', 1, () => Promise.resolve(void right++)));
      await queue.publish('verify', messages(1, 3));
      await until(() => right === 3);
      expect(wrong).toBe(0);
    });

    it('holds a delayed message back until its time', async () => {
      const began = performance.now();
      let cameMs = 0;
      await listen(queue, () => Promise.resolve(void (cameMs = performance.now() - began)));
      await queue.publish('place', [{ outboxId: '1', ids: {}, notBeforeMs: 600 }]);
      await until(() => cameMs > 0);
      expect(cameMs).toBeGreaterThan(550);
    });

    it('runs no more handlers at once than it was told', async () => {
      let running = 0;
      let most = 0;
      let handled = 0;
      await listen(
        queue,
        async () => {
          most = Math.max(most, ++running);
          await pause(5);
          running--;
          handled++;
        },
        3,
      );
      await queue.publish('place', messages(1, 40));
      await until(() => handled === 40);
      expect(most).toBe(3);
    });

    it('waits for a running handler when a consumer closes, and starts no other', async () => {
      let started = 0;
      let ended = 0;
      const consumer = await listen(
        queue,
        async () => {
          started++;
          await pause(150);
          ended++;
        },
        1,
      );
      await queue.publish('place', messages(1, 10));
      await until(() => started === 1);
      await consumer.close();
      expect(ended).toBe(started);
      await expect(quiet(() => started)).resolves.toBe(ended);
    });

    it('hands on what a consumer still had in hand when it was gone', async () => {
      let toldToStop = false;
      let taken = 0;
      const stuck = await listen(queue, (_message, signal) => {
        taken += 1;
        signal.addEventListener('abort', () => (toldToStop = true));
        return new Promise(() => undefined);
      });
      await queue.publish('place', messages(1, 3));
      await until(() => taken === 3);
      await stuck.close();
      expect(toldToStop).toBe(true);
      const done = new Set<string>();
      await listen(await open(), (message) => Promise.resolve(void done.add(message.outboxId)));
      await until(() => done.size === 3);
    }, 30_000);

    it('says null for its incarnation once its data is lost, and the same new id to everybody after it was renewed', async () => {
      const before = await queue.incarnation();
      expect(before).not.toBeNull();
      await bench.loseData();
      await expect(queue.incarnation()).resolves.toBeNull();
      const other = await open();
      const [mine, theirs] = await Promise.all([queue.renew(), other.renew()]);
      expect(mine).toBe(theirs);
      expect(mine).not.toBe(before);
      await expect(queue.incarnation()).resolves.toBe(mine);
    });

    it('keeps its incarnation when it is renewed without a loss', async () => {
      const before = await queue.incarnation();
      await expect(queue.renew()).resolves.toBe(before);
    });

    it('goes on with the consumers it had after its data was lost under load', async () => {
      const done = new Set<string>();
      await listen(queue, async (message) => {
        await pause(2);
        done.add(message.outboxId);
      });
      await queue.publish('place', messages(1, 400));
      await until(() => done.size > 20);
      await bench.loseData();
      await pause(700);
      await queue.renew();
      await queue.publish(
        'place',
        messages(1, 400).filter((message) => !done.has(message.outboxId)),
      );
      await until(() => done.size === 400);
    });

    it('works in a process that came up while its data was lost, once it is renewed', async () => {
      const late = await open();
      await late.renew();
      await bench.loseData();
      // Topics that this process never used before: what it makes for them now must not stay broken.
      await late.publish('settle', messages(1, 1)).catch(() => undefined);
      const done = new Set<string>();
      consumers.push(await late.consume('settle', 2, (message) => Promise.resolve(void done.add(message.outboxId))));
      await bench.loseData();
      await expect(late.incarnation()).resolves.toBeNull();
      await late.renew();
      await late.publish('settle', messages(2, 3));
      await until(() => done.has('2') && done.has('3'));
    }, 30_000);

    it('goes on with the consumers it had after every connection was cut', async () => {
      const done = new Set<string>();
      await listen(queue, async (message) => {
        await pause(2);
        done.add(message.outboxId);
      });
      await queue.publish('place', messages(1, 200));
      await until(() => done.size > 20);
      await bench.cutConnections();
      await until(() => done.size === 200);
      await retried(() => queue.publish('place', messages(201, 202)));
      await until(() => done.size === 202);
    });
  });
}

function messages(from: number, to: number): QueueMessage[] {
  return Array.from({ length: to - from + 1 }, (_, i) => ({
    outboxId: String(from + i),
    ids: { job: `batch_${from + i}`, row: from + i },
  }));
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`still not so after ${WAIT_MS} ms: ${holds.toString()}`);
    await pause(LOOK_EVERY_MS);
  }
}

/** The value once it has not changed for a while. */
async function quiet(value: () => number): Promise<number> {
  await pause(200);
  return value();
}

async function retried(action: () => Promise<void>): Promise<void> {
  await until(async () => {
    try {
      await action();
      return true;
    } catch (error) {
      // The first command on a cut connection may report the cut; the caller of a queue tries again, as here.
      return error === null;
    }
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
