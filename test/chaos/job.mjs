import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { tokenBalance } from '@freehold/chain';
import { heldOutItems } from '../../models/freehold-tiny/index.mjs';

/**
 * @import pg from 'pg'
 * @import { Hex } from 'viem'
 * @import { House } from '../../apps/devnet/dist/house/house.js'
 * @import { EndedBatch } from './load.mjs'
 * @import { Done } from './break-things.mjs'
 * @import { Profile } from './profiles.mjs'
 *
 * @typedef {{ readonly checks: number; readonly violations: number | readonly unknown[] }} DoctorReport
 */

const run = promisify(execFile);
const TRIES = 60;

/**
 * The API is killed on purpose, so every request is tried again; the idempotency key makes that safe.
 *
 * @param {House} house
 * @param {string} path
 * @param {{ method?: string; body?: string | FormData; headers?: Readonly<Record<string, string>> }} [init]
 */
async function call(house, path, init = {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const response = await fetch(`${house.baseURL}${path}`, {
        ...init,
        signal: AbortSignal.timeout(15_000),
        headers: { authorization: `Bearer ${house.requester.apiKey}`, ...init.headers },
      });
      if (response.status < 500 && response.status !== 429) return response;
      if (attempt >= TRIES) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    } catch (error) {
      if (attempt >= TRIES) throw error;
    }
    await sleep(500);
  }
}

/**
 * @param {House} house
 * @param {string} path
 * @param {Parameters<typeof call>[2]} [init]
 */
export async function callJson(house, path, init) {
  const response = await call(house, path, init);
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  return JSON.parse(text);
}

/**
 * Input lines of one batch of chat rows; another `number` has other items.
 *
 * @param {number} rows
 * @param {number} number
 */
export function batchLines(rows, number) {
  return heldOutItems({ seed: 11 + number, count: rows }).map((item, i) =>
    JSON.stringify({
      custom_id: `row-${i}`,
      method: 'POST',
      url: '/v1/chat/completions',
      body: { model: 'freehold-tiny', messages: item.messages, max_tokens: 48 },
    }),
  );
}

/**
 * @param {House} house
 * @param {readonly string[]} lines
 * @param {string | number} key What makes its idempotency keys its own.
 * @returns {Promise<string>} Its id.
 */
