import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { blobName, inputObject, RETENTION_MS, segmentObject, sweepPayloads, type GrantedLease } from '@freehold/market';
import { PgFineTuneStore } from '@freehold/persistence';
import { DiskObjectStore } from '@freehold/storage';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { BOOK, MarketWorld } from '../../libs/persistence/test/market-world.ts';

let market: MarketDatabase;
let world: MarketWorld;
let folder: string;
let objects: DiskObjectStore;
let fineTunes: PgFineTuneStore;
beforeAll(async () => {
  market = await marketDatabase();
  world = new MarketWorld(market.database);
  folder = mkdtempSync(join(tmpdir(), 'freehold-retention-'));
  objects = new DiskObjectStore(folder, 'test');
  fineTunes = new PgFineTuneStore(market.database);
}, 30_000);
afterAll(async () => {
  await market.close();
  rmSync(folder, { recursive: true, force: true });
});

const DAY_MS = 24 * 3_600_000;

/** A job of one lease, accepted, with its payloads in the store. */
async function done(kind: 'batch' | 'chat', org: string): Promise<GrantedLease> {
  const job = await world.batch(1, { org, kind });
  const lease = await world.lease(job, await world.node(), 0, 1);
  await objects.append(segmentObject(lease), 0, [new Uint8Array(50)]);
  if (kind === 'chat') await objects.append(inputObject(job), 0, [new Uint8Array(10)]);
  await world.deliver(lease);
  await world.accept(lease);
  if (kind === 'batch')
    await market.database.query(`UPDATE job SET state = 'completed', completed_at = clock_timestamp() WHERE id = $1`, [
      job,
    ]);
  return lease;
}

/** Everything about a job happened so much earlier. */
async function age(lease: GrantedLease, ms: number): Promise<void> {
  await market.database.query(`UPDATE job SET completed_at = completed_at - $2 * interval '1 ms' WHERE id = $1`, [
    lease.jobId,
    ms,
  ]);
  await market.database.query(
    `UPDATE lease SET ended_at = ended_at - $2 * interval '1 ms' WHERE job_id = $1 AND ended_at IS NOT NULL`,
    [lease.jobId, ms],
  );
}

function stored(): string[] {
  return ['segments', 'inputs'].flatMap((name) => {
    try {
      return readdirSync(join(folder, name)).map((file) => `${name}/${file}`);
    } catch {
      return [];
    }
  });
}
const sweep = (): Promise<number> => sweepPayloads({ leases: world.store, fineTunes, objects });

