import { describe, expect, it } from '@jest/globals';
import type { SignedOffer } from '@freehold/protocol';
import type { LeaseStore, Remembered } from './ports/lease-store.ts';
import { OfferRefused, type ProviderLink } from './ports/provider-link.ts';
import { StreamDesk } from './stream-desk.ts';

function desk(remembered: Remembered): StreamDesk {
  const leases = { rememberNode: async () => remembered, resume: async () => [] };
  return new StreamDesk({
    leases: leases as unknown as LeaseStore, // all that a hello asks
    link: {} as unknown as ProviderLink, // nothing is sent
    clock: { nowMs: () => 0 },
    report: () => undefined,
  });
}
const HELLO = { offer: { node: 'n', seq: 3, pools: [], engines: [] } } as unknown as SignedOffer; // what a hello looks at

describe('a hello at an api process', () => {
  it('is taken when the offer is the newest, or was overtaken on its way here', async () => {
    await expect(desk({ accepted: true }).hello(HELLO, [])).resolves.toEqual([]);
    await expect(desk({ accepted: false, code: 'overtaken', why: 'old' }).hello(HELLO, [])).resolves.toEqual([]);
  });

  it('is refused when the same seq was signed over another offer, or the offer expired', async () => {
    for (const [code, why] of [
      ['conflicting', 'same seq'],
      ['expired', 'late'],
    ] as const)
      await expect(desk({ accepted: false, code, why }).hello(HELLO, [])).rejects.toEqual(new OfferRefused(why));
    const twice = {
      class: 'c',
      models: [
        { name: 'm', digest: 'd' },
        { name: 'm', digest: 'd' },
      ],
    };
    const odd = { offer: { ...HELLO.offer, engines: [twice] } } as unknown as SignedOffer; // likewise
    await expect(desk({ accepted: true }).hello(odd, [])).rejects.toBeInstanceOf(OfferRefused);
  });
});
