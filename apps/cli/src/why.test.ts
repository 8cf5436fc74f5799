import { describe, expect, it } from '@jest/globals';
import { explainable, render } from './why.ts';

describe('freehold why', () => {
  it('says for each requirement how many it leaves out, the least changes that would do, and what is waited for', () => {
    expect(
      render({
        summary: 'None of 5 nodes fits.',
        eliminated: [
          { requirement: 'stands in region eu', nodes: 3 },
          { requirement: 'does not rest for some seconds', nodes: 2, endsInS: 12 },
        ],
        cheapestOffer: { rates: { inputToken: '120', outputToken: '240' }, withinCap: false },
        priceThatWouldDo: { inputToken: '400' },
        relaxations: [
          { changes: ['ask with metadata.region "eu,us"'], nodes: 2 },
          { changes: ['ask without metadata.nodes', 'wait until a node is one that has a free slot'], nodes: 1 },
        ],
        warmWait: { model: 'm', expectedS: 1.2, expiresInS: 3.5 },
      }),
    ).toBe(
      [
        'None of 5 nodes fits.',
        '  3 left out: a node must be one that stands in region eu',
        '  2 left out: a node must be one that does not rest for some seconds; the first is in 12 s',
        '  cheapest that would fit: 120 per million of inputToken, 240 per million of outputToken',
        '  what those ask that price alone keeps away: 400 per million of inputToken',
        '  2 would fit: ask with metadata.region "eu,us"',
        '  1 would fit: ask without metadata.nodes, and wait until a node is one that has a free slot',
        '  waits about 2 s for a slot where m is loaded; in 4 s at the latest it is loaded elsewhere',
      ].join('\n'),
    );
  });

  it('says of a node what it lost, what would have won, and the same of the last hour', () => {
    expect(
      render({
        summary: 'Lost all 2 jobs whose rows wait now.',
        lost: [{ says: 'another node is cheaper', jobs: 2 }],
        priceThatWouldWin: { rates: { inputToken: '39' } },
        past: {
          withinS: 3_600,
          summary: 'Of 3 batches of its models it worked on 1.',
          priceThatWouldHaveWon: { rates: { inputToken: '60' } },
        },
      }),
    ).toBe(
      [
        'Lost all 2 jobs whose rows wait now.',
        '  2 lost: another node is cheaper',
        '  would have won one at 39 per million of inputToken',
        'In the last hour: Of 3 batches of its models it worked on 1.',
        '  no dearer than the others: 60 per million of inputToken',
      ].join('\n'),
    );
  });

  it('shows what nodes call themselves, and lets it command nothing', () => {
    const region = 'stands in region \u001b[2J\u001b[31mmars\u0007';
    expect(render({ summary: 'None fits.', eliminated: [{ requirement: region, nodes: 1 }] })).toBe(
      'None fits.\n  1 left out: a node must be one that stands in region ?[2J?[31mmars?',
    );
  });

  it('says no more than it knows', () => {
    const nothing = { cheapestOffer: null, priceThatWouldDo: null, priceThatWouldWin: null, eliminated: [], lost: [] };
    const past = { withinS: 150, summary: 'No batch of its models was over.', priceThatWouldHaveWon: null };
    expect(render({ summary: 'No node is connected.', ...nothing })).toBe('No node is connected.');
    expect(render({ summary: 'A.', ...nothing, past })).toBe(
      'A.\nIn the 2 minutes since it came: No batch of its models was over.',
    );
  });
});

describe('freehold node why without a node', () => {
  it('explains those that the process which answers sees, and says who else is here', () => {
    const seen = { node: 'a', connected: true, free_slots: 2 };
    const elsewhere = { node: 'b', connected: true, free_slots: null };
    const away = { node: 'c', connected: false, free_slots: null };
    expect(explainable({ data: [seen, away], has_more: false })).toEqual({ nodes: ['a'], others: null });
    const { nodes, others } = explainable({ data: [seen, elsewhere, away], has_more: true });
    expect(nodes).toEqual(['a']);
    expect(others).toMatch(
      /^1 more are here, and connected to other processes of the market: .*--url.* for b\. The market lists 3 /,
    );
  });
});
