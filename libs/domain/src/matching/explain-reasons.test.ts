import { describe, expect, it } from '@jest/globals';
import type { Ask, Candidate } from './ask.ts';
import { explainNode } from './explain-node.ts';
import { explainPast, type PastWork } from './explain-past.ts';
import { askFor, candidate } from './matching.fixture.ts';

const ask = (over: Partial<Ask> = {}): Ask =>
  askFor({ model: 'm', rateCaps: { inputToken: 100n }, deadlineInMs: 100_000, ...over });

function node(
  nodeId: string,
  over: Partial<Candidate> = {},
  model: Partial<Candidate['models'][number]> = {},
): Candidate {
  const rates = { inputToken: 50n };
  const served = { name: 'm', digest: 'd', engineClass: 'c', loaded: true, rates, rowsPerSecond: 10, ...model };
  return candidate(nodeId, { models: [served], rowsAccepted: 100, reputation: 1, ...over });
}

const COLD = { loaded: false, loadS: 5 };

describe('what made another node the better one', () => {
  // The loser comes first by name: where nothing else decides, it would win.
  it.each<[string, Candidate, Candidate, Partial<Ask>?]>([
    ['dearer', node('a', {}, { rates: { inputToken: 60n } }), node('b')],
    ['colder', node('a', {}, COLD), node('b')],
    ['displacing', node('a', {}, { ...COLD, evictS: 5 }), node('b', {}, COLD)],
    ['slower', node('a', {}, { rowsPerSecond: 2 }), node('b', {}, { rowsPerSecond: 8 })],
    ['less-reliable', node('a', { reputation: 0.9 }), node('b', { reputation: 0.99 })],
    [
      'farther',
      node('a', {}, { rates: { inputToken: 50n, cachedInputToken: 5n } }),
      node('b', {}, { rates: { inputToken: 50n, cachedInputToken: 5n } }),
      { cachedOn: new Map([['b', 64]]) },
    ],
    ['busier', node('a', { leasesActive: 1 }), node('b')],
  ])('is said: %s', (reason, own, rival, over = {}) => {
    expect(explainNode(own, [ask()], [own])).toMatchObject({ won: 1, lost: [] });
    expect(explainNode(own, [ask(over)], [own, rival])).toMatchObject({ won: 0, lost: [{ reason, jobs: 1 }] });
    expect(explainNode(rival, [ask(over)], [own, rival])).toMatchObject({ won: 1, lost: [] });
  });

  it('is the term of the largest lead, where several count', () => {
    const slowAndDear = (rate: bigint): Candidate => node('a', {}, { rates: { inputToken: rate }, rowsPerSecond: 2 });
    // Eight seconds of the hundred at two a second, 1.6 at ten: 6.4 % of a worth of 100.
    expect(explainNode(slowAndDear(55n), [ask()], [node('b')]).lost).toMatchObject([{ reason: 'slower' }]);
    expect(explainNode(slowAndDear(58n), [ask()], [node('b')]).lost).toMatchObject([{ reason: 'dearer' }]);
  });
});

describe('the price that would have won one', () => {
  // Of two jobs the node serves one in 'eu' alone, against a cheap rival, and one anywhere, against a dear one.
  const near = node('near', { region: 'eu' }, { rates: { inputToken: 20n } });
  const far = node('far', { region: 'us' }, { rates: { inputToken: 40n } });
  const own = node('own', { region: 'sa' }, { rates: { inputToken: 80n } });
  const cheap = ask({ jobId: 'cheap', regions: ['eu', 'sa'] });
  const dear = ask({ jobId: 'dear', regions: ['us', 'sa'] });

  it.each([
    ['first', [dear, cheap]],
    ['last', [cheap, dear]],
  ])('is the highest, also where the job it is for comes %s', (_, asks) => {
    expect(explainNode(own, asks, [own, near, far])).toMatchObject({
      won: 0,
      lost: [{ reason: 'dearer', jobs: 2 }],
      priceThatWouldWin: { percentOfAsked: 49, rates: { inputToken: '39' } },
    });
    // Either alone, so that there is a highest.
    expect(explainNode(own, [cheap], [own, near, far]).priceThatWouldWin).toMatchObject({ percentOfAsked: 24 });
  });

  const paid = (inputToken: bigint): PastWork => ({
    ...{ ask: ask(), isOwn: false, paid: [{ inputToken }], refused: null, takenBack: null },
  });
  const hour = { withinMs: 3_600_000, hasMore: false };

  it.each([
    ['first', [paid(60n), paid(20n)]],
    ['last', [paid(20n), paid(60n)]],
  ])('is the highest of the last hour, also where the batch it is for comes %s', (_, works) => {
    expect(explainPast(own, works, hour).priceThatWouldHaveWon).toEqual({
      percentOfAsked: 75,
      rates: { inputToken: '60' },
    });
  });

  it.each([
    ['first', [paid(60n), { ...paid(20n), ask: ask({ regions: ['zz'] }) }]],
    ['last', [{ ...paid(20n), ask: ask({ regions: ['zz'] }) }, paid(60n)]],
  ])('is not forgotten beside a batch that no price would have won: it comes %s', (_, works) => {
    expect(explainPast(own, works, hour).priceThatWouldHaveWon).toMatchObject({ percentOfAsked: 75 });
  });

  it('is none for what it was given and turned away: its price had won that', () => {
    const turnedAway = { ...paid(40n), refused: { leases: 1, why: 'it was full' } };
    const why = explainPast(own, [turnedAway], hour);
    expect(why).toMatchObject({ priceThatWouldHaveWon: null, lost: [{ reason: 'refused', jobs: 1 }] });
    expect(why.summary).not.toContain('of its rates');
  });
});
