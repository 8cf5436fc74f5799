import { expect, it } from '@jest/globals';
import { UNSIGNED_MAX } from '../sim-node.ts';
import { SimWorld } from '../sim-world.ts';
import { LONG_OPERATOR, mute } from './operators.ts';

/** Two leases that were taken below the limit: eight seconds each, at 80 ms a row of some eleven units. */
const IN_HAND = 2n * 1_200n;

it('an operator that signs nothing gets of each node its limit and what it had in hand, however much there is to do', async () => {
  const world = new SimWorld(1, mute(LONG_OPERATOR.market(1)));
  await world.run();
  for (const { unsigned } of world.nodes) {
    expect(unsigned).toBeGreaterThanOrEqual(UNSIGNED_MAX);
    expect(unsigned).toBeLessThan(UNSIGNED_MAX + IN_HAND);
  }
  expect(world.db.rows.where(({ state }) => state === 'pending').length).toBeGreaterThan(1_000);
}, 60_000);
