import { describe, expect, it } from '@jest/globals';
import {
  ANYWHERE,
  LEASES_AHEAD,
  NEWCOMER_ROWS,
  RESERVATION_GRACE_MS,
  type Demand,
  type Placement,
} from '@freehold/domain';
import { TaskPlacement, withoutUnderWay } from './place-tasks.ts';
import type { GrantedLease, LeaseWish, NodeRecord, OpenDemand } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

const HOUR_MS = 3_600_000;
const FIRST_ROWS = LEASES_AHEAD * NEWCOMER_ROWS;

describe('the demand while batches are under way', () => {
  const demand = (jobId: string, over: Partial<Demand> = {}): Demand => ({
    ask: { ...ANYWHERE, jobId, model: 'm', verify: 'spot', rateCaps: {}, deadlineInMs: HOUR_MS },
    ...{ ageMs: 0, nextRow: 10, rowCount: 100, queued: [] },
    ...over,
  });
  const placed = (jobId: string, over: Partial<Placement>): Placement =>
    ({ jobId, taskId: null, epoch: 1, rowFrom: 10, rowTo: 20, nodeId: 'n', ...over }) as Placement;
  const back = (taskId: string) => ({ taskId, epoch: 2, rowFrom: 0, rowTo: 5, lastNode: null });

  it('is less the rows and the tasks that they take, of their own jobs alone', () => {
    const demands = [demand('a', { queued: [back('t'), back('u')] }), demand('b', { queued: [back('t')] })];
    const underWay = [
      placed('a', { rowTo: 20 }),
      placed('a', { rowFrom: 20, rowTo: 30 }),
      placed('a', { taskId: 't' }),
    ];
    expect(withoutUnderWay(demands, underWay)).toEqual([
      { ...demands[0], nextRow: 30, queued: [back('u')] },
      demands[1],
    ]);
  });

  it('goes by what was read where that is further already, and takes rows of a returned task for nothing new', () => {
    expect(withoutUnderWay([demand('a', { nextRow: 40 })], [placed('a', {})])).toMatchObject([{ nextRow: 40 }]);
    expect(withoutUnderWay([demand('a')], [placed('a', { taskId: 't', rowTo: 90 })])).toMatchObject([{ nextRow: 10 }]);
  });

  it('has nothing more of a run, whose next lease stands on this one', () => {
    expect(withoutUnderWay([demand('a', { isRun: true }), demand('b')], [placed('a', {})])).toHaveLength(1);
  });
});