export async function submitBatch(house, lines, key) {
  const form = new FormData();
  form.set('purpose', 'batch');
  form.set('file', new Blob([`${lines.join('\n')}\n`]), 'chaos.jsonl');
  const file = await callJson(house, '/files', {
    method: 'POST',
    body: form,
    headers: { 'idempotency-key': `chaos-file-${key}` },
  });
  const body = JSON.stringify({ input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' });
  const batch = await callJson(house, '/batches', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', 'idempotency-key': `chaos-batch-${key}` },
  });
  return batch.id;
}

/**
 * Every custom_id of output and error file, with how often it stands there.
 *
 * @param {House} house
 * @param {string} batchId
 * @param {number} rows
 */
export async function terminalRecords(house, batchId, rows) {
  const batch = await callJson(house, `/batches/${batchId}`);
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const fileId of [batch.output_file_id, batch.error_file_id]) {
    if (!fileId) continue;
    const text = await (await call(house, `/files/${fileId}/content`)).text();
    for (const line of text.split('\n')) {
      if (line === '') continue;
      const id = JSON.parse(line).custom_id;
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
  }
  const lost = Array.from({ length: rows }, (_, i) => `row-${i}`).filter((id) => !counts.has(id)).length;
  const twice = [...counts.values()].filter((count) => count > 1).length;
  return { lost, twice, strangers: [...counts.keys()].filter((id) => !/^row-\d+$/.test(id)).length };
}

/**
 * What happened to the rows of all batches of a run, summed.
 *
 * @param {pg.Pool} db
 * @param {House} house
 * @param {readonly string[]} batchIds
 */
export async function factsOf(db, house, batchIds) {
  const one = async (/** @type {string} */ sql) => Number((await db.query(sql, [batchIds])).rows[0].n);
  return {
    leases: await one('SELECT count(*) AS n FROM lease WHERE job_id = ANY($1)'),
    leasesAccepted: await one(`SELECT count(*) AS n FROM lease WHERE job_id = ANY($1) AND outcome = 'accepted'`),
    rowsDelivered: await one(
      'SELECT count(*) AS n FROM delivered_row d JOIN task t ON t.id = d.task_id WHERE t.job_id = ANY($1)',
    ),
    // Rows that were paid to a second lease after a first one had begun: at most so many were run twice.
    rowsAgain: await one(
      `SELECT count(*) AS n FROM receipt r JOIN delivered_row d USING (task_id, epoch) WHERE r.job_id = ANY($1) AND EXISTS
         (SELECT 1 FROM lease l WHERE l.task_id = r.task_id AND l.epoch < r.epoch AND l.started_at IS NOT NULL)`,
    ),
    rowsPaid: await one('SELECT coalesce(sum(rows), 0) AS n FROM receipt WHERE job_id = ANY($1)'),
    rowsTwice: await one(
      'SELECT count(*) AS n FROM (SELECT r.job_id, row_no FROM receipt r JOIN delivered_row d USING (task_id, epoch) WHERE r.job_id = ANY($1) GROUP BY r.job_id, row_no HAVING count(*) > 1) twice',
    ),
    chargedTwice: await one(
      `SELECT count(*) AS n FROM (SELECT ref FROM ledger_transaction WHERE kind = 'charge' AND ref IN (SELECT task_id::text FROM receipt WHERE job_id = ANY($1)) GROUP BY ref HAVING count(*) > 1) twice`,
    ),
    eventsTakenBack: Number((await db.query('SELECT count(*) AS n FROM chain_event WHERE removed')).rows[0].n),
    ...(await paidOnChain(db, house)),
  };
}

/**
 * What the chain paid to every provider's own address, against the vouchers of its accepted work: in the token, not in our books.
 *
 * @param {pg.Pool} db
 * @param {House} house
 */
async function paidOnChain(db, house) {
  /** @type {{ rows: { payee: Hex; net: string }[] }} */
  const { rows } = await db.query('SELECT payee, sum(net) AS net FROM voucher GROUP BY payee');
  let owed = 0n;
  let paid = 0n;
  for (const { payee, net } of rows) {
    owed += BigInt(net);
    paid += await tokenBalance(house.rpcUrl, /** @type {Hex} */ (house.chain.token), payee);
  }
  return { owed, paid };
}

/**
 * The command that operators use, as a process of its own.
 *
 * @param {House} house
 * @returns {Promise<DoctorReport>}
 */
export async function doctorOf(house) {
  const cli = fileURLToPath(new URL('../../apps/cli/dist/main.js', import.meta.url));
  const { stdout } = await run(process.execPath, [cli, 'doctor', '--json'], {
    env: { ...process.env, DATABASE_URL: house.databaseUrl, DATA_DIR: house.dataDir },
  }).catch((error) => ({ stdout: error.stdout ?? '' }));
  const line = stdout.trim().split('\n').at(-1) ?? '';
  return JSON.parse(line || '{"checks":0,"violations":[{"check":"doctor","what":"printed nothing"}]}');
}

/**
 * What was promised, against what came out.
 *
 * @param {object} run
 * @param {number} run.seed
 * @param {Profile} run.profile
 * @param {Done} run.faults
 * @param {readonly EndedBatch[]} run.batches
 * @param {DoctorReport} run.doctor
 * @param {Awaited<ReturnType<House['settle']>>} run.settled
 * @param {Awaited<ReturnType<typeof factsOf>>} run.facts
 * @param {number} run.amplificationMax
 * @param {readonly string[]} run.ofChat
 */
export function judge({ seed, profile, faults, batches, doctor, settled, facts, amplificationMax, ofChat }) {
  const problems = [...ofChat];
  const demand = (/** @type {boolean} */ holds, /** @type {string} */ text) => holds || problems.push(text);
  const violations = Array.isArray(doctor.violations) ? doctor.violations.length : doctor.violations;
  const rows = profile.rows * batches.length;
  const paidTwice = facts.rowsTwice + facts.chargedTwice + (facts.paid > facts.owed ? 1 : 0);
  for (const { id, job, records } of batches) {
    demand(job.state === 'completed', `batch ${id} ended as ${job.state}`);
    demand(records.lost === 0, `batch ${id}: ${records.lost} rows have no terminal record`);
    demand(records.twice === 0, `batch ${id}: ${records.twice} rows have two terminal records`);
    demand(records.strangers === 0, `batch ${id}: ${records.strangers} records belong to nobody`);
    demand(
      Number(job.rows_succeeded) === profile.rows,
      `batch ${id}: ${job.rows_succeeded} of ${profile.rows} rows succeeded`,
    );
    demand(BigInt(job.charged) <= BigInt(job.cap), `batch ${id}: charged ${job.charged} above the cap of ${job.cap}`);
  }
  demand(facts.rowsPaid === rows, `${facts.rowsPaid} rows were paid for ${rows} accepted ones`);
  demand(paidTwice === 0, `${paidTwice} charges were made twice`);
  demand(faults.kills >= profile.kills, `only ${faults.kills} of ${profile.kills} faults were made`);
  demand(
    faults.killsInFlight >= profile.inFlightShare * faults.kills,
    `${faults.killsInFlight} of ${faults.kills} faults hit work in flight`,
  );
  demand(faults.queueWipes === profile.queueWipes, `${faults.queueWipes} of ${profile.queueWipes} queue wipes`);
  demand(faults.reorgs === profile.reorgs, `${faults.reorgs} of ${profile.reorgs} reorganisations`);
  demand(
    faults.absences >= profile.absences,
    `${faults.absences} of ${profile.absences} nodes were away for longer than a lease they held`,
  );
  demand(
    faults.absences === 0 || facts.leases > facts.leasesAccepted,
    `${facts.leases} leases, ${facts.leasesAccepted} accepted: the fenced ones are not on record`,
  );
  demand(settled.balanced, `escrow on chain ${settled.escrow}, in the ledger ${settled.ledger}`);
  demand(facts.paid === facts.owed, `the chain paid ${facts.paid} for vouchers of ${facts.owed}`);
  const amplification = (facts.rowsDelivered + facts.rowsAgain) / rows;
  demand(amplification <= amplificationMax, `${amplification.toFixed(2)} rows were run for each row of the batches`);
  demand(doctor.checks > 0 && violations === 0, `doctor: ${doctor.checks} checks, ${violations} violations`);
  return {
    seed,
    jobs: batches.length,
    rows,
    kills: faults.kills,
    killsInFlight: faults.killsInFlight,
    failpoints: faults.failpoints,
    stops: faults.stops,
    absences: faults.absences,
    reorgs: faults.reorgs,
    eventsTakenBack: facts.eventsTakenBack,
    epochs: faults.epochs,
    queueWipes: faults.queueWipes,
    databaseCrashes: faults.databaseCrashes,
    leases: facts.leases,
    reexecuted: facts.rowsDelivered - rows + facts.rowsAgain,
    fenced: facts.leases - facts.leasesAccepted,
    amplification: Number(amplification.toFixed(3)),
    lost: batches.reduce((sum, { records }) => sum + records.lost, 0),
    paidTwice,
    paid: String(facts.paid),
    doctor: { checks: doctor.checks, violations },
    pass: problems.length === 0,
    ...(problems.length === 0 ? {} : { faults: problems, doctorViolations: doctor.violations }),
  };
}
