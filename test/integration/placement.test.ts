import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chance, LEASES_AHEAD, shardOf } from '@freehold/domain';
import { NodeChangeLog, TaskPlacement, type ConnectedNode, type GrantedLease, type HeldShard } from '@freehold/market';
import {
  fileWork,
  openDatabase,
  PgLeaseStore,
  PgProcessRegister,
  PgShards,
  type Database,
} from '@freehold/persistence';
import { marketDatabase, type MarketDatabase } from '../../libs/persistence/test/market-database.ts';
import { LEASE_MS, MarketWorld } from '../../libs/persistence/test/market-world.ts';

const RACERS = 1_000;
/** Times that a shard passes from one scheduler to the other while they race. */
const PASSES = 24;
/** Decisions that a work-conserving placement is held to. */
const STEPS = 60;

let server: MarketDatabase;
let other: Database;
let world: MarketWorld;

beforeAll(async () => {
  server = await marketDatabase({ poolSize: 12 });
  other = await openDatabase({ url: server.url, poolSize: 12 });
  world = new MarketWorld(server.database);
});

afterAll(async () => {
  await other.close();
  await server.close();
});

/** A node that is connected and serves the jobs' model. */
async function connected(rate = 50): Promise<ConnectedNode> {
  const id = await world.node();
  const { offer } = world.offer(id, 1);
  const model = {
    name: 'm',
    digest: `sha256:${'0'.repeat(64)}`,
    contextTokens: 512,
    slots: 2,
    loaded: true,
    rowsPerSecond: 2,
    rates: { embeddingToken: String(rate) },
    caps: { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: true },
  };
  return {
    id,
    address: offer.address,
    offer: { ...offer, engines: [{ class: 'c', models: [model] }] } as unknown as ConnectedNode['offer'], // what placing reads
    freeSlots: 2,
    busyChats: 0,
    draining: false,
    leases: [],
    lastHeardMs: 0,
  };
}

async function job(rows: number): Promise<string> {
  const id = await world.batch(rows);
  await server.database.query(`UPDATE job SET rate_caps = '{"embeddingToken":"100"}' WHERE id = $1`, [id]);
  await fileWork(server.database, [{ topic: 'place', ids: { job: id } }]);
  return id;
}

/** Everything that earlier tests left waiting is over. */
async function nothingWaits(): Promise<void> {
  await server.database.query(`UPDATE job SET next_row = row_count WHERE kind = 'batch'`);
  await server.database.query(
    `UPDATE task SET state = 'cancelled', ended_at = clock_timestamp() WHERE state = 'queued'`,
  );
}

class Scheduler {
  readonly granted: GrantedLease[] = [];
  readonly asked: GrantedLease[] = [];
  readonly resting = new Set<string>();
  readonly reports: string[] = [];
  readonly #changes = new NodeChangeLog();
  #nodes: ConnectedNode[] = [];
  nowMs = 0;
  readonly placement: TaskPlacement;

  constructor(database: Database, nodes: ConnectedNode[], shards: readonly HeldShard[] = [], count = 1) {
    this.connect(nodes);
    this.placement = new TaskPlacement({
      leases: new PgLeaseStore(database),
      link: {
        nodes: () => this.nodes,
        changes: (since) => this.#changes.since(since, (id) => this.nodes.find((node) => node.id === id)),
      },
      entropy: { bytes: (length) => randomBytes(length) },
      clock: { nowMs: () => this.nowMs },
      resting: (id) => this.resting.has(id),
      measured: () => undefined,
      hasRoom: () => true,
      granted: (lease) => this.granted.push(lease),
      askToYield: (lease) => this.asked.push(lease) > 0,
      report: (what, error) => this.reports.push(`${what}: ${String(error)}`),
    });
    this.placement.hold(shards, count);
  }

  get nodes(): readonly ConnectedNode[] {
    return this.#nodes;
  }

