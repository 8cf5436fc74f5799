import { beforeEach, describe, expect, it } from '@jest/globals';
import type { ChainHead } from '@freehold/market';
import { ChainFollower } from './chain-follower.ts';

const HOUR_MS = 3_600_000;
/** Five a second. */
const BLOCK_MS = 200;

describe('following a chain', () => {
  let nowMs: number;
  let reads: number;
  let settles: number;
  let readFault: (() => Error) | null;
  let settleFault: (() => Error) | null;
  let said: string[];
  let errors: unknown[];
  let follower: ChainFollower;

  beforeEach(() => {
    [nowMs, reads, settles, readFault, settleFault, said, errors] = [0, 0, 0, null, null, [], []];
    const head = (): ChainHead => ({ number: BigInt(Math.floor(nowMs / BLOCK_MS)), hash: '0x', timestamp: 0n });
    follower = new ChainFollower({
      read: async () => {
        reads += 1;
        if (readFault !== null) throw readFault();
        return { head: head(), isNews: false };
      },
      settle: async () => {
        settles += 1;
        if (settleFault !== null) throw settleFault();
        return { moved: true, deadline: null };
      },
      nowMs: () => nowMs,
      log: {
        info: (_facts, what) => void said.push(what),
        warn: (facts, what) => {
          said.push(what);
          errors.push((facts as { error: unknown }).error);
        },
      },
    });
  });

  /** Returns how often it read and settled meanwhile. */
  async function pass(ms: number): Promise<{ readonly reads: number; readonly settles: number }> {
    const [until, before] = [nowMs + ms, { reads, settles }];
    while (nowMs < until) nowMs += await follower.look();
    return { reads: reads - before.reads, settles: settles - before.settles };
  }

  it('asks an endpoint that fails for an hour ever more seldom, says so twice, and is fast again at once', async () => {
    await pass(10_000);
    // Another block in every answer, as endpoints have it.
    readFault = () => new Error(`RPC endpoints do not agree on eth_call: 1 says 0x${reads.toString(16)}`);
    const { reads: tries } = await pass(HOUR_MS);
    expect(tries).toBeLessThanOrEqual(HOUR_MS / 30_000 + 6);
    expect(said).toEqual(['following the chain fails']);
    readFault = null;
    expect(await follower.look()).toBe(BLOCK_MS);
    expect(said).toEqual(['following the chain fails', 'following the chain goes again']);
  });

  it('goes on reading every second while a settlement fails, and tries that ever more seldom', async () => {
    await pass(10_000);
    settleFault = () => new Error('insufficient funds');
    const broken = await pass(HOUR_MS);
    expect(broken.reads).toBeLessThanOrEqual(HOUR_MS / 1_000 + 1);
    expect(broken.reads).toBeGreaterThanOrEqual(HOUR_MS / 1_000 - 1);
    expect(broken.settles).toBeLessThanOrEqual(HOUR_MS / 30_000 + 7);
    expect(said).toEqual(['settling on chain fails']);
    settleFault = null;
    await pass(31_000);
    expect(said).toEqual(['settling on chain fails', 'settling on chain goes again']);
    expect((await pass(10_000)).settles).toBeGreaterThan(20);
  });

  it('says what is wrong anew when it is something else, without what may be a key', async () => {
    for (const fault of [
      'refused by https://rpc.example/secret',
      'refused by https://rpc.example/secret',
      'no money',
    ]) {
      readFault = () => new Error(fault);
      await follower.look();
    }
    expect(errors).toEqual(['refused by …', 'no money']);
  });
});
