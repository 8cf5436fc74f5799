import { expect, it } from '@jest/globals';
import type { ConnectedNode } from './ports/provider-link.ts';
import { paceOf } from './queue-desk.ts';

function node(id: string, rowsPerSecond: number, draining = false): Pick<ConnectedNode, 'id' | 'offer' | 'draining'> {
  const offer = { engines: [{ class: 'c', models: [{ name: 'm', digest: 'd', rowsPerSecond }] }] };
  return { id, draining, offer: offer as unknown as ConnectedNode['offer'] };
}

it('counts what was measured, and what nodes say of themselves only while nothing was, and within bounds', () => {
  const nodes = [node('fast', 1e300), node('slow', 0), node('away', 5, true), node('benched', 5)];
  const record = (speed: number | null, benchedForMs = 0): { benchedForMs: number; speed: Record<string, number> } => ({
    benchedForMs,
    speed: speed === null ? {} : { d: speed },
  });
  const records = (fast: number | null, slow: number | null): ReadonlyMap<string, ReturnType<typeof record>> =>
    new Map([
      ['fast', record(fast)],
      ['slow', record(slow)],
      ['away', record(9)],
      ['benched', record(9, 1)],
    ]);
  expect(paceOf(nodes, records(4, 2), 'm')).toEqual({ nodes: 2, rowsPerSecond: 6 });
  expect(paceOf(nodes, records(null, 2), 'm')).toEqual({ nodes: 2, rowsPerSecond: 4 });
  expect(paceOf(nodes, records(null, null), 'm')).toEqual({ nodes: 2, rowsPerSecond: 200 });
  expect(paceOf(nodes, records(4, 2), 'another')).toEqual({ nodes: 0, rowsPerSecond: null });
});
