import { describe, expect, it } from '@jest/globals';
import { canonicalHash } from '../canonical.ts';
import { knownOf, SignedOffer } from './offer-document.ts';
import { OFFER } from './offer.fixture.ts';

const signature = `0x${'22'.repeat(65)}`;
/** As it comes over the wire. */
const come = (text: string): ReturnType<typeof SignedOffer.safeParse> => SignedOffer.safeParse(JSON.parse(text));
const signed = (offer: object): string => JSON.stringify({ offer, signature });

describe('what a node signed', () => {
  it('is kept whole, so that its hash is what was signed, and is used as far as it is known', () => {
    const told = {
      ...OFFER,
      powerW: 300.5,
      gpus: OFFER.gpus.map((gpu) => ({ ...gpu, nvlink: { peers: [0, 1], note: 'ä' } })),
    };
    const kept = come(signed(told)).data?.offer;
    expect(kept).toEqual(told);
    expect(canonicalHash(kept)).toEqual(canonicalHash(told));
    expect(canonicalHash(kept)).not.toEqual(canonicalHash(OFFER));
    expect(knownOf(kept ?? OFFER)).toEqual(OFFER);
  });

  it('is refused with the field where what is known of it is wrong, whatever stands beside it', () => {
    const wrong = come(signed({ ...OFFER, later: 1, gpus: [{ ...OFFER.gpus[0], milli: -1 }] }));
    expect(wrong.error?.issues.map(({ path }) => path.join('.'))).toEqual(['offer.gpus.0.milli']);
    expect(come(JSON.stringify({ signature })).success).toBe(false);
    expect(come(JSON.stringify({ offer: OFFER, signature, later: 1 })).success).toBe(false);
  });

  const inside = (field: string): string => signed(OFFER).replace('"v":1', `"v":1,${field}`);

  it.each([
    ['that would be another object', '"__proto__":{"loadS":1}', ''],
    ['with a name of no letters', '"":1', ''],
    ['with a name without end', `"${'a'.repeat(65)}":1`, ''],
    ['that hides one deep inside', '"later":[{"a":{"__proto__":1}}]', 'later.0.a'],
    ['too large to be a number', '"later":[1e400]', 'later.0'],
    ['that takes three hundred digits', '"later":1e-300', 'later'],
    ['that PostgreSQL keeps nowhere', '"later":"\\u0000"', 'later'],
    ['of half a character', '"later":"\\ud800"', 'later'],
    ['nested without end', `"later":${'['.repeat(200)}${']'.repeat(200)}`, `later${'.0'.repeat(64)}`],
  ])('is refused with a field %s', (_what, field, at) => {
    const { error } = come(inside(field));
    expect(error?.issues.map(({ path }) => path.join('.'))).toEqual([at === '' ? 'offer' : `offer.${at}`]);
    expect(come(inside('"later":[1,-0.5,"x",null,true,{}]')).success).toBe(true);
  });

  it('says nothing in our own fields that PostgreSQL keeps nowhere', () => {
    expect(come(signed({ ...OFFER, region: 'e\u0000u' })).error?.issues[0]?.path).toEqual(['offer', 'region']);
  });
});