  /** They come and go at once. */
  connect(nodes: readonly ConnectedNode[]): void {
    for (const { id } of [...this.#nodes, ...nodes]) this.#changes.note(id);
    this.#nodes = [...nodes];
  }

  rest(id: string): void {
    this.resting.add(id);
    this.placement.touch(id);
  }

  async decide(): Promise<void> {
    this.placement.wake();
    await this.placement.settled();
  }
}

describe('shards', () => {
  it('have one holder at a time, who is followed when its session ends, and whose decisions then count no more', async () => {
    await nothingWaits();
    const [first, second] = [new PgShards(server.database), new PgShards(other)];
    const [old] = await first.hold(1, 1);
    expect(old).toMatchObject({ no: 0 });
    expect(await second.hold(1, 1)).toEqual([]);
    expect(await second.held()).toEqual([[0]]);
    const node = await connected();
    const [a, b] = [
      new Scheduler(server.database, [node], old === undefined ? [] : [old]),
      new Scheduler(other, [node]),
    ];
    await a.placement.settled();
    await server.database.query('SELECT pg_terminate_backend(session) FROM shard WHERE no = 0');
    const now = await heldBy(second);
    expect(now).toEqual([{ no: 0, epoch: (old?.epoch ?? 0) + 1 }]);
    b.placement.hold(now, 1);
    await job(40);
    // The former holder does not know yet: it decides, and nothing of it is written.
    await a.decide();
    expect(a.granted).toEqual([]);
    expect(a.reports).toEqual([]);
    await b.decide();
    expect(b.granted).toHaveLength(LEASES_AHEAD);
    await expect(first.hold(1, 1)).rejects.toThrow(/terminat|not queryable/i);
    expect(await first.hold(1, 1)).toEqual([]);
    await second.close();
    expect(await first.hold(1, 1)).toEqual([{ no: 0, epoch: (old?.epoch ?? 0) + 2 }]);
    await first.close();
  });

  it('pass from one scheduler to the other while both decide, and no lease is written under an epoch that is over', async () => {
    await nothingWaits();
    const offices = [new PgShards(server.database), new PgShards(other)];
    const nodes = await Promise.all(Array.from({ length: 6 }, () => connected()));
    const both = [new Scheduler(server.database, nodes), new Scheduler(other, nodes)];
    await job(5_000);
    const leased: { node: string; epoch: number }[] = [];
    let passed = 0;
    for (let round = 0; round < 12; round += 1) {
      const [from, to] = round % 2 === 0 ? [0, 1] : [1, 0];
      const held = await heldBy(offices[from] as PgShards);
      both[from]?.placement.hold(held, 1);
      // What the other still believes: the epoch before.
      both[to]?.placement.hold([{ no: 0, epoch: (held[0]?.epoch ?? 1) - 1 }], 1);
      await Promise.all([both[0]?.decide(), both[1]?.decide(), offices[from]?.close()]);
      for (const scheduler of both) {
        for (const lease of scheduler.granted.splice(0)) {
          expect(scheduler).toBe(both[from]);
          leased.push({ node: lease.nodeId, epoch: held[0]?.epoch ?? 0 });
          await world.store.giveBack(lease, 'refuse', 'the next round needs the room');
        }
      }
      passed += 1;
    }
    expect(passed).toBe(12);
    expect(leased.length).toBeGreaterThan(0);
    const overfull = await server.database.query(
      `SELECT node_id FROM lease WHERE ended_at IS NULL AND node_id = ANY($1) GROUP BY 1 HAVING count(*) > $2`,
      [nodes.map(({ id }) => id), LEASES_AHEAD],
    );
    expect(overfull).toEqual([]);
    await Promise.all(offices.map((one) => one.close()));
  });

  it('divide the nodes: each is placed on by the holder of its shard alone', async () => {
    await nothingWaits();
    const nodes = await Promise.all(Array.from({ length: 8 }, () => connected()));
    const shards = new PgShards(server.database);
    const held = await shards.hold(2, 2);
    const both = [0, 1].map(
      (no) => new Scheduler(no === 0 ? server.database : other, nodes, held.slice(no, no + 1), 2),
    );
    await job(2_000);
    await Promise.all(both.map((one) => one.decide()));
    // A race for the job's next rows has one winner; the other decides again with the next tick.
    for (const one of both) await one.decide();
    for (const [no, one] of both.entries())
      expect(one.granted.map(({ nodeId }) => shardOf(nodeId, 2))).toEqual(one.granted.map(() => no));
    expect(both.flatMap(({ granted }) => granted)).toHaveLength(nodes.length * LEASES_AHEAD);
    await shards.close();
  });
});

describe('prices', () => {
  it("are the tick's in the books: the highest ask that is needed, within the cap of each job", async () => {
    await nothingWaits();
    const nodes = [await connected(50), await connected(80)];
    const [rich, modest] = [await job(200), await job(8)];
    await server.database.query(`UPDATE job SET rate_caps = '{"embeddingToken":"60"}' WHERE id = $1`, [modest]);
    await server.database.query(`UPDATE job SET deadline = deadline - interval '1 minute' WHERE id = $1`, [modest]);
    const shards = new PgShards(server.database);
    await new Scheduler(server.database, nodes, await shards.hold(1, 1)).decide();
    const leases = await server.database.query<{ job: string; node: string; rate: string }>(
      `SELECT DISTINCT job_id AS job, node_id AS node, rates ->> 'embeddingToken' AS rate FROM lease WHERE job_id = ANY($1)`,
      [[rich, modest]],
    );
    expect(leases).toHaveLength(3);
    for (const { job: of, rate } of leases) expect(rate).toBe(of === modest ? '60' : '80');
    expect(leases.filter(({ node }) => node === nodes[0]?.id)).toHaveLength(2);
    await shards.close();
  });
});

describe('processes of one coordinator', () => {
  it('have the smallest free number each, see who is alive, and lose number and name when they are killed', async () => {
    const facts = (peer: string): { peer: string; addresses: string[]; shards: number } => ({
      peer,
      addresses: [`/${peer}`],
      shards: 1,
    });
    const first = await PgProcessRegister.join(server.database, 'scheduler');
    const second = await PgProcessRegister.join(other, 'scheduler');
    const api = await PgProcessRegister.join(other, 'api');
    expect([first.no, second.no, api.no]).toEqual([0, 1, 0]);
    expect((await first.show(facts('a'))).map(({ peer }) => peer)).toEqual(['a']);
    await second.show(facts('b'));
    await api.show(facts('c'));
    expect(await first.show(facts('a'))).toEqual([
      { role: 'scheduler', no: 0, ...facts('a') },
      { role: 'api', no: 0, ...facts('c') },
      { role: 'scheduler', no: 1, ...facts('b') },
    ]);
    await endSessionOf('scheduler', 0);
    // Gone at once, whatever it showed a moment ago; and its number is the next one's.
    expect((await second.show(facts('b'))).map(({ peer }) => peer)).toEqual(['b', 'c']);
    const next = await PgProcessRegister.join(other, 'scheduler');
    expect(next.no).toBe(0);
    await expect(first.show(facts('a'))).rejects.toThrow(/terminat|not queryable/i);
    await expect(first.show(facts('a'))).rejects.toThrow(/Another scheduler took number 0/);
    // One whose connection alone was cut has its number again.
    await endSessionOf('scheduler', 1);
    await expect(second.show(facts('b'))).rejects.toThrow(/terminat|not queryable/i);
    expect((await second.show(facts('b')))[0]).toMatchObject({ no: 1 });
    await Promise.all([first, second, api, next].map((one) => one.close()));
  });
});

describe('racers', () => {
  it(`${RACERS} for one task that came back: one of them gets it`, async () => {
    const nodes = await Promise.all(Array.from({ length: 20 }, () => world.node()));
    const id = await job(16);
    const lease = await world.lease(id, nodes[0] ?? '', 0, 16);
    await world.store.giveBack(lease, 'refuse', 'busy');
    const wishes = Array.from({ length: RACERS }, (_, i) =>
      world.wish(id, nodes[i % nodes.length] ?? '', 0, 16, { task: lease.task, epoch: 2 }),
    );
    const answers = await Promise.all(wishes.map((wish) => world.store.grant([wish], LEASE_MS)));
    expect(answers.flat()).toHaveLength(1);
    const [{ leases } = { leases: 0 }] = await server.database.query<{ leases: number }>(
      'SELECT count(*)::int AS leases FROM lease WHERE task_id = $1 AND epoch = 2',
      [lease.task],
    );
    expect(leases).toBe(1);
  });

  it(`${RACERS} jobs of one row for the last free slot of one node: it is sold once`, async () => {
    await nothingWaits();
    const node = await connected();
    const taken = await job(1);
    for (let i = 1; i < LEASES_AHEAD; i += 1) await world.lease(taken, node.id, i - 1, i);
    await server.database.query(
      `WITH org AS (INSERT INTO org (id, name) VALUES ('org_racers', 'racers') RETURNING id),
       made AS (INSERT INTO job (id, org_id, kind, state, endpoint, model, cap, row_count, deadline, rate_caps, in_progress_at)
         SELECT 'batch_racer' || n, org.id, 'batch', 'in_progress', '/v1/embeddings', 'm', 10, 1,
           clock_timestamp() + interval '1 hour', '{"embeddingToken":"100"}', now() FROM org, generate_series(1, $1) AS n RETURNING id),
       rows AS (INSERT INTO row_block (job_id, row_from, custom_ids, input_offsets, input_lengths) SELECT id, 0, '{row}', '{0}', '{1}' FROM made)
       INSERT INTO outbox (topic, message) SELECT 'place', jsonb_build_object('job', id) FROM made`,
      [RACERS],
    );
    const shards = new PgShards(server.database);
    const held = await shards.hold(1, 1);
    const one = new Scheduler(server.database, [node], held);
    for (let i = 0; i < RACERS; i += 1) one.placement.wake();
    await one.placement.settled();
    await one.decide();
    expect(one.granted).toHaveLength(1);
    await shards.close();
    await nothingWaits();
  });
  it(`${RACERS} wakes of two schedulers for one node, its shard passing between them ${PASSES} times: it never has more leases than slots`, async () => {
    await nothingWaits();
    const node = await connected();
    const offices = [new PgShards(server.database), new PgShards(other)];
    // Both believe to hold the shard from the first.
    const old = [{ no: 0, epoch: 0 }];
    const both = [new Scheduler(server.database, [node], old), new Scheduler(other, [node], old)];
    const jobs = await Promise.all(Array.from({ length: 4 }, () => job(400)));
    const alive: GrantedLease[] = [];
    const granted = new Map<string, number>();
    const holders: { readonly who: number; readonly epoch: number; readonly from: string }[] = [];
    let wakes = 0;
    const race = async (who: number): Promise<void> => {
      for (; wakes < RACERS; wakes += 1) {
        both[who]?.placement.wake();
        await both[who]?.placement.settled();
        for (const lease of both[who]?.granted.splice(0) ?? []) {
          granted.set(`${lease.task} ${lease.epoch}`, who);
          alive.push(lease);
        }
        await soon();
      }
    };
    // Room comes while they race: what the node holds is done, or handed back.
    const work = async (): Promise<void> => {
      for (let done = 0; wakes < RACERS; await soon()) {
        const lease = alive.shift();
        if (lease === undefined) continue;
        done += 1;
        await world.store.start(lease);
        if (done % 3 === 0) await world.store.giveBack(lease, 'yield', 'wanted');
        else await world.deliver(lease).then(() => world.accept(lease));
      }
    };
    // Who let go goes on deciding under its epoch until it holds the shard again: nobody told it.
    const pass = async (): Promise<void> => {
      for (let round = 0; round < PASSES; round += 1) {
        const who = round % 2;
        const held = await heldBy(offices[who] as PgShards);
        const [shard] = await server.database.query<{ from: string }>(
          'SELECT held_at::text AS from FROM shard WHERE no = 0',
        );
        holders.push({ who, epoch: held[0]?.epoch ?? 0, from: shard?.from ?? '' });
        both[who]?.placement.hold(held, 1);
        const until = (RACERS * (round + 1)) / PASSES;
        while (wakes < until) await soon();
        await offices[who]?.close();
      }
    };
    await Promise.all([race(0), race(1), work(), pass()]);
    await Promise.all(both.map((one) => one.placement.settled()));
    for (const [who, one] of both.entries()) {
      expect(one.reports).toEqual([]);
      for (const lease of one.granted) granted.set(`${lease.task} ${lease.epoch}`, who);
    }
    // How many leases the node held at each moment at which it got one more.
    const leases = await server.database.query<{ lease: string; beside: number; at: string; epoch: number }>(
      `SELECT task_id || ' ' || epoch AS lease, granted_at::text AS at, (SELECT count(*)::int FROM lease b
         WHERE b.node_id = a.node_id AND b.granted_at <= a.granted_at
           AND coalesce(b.committed_at, b.ended_at, 'infinity') > a.granted_at) AS beside
       FROM lease a WHERE node_id = $1 ORDER BY granted_at`,
      [node.id],
    );
    expect(leases.length).toBeGreaterThan(PASSES);
    expect(Math.max(...leases.map(({ beside }) => beside))).toBe(LEASES_AHEAD);
    // Each was granted by who held the shard then, and by nobody else.
    expect(leases.map(({ lease }) => lease).sort()).toEqual([...granted.keys()].sort());
    for (const { lease, at } of leases)
      expect({ lease, by: granted.get(lease) }).toEqual({
        lease,
        by: holders.filter(({ from }) => from <= at).at(-1)?.who,
      });
    expect(new Set(granted.values()).size).toBe(2);
    expect(holders.map(({ epoch }) => epoch)).toEqual(holders.map((_, i) => (holders[0]?.epoch ?? 0) + i));
    // Every row is in one task, or waits to be cut.
    const torn = await server.database.query(
      `SELECT job.id FROM job LEFT JOIN task ON task.job_id = job.id WHERE job.id = ANY($1) GROUP BY job.id
       HAVING coalesce(sum(row_to - row_from), 0) <> next_row OR coalesce(max(row_to), 0) <> next_row`,
      [jobs],
    );
    expect(torn).toEqual([]);
    const twice = await server.database.query(
      `SELECT a.id FROM task a JOIN task b ON b.job_id = a.job_id AND b.id <> a.id AND a.row_from < b.row_to AND b.row_from < a.row_to
       WHERE a.job_id = ANY($1)`,
      [jobs],
    );
    expect(twice).toEqual([]);
    await Promise.all(offices.map((one) => one.close()));
    await nothingWaits();
  });
});

describe('priorities', () => {
  it.each([
    [0, 3],
    [3, 0],
  ])('decide who gets the only slot: submitted as %i before %i', async (...priorities) => {
    await nothingWaits();
    const node = await connected();
    const taken = await job(LEASES_AHEAD);
    for (let i = 1; i < LEASES_AHEAD; i += 1) await world.lease(taken, node.id, i - 1, i);
    await nothingWaits();
    const shards = new PgShards(server.database);
    const scheduler = new Scheduler(server.database, [node], await shards.hold(1, 1));
    const jobs = new Map<string, number>();
    for (const priority of priorities) {
      const id = await job(1);
      await server.database.query('UPDATE job SET priority = $2 WHERE id = $1', [id, priority]);
      jobs.set(id, priority);
    }
    const got = async (): Promise<(number | undefined)[]> => {
      await scheduler.decide();
      const leases = scheduler.granted.splice(0);
      for (const lease of leases) await world.deliver(lease);
      return leases.map(({ jobId }) => jobs.get(jobId));
    };
    expect([await got(), await got(), await got()]).toEqual([[3], [0], []]);
    expect(scheduler.reports).toEqual([]);
    await shards.close();
  });
});

describe('the kept fleet', () => {
  it(`leaves no row waiting while a fitting slot is free, and no node over its leases, over ${STEPS} random events`, async () => {
    await nothingWaits();
    const shards = new PgShards(server.database);
    const scheduler = new Scheduler(server.database, [await connected()], await shards.hold(1, 1));
    const rng = chance(7);
    const alive: GrantedLease[] = [];
    let placed = 0;
    for (let step = 0; step < STEPS; step += 1) {
      await happens(rng, scheduler, alive);
      scheduler.nowMs += 100;
      await scheduler.decide();
      placed += scheduler.granted.length;
      alive.push(...scheduler.granted.splice(0));
      await expectConserved(scheduler);
    }
    expect(scheduler.reports).toEqual([]);
    expect(placed).toBeGreaterThan(STEPS / 4);
    await nothingWaits();
    await shards.close();
  });

  it('sees what no task of a node tells, a bench by hand, within ten seconds', async () => {
    await nothingWaits();
    const [node, shards] = [await connected(), new PgShards(server.database)];
    const scheduler = new Scheduler(server.database, [node], await shards.hold(1, 1));
    await job(1);
    await scheduler.decide();
    expect(scheduler.granted).toHaveLength(1);
    await server.database.query(
      `UPDATE node SET benched_until = clock_timestamp() + interval '1 hour', benched_why = 'by hand' WHERE id = $1`,
      [node.id],
    );
    scheduler.nowMs += 10_001;
    await job(1);
    await scheduler.decide();
    expect(scheduler.granted).toHaveLength(1);
    await shards.close();
  });
});

/** Others have their turn. */
function soon(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}

/** What a killed process leaves: no session, once the server has noticed, and its entry. */
async function endSessionOf(role: 'api' | 'scheduler', no: number): Promise<void> {
  for (;;) {
    const standing = await server.database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks JOIN coordinator ON key = $1 AND (value ->> 'lock')::int = objid::int
       WHERE locktype = 'advisory' AND objsubid = 2
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [`process.${role}.${no}`],
    );
    if (standing.length === 0) return;
  }
}

/** The next tick of a process finds its session gone, and the one after that has a new one. */
async function heldBy(office: PgShards): Promise<readonly HeldShard[]> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const held = await office.hold(1, 1).catch(() => []);
    if (held.length > 0) return held;
  }
  throw new Error('the shard was not taken over');
}

