import fc from 'fast-check';
import { describe, expect, it } from '@jest/globals';
import { syncChain, type ChainEvent, type SyncChainPorts } from '@freehold/market';
import { factsOf, PAYERS, PlayedChain, type ChainWish } from './played-chain.ts';
import { MemoryDatabase } from './sim/memory/database.ts';
import { MemoryChainHistory } from './sim/memory/memory-chain-history.ts';

const BOOK = `0x${'b0'.repeat(32)}`;
const wish: fc.Arbitrary<ChainWish> = fc.record({
  what: fc.constantFrom('open', 'top-up', 'refund', 'bond', 'epoch', 'strike', 'redeem', 'cash', 'withdraw'),
  pick: fc.nat({ max: 100 }),
  a: fc.bigInt({ min: 0n, max: 500n }),
  b: fc.bigInt({ min: 0n, max: 500n }),
});

/** A chain whose head a test holds back: what is above it does not exist for its reader. */
class HeldBack {
  readonly chain = new PlayedChain();
  head = 0n;
  #isForked = false;

  asEscrow(): SyncChainPorts['escrow'] {
    return {
      head: async () => ({ number: this.head, hash: (await this.hashOf(this.head)) ?? '', timestamp: 0n }),
      hashOf: (block: bigint) => this.hashOf(block),
      events: async (from: bigint, to: bigint): Promise<readonly ChainEvent[]> =>
        (await this.chain.events(from, to)).map((event) => ({ ...event, blockHash: this.#told(event.blockHash) })),
    };
  }
  async hashOf(block: bigint): Promise<string | null> {
    const hash = block > this.head ? null : await this.chain.hashOf(block);
    return hash === null ? null : this.#told(hash);
  }
  /** The same events in other blocks: a reorganisation of everything. */
  fork(): void {
    this.#isForked = true;
  }
  #told(hash: string): string {
    return this.#isForked ? hash.replace('0x0', '0xf') : hash;
  }
}

interface Reader {
  readonly db: MemoryDatabase;
  read(fromBlock: bigint): Promise<{ readonly applied: number; readonly undone: number }>;
}

function newReader(of: HeldBack): Reader {
  const db = new MemoryDatabase({ nowMs: () => 0, uuid: () => 'none' });
  for (const [n, wallet] of PAYERS.orgs.entries())
    db.orgs.insert(`org_${n}`, { id: `org_${n}`, trust: 'self-custody', wallet });
  const history = new MemoryChainHistory(db, { book: BOOK, operatorPayer: PAYERS.operator });
  return { db, read: (fromBlock) => syncChain({ escrow: of.asEscrow(), history, fromBlock, depth: 0n }) };
}

const books = ({ db }: Reader) => ({
  accounts: db.accounts
    .all()
    .filter(({ balance }) => balance !== 0n)
    .map(({ kind, owner, balance }) => `${kind} ${owner} ${balance}`)
    .sort(),
  orders: db.chainOrders.all(),
  payees: db.chainPayees.all(),
});

describe('reading the chain', () => {
  it('ends with the same books wherever it begins, wherever it stops on the way, and whatever forks between', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(wish, { maxLength: 40, size: 'max' }),
        fc.nat({ max: 20 }),
        fc.array(fc.nat({ max: 60 }), { maxLength: 5 }),
        fc.boolean(),
        async (wishes, emptyBlocks, stops, isForked) => {
          const held = new HeldBack();
          // Before the escrow there were others' blocks.
          held.chain.idle(emptyBlocks);
          held.chain.begin(['0x01', '0x02']);
          for (const one of wishes) for (const fact of factsOf(held.chain.state, one)) held.chain.mine(fact);
          const end = (await held.chain.head()).number;
          const first = BigInt(emptyBlocks) + 1n;

          const inSteps = newReader(held);
          for (const stop of [...stops].sort((a, b) => a - b)) {
            held.head = BigInt(stop) < end ? BigInt(stop) : end;
            await inSteps.read(first);
          }
          held.head = end;
          await inSteps.read(first);
          if (isForked) held.fork();
          if (isForked) expect((await inSteps.read(first)).undone).toBe(held.chain.all().length);

          for (const fromBlock of [0n, first / 2n, first]) {
            const atOnce = newReader(held);
            expect(await atOnce.read(fromBlock)).toMatchObject({ applied: held.chain.all().length, undone: 0 });
            expect(books(atOnce)).toEqual(books(inSteps));
          }
        },
      ),
      { numRuns: 100, seed: 9 },
    );
  });

  it('that begins above the first block says what it has not seen, and books nothing of it', async () => {
    const held = new HeldBack();
    held.chain.begin(['0x01']);
    held.chain.mine({
      name: 'OrderOpened',
      order: 0,
      payer: PAYERS.stranger,
      refundTo: '',
      params: '0x',
      reserved: 9n,
      free: 0n,
    });
    held.chain.mine({ name: 'OrderToppedUp', order: 0, reserved: 5n, free: 0n });
    held.head = (await held.chain.head()).number;
    const late = newReader(held);
    await expect(late.read(held.head)).rejects.toThrow(/chain_order 0 is not there/);
    expect(books(late).accounts).toEqual([]);
  });
});