describe('payloads', () => {
  it('of a job go thirty days after its end, the input of a chat with them, and not a minute before', async () => {
    const org = await world.org();
    const [batch, chat] = [await done('batch', org), await done('chat', org)];
    for (const lease of [batch, chat]) await age(lease, RETENTION_MS - 60_000);
    expect(await sweep()).toBe(0);
    expect(stored()).toHaveLength(3);
    for (const lease of [batch, chat]) await age(lease, 120_000);
    expect(await sweep()).toBe(2);
    expect(stored()).toEqual([]);
    expect(await sweep()).toBe(0);
  });

  it('stay while the job lives, however old its first leases are', async () => {
    const lease = await done('batch', await world.org());
    await age(lease, 60 * DAY_MS);
    await market.database.query(`UPDATE job SET state = 'finalizing', completed_at = NULL WHERE id = $1`, [
      lease.jobId,
    ]);
    expect(await sweep()).toBe(0);
    expect(await objects.size(segmentObject(lease))).toBe(50);
    await market.database.query(
      `UPDATE job SET state = 'failed', failed_at = clock_timestamp() - interval '31 days' WHERE id = $1`,
      [lease.jobId],
    );
    expect(await sweep()).toBe(1);
  });

  it('stay while another lease of the job waits for its verdict', async () => {
    const lease = await done('batch', await world.org());
    await age(lease, 60 * DAY_MS);
    await market.database.query(
      `INSERT INTO lease (task_id, epoch, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until)
       SELECT task_id, 99, node_id, job_id, nonce, model, model_digest, engine_class, rates, road, lease_until FROM lease WHERE task_id = $1`,
      [lease.task],
    );
    expect(await sweep()).toBe(0);
    await market.database.query(`UPDATE lease SET ended_at = clock_timestamp() - interval '31 days' WHERE epoch = 99`);
    expect(await sweep()).toBe(2);
  });

  it('stay while a voucher over them can be contested: until its epoch is final, or its book dead', async () => {
    const org = await world.org();
    await world.openBook(org);
    await market.database.query('UPDATE chain_order SET is_operator = true');
    const [first, second] = [await done('batch', org), await done('batch', org)];
    for (const lease of [first, second]) await age(lease, 60 * DAY_MS);
    expect(await sweep()).toBe(0);
    await market.database.query(
      `UPDATE chain_epoch SET state = 'final', debits = '{}', credits = '{}', closed_at = clock_timestamp() WHERE book = $1`,
      [BOOK],
    );
    await market.database.query(
      `INSERT INTO chain_epoch (book, epoch, state, debits, credits) VALUES ($1, 2, 'posted', '{}', '{}')`,
      [BOOK],
    );
    await market.database.query('UPDATE voucher SET book_epoch = 2 WHERE task_id = $1', [second.task]);
    expect(await sweep()).toBe(1);
    expect(await objects.size(segmentObject(second))).toBe(50);
    await market.database.query(`UPDATE chain_book SET state = 'dead' WHERE book = $1`, [BOOK]);
    expect(await sweep()).toBe(1);
  });

  it('that are objects of fine-tunes go when no job needs them, and never the adapter of a model with a name', async () => {
    const org = await world.org();
    const [first, second] = [await done('batch', org), await done('batch', org)];
    const [own, common, adapter, worn] = ['1', '2', '3', '4'].map((digit) => digit.repeat(64)) as [
      string,
      string,
      string,
      string,
    ];
    await fineTunes.useBlobs(first.jobId, [own, common, adapter, worn]);
    await fineTunes.useBlobs(first.jobId, [own]);
    await fineTunes.useBlobs(second.jobId, [common]);
    for (const sha256 of [own, common, adapter, worn]) await objects.append(blobName(sha256), 0, [new Uint8Array(5)]);
    await market.database.query(
      `INSERT INTO fine_tune (job_id, base, seed, asked) VALUES ($1, 'freehold-tiny', 1, '{}')`,
      [first.jobId],
    );
    await market.database.query(
      `INSERT INTO fine_tuned_model (name, org_id, job_id, base, adapter) VALUES ('ft:a', $1, $2, 'freehold-tiny', $3)`,
      [org, first.jobId, adapter],
    );
    const wearer = await world.batch(1, { org });
    await market.database.query('UPDATE job SET adapter = $2 WHERE id = $1', [wearer, worn]);
    const left = async (): Promise<string> =>
      (await Promise.all([own, common, adapter, worn].map((sha256) => objects.size(blobName(sha256)))))
        .map((bytes) => (bytes === null ? '-' : '+'))
        .join('');
    await age(first, RETENTION_MS - 60_000);
    await sweep();
    expect(await left()).toBe('++++');
    await age(first, 120_000);
    await sweep();
    expect(await left()).toBe('-+++');
    await age(second, 60 * DAY_MS);
    await market.database.query(`UPDATE fine_tuned_model SET deleted_at = clock_timestamp()`);
    await sweep();
    expect(await left()).toBe('---+');
    await market.database.query(
      `UPDATE job SET state = 'cancelled', cancelled_at = clock_timestamp() - interval '31 days' WHERE id = $1`,
      [wearer],
    );
    await sweep();
    expect(await left()).toBe('----');
    expect(await market.database.query('SELECT 1 FROM blob_use')).toEqual([]);
  });

  it('are removed again after a crash between the removal and the mark', async () => {
    const lease = await done('batch', await world.org());
    await age(lease, 60 * DAY_MS);
    await objects.remove(segmentObject(lease));
    expect(await sweep()).toBe(1);
  });
});
