import { describe, expect, it } from '@jest/globals';
import { offerFault, type JudgedOffer } from './refuse-offer.ts';

const offer = (rates: Record<string, string>, pools: string[] = []): JudgedOffer => ({
  pools,
  engines: [{ class: 'c', models: [{ name: 'm', digest: 'd', kind: 'chat', rates }] }],
});

describe('an offer', () => {
  it('of work without a price is refused with the reason, unless it is for a pool', () => {
    expect(offerFault(offer({}))).toMatch(/asks nothing for m.*expected a rate above 0.*--rate/);
    expect(offerFault(offer({ inputToken: '0', outputToken: '0' }))).toMatch(/asks nothing for m/);
    expect(offerFault(offer({ inputToken: '0', outputToken: '1' }))).toBeNull();
    expect(offerFault(offer({ image: '1', embeddingToken: '5' }))).toMatch(
      /asks nothing for m.*inputToken or outputToken/,
    );
    expect(offerFault(offer({}, ['lab']))).toBeNull();
    expect(offerFault({ pools: [], engines: [] })).toBeNull();
  });

  it('that names a model twice in one engine is refused, whoever it is for', () => {
    const one = { name: 'm', digest: 'd', kind: 'chat' as const, rates: { inputToken: '1' } };
    const of = (...engines: JudgedOffer['engines'][number]['models'][]): JudgedOffer => ({
      pools: ['lab'],
      engines: engines.map((models) => ({ class: 'c', models })),
    });
    expect(offerFault(of([one, { ...one, rates: { inputToken: '2' } }]))).toMatch(
      /names m \(d\) twice in engine c.*each model once/,
    );
    expect(offerFault(of([one, { ...one, digest: 'e' }], [one]))).toBeNull();
  });
});