describe('placing', () => {
  it('decides the next batch while one is written, on what that one leaves, and no third', async () => {
    const world = new World(1_000);
    world.connect('a');
    const first = await world.wakes();
    expect(first?.map(rowsOf)).toEqual([`0–${NEWCOMER_ROWS} a`, `${NEWCOMER_ROWS}–${FIRST_ROWS} a`]);
    // Room comes while the first batch is written: other rows go there, and nothing more to a.
    world.connect('b');
    const second = await world.wakes();
    expect(second?.map(({ nodeId }) => nodeId)).toEqual(['b', 'b']);
    expect(second?.[0]?.rowFrom).toBe(FIRST_ROWS);
    world.connect('c');
    expect(await world.wakes()).toBeUndefined();
    await world.writes(0);
    expect(world.batches[2]?.map(({ nodeId, rowFrom }) => [nodeId, rowFrom])).toEqual([
      ['c', 2 * FIRST_ROWS],
      ['c', 2 * FIRST_ROWS + NEWCOMER_ROWS],
    ]);
    await world.writes(1);
    await world.writes(2);
    await world.placement.settled();
    expect(world.granted.map(rowsOf)).toEqual(world.batches.flat().map(rowsOf));
    expect(world.reports).toEqual([]);
  });

  it('decides anew what was under way and was not written', async () => {
    const world = new World(FIRST_ROWS);
    world.connect('a');
    await world.wakes();
    world.fails(0);
    await world.placement.settled();
    expect(world.reports).toEqual(['writing leases']);
    const again = await world.wakes();
    expect(again?.map(rowsOf)).toEqual(world.batches[0]?.map(rowsOf));
    await world.writes(1);
    await world.placement.settled();
    expect(world.granted.map(rowsOf)).toEqual(again?.map(rowsOf));
  });

  it('looks again at the nodes of moves that it was told of once, whatever went wrong in between', async () => {
    const world = new World(1_000);
    world.connect('a');
    await world.wakes();
    await world.writes(0);
    await world.placement.settled();
    // Its record is read for the last time of itself.
    expect(await world.wakes()).toBeUndefined();
    world.finishAll();
    world.movedNodes = ['a'];
    world.isBroken = true;
    await world.wakes();
    expect(world.reports).toEqual(['placing']);
    world.isBroken = false;
    expect((await world.wakes())?.map(({ nodeId }) => nodeId)).toEqual(['a', 'a']);
    await world.writes(1);
  });
  it('has considered what was filed when a decision read its job, and not when that failed', async () => {
    const world = new World(0);
    world.connect('a');
    await world.wakes();
    world.filed = [{ outboxId: '7', jobId: 'k' }];
    world.isBroken = true;
    await world.wakes();
    expect([world.reports, world.placement.considered('7')]).toEqual([['placing'], false]);
    expect(world.tookIn).toEqual([]);
    world.isBroken = false;
    world.waits('k', {});
    expect((await world.wakes())?.map(({ jobId }) => jobId)).toEqual(['k']);
    expect([world.placement.considered('7'), world.placement.considered('8')]).toEqual([true, false]);
    await world.writes(0);
    // Told again, as the newest are: nothing is read for it, and nothing waits.
    const before = world.asked.length;
    expect(await world.wakes()).toBeUndefined();
    expect(world.asked.slice(before).flat()).not.toContain('k');
    expect(world.placement.mayWait).toBe(false);
    expect(world.tookIn).toEqual([['7']]);
    world.filed = [...world.filed, { outboxId: '9', jobId: 'l' }];
    await world.wakes();
    expect(world.tookIn).toEqual([['7'], ['9']]);
  });
  it('leaves what was filed to who has nodes: without a shard nothing is taken into account', async () => {
    const world = new World(0);
    world.placement.hold([], 1);
    await world.wakes();
    world.filed = [{ outboxId: '7', jobId: 'k' }];
    await world.wakes();
    expect([world.tookIn, world.placement.considered('7')]).toEqual([[], false]);
  });
});

describe('work conservation', () => {
  it('finds the one row that fits within a tick, beside a thousand groups that fit nowhere', async () => {
    const world = new World(0);
    world.connect('a');
    for (let i = 0; i < 1_000; i += 1) world.waits(`blocked-${i}`, { orgId: `o${i}`, region: 'nowhere' });
    // By its turn the last of all.
    world.waits('fits', { orgId: 'z', deadlineInMs: 24 * HOUR_MS });
    expect((await world.wakes())?.map(({ jobId }) => jobId)).toEqual(['fits']);
    await world.writes(0);
    await world.placement.settled();
    world.waits('fits-too', { orgId: 'z', deadlineInMs: 24 * HOUR_MS });
    world.nowMs += 1_000;
    expect((await world.wakes())?.map(({ jobId }) => jobId)).toEqual(['fits-too']);
    await world.writes(1);
    expect(world.reports).toEqual([]);
  });
});

describe('nodes that are alike', () => {
  it('are not chosen by their names: each process has an order of its own', async () => {
    const first = async (drawn: number): Promise<string | undefined> => {
      const world = new World(1, drawn);
      for (const id of ['a', 'b', 'c', 'd']) world.connect(id);
      return (await world.wakes())?.[0]?.nodeId;
    };
    const chosen = await Promise.all(Array.from({ length: 24 }, (_, i) => first(10 * i)));
    expect(new Set(chosen).size).toBeGreaterThan(2);
    expect(await first(10)).toBe(chosen[1]);
  });
});

