import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createSignatureCheck, createSigner } from '@freehold/chain';
import { NEWCOMER_ROWS, STRAGGLER_MS, YIELD_FLOOR_MS } from '@freehold/domain';
import { LeaseDesk, reapLeases, verifyResult, type Auditor } from '@freehold/market';
import { Libp2pProviderLink } from '@freehold/p2p';
import { fileWork, PgShards } from '@freehold/persistence';
import { workOfLineBytes, type Work, type WorkOutput } from '@freehold/protocol';
import {
  eventually,
  newFolder,
  newKey,
  NEVER,
  removeFolders,
  startedNode,
  TestMarket,
  TinyEngine,
  vectorFor,
} from '../../apps/node/src/market.fixture.ts';
import type { ProviderNode } from '../../apps/node/src/provider-node.ts';
import { auditor, DOMAIN, OpenBlocks, panel, stage, writeInputs } from './played-lease.ts';

/** A lease for each of two nodes. */
const ROWS = 2 * NEWCOMER_ROWS;
/** What the deaf one does before its engine hangs. */
const DONE = 4;

/** An engine that hears no abort: whoever waits for it hands nothing back, whatever it is asked. */
class DeafEngine extends TinyEngine {
  #open = (): void => undefined;
  readonly #opened = new Promise<void>((resolve) => (this.#open = resolve));

  override async embed(...[model, work]: Parameters<TinyEngine['embed']>): ReturnType<TinyEngine['embed']> {
    if (this.began >= DONE) await this.#opened;
    return super.embed(model, work, NEVER);
  }

  /** What it kept is done now. */
  release(): void {
    this.#open();
  }
}