async function happens(rng: ReturnType<typeof chance>, scheduler: Scheduler, alive: GrantedLease[]): Promise<void> {
  const what = rng.below(8);
  const lease = what < 5 || alive.length === 0 ? undefined : alive.splice(rng.below(alive.length), 1)[0];
  if (what === 0) await job(1 + rng.below(60));
  else if (what === 1 && scheduler.nodes.length < 5) scheduler.connect([...scheduler.nodes, await connected()]);
  else if (what === 2 && scheduler.nodes.length > 1) scheduler.connect(scheduler.nodes.slice(1));
  else if (what === 3) scheduler.rest(rng.pick(scheduler.nodes).id);
  else if (what === 4) scheduler.resting.clear();
  else if (lease !== undefined && what === 5) await world.store.giveBack(lease, 'yield', 'wanted');
  else if (lease !== undefined && what === 6) {
    await world.silence(lease);
    await world.store.giveBack(lease, 'lose', 'silent');
  } else if (lease !== undefined) {
    await world.store.start(lease);
    await world.deliver(lease);
    await world.accept(lease);
  }
}

/** Looks at Postgres alone: what waits, and how loaded each node is. What a node just lost waits for another, see AVOID_MS. */
async function expectConserved(scheduler: Scheduler): Promise<void> {
  const waiting = await server.database.query<{ lost_by: string | null }>(
    `SELECT NULL AS lost_by FROM job WHERE state = 'in_progress' AND kind = 'batch' AND next_row < row_count
     UNION ALL SELECT last_node FROM task JOIN job ON job.id = task.job_id
     WHERE task.state = 'queued' AND job.state = 'in_progress'`,
  );
  const loads = await world.store.nodeRecords(scheduler.nodes.map(({ id }) => id));
  for (const { id } of scheduler.nodes) {
    const leases = loads.get(id)?.leasesInFlight ?? 0;
    expect(leases).toBeLessThanOrEqual(LEASES_AHEAD);
    if (!scheduler.resting.has(id) && waiting.some((task) => task.lost_by !== id))
      expect({ id, leases }).toEqual({ id, leases: LEASES_AHEAD });
  }
}
