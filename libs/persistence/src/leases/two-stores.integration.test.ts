import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { GrantedLease } from '@freehold/market';
import { STALL_MS, type LeaseRef } from '@freehold/protocol';
import type { LeaseWorld } from '@freehold/testing/lease-world';
import { Dice, MemoryLeaseWorld } from '@freehold/testing/sim';
import { marketDatabase, type MarketDatabase } from '../../test/market-database.ts';
import { LEASE_MS, MarketWorld, ROW_PRICE } from '../../test/market-world.ts';

const HISTORIES = 12;
const STEPS = 60;
const ROWS = 40;
const NODES = 3;

let market: MarketDatabase;
beforeAll(async () => {
  market = await marketDatabase({ poolSize: 4 });
}, 30_000);
afterAll(() => market.close());

const EVENTS = [
  ...['grant', 'grant', 'grant', 'checkpoint', 'checkpoint', 'deliver', 'deliver', 'accept', 'accept', 'draw'],
  ...['lose', 'yield', 'refuse', 'reject', 'bench', 'silence', 'stall', 'ask', 'extend', 'resume', 'poison', 'start'],
  'end',
] as const;

/** The same market in one store. What happens is thrown by dice, and where the dice are the same, so must be every answer. */
class Twin {
  readonly #world: LeaseWorld;
  readonly #leases: GrantedLease[] = [];
  readonly #nodes: string[] = [];
  #job = '';

  constructor(world: LeaseWorld) {
    this.#world = world;
  }

  async open(paidRows: number): Promise<void> {
    for (let i = 0; i < NODES; i += 1) this.#nodes.push(await this.#world.node());
    this.#job = await this.#world.batch(ROWS, { cap: ROW_PRICE * BigInt(paidRows) });
  }