describe('rows that begin alike', () => {
  it("go where their beginning was computed a moment ago, their own organisation's alone", async () => {
    // In this order of alike nodes a is before b.
    const world = new World(0, 2);
    const chats = { endpoint: '/v1/chat/completions', rateCaps: { inputToken: 9n } };
    const placed: string[] = [];
    const runs = async (jobId: string, over: Partial<OpenDemand>): Promise<void> => {
      world.waits(jobId, { ...chats, ...over });
      world.nowMs += 1_000;
      placed.push(...((await world.wakes()) ?? []).map(({ nodeId }) => nodeId));
      await world.writes(placed.length - 1);
      world.finishAll();
      world.movedNodes = ['a', 'b'];
    };
    const rates = { inputToken: '5', cachedInputToken: '1' };
    world.connect('b', { kind: 'chat', rates });
    await runs('first', { promptBlocks: ['1', '2'] });
    world.connect('a', { kind: 'chat', rates });
    await runs('alike', { promptBlocks: ['1', '3'] });
    await runs('anothers', { promptBlocks: ['1', '2'], orgId: 'another' });
    await runs('other', { promptBlocks: ['4'] });
    await runs('none', {});
    expect(placed).toEqual(['b', 'b', 'a', 'a', 'a']);
    expect(world.reports).toEqual([]);
  });
});

describe('work that begins on several nodes at once', () => {
  it('has the nodes that are free first kept for it, until it begins on all of them in one list; what is not written is begun anew', async () => {
    // In this order of alike nodes a is before b.
    const world = new World(0, 2);
    world.connect('a');
    world.waits('first', {});
    await world.wakes();
    await world.writes(0);
    await world.placement.settled();
    world.connect('b');
    world.waits('gang', { orgId: 'g', gang: 2, rowCount: 4 });
    expect(await world.wakes()).toBeUndefined();
    expect(world.placement.reservations()).toEqual([
      { jobId: 'gang', orgId: 'g', nodeIds: ['b', 'a'], startsInMs: 1_000, expiresInMs: 1_000 + RESERVATION_GRACE_MS },
    ]);
    expect(world.placement.hasGangs).toBe(true);
    // One node stands free, and is kept.
    world.waits('beside', { orgId: 'z' });
    expect(await world.wakes()).toBeUndefined();
    for (const lease of world.granted) world.placement.ended(lease, { end: 'committed' });
    world.finishAll();
    world.movedNodes = ['a'];
    const firsts = (wishes: readonly LeaseWish[] = []): string[] =>
      wishes.filter(({ jobId }) => jobId === 'gang').map(rowsOf);
    expect(firsts(await world.wakes())).toEqual(['0–2 a', '2–4 b']);
    world.fails(1);
    await world.placement.settled();
    expect(firsts(await world.wakes())).toEqual(['0–2 a', '2–4 b']);
    await world.writes(2);
    expect((await world.wakes())?.map(({ jobId }) => jobId)).toEqual(['beside']);
    expect(world.placement.hasGangs).toBe(false);
    expect(world.placement.reservations()).toEqual([]);
  });
});

describe('room for work that begins on several nodes at once', () => {
  it('is not asked of one lease, whatever that is worth: alone it would make room for nobody', async () => {
    for (const [gang, asked] of [
      [2, []],
      [undefined, ['second']],
    ] as const) {
      const world = new World(0);
      world.connect('a');
      for (const first of ['first', 'second']) {
        world.waits(first, { rowCount: 16 });
        await world.wakes();
        await world.writes(world.batches.length - 1);
        await world.placement.settled();
      }
      world.waits('urgent', { priority: 3, ageMs: 60_000, rowCount: 4, ...(gang === undefined ? {} : { gang }) });
      await world.wakes();
      expect(world.toYield).toEqual(asked);
    }
  });
});

