import { expect, it } from '@jest/globals';
import type { BookNow } from './ports/escrow.ts';
import type { EpochAmounts } from './ports/settlement-store.ts';
import { postEpoch, type PostPorts } from './post-epoch.ts';

const NOW = { stage: 'waiting', next: 3n, startsAt: 0n, epochSeconds: 100n, feeBps: 200 } as BookNow;

/** Ports that know one closed epoch, and note what is sent. */
function portsOf(debit: bigint, credit: bigint): { ports: PostPorts; sent: string[] } {
  const sent: string[] = [];
  const amounts: EpochAmounts = {
    epoch: 3n,
    state: 'closed',
    debits: new Map([[0, debit]]),
    credits: new Map([['0xaa', credit]]),
  };
  const ports: Pick<PostPorts['settlement'], 'epoch' | 'payeeIndices'> = {
    epoch: () => Promise.resolve(amounts),
    payeeIndices: () => Promise.resolve(new Map([['0xaa', 0]])),
  };
  return {
    sent,
    ports: {
      settlement: ports as PostPorts['settlement'],
      escrow: { book: '0xb0', post: () => ({}) } as unknown as PostPorts['escrow'], // only its name and its call are asked for
      sender: {
        submit: (wish: { purpose: string }) => {
          sent.push(wish.purpose);
          return Promise.resolve({ state: 'sent', hash: '0x1' });
        },
      } as unknown as PostPorts['sender'], // nothing is mined here
    },
  };
}

it('posts an epoch whose fee is the book’s bound', async () => {
  const { ports, sent } = portsOf(1_000n, 980n);
  expect(await postEpoch(ports, NOW, 400n)).toEqual({ did: 'post epoch 3: sent 0x1' });
  expect(sent).toEqual(['post']);
});

it('sends nothing that the book could never finalise, and says why', async () => {
  const dear = portsOf(1_000n, 979n);
  expect(await postEpoch(dear.ports, NOW, 400n)).toEqual({
    waits: 'post epoch 3: refused, fee-above-bound of the book’s 200 bps',
  });
  const generous = portsOf(1_000n, 1_001n);
  expect(await postEpoch(generous.ports, NOW, 400n)).toMatchObject({
    waits: expect.stringContaining('credits-above-debits'),
  });
  expect([...dear.sent, ...generous.sent]).toEqual([]);
});
