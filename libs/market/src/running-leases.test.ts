import { expect, it } from '@jest/globals';
import { RunningLeases } from './running-leases.ts';

const NODES = ['a', 'b', 'c'];

it('knows how many leases each node has, whichever came and went', () => {
  const leases = new RunningLeases();
  const scan = new Map<string, string>();
  for (let turn = 0; turn < 500; turn += 1) {
    const key = `lease-${(turn * 7) % 23}`;
    if (scan.has(key)) leases.ended(key);
    else leases.begin(key, NODES[turn % 3] ?? '');
    if (scan.has(key)) scan.delete(key);
    else scan.set(key, NODES[turn % 3] ?? '');
    // Ended once more changes nothing.
    if (turn % 5 === 0 && !scan.has(key)) leases.ended(key);
    for (const node of NODES)
      expect(leases.countOf(node)).toBe([...scan.values()].filter((one) => one === node).length);
    expect(leases.size).toBe(scan.size);
  }
});

it('ends one lease, or those of some nodes', () => {
  const leases = new RunningLeases();
  const [one, two, three] = [leases.begin('1', 'a'), leases.begin('2', 'a'), leases.begin('3', 'b')];
  leases.abort('2');
  expect([one, two, three].map(({ aborted }) => aborted)).toEqual([false, true, false]);
  leases.abortAll((nodeId) => nodeId === 'b');
  expect([one, two, three].map(({ aborted }) => aborted)).toEqual([false, true, true]);
  leases.abortAll();
  expect(one.aborted).toBe(true);
});

it('takes a lease once: who began it knows that it was not running', () => {
  const leases = new RunningLeases();
  leases.begin('1', 'a');
  expect(() => leases.begin('1', 'b')).toThrow('runs already');
  expect(leases.countOf('b')).toBe(0);
});