describe('a lease that is late', () => {
  it('keeps no decision waiting while the row of its lease is locked, and is waited for at the end', async () => {
    const world = new World(2 * FIRST_ROWS);
    world.connect('a');
    world.connect('b');
    await world.wakes();
    await world.writes(0);
    await world.placement.settled();
    for (const lease of world.granted.filter(({ nodeId }) => nodeId === 'b')) {
      world.placement.signed(lease, NEWCOMER_ROWS);
      world.nowMs += 1_000;
      world.placement.signed(lease, 0);
      world.placement.ended(lease, { end: 'committed' });
    }
    world.finishAll();
    world.movedNodes = ['a', 'b'];
    for (let batch = 1; (await world.wakes()) !== undefined; batch += 1) {
      await world.writes(batch);
      await world.placement.settled();
    }
    world.nowMs += HOUR_MS / 2;
    const before = world.batches.length;
    let unlock = (): void => undefined;
    world.yields = () => new Promise((resolve) => (unlock = () => resolve({ moved: true })));
    world.waits('beside', {});
    expect((await world.wakes())?.map(({ jobId }) => jobId)).toEqual(['beside']);
    expect(world.toYield).toContain('j');
    await world.writes(before);
    let isOver = false;
    const settled = world.placement.settled().then(() => (isOver = true));
    await turns();
    expect(isOver).toBe(false);
    world.yields = () => Promise.resolve({ moved: true });
    unlock();
    await settled;
    expect(world.reports).toEqual([]);
  });
});

const rowsOf = ({ rowFrom, rowTo, nodeId }: LeaseWish | GrantedLease): string => `${rowFrom}–${rowTo} ${nodeId}`;

/** A job, its nodes, and a database that answers when the test says so. */
class World {
  readonly batches: (readonly LeaseWish[])[] = [];
  readonly granted: GrantedLease[] = [];
  readonly reports: string[] = [];
  readonly toYield: string[] = [];
  /** Of what is written about who was asked to yield. */
  yields = (): Promise<{ moved: true }> => Promise.resolve({ moved: true });
  /** Jobs whose demand was asked for, question by question. */
  readonly asked: (readonly string[])[] = [];
  readonly placement: TaskPlacement;
  movedNodes: string[] = [];
  /** What was said to be done, decision by decision. */
  readonly tookIn: (readonly string[])[] = [];
  /** Work filed for the placement of late. */
  filed: { outboxId: string; jobId: string }[] = [];
  nowMs = 0;
  isBroken = false;
  readonly #nodes: ConnectedNode[] = [];
  readonly #leases = new Map<string, number>();
  readonly #answers: { readonly yes: () => void; readonly no: () => void }[] = [];
  #nextRow = 0;
  readonly #others = new Map<string, OpenDemand>();
  readonly #filed: string[] = [];
  readonly #rows: number;
  #drawn: number;

