import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { shardOf } from '@freehold/domain';
import { openDatabase, type Database } from '@freehold/persistence';
import { House } from '../../apps/devnet/src/house/house.ts';
import { ROOT } from './market.ts';

const NODES = 3;
/** Of each of the two batches: seconds of work for three nodes. */
const ROWS = 250;
const SHARDS = 4;
const WAIT_MS = 60_000;

let house: House;
let db: Database;
let dataDir = '';

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'freehold-two-'));
  house = await House.open({ dataDir, httpPort: 0, fresh: false, say: () => undefined });
  db = await openDatabase({ url: house.databaseUrl, poolSize: 2 });
  await house.startCoordinator();
  const rates = { inputToken: '50000', outputToken: '100000' };
  await Promise.all(
    Array.from({ length: NODES }, (_, i) =>
      house.startNode({ name: `node-${i}`, engine: 'llama-cpp', mode: 'slow', rates, flags: ['--slow-ms', '60'] }),
    ),
  );
}, 120_000);

afterAll(async () => {
  await db?.close();
  await house?.close();
  rmSync(dataDir, { recursive: true, force: true, maxRetries: 5 });
});

it('two schedulers divide the nodes; the one that is killed is followed by the other, and every row is done and paid once', async () => {
  const first = await submitted();
  // While the first one works: it hands half of the nodes over, with the leases that run there.
  await house.startProcess('scheduler', {}, 'scheduler-2');
  const divided = await until('the shards are divided', async () => {
    const shards = await shardsNow();
    const own = shards.filter(({ session }) => session === shards[0]?.session);
    return shards.length === SHARDS && own.length === SHARDS / 2 ? shards : null;
  });
  const nodes = [...house.nodes.values()].map(({ nodeId }) => nodeId);
  // Work that begins on all nodes at once, and work that would on one more than there are.
  const [gang, tooLarge] = [
    await submitted(2 * NODES, { nodes: String(NODES) }),
    await submitted(2 * NODES, { nodes: String(NODES + 1), wait: 'true' }),
  ];
  // Who was there first keeps the lower numbers.
  const isFirsts = (nodeId: string): boolean => shardOf(nodeId, SHARDS) < SHARDS / 2;
  const victim = nodes.some(isFirsts) ? 'scheduler' : 'scheduler-2';
  const orphans = nodes.filter((id) => isFirsts(id) === (victim === 'scheduler'));
  // However long the second one took to come up: there is work for those whom the victim holds now.
  const second = await submitted();
  await until('the one that will be killed has work under way', async () =>
    (await running(orphans)) > 0 ? true : null,
  );
  house.child(victim)?.signal('SIGKILL');
  const [{ at } = { at: '' }] = await db.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
  const followed = await until('the other has all shards', async () => {
    const shards = await shardsNow();
    const holders = new Set(shards.map(({ session }) => session));
    return shards.length === SHARDS && holders.size === 1 ? shards : null;
  });
  const epochs = (shards: readonly Shard[]): number[] => shards.map(({ epoch }) => Number(epoch));
  expect(epochs(followed).map((epoch, no) => epoch - (epochs(divided)[no] ?? 0))).toEqual(
    victim === 'scheduler' ? [1, 1, 0, 0] : [0, 0, 1, 1],
  );
  for (const batch of [first, second])
    await until('the batch has ended', async () => ((await stateOf(batch)) === 'completed' ? true : null));
  await until('what begins on all nodes has ended', async () => ((await stateOf(gang)) === 'completed' ? true : null));
  await expectBegunAtOnce(gang);
  const why = (await (await call(`/market/v1/jobs/${tooLarge}/explain`)).json()) as { summary: string };
  expect(why).toMatchObject({ members: NODES + 1, waits: true });
  expect(why.summary).toContain(`waits for ${NODES + 1} nodes at once`);
  expect(await leasesOf(tooLarge)).toEqual([]);
  await call(`/batches/${tooLarge}/cancel`, { method: 'POST' });
  for (const batch of [first, second]) await expectDoneOnce(batch);
  const [later] = await db.query<{ leases: number }>(
    `SELECT count(*)::int AS leases FROM lease WHERE node_id = ANY($1) AND outcome = 'accepted' AND ended_at > $2::timestamptz`,
    [orphans, at],
  );
  expect(later?.leases).toBeGreaterThan(0);
}, 180_000);

/** Its first leases are of one commit, each on a node of its own: whatever became of them, and be it that one was lost. */
async function expectBegunAtOnce(gang: string): Promise<void> {
  const leases = await leasesOf(gang);
  const firsts = leases.filter(({ xact }) => xact === leases[0]?.xact);
  expect(firsts).toHaveLength(NODES);
  expect(new Set(firsts.map(({ node }) => node)).size).toBe(NODES);
}

