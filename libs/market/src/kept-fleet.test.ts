import { describe, expect, it } from '@jest/globals';
import { ANYWHERE, chance } from '@freehold/domain';
import { KeptFleet } from './kept-fleet.ts';
import { NodeChangeLog } from './node-change-log.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode, NodeChanges } from './ports/provider-link.ts';

const offer = (region: string): ConnectedNode['offer'] =>
  ({ region, pools: [], gpus: [], cpuMilli: 0, memoryMib: 0, isolation: 'none', engines: [] }) as never; // what a fleet reads

const RECORD: NodeRecord = {
  ...{ nodeId: 'n', payout: '', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0 },
  ...{ benchedWhy: null, speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
};

describe('the kept fleet', () => {
  it('takes in what a node said while the database did not answer', async () => {
    let isBroken = false;
    let node = { id: 'n', address: '', offer: offer('eu'), draining: false } as unknown as ConnectedNode; // and nothing of its key
    const fleet = new KeptFleet({
      leases: {
        nodeRecords: (ids) =>
          isBroken ? Promise.reject(new Error('no database')) : Promise.resolve(new Map(ids.map((id) => [id, RECORD]))),
      },
      link: { nodes: () => [node], changes: () => ({ mark: 0, nodes: null }) },
      clock: { nowMs: () => 0 },
      resting: () => false,
      measured: () => undefined,
    });
    const owns = (): boolean => true;
    await fleet.refresh(owns);
    expect(fleet.candidate('n')).toMatchObject({ region: 'eu', draining: false });
    node = { ...node, offer: offer('us'), draining: true };
    fleet.touch('n');
    isBroken = true;
    await expect(fleet.refresh(owns)).rejects.toThrow('no database');
    isBroken = false;
    // Its record need not be read again for that.
    await fleet.refresh(owns);
    expect(fleet.candidate('n')).toMatchObject({ region: 'us', draining: true });
  });

  it('counts what is under way for a node that went and came back before it was written', async () => {
    const model = {
      ...{ name: 'm', digest: 'd', kind: 'embedding', quantisation: 'F32', contextTokens: 64, slots: 1, caps: {} },
      ...{ loaded: true, rates: { embeddingToken: '5' }, rowsPerSecond: 10 },
    };
    const engines = [{ class: 'c', models: [model] }];
    const node = { id: 'n', offer: { ...offer('eu'), engines }, draining: false } as unknown as ConnectedNode; // and nothing of its key
    let nodes = [node];
    let written = 0;
    const fleet = new KeptFleet({
      leases: {
        nodeRecords: (ids) => Promise.resolve(new Map(ids.map((id) => [id, { ...RECORD, leasesInFlight: written }]))),
      },
      link: { nodes: () => nodes, changes: () => ({ mark: 0, nodes: null }) },
      clock: { nowMs: () => 0 },
      resting: () => false,
      measured: () => undefined,
    });
    const seen = async (): Promise<number | undefined> => {
      await fleet.refresh(() => true);
      return fleet.candidate('n')?.leasesActive;
    };
    expect(await seen()).toBe(0);
    const ask = { ...ANYWHERE, jobId: 'j', model: 'm', verify: 'spot', rateCaps: { embeddingToken: 9n } } as const;
    const demand = { ask: { ...ask, deadlineInMs: 600_000 }, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] };
    const placements = fleet.place([demand], 1);
    nodes = [];
    expect(await seen()).toBeUndefined();
    nodes = [node];
    expect(await seen()).toBe(1);
    written = 1;
    fleet.settle(placements, () => true);
    expect(await seen()).toBe(1);
    // What did not come about counts no more, also where the node is away meanwhile.
    const second = fleet.place([demand], 1);
    nodes = [];
    await seen();
    fleet.settle(second, () => false);
    nodes = [node];
    expect(await seen()).toBe(1);
  });

  it('believes what it measured of a load before what a node claims, and that before what its weights would take', async () => {
    const model = {
      ...{ name: 'm', digest: 'd', kind: 'embedding', quantisation: 'F32', contextTokens: 64, slots: 1, caps: {} },
      ...{ loaded: false, rates: { embeddingToken: '5' }, rowsPerSecond: 10 },
    };
    const node = (id: string, more: object): ConnectedNode => {
      const engines = [{ class: 'c', models: [{ ...model, ...more }] }];
      return { id, offer: { ...offer('eu'), memoryMib: 90_000, engines }, draining: false } as unknown as ConnectedNode; // and nothing of its key
    };
    const weights = { memory: { weightsMib: 5_120, cacheBytesPerToken: 0 } };
    const nodes = [node('a-liar', { loadS: 0 }), node('honest', { loadS: 5 }), node('weighs', weights), node('z', {})];
    const measured = new Map<string, number>();
    const fleet = new KeptFleet({
      leases: { nodeRecords: (ids) => Promise.resolve(new Map(ids.map((id) => [id, { ...RECORD, nodeId: id }]))) },
      link: { nodes: () => nodes, changes: () => ({ mark: 0, nodes: null }) },
      clock: { nowMs: () => 0 },
      resting: () => false,
      loadS: (nodeId) => measured.get(nodeId),
    });
    await fleet.refresh(() => true);
    expect([...fleet.candidates()].map(({ models }) => models[0]?.loadS)).toEqual([0, 5, 11, undefined]);
    expect([fleet.offersUnloaded('honest', 'd'), fleet.offersUnloaded('honest', 'other')]).toEqual([true, false]);
    const wish = {
      jobId: 'j',
      model: 'm',
      verify: 'spot',
      rateCaps: { embeddingToken: 9n },
      deadlineInMs: 600_000,
    } as const;
    const wins = (): readonly string[] => {
      const ask = { ...ANYWHERE, ...wish };
      const placements = fleet.place([{ ask, ageMs: 0, nextRow: 0, rowCount: 1, queued: [] }], 1);
      fleet.settle(placements, () => false);
      return placements.map(({ nodeId }) => nodeId);
    };
    expect(wins()).toEqual(['a-liar']);
    measured.set('a-liar', 60);
    await fleet.refresh(() => true);
    expect(fleet.candidate('a-liar')?.models[0]?.loadS).toBe(60);
    expect(wins()).toEqual(['honest']);
  });

  it('looks at what its link says of changes, and stands as one that looks at all nodes each time', async () => {
    const rng = chance(23);
    const world = new World();
    const fleets = [world.fleet((since) => world.changes(since)), world.fleet(() => ({ mark: 0, nodes: null }))];
    let owns = (id: string): boolean => id !== 'n0';
    let compared = 0;
    for (let step = 0; step < 600; step += 1) {
      const id = `n${rng.below(12)}`;
      const what = rng.below(9);
      if (what <= 1) world.connect(id, rng.pick(['eu', 'us']), rng.below(4) === 0);
      else if (what === 2) world.leave(id);
      else if (what === 3) world.restsUntilMs.set(id, world.nowMs + rng.below(3_000));
      else if (what === 4) world.restsUntilMs.delete(id);
      else if (what === 5) world.record(id, { benchedForMs: rng.pick([0, 500, 5_000]) });
      else if (what === 6) world.record(id, { leasesInFlight: rng.below(3) });
      else world.nowMs += rng.below(2_000);
      if (step === 300) {
        owns = (other) => other !== 'n1';
        for (const fleet of fleets) fleet.reown();
      }
      // As a move of its tasks or the beginning of a rest would.
      if (what >= 3 && what <= 6) for (const fleet of fleets) fleet.touch(id);
      if (rng.below(3) > 0) continue;
      for (const fleet of fleets) await fleet.refresh(owns);
      const [feed, all] = fleets.map((fleet) => [...fleet.candidates()].sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1)));
      expect(feed).toEqual(all);
      expect(feed?.map(({ nodeId }) => nodeId)).toEqual(world.ids().filter(owns));
      for (const { nodeId, draining } of feed ?? [])
        expect({ nodeId, draining }).toEqual({ nodeId, draining: world.isAway(nodeId) });
      compared += feed?.length ?? 0;
    }
    expect(compared).toBeGreaterThan(500);
  });

  it('asks its link for no list of nodes, and Postgres for none, while nothing changes', async () => {
    const world = new World();
    const fleet = world.fleet((since) => world.changes(since));
    for (let i = 0; i < 2_000; i += 1) world.connect(`n${i}`, 'eu', false);
    await fleet.refresh(() => true);
    expect([world.lists, world.asked]).toEqual([1, 2_000]);
    for (let i = 0; i < 50; i += 1) {
      world.leave(`n${i}`);
      world.connect(`m${i}`, 'eu', false);
      await fleet.refresh(() => true);
    }
    expect([world.lists, world.asked, fleet.size]).toEqual([1, 2_050, 2_000]);
  });

  it('looks at all nodes again when more changed than the link remembers', async () => {
    const world = new World();
    const fleet = world.fleet((since) => world.changes(since));
    await fleet.refresh(() => true);
    world.connect('kept', 'eu', false);
    for (let i = 0; i < 10_000; i += 1) world.leave('nobody');
    await fleet.refresh(() => true);
    expect([world.lists, fleet.size]).toEqual([2, 1]);
  });
});

