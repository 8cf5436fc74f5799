import { describe, expect, it } from '@jest/globals';
import { KeptFleet } from './kept-fleet.ts';
import type { NodeRecord } from './ports/lease-store.ts';
import type { ConnectedNode } from './ports/provider-link.ts';

const offer = (region: string): ConnectedNode['offer'] =>
  ({ region, pools: [], gpus: [], cpuMilli: 0, memoryMib: 0, isolation: 'none', engines: [] }) as never;

const RECORD: NodeRecord = {
  ...{ nodeId: 'n', payout: '', rowsAccepted: 0, rowsAudited: 0, rowsBad: 0, leasesLost: 0, benchedForMs: 0 },
  ...{ benchedWhy: null, speed: {}, rowsInFlight: 0, leasesInFlight: 0 },
};

describe('the kept fleet', () => {
  it('takes in what a node said while the database did not answer', async () => {
    let isBroken = false;
    let node = { id: 'n', address: '', offer: offer('eu'), draining: false } as unknown as ConnectedNode;
    const fleet = new KeptFleet({
      leases: {
        nodeRecords: (ids) =>
          isBroken ? Promise.reject(new Error('no database')) : Promise.resolve(new Map(ids.map((id) => [id, RECORD]))),
      },
      link: { nodes: () => [node] },
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
});