/** In the order of their grants, with the transaction of each. */
function leasesOf(batch: string): Promise<readonly { readonly node: string; readonly xact: string }[]> {
  return db.query(
    `SELECT lease.node_id AS node, event.xact::text AS xact
     FROM task_event AS event JOIN lease ON lease.task_id = ANY(event.task_ids) AND lease.epoch = event.epoch
     WHERE event.job_id = $1 AND event.to_state = 'leased' ORDER BY event.id`,
    [batch],
  );
}

interface Shard {
  readonly epoch: string;
  readonly session: number;
}

/** Holders that are alive, by number. */
function shardsNow(): Promise<readonly Shard[]> {
  return db.query<Shard>(
    `SELECT epoch, session FROM shard WHERE session IN (SELECT pid FROM pg_stat_activity)
       AND alive_at > clock_timestamp() - interval '5 seconds' ORDER BY no`,
  );
}

async function running(nodeIds: readonly string[]): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM lease WHERE node_id = ANY($1) AND ended_at IS NULL AND committed_at IS NULL',
    [nodeIds],
  );
  return row?.n ?? 0;
}

async function stateOf(batch: string): Promise<string | undefined> {
  return (await db.query<{ state: string }>('SELECT state FROM job WHERE id = $1', [batch]))[0]?.state;
}

async function expectDoneOnce(batch: string): Promise<void> {
  const [facts] = await db.query(
    `SELECT (SELECT count(*) FROM job_row WHERE job_id = $1 AND state = 'succeeded')::int AS succeeded,
       (SELECT sum(rows) FROM receipt WHERE job_id = $1)::int AS paid,
       (SELECT count(*) FROM (SELECT row_no FROM receipt JOIN delivered_row USING (task_id, epoch)
          WHERE receipt.job_id = $1 GROUP BY row_no HAVING count(*) > 1) AS twice)::int AS twice`,
    [batch],
  );
  expect(facts).toEqual({ succeeded: ROWS, paid: ROWS, twice: 0 });
  const output = await call(`/batches/${batch}`).then((answer) => answer.json() as Promise<{ output_file_id: string }>);
  const text = await (await call(`/files/${output.output_file_id}/content`)).text();
  const ids = text
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { custom_id: string }).custom_id);
  expect(ids).toEqual(Array.from({ length: ROWS }, (_, i) => `row-${i}`));
  // Last outbox rows are on their way when the files are there.
  await until('the books are right', async () => (doctor().violations === 0 ? true : null));
}

function doctor(): { readonly violations: number } {
  const cli = join(ROOT, 'apps/cli/dist/main.js');
  const env = { ...process.env, DATABASE_URL: house.databaseUrl, DATA_DIR: house.dataDir };
  try {
    const lines = execFileSync(process.execPath, [cli, 'doctor', '--json'], { env, encoding: 'utf8' }).trim();
    const { checks, violations } = JSON.parse(lines.split('\n').at(-1) ?? '') as {
      checks: number;
      violations: unknown;
    };
    return { violations: checks === 0 ? -1 : Array.isArray(violations) ? violations.length : Number(violations) };
  } catch {
    // It exits with 1 while something is wrong.
    return { violations: -1 };
  }
}

async function submitted(rows = ROWS, metadata: Readonly<Record<string, string>> = {}): Promise<string> {
  const body = { model: 'freehold-tiny', messages: [{ role: 'user', content: 'echo: house' }], max_tokens: 16 };
  const lines = Array.from({ length: rows }, (_, i) =>
    JSON.stringify({ custom_id: `row-${i}`, method: 'POST', url: '/v1/chat/completions', body }),
  );
  const form = new FormData();
  form.set('purpose', 'batch');
  form.set('file', new Blob([lines.join('\n')]), 'rows.jsonl');
  const file = (await (await call('/files', { method: 'POST', body: form })).json()) as { id: string };
  const answer = await call('/batches', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
      metadata,
    }),
  });
  return ((await answer.json()) as { id: string }).id;
}

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { authorization: `Bearer ${house.requester.apiKey}`, ...(init.headers as Record<string, string>) };
  const url = path.startsWith('/market/') ? new URL(path, house.baseURL) : `${house.baseURL}${path}`;
  const answer = await fetch(url, { ...init, headers });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer;
}

/** Against hanging only. */
async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  const deadlineMs = performance.now() + WAIT_MS;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (performance.now() > deadlineMs) throw new Error(`not within ${WAIT_MS / 1_000} s: ${what}`);
    await sleep(100);
  }
}