  constructor(rows: number, drawn = 0) {
    this.#rows = rows;
    this.#drawn = drawn;
    this.placement = new TaskPlacement({
      leases: {
        moved: () =>
          Promise.resolve({
            cursor: '0',
            jobIds: ['j', ...this.#filed.splice(0)],
            nodeIds: this.movedNodes.splice(0),
            filed: this.filed,
          }),
        demandPage: (after, limit) => {
          const page = this.#open().filter(({ jobId }) => after === null || jobId > after);
          return Promise.resolve(page.sort((a, b) => (a.jobId < b.jobId ? -1 : 1)).slice(0, limit));
        },
        demandOf: (ids) => {
          this.asked.push(ids);
          return this.isBroken
            ? Promise.reject(new Error('no database'))
            : Promise.resolve(this.#open().filter(({ jobId }) => ids.includes(jobId)));
        },
        nodeRecords: (ids) => Promise.resolve(new Map(ids.map((id) => [id, this.#record(id)]))),
        grant: (wishes) => this.#grant(wishes),
        yieldWithin: () => this.yields(),
      },
      link: { nodes: () => [...this.#nodes], changes: () => ({ mark: 0, nodes: null }) },
      entropy: { bytes: (length) => new Uint8Array(length).fill((this.#drawn += 1)) },
      clock: { nowMs: () => this.nowMs },
      resting: () => false,
      measured: () => undefined,
      hasRoom: () => true,
      granted: (lease) => this.granted.push(lease),
      tookIn: (ids) => this.tookIn.push(ids),
      askToYield: ({ jobId }) => {
        this.toYield.push(jobId);
        return true;
      },
      report: (what) => this.reports.push(what),
    });
    this.placement.hold([{ no: 0, epoch: 1 }], 1);
  }

  connect(id: string, over: { readonly kind?: 'chat'; readonly rates?: Record<string, string> } = {}): void {
    const caps = { tokens: true, logprobs: false, promptLogprobs: false, seed: false, lora: false, embeddings: true };
    const model = {
      name: 'm',
      digest: 'd',
      kind: 'embedding',
      loaded: true,
      rates: { embeddingToken: '5' },
      caps,
      ...over,
    };
    const engines = [{ class: 'c', models: [{ ...model, rowsPerSecond: 1 }] }];
    const offer = { region: 'eu', pools: [], gpus: [], cpuMilli: 0, memoryMib: 0, isolation: 'none', engines };
    this.#nodes.push({ id, address: '', offer, draining: false } as unknown as ConnectedNode); // what placing reads
  }

  /** What this decision wants written, if it wants anything. */
  async wakes(): Promise<readonly LeaseWish[] | undefined> {
    const before = this.batches.length;
    this.placement.wake();
    await turns();
    return this.batches[before];
  }

  async writes(batch: number): Promise<void> {
    this.#answers[batch]?.yes();
    await turns();
  }

  fails(batch: number): void {
    this.#answers[batch]?.no();
  }

  finishAll(): void {
    this.#leases.clear();
  }

  #grant(wishes: readonly LeaseWish[]): Promise<readonly GrantedLease[]> {
    this.batches.push(wishes);
    return new Promise((resolve, reject) => {
      this.#answers.push({
        yes: () => {
          for (const { nodeId } of wishes) this.#leases.set(nodeId, (this.#leases.get(nodeId) ?? 0) + 1);
          for (const { jobId, rowTo } of wishes)
            if (!this.#others.delete(jobId)) this.#nextRow = Math.max(this.#nextRow, rowTo);
          resolve(wishes.map((wish) => ({ ...wish, task: `${wish.rowFrom}`, epoch: 1 })));
        },
        no: () => reject(new Error('no database')),
      });
    });
  }

  /** Another job, of one row. */
  waits(jobId: string, over: Partial<OpenDemand>): void {
    this.#others.set(jobId, { ...this.#job(), jobId, nextRow: 0, rowCount: 1, ...over });
    this.#filed.push(jobId);
  }

  #open(): readonly OpenDemand[] {
    return [...(this.#nextRow < this.#rows ? [this.#job()] : []), ...this.#others.values()];
  }

  #job(): OpenDemand {
    const job = { jobId: 'j', orgId: 'o', kind: 'batch', endpoint: '/v1/embeddings', model: 'm', wearsAdapter: false };
    const terms = {
      region: null,
      poolId: null,
      verify: 'spot',
      rateCaps: { embeddingToken: 9n },
      priority: 0,
    } as const;
    const times = { deadlineInMs: HOUR_MS, ageMs: 0, nextRow: this.#nextRow, rowCount: this.#rows, queued: [] };
    return { ...job, ...terms, ...times } as OpenDemand;
  }

  #record(nodeId: string): NodeRecord {
    const leasesInFlight = this.#leases.get(nodeId) ?? 0;
    return {
      ...{ nodeId, payout: '', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0 },
      ...{ benchedWhy: null, speed: {}, rowsInFlight: leasesInFlight * NEWCOMER_ROWS, leasesInFlight },
    };
  }
}

/** Lets everything that can go on go on. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
}
