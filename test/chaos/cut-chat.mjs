import { setTimeout as sleep } from 'node:timers/promises';
import { callJson, doctorOf } from './job.mjs';

/**
 * @import pg from 'pg'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 *
 * @typedef {{ readonly id: string; readonly problems: readonly string[] }} CutChat
 * @typedef {{ state: string; receipts: number; charges: number; held: string; vouchersKept: number }} ChatFacts
 */

/** Where the first scheduler of a run dies: the answer has left long ago, and nothing of its acceptance is written. */
export const BEFORE_ACCEPTANCE = { FREEHOLD_FAILPOINT: 'LeaseStore.accept:before' };
/** A verdict is a matter of a second; a machine may do other things as well. */
const DEATH_MS = 60_000;
/** The queue's lock on a message of a dead process, twice, and a verdict. */
const ACCEPTED_MS = 90_000;
const LOOK_MS = 100;

/**
 * A chat that is answered, and whose scheduler dies before it is accepted; another scheduler is up when this returns.
 *
 * @param {House} house
 * @param {pg.Pool} db
 * @returns {Promise<CutChat>} its id, and what was wrong in between: nobody may be paid yet, the requester's hold stands, the books are right.
 */
export async function cutChat(house, db) {
  const body = { model: 'freehold-tiny', messages: [{ role: 'user', content: 'echo: house' }], max_tokens: 16 };
  const answer = await callJson(house, '/chat/completions', {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', 'idempotency-key': 'chaos-chat' },
  });
  const until = performance.now() + DEATH_MS;
  while (house.child('scheduler')?.isRunning !== false) {
    if (performance.now() > until)
      throw new Error(`${DEATH_MS / 1_000} s after a chat's answer nobody had accepted it`);
    await sleep(LOOK_MS);
  }
  const [between, doctor] = [await chatFacts(db, answer.id), await doctorOf(house)];
  await house.startProcess('scheduler');
  const problems = [];
  if (!answer.choices[0].message.content) problems.push('the chat whose scheduler dies has no answer');
  if (between.state !== 'delivered' || between.receipts !== 0 || between.charges !== 0)
    problems.push(`a chat that nobody accepted is ${JSON.stringify(between)}`);
  if (!(BigInt(between.held) > 0n)) problems.push(`a chat that was answered holds ${between.held}`);
  const violations = Array.isArray(doctor.violations) ? doctor.violations.length : doctor.violations;
  if (!(doctor.checks > 0) || violations !== 0)
    problems.push(`doctor, while a chat waits for a scheduler: ${JSON.stringify(doctor.violations)}`);
  return { id: answer.id, problems };
}

/**
 * The queue hands the dead scheduler's message to another after a while; what is accepted later is settled in another epoch.
 *
 * @param {pg.Pool} db
 * @param {CutChat} chat
 */
export async function chatAccepted(db, { id }) {
  const until = performance.now() + ACCEPTED_MS;
  while ((await chatFacts(db, id)).state !== 'accepted') {
    if (performance.now() > until)
      throw new Error(`chat ${id} is not accepted ${ACCEPTED_MS / 1_000} s after the load`);
    await sleep(LOOK_MS);
  }
}

/**
 * What is wrong with it at the end: it is accepted, charged, paid and told to its node, each once, and holds nothing.
 *
 * @param {pg.Pool} db
 * @param {CutChat} chat
 */
export async function judgeChat(db, { id, problems }) {
  const { state, receipts, charges, held, vouchersKept } = await chatFacts(db, id);
  const once = { state, receipts, charges, held, vouchersKept };
  const expected = { state: 'accepted', receipts: 1, charges: 1, held: '0', vouchersKept: 1 };
  if (JSON.stringify(once) === JSON.stringify(expected)) return problems;
  return [
    ...problems,
    `the chat whose scheduler died: expected ${JSON.stringify(expected)}, it is ${JSON.stringify(once)}`,
  ];
}

/**
 * @param {pg.Pool} db
 * @param {string} id
 */
async function chatFacts(db, id) {
  /** @type {{ rows: ChatFacts[] }} */
  const { rows } = await db.query(
    `SELECT state,
       (SELECT count(*)::int FROM receipt WHERE task_id = task.id) AS receipts,
       (SELECT count(*)::int FROM ledger_transaction WHERE kind = 'charge' AND ref = task.id::text) AS charges,
       (SELECT coalesce(sum(balance), 0)::text FROM account WHERE kind = 'hold' AND owner = $1) AS held,
       (SELECT count(*)::int FROM voucher WHERE task_id = task.id AND delivered_at IS NOT NULL) AS "vouchersKept"
     FROM task WHERE job_id = $1`,
    [id],
  );
  if (rows.length !== 1) throw new Error(`${rows.length} tasks of chat ${id}: expected one`);
  return rows[0];
}
