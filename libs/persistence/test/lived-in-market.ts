import { PgOutbox, releaseHolds } from '../src/index.ts';
import type { MarketWorld } from './market-world.ts';

/** Names of what is in a {@link livedInMarket}, for tests that break it. */
export interface LivedIn {
  readonly org: string;
  readonly otherOrg: string;
  readonly node: string;
  /** Finished, files written, hold released. */
  readonly completed: string;
  /** In progress: one accepted task, one running, one queued, rows uncut. */
  readonly open: string;
  readonly acceptedTask: string;
  readonly secondAcceptedTask: string;
  readonly runningTask: string;
  readonly queuedTask: string;
  readonly deliveredTask: string;
}

/** A market after some hours: finished, running, lost, rejected, expired and cancelled work, chats, vouchers, an emptied outbox. */
export async function livedInMarket(world: MarketWorld): Promise<LivedIn> {
  const { store, database } = world;
  const [org, otherOrg] = [await world.org(), await world.org()];
  const [node, other, cheat] = [await world.node(), await world.node(), await world.node()];
  await world.openBook(org);
  await world.openBook(otherOrg, undefined, 1);
  const completed = await world.batch(20, { org, trust: 'self-custody' });
  const first = await world.lease(completed, node, 0, 10);
  await store.checkpoint(first, world.rows(first, 0, 4), world.at(first, 4));
  await store.giveBack(first, 'lose', 'silence');
  await world.accept(first);
  const [back] = (await store.demand(10, 10)).flatMap(({ queued }) => queued);
  const rewish = world.wish(completed, other, 4, 10, { task: back?.taskId ?? '', epoch: 1 });
  const [again] = await store.grant([rewish], 15_000);
  if (again === undefined) throw new Error('the rest was not granted');
  await world.deliver(again, [5]);
  await world.accept(again);
  const caught = await world.lease(completed, cheat, 10, 20);
  await world.deliver(caught);
  await store.saveFindings(caught, [
    {
      rowNo: 10,
      auditor: 'auditor',
      auditorKind: 'coordinator',
      verdict: 'bad',
      sameClass: true,
      score: { cosine: 0 },
    },
  ]);
  await store.reject(caught, 'audit: 1 bad row proven', 1, 60_000);
  const [third] = await store.grant([world.wish(completed, node, 10, 20, { task: caught.task, epoch: 2 })], 15_000);
  if (third === undefined) throw new Error('the rejected task was not granted again');
  await world.deliver(third);
  await world.accept(third);
  await finishJob(world, completed);

  const chat = await world.batch(1, { org, kind: 'chat' });
  const answered = await world.lease(chat, node, 0, 1);
  await world.deliver(answered);
  await world.accept(answered);
  const lostChat = await world.batch(1, { org, kind: 'chat' });
  await store.giveBack(await world.lease(lostChat, node, 0, 1), 'lose', 'silence');

  const late = await world.batch(10, { org: otherOrg });
  await world.lease(late, node, 0, 5);
  await database.query(`UPDATE job SET deadline = clock_timestamp() - interval '1 second' WHERE id = $1`, [late]);
  await store.expireJobs();
  await finishJob(world, late);

  const open = await world.batch(60, { org: otherOrg, trust: 'self-custody' });
  const done = await world.lease(open, node, 0, 10);
  const delivered = await world.lease(open, node, 10, 20);
  const running = await world.lease(open, other, 20, 30);
  const yielded = await world.lease(open, other, 30, 40);
  await world.deliver(done);
  await world.accept(done);
  await world.deliver(delivered);
  await store.checkpoint(running, world.rows(running, 0, 3), world.at(running, 3));
  await store.giveBack(yielded, 'yield', 'wanted');
  await emptyOutbox(world);
  return {
    org,
    otherOrg,
    node,
    completed,
    open,
    acceptedTask: done.task,
    secondAcceptedTask: again.task,
    runningTask: running.task,
    queuedTask: yielded.task,
    deliveredTask: delivered.task,
  };
}

/** What writing its files does to a job, without the files. */
async function finishJob(world: MarketWorld, job: string): Promise<void> {
  await world.database.transaction(async (tx) => {
    await tx.query(
      `UPDATE job SET state = CASE WHEN rows_ended > 0 THEN 'expired' ELSE 'completed' END, completed_at = clock_timestamp()
       WHERE id = $1 AND state = 'finalizing'`,
      [job],
    );
    await releaseHolds(tx, [job]);
  });
}

/** Everything is sent; what is not about delivered work is done. */
async function emptyOutbox(world: MarketWorld): Promise<void> {
  const outbox = new PgOutbox(world.database);
  await outbox.relay(1_000, () => Promise.resolve());
  await world.database.query(
    `UPDATE outbox SET done_at = clock_timestamp() WHERE NOT (topic = 'verify' AND EXISTS (
       SELECT 1 FROM task WHERE task.id::text = message ->> 'task' AND task.state = 'delivered'))`,
  );
}
