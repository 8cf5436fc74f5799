import { expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ANYWHERE, CONSTRAINTS, EMPTY_NODE, ISOLATIONS, type Ask } from '@freehold/domain';
import { regionsOf } from '@freehold/protocol';
import { mayHold, whereaboutsOf } from './may-hold.ts';

const PLACES = ['region', 'isolation', 'pool'];

it('says of every node what the placement says of it: rows are nowhere else for a check than for the work', () => {
  const region = fc.constantFrom('eu', 'us', 'ap');
  const pools = fc.subarray(['p', 'q']);
  const offers = fc.record({ region, isolation: fc.constantFrom(...ISOLATIONS), pools });
  const rows = fc.record({
    region: fc.option(fc.constantFrom('eu', 'us', 'eu, us')),
    isolation: fc.constantFrom(...ISOLATIONS),
    poolId: fc.option(fc.constantFrom('p', 'q')),
  });
  fc.assert(
    fc.property(rows, offers, (asked, offer) => {
      const { isolation, poolId } = asked;
      const ask: Ask = {
        ...{ ...ANYWHERE, jobId: '', model: null, verify: 'off', rateCaps: { gpuMillisecond: 9n }, deadlineInMs: 0 },
        ...{ regions: regionsOf(asked.region), pools: poolId === null ? [] : [poolId], isolation },
      };
      // Priced: what a pool's node does for nothing is no question of who may see it.
      const node = { ...EMPTY_NODE, nodeId: 'n', ...offer, gpuRates: { gpuMillisecond: 1n } };
      const placed = CONSTRAINTS.filter(({ name }) => PLACES.includes(name)).every(({ holds }) => holds(ask, node));
      expect(mayHold(asked, offer)).toBe(placed);
    }),
  );
});

it('reads where rows may be from what is kept of a job', () => {
  const job = { region: 'eu', poolId: null, metadata: { isolation: 'kata', gpus: '2', mine: 'x' } };
  expect(whereaboutsOf(job)).toEqual({ region: 'eu', poolId: null, isolation: 'kata' });
  expect(whereaboutsOf({ ...job, region: null, metadata: {} })).toMatchObject({ region: null, isolation: 'none' });
});
