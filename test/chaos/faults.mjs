import { setTimeout as sleep } from 'node:timers/promises';

const STOP_MS = [400, 3_000];

/** Rows that somebody holds right now: what a fault must hit to mean anything. */
export async function inFlight(db, nodeId = null) {
  const { rows } = await db.query(
    `SELECT count(*) AS n FROM lease l JOIN task t ON t.id = l.task_id AND t.epoch = l.epoch
      WHERE t.state IN ('leased', 'running', 'delivered') AND ($1::text IS NULL OR l.node_id = $1)`,
    [nodeId],
  );
  return Number(rows[0].n);
}

/** One fault on one process. Returns whether it found work in flight. */
export async function breakProcess({ house, db, random, name, stop }) {
  const node = house.nodes.get(name);
  const busy = await inFlight(db, node?.nodeId ?? null).catch(() => 0);
  const child = house.child(name);
  if (stop) {
    child.signal('SIGSTOP');
    await sleep(random.between(...STOP_MS));
    child.signal('SIGCONT');
    return busy > 0;
  }
  child.signal('SIGKILL');
  // A node has a supervisor of its own; the coordinator's processes are started again by us, on the same ports.
  if (node === undefined) {
    await child.exited;
    await house.startProcess(name);
  }
  return busy > 0;
}

export async function wipeQueue(db) {
  await db.query('DROP SCHEMA IF EXISTS bullmq CASCADE');
}