/** Nodes that come and go, with what Postgres knows of them. */
class World {
  nowMs = 0;
  /** How often all nodes were listed, and how many records were asked for. */
  lists = 0;
  asked = 0;
  readonly restsUntilMs = new Map<string, number>();
  readonly #nodes = new Map<string, ConnectedNode>();
  readonly #records = new Map<string, Partial<NodeRecord>>();
  readonly #benchedAtMs = new Map<string, number>();
  readonly #log = new NodeChangeLog();

  changes(since: number | null): NodeChanges {
    return this.#log.since(since, (id) => this.#nodes.get(id));
  }

  ids(): readonly string[] {
    return [...this.#nodes.keys()].sort();
  }

  /** Whether it wants no work, or is left alone. */
  isAway(id: string): boolean {
    return this.#nodes.get(id)?.draining === true || (this.restsUntilMs.get(id) ?? 0) > this.nowMs;
  }

  connect(id: string, region: string, draining: boolean): void {
    this.#nodes.set(id, { id, address: '', offer: offer(region), draining } as unknown as ConnectedNode); // what a fleet reads
    this.#log.note(id);
  }

  leave(id: string): void {
    this.#nodes.delete(id);
    this.#log.note(id);
  }

  record(id: string, over: Partial<NodeRecord>): void {
    this.#records.set(id, { ...this.#records.get(id), ...over });
    if (over.benchedForMs !== undefined) this.#benchedAtMs.set(id, this.nowMs + over.benchedForMs);
  }

  fleet(changes: (since: number | null) => NodeChanges): KeptFleet {
    return new KeptFleet({
      leases: {
        nodeRecords: async (ids) => {
          this.asked += ids.length;
          return new Map(ids.map((id) => [id, this.#recordOf(id)]));
        },
      },
      link: {
        nodes: () => {
          this.lists += 1;
          return [...this.#nodes.values()];
        },
        changes,
      },
      clock: { nowMs: () => this.nowMs },
      resting: (id) => (this.restsUntilMs.get(id) ?? 0) > this.nowMs,
      measured: () => undefined,
    });
  }

  #recordOf(id: string): NodeRecord {
    const benchedForMs = Math.max(0, (this.#benchedAtMs.get(id) ?? 0) - this.nowMs);
    return { ...RECORD, ...this.#records.get(id), nodeId: id, benchedForMs };
  }
}