  /** What the store answered, without names of its own making. */
  async happen(dice: Dice): Promise<unknown> {
    const { store } = this.#world;
    const what = dice.pick(EVENTS);
    const [n, size] = [dice.between(0, 999), dice.between(1, 15)];
    const lease = n % 6 === 0 ? this.#leases[n % Math.max(1, this.#leases.length)] : this.#leases.at(-1 - (n % 3));
    if (what === 'grant') return [what, await this.#grant(n, size)];
    if (what === 'poison') return [what, await store.failPoison(3)];
    if (what === 'end') {
      if (n % 25 === 0) await this.#world.end(this.#job, n % 2 === 0 ? 'cancel' : 'expire');
      return [what, (await store.expireJobs()).includes(this.#job)];
    }
    if (lease === undefined) return [what];
    return [what, await this.#onLease(what, lease, n, size)];
  }

  async #onLease(what: (typeof EVENTS)[number], lease: GrantedLease, n: number, size: number): Promise<unknown> {
    const { store } = this.#world;
    const node = this.#nodes[n % NODES] ?? '';
    switch (what) {
      case 'start':
        return store.start(lease);
      case 'draw':
        return store.saveDraw(lease, `0x${'5e'.repeat(32)}`, [lease.rowFrom + (n % 2)]);
      case 'accept':
        return this.#accept((await this.#delivered()) ?? lease);
      case 'reject': {
        const rejected = await store.reject(lease, 'bad', n % 2, n % 3 === 0 ? 60_000 : 0);
        return rejected.moved ? { moved: true, voided: this.#named(rejected.voided) } : rejected;
      }
      case 'bench':
        return store.benchAuditors([{ nodeId: node, why: 'audit: wrong' }], 60_000);
      case 'silence': {
        await this.#world.silence(lease);
        return this.#named(await store.expired(1_000));
      }
      case 'stall':
        return this.#world.stall(lease, STALL_MS);
      case 'ask':
        return store.yieldWithin(lease, n % 2 === 0 ? 0 : 600_000);
      case 'extend':
        return this.#named(await store.extend([{ nodeId: n % 4 === 0 ? node : lease.nodeId, lease }], LEASE_MS));
      case 'resume': {
        const claim = { task: lease.task, epoch: lease.epoch, nonce: lease.nonce, done: 0, committed: false };
        return this.#named(await store.resume(n % 4 === 0 ? node : lease.nodeId, [claim], LEASE_MS));
      }
      case 'checkpoint':
      case 'deliver':
        return this.#checkpoint(lease, what === 'deliver' ? ROWS : size);
      case 'lose':
      case 'yield':
      case 'refuse':
        return n % 3 === 0 ? store.giveBack(lease, what, what, node) : store.giveBack(lease, what, what);
      default:
        return null;
    }
  }

  async #grant(n: number, size: number): Promise<unknown> {
    const { store } = this.#world;
    const [open] = (await store.demand(1_000, 10)).filter(({ jobId }) => jobId === this.#job);
    if (open === undefined) return 'nothing waits';
    const node = this.#nodes[n % NODES] ?? '';
    const [back] = open.queued;
    const to = Math.min(open.nextRow + size, ROWS + (n % 7 === 0 ? 1 : 0));
    const wish =
      back === undefined || n % 3 === 0
        ? this.#world.wish(this.#job, node, open.nextRow, to)
        : this.#world.wish(this.#job, node, back.rowFrom, back.rowTo, { task: back.taskId, epoch: back.epoch });
    const granted = await store.grant([wish], LEASE_MS);
    this.#leases.push(...granted);
    return granted.map(({ rowFrom, rowTo, epoch }) => [rowFrom, rowTo, epoch]);
  }

  async #checkpoint(lease: GrantedLease, upTo: number): Promise<unknown> {
    const view = await this.#world.store.view(lease);
    if (view === null) return null;
    const from = view.checkpointRows;
    const n = Math.min(view.rowTo - view.rowFrom, from + upTo);
    const at = { ...this.#world.at(lease, n), last: n === view.rowTo - view.rowFrom };
    return this.#world.store.checkpoint(lease, this.#world.rows(lease, from, n, [3, 17]), at);
  }

  /** The oldest lease that waits for its verdict. */
  async #delivered(): Promise<GrantedLease | undefined> {
    for (const lease of this.#leases) {
      const view = await this.#world.store.view(lease);
      if (view?.state === 'delivered' && view.taskEpoch === lease.epoch) return lease;
    }
    return undefined;
  }

  /** An acceptance of what was not delivered is refused loudly by both. */
  async #accept(lease: GrantedLease): Promise<unknown> {
    try {
      return await this.#world.accept(lease);
    } catch (error) {
      return /Nothing was charged/.test(String(error)) ? 'nothing charged' : String(error);
    }
  }

  /** Leases by when they were granted: their ids are each store's own. */
  #named(refs: readonly LeaseRef[]): readonly number[] {
    const places = refs.map(({ task, epoch }) =>
      this.#leases.findIndex((lease) => lease.task === task && lease.epoch === epoch),
    );
    return places.filter((at) => at >= 0).sort((a, b) => a - b);
  }

  /** Everything that can be seen of it. */
  async state(): Promise<unknown> {
    const { store } = this.#world;
    const views = [];
    for (const lease of this.#leases) {
      const view = await store.view(lease);
      if (view === null) continue;
      const { state, taskEpoch, checkpointRows, checkpointRoot, committed, drawHeight, drawRows, alive } = view;
      const isRooted = checkpointRoot !== null;
      views.push({
        state,
        taskEpoch,
        checkpointRows,
        isRooted,
        committed,
        drawHeight,
        drawRows,
        alive,
        to: view.rowTo,
      });
      views.push((await store.delivered(lease)).map(({ rowNo, succeeded }) => [rowNo, succeeded]));
      views.push((await store.inputs(lease, 1))?.rows.map(({ rowNo }) => rowNo) ?? null);
    }
    const [open] = (await store.demand(1_000, 10)).filter(({ jobId }) => jobId === this.#job);
    const queued = open?.queued.map(({ epoch, rowFrom, rowTo, attempts, lastNode }) => ({
      ...{ epoch, rowFrom, rowTo, attempts },
      lastNode: this.#nodes.indexOf(lastNode ?? ''),
    }));
    const records = await store.nodeRecords(this.#nodes);
    const nodes = this.#nodes.map((id) => {
      const { rowsAccepted, rowsAudited, rowsBad, leasesLost, benchedForMs, benchedWhy, ...rest } = must(
        records.get(id),
      );
      const { rowsInFlight, leasesInFlight } = rest;
      const counts = { rowsAccepted, rowsAudited, rowsBad, leasesLost, rowsInFlight, leasesInFlight };
      return { ...counts, isBenched: benchedForMs > 0, benchedWhy };
    });
    return { views, queued, nextRow: open?.nextRow, nodes, job: await this.#world.jobFacts(this.#job) };
  }
}

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a node is unknown to its store');
  return value;
}

it('the store in memory answers as PostgreSQL does, step by step, whatever happens', async () => {
  const seen = new Map<string, number>();
  for (let seed = 1; seed <= HISTORIES; seed += 1) {
    const twins = [new Twin(new MarketWorld(market.database)), new Twin(new MemoryLeaseWorld())] as const;
    const paidRows = new Dice(seed).for('cap').between(0, ROWS);
    for (const twin of twins) await twin.open(paidRows);
    const dice = twins.map(() => new Dice(seed).for('history'));
    for (let step = 0; step < STEPS; step += 1) {
      const [truth, memory] = [await twins[0].happen(must(dice[0])), await twins[1].happen(must(dice[1]))];
      expect({ seed, step, answer: memory }).toEqual({ seed, step, answer: truth });
      const kind = JSON.stringify(truth, (_key, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      if (step % 10 === 9)
        expect({ seed, step, state: await twins[1].state() }).toEqual({ seed, step, state: await twins[0].state() });
    }
  }
  const times = (holds: (answer: string) => boolean): number =>
    [...seen].reduce((sum, [answer, n]) => sum + (holds(answer) ? n : 0), 0);
  // What never happened would prove nothing.
  expect(times((answer) => answer.startsWith('["accept",{"moved":true'))).toBeGreaterThan(10);
  expect(times((answer) => answer.includes('moved-by-another'))).toBeGreaterThan(30);
  expect(times((answer) => answer.includes('requeuedRows'))).toBeGreaterThan(10);
}, 120_000);
