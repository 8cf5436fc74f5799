import { expect, it } from '@jest/globals';
import type { ChainBlock, ChainStep } from './ports/chain-store.ts';
import type { ChainEvent } from './ports/escrow.ts';
import { syncChain, type SyncChainPorts } from './sync-chain.ts';

function opened(blockHash: string, blockNumber: bigint): ChainEvent {
  const lanes = { reserved: 5n, free: 0n };
  return {
    name: 'OrderOpened',
    order: 0,
    payer: '0xp',
    refundTo: '0xp',
    params: '0x',
    ...lanes,
    blockNumber,
    blockHash,
    logIndex: 0,
  };
}

/** A chain whose blocks change while its events are read. */
class MovingChain {
  hashes = ['0x00', '0x01a', '0x02a', '0x03a'];
  found: ChainEvent[] = [opened('0x01a', 1n)];
  steps: ChainStep[] = [];
  afterEvents: () => void = () => undefined;

  ports(): SyncChainPorts {
    const escrow = {
      head: async () => ({ number: 3n, hash: this.hashes[3] ?? '', timestamp: 0n }),
      hashOf: async (block: bigint) => this.hashes[Number(block)] ?? null,
      events: async (from: bigint, to: bigint) => {
        const read = this.found.filter(({ blockNumber }) => from <= blockNumber && blockNumber <= to);
        this.afterEvents();
        return read;
      },
    };
    const known: ChainBlock[] = [];
    const history = {
      blocks: async () => [...known].reverse(),
      absorb: async (step: ChainStep) => {
        this.steps.push(step);
        known.push(step.to);
        return { absorbed: true, applied: step.events.length, undone: 0 };
      },
    };
    return { escrow, history, fromBlock: 0n, depth: 0n };
  }
}

it('believes no events of a chain that was replaced while they were read, although their last block is there again', async () => {
  const chain = new MovingChain();
  chain.afterEvents = () => {
    // The order is opened again two blocks later, in a chain of the same length.
    chain.hashes = ['0x00', '0x01b', '0x02b', '0x03b'];
    chain.found = [opened('0x03b', 3n)];
    chain.afterEvents = () => undefined;
  };
  const ports = chain.ports();
  expect(await syncChain(ports)).toMatchObject({ applied: 0, undone: 0, at: null });
  expect(await syncChain(ports)).toMatchObject({ applied: 1, undone: 0, at: 3n });
  expect(chain.steps.flatMap(({ events }) => events.map(({ blockHash }) => blockHash))).toEqual(['0x03b']);
});