describe('the last rows of a job, on a node that was asked for them and keeps them', () => {
  const here = stage();
  const keys = { link: newKey(), delegate: `0x${newKey()}` as const };
  const engine = { quick: new TinyEngine(), deaf: new DeafEngine() };
  let nodes: ProviderNode[];
  let peers: Map<string, 'quick' | 'deaf'>;
  let link: Libp2pProviderLink;
  let desk: LeaseDesk;
  let shards: PgShards;
  let aheadMs: number;
  let reports: string[];

  const deskPorts = () => ({
    leases: here.world.store,
    objects: here.objects,
    link,
    signer: createSigner(keys.delegate, DOMAIN),
    signatures: createSignatureCheck(DOMAIN),
    blocks: new OpenBlocks(),
    readWork: workOfLineBytes,
    entropy: { bytes: (length: number) => randomBytes(length) },
    clock: { nowMs: () => performance.now() + aheadMs },
    report: (what: string, error: unknown) => reports.push(`${what}: ${String(error)}`),
    resendVouchers: async () => undefined,
    voucherKept: async () => undefined,
    committed: () => undefined,
  });

  const join = async (who: 'quick' | 'deaf'): Promise<void> => {
    const dataDir = await newFolder();
    const rates = { embeddingToken: 1_000n, outputToken: 1_000n };
    const seats = { rates, slots: null, chatSharePercent: 50, model: null };
    const node = await startedNode(new TestMarket(), engine[who], { dataDir, seats, coordinators: link.addresses() });
    nodes.push(node);
    await eventually(`${who} is here`, () => link.nodes().length === nodes.length);
    for (const { id } of link.nodes()) if (!peers.has(id)) peers.set(id, who);
  };

  /** One tick of a scheduler; `drops` is not what another one does, whose nodes these are not. */
  const tick = (drops = true) =>
    reapLeases({
      leases: here.world.store,
      held: () => desk.held(),
      drop: (...lost) => (drops ? desk.drop(...lost) : undefined),
    });

  const leases = async (jobId: string) => {
    const found = await here.server.database.query<{
      task: string;
      epoch: number;
      node_id: string;
      state: string;
      rows: number;
      signed: number;
      left_ms: number | null;
    }>(
      `SELECT t.id AS task, t.epoch, l.node_id, t.state, t.row_to - t.row_from AS rows, l.checkpoint_rows AS signed,
         (extract(epoch FROM l.yield_by - clock_timestamp()) * 1000)::float8 AS left_ms
       FROM task t JOIN lease l ON l.task_id = t.id AND l.epoch = t.epoch WHERE t.job_id = $1 ORDER BY t.row_from`,
      [jobId],
    );
    return found.map(({ node_id: id, ...lease }) => ({ ...lease, id, who: peers.get(id) }));
  };
  const sum = (numbers: readonly number[]): number => numbers.reduce((all, number) => all + number, 0);

  beforeEach(async () => {
    [nodes, peers, aheadMs, reports] = [[], new Map(), 0, []];
    engine.deaf = new DeafEngine();
    link = new Libp2pProviderLink({
      ...{ privateKeyHex: keys.link, listen: ['/ip4/127.0.0.1/tcp/0'], role: 'scheduler', coordinator: 'test' },
      ...{ delegate: createSigner(keys.delegate, DOMAIN).address, ...DOMAIN, signatures: createSignatureCheck(DOMAIN) },
    });
    desk = new LeaseDesk(deskPorts());
    shards = new PgShards(here.server.database);
    desk.hold(await shards.hold(1, 1), 1);
    await link.listen(desk);
  });

  afterEach(async () => {
    engine.deaf.release();
    for (const node of nodes) await node.stop(0);
    await desk.close();
    await link.close();
    await shards.close();
  });
  afterAll(removeFolders);

  it.each([
    ['by the scheduler that asked', true],
    ['by another one, which cannot tell the node', false],
  ])(
    'are taken back %s: what is signed is kept and paid, the rest is done elsewhere, what comes late is nobody’s',
    async (_who, drops) => {
      await join('deaf');
      await join('quick');
      const jobId = await here.world.batch(ROWS, { cap: 1_000_000n });
      await here.server.database.query(
        `UPDATE job SET model = 'vectors', rate_caps = '{"embeddingToken":"1000000"}' WHERE id = $1`,
        [jobId],
      );
      await writeInputs(here, jobId, ROWS);
      await fileWork(here.server.database, [{ topic: 'place', ids: { job: jobId } }]);
      const of = async (who: 'quick' | 'deaf') => (await leases(jobId)).filter((lease) => lease.who === who);
      await eventually('one has signed some rows, the other all', async () => {
        desk.wake();
        await tick();
        const [deaf, quick] = [await of('deaf'), await of('quick')];
        return sum(deaf.map(({ signed }) => signed)) === DONE && quick[0]?.state === 'delivered';
      });
      aheadMs += STRAGGLER_MS;
      await eventually('it is asked', async () => {
        desk.wake();
        await tick();
        return (await of('deaf')).every((lease) => lease.left_ms !== null);
      });
      // What had no row in the engine yet is handed back, as asked.
      const kept = (await of('deaf')).filter(({ state }) => state === 'running');
      // As many rows took a moment elsewhere.
      for (const { left_ms: leftMs } of kept) expect(Math.round((leftMs ?? 0) / 10_000)).toBe(YIELD_FLOOR_MS / 10_000);

      const { database } = here.server;
      const tasks = kept.map(({ task }) => task);
      await database.query('UPDATE lease SET yield_by = clock_timestamp() WHERE task_id = ANY($1)', [tasks]);
      expect(await tick()).toMatchObject({ extended: 0, lost: 0 });
      for (const lease of kept) await here.world.silence(lease);
      const taken = await Promise.all([tick(drops), tick(drops)]);
      const lost = sum(taken.map((one) => one.lost));
      // What was still on its way back is not lost; all else is, and counted by one tick alone.
      const ends = await database.query<{ is_kept: boolean }>(
        `SELECT why LIKE 'kept: %' AS is_kept FROM lease JOIN unnest($1::uuid[], $2::int[]) AS one (task_id, epoch)
         USING (task_id, epoch) WHERE why IS NOT NULL`,
        [tasks, kept.map(({ epoch }) => epoch)],
      );
      expect([ends.length, ends.filter((end) => end.is_kept).length]).toEqual([kept.length, lost]);
      expect(lost).toBeGreaterThan(0);
      const id = kept[0]?.id ?? '';
      expect((await here.world.store.nodeRecords([id])).get(id)).toMatchObject({ leasesLost: lost, benchedForMs: 0 });

      engine.deaf.release();
      await eventually('the rest is done by the other', async () => {
        desk.wake();
        const done = (await of('quick')).filter(({ state }) => state === 'delivered');
        return sum(done.map(({ rows }) => rows)) === ROWS - DONE;
      });
      await eventually('the late rows have come', () => desk.running === 0);
      const left = await of('deaf');
      expect(left.map(({ state, rows }) => [state, rows])).toEqual(left.map(({ signed }) => ['delivered', signed]));
      expect(sum(left.map(({ rows }) => rows))).toBe(DONE);
      const said = { kind: 'embedding', unitsIn: 3, normDifference: 0, dimensions: 8 } as const;
      const isRight = (row: { work: Work; committed: WorkOutput }): boolean =>
        JSON.stringify(vectorFor(row.work)) === JSON.stringify(row.committed);
      const auditors = ['one', 'another', 'third'].map((name): Auditor => ({
        ...auditor(name, 'node'),
        score: async (_lease, rows) =>
          rows.map((row) => ({ ...said, rowNo: row.rowNo, cosine: isRight(row) ? 1 : 0.1 })),
      }));
      for (const { task, epoch } of await leases(jobId)) {
        const ports = {
          ...deskPorts(),
          auditors: panel(...auditors),
          drawSecret: () => Buffer.alloc(32, 7),
          feeBps: 500,
        };
        expect(await verifyResult(ports, { task, epoch }, NEVER)).toMatchObject({ outcome: 'accepted' });
      }
      expect(await database.query('SELECT sum(rows)::int AS rows FROM receipt WHERE node_id = $1', [id])).toEqual([
        { rows: DONE },
      ]);
      expect(await here.world.rowStates(jobId)).toEqual({ succeeded: ROWS });
      expect(reports).toEqual([]);
    },
    60_000,
  );
});
